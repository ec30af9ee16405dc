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

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let controller: AbortController | undefined;

/** From the first call on the signals abort what listens, instead of ending the process. */
export function interruptSignal(): AbortSignal {
  if (controller === undefined) {
    controller = new AbortController();
    for (const signal of SIGNALS) process.on(signal, onSignal);
  }
  return controller.signal;
}

/** The story is over: the signals mean something else from now on. */
export function endInterrupts(): void {
  for (const signal of SIGNALS) process.off(signal, onSignal);
  controller = undefined;
}

function onSignal(signal: NodeJS.Signals): void {
  const reason = new Interrupted(signal);
  if (controller === undefined || controller.signal.aborted) process.exit(reason.exitStatus);
  controller.abort(reason);
}
