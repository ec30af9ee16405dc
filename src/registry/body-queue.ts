/**
 * A response's body: turns the pieces that an HTTP client pushes into an iterable that pulls.
 *
 * Invariant: at most BODY_QUEUE_MAX_BYTES plus one piece wait in memory; whoever gets a body reads it or calls
 * discard(); nothing is delivered after a failure or a discard.
 */

export interface ResponseBody extends AsyncIterable<Uint8Array> {
  /** Drops the connection unless the body has already ended. */
  discard(): void;
}

/** The client's side of the connection. */
export interface Flow {
  pause(): void;
  resume(): void;
  abort(): void;
}

export interface BodyQueue {
  readonly body: ResponseBody;
  push(piece: Uint8Array): void;
  end(): void;
  fail(error: unknown): void;
}

const BODY_QUEUE_MAX_BYTES = 1024 * 1024;
const BODY_QUEUE_RESUME_BYTES = 256 * 1024;

export function createBodyQueue(flow: Flow): BodyQueue {
  const pieces: Uint8Array[] = [];
  let queuedBytes = 0;
  let paused = false;
  let state: 'open' | 'ended' | 'failed' | 'discarded' = 'open';
  let failure: unknown;
  let wake: (() => void) | undefined;

  function change(next: typeof state, error?: unknown): void {
    if (state !== 'open') return;
    state = next;
    failure = error;
    wake?.();
  }

  function discard(): void {
    if (state === 'open') flow.abort();
    change('discarded');
    pieces.length = 0;
  }

  async function* read(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece !== undefined) {
          queuedBytes -= piece.length;
          if (paused && queuedBytes <= BODY_QUEUE_RESUME_BYTES) {
            paused = false;
            flow.resume();
          }
          yield piece;
        } else if (state === 'failed') throw failure;
        else if (state !== 'open') return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      discard();
    }
  }

  return {
    body: { [Symbol.asyncIterator]: read, discard },
    push(piece) {
      if (state !== 'open') return;
      pieces.push(piece);
      queuedBytes += piece.length;
      if (!paused && queuedBytes >= BODY_QUEUE_MAX_BYTES) {
        paused = true;
        flow.pause();
      }
      wake?.();
    },
    end: () => change('ended'),
    fail: (error) => change('failed', error),
  };
}
