/**
 * A payload in the foreground: signals to oci-run become signals to it.
 *
 * Invariant: nobody is caught. As PID 1 a payload ignores every signal that it does not handle; so after the first
 * that was to end it the second stops its unit as systemctl stop does, and the third kills it.
 */
import { constants } from 'node:os';
import type { Manager } from '../systemd/manager.ts';

const ENDING = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
const OTHERS = ['SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGCONT'] as const;

/**
 * `started`: when signals can reach the payload; earlier ones wait for it. `hangUp`: given where the keys of the
 * user's terminal are the payload's. A signal from elsewhere then means this program: it gives the terminal back and
 * stops the unit.
 */
export function forwardSignals(
  unit: string,
  manager: Manager,
  started: Promise<unknown>,
  hangUp: (() => void) | undefined,
): void {
  const ignore = () => {}; // it has ended meanwhile, or who waits for it fails for the same reason
  const pass = (signal: NodeJS.Signals) => {
    started.then(() => manager.kill(unit, constants.signals[signal])).catch(ignore);
  };
  let ending = hangUp === undefined ? 0 : 1;
  for (const signal of ENDING)
    process.on(signal, () => {
      ending++;
      if (ending === 1) pass(signal);
      else if (ending === 2) {
        hangUp?.();
        manager.stop(unit).catch(ignore);
      } else manager.kill(unit, constants.signals.SIGKILL).catch(ignore);
    });
  for (const signal of OTHERS) process.on(signal, () => pass(signal));
}
