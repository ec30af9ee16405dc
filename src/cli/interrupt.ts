/**
 * SIGINT, SIGTERM and SIGHUP as an AbortSignal: the story clears up what it has begun, then the program ends with
 * 128 + the signal's number. A second signal ends it at once.
 */
import { constants } from 'node:os';

export class Interrupted extends Error {
  readonly exitStatus: number;

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`);
    this.name = 'Interrupted';
    this.exitStatus = 128 + constants.signals[signal];
  }
}

let controller: AbortController | undefined;

/** From the first call on the signals abort what listens, instead of ending the process. */
export function interruptSignal(): AbortSignal {
  if (controller === undefined) {
    const abort = new AbortController();
    controller = abort;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => {
        const reason = new Interrupted(signal);
        if (abort.signal.aborted) process.exit(reason.exitStatus);
        abort.abort(reason);
      });
  }
  return controller.signal;
}
