/**
 * One HTTP exchange: a request to one origin, no redirect, no retry, no authentication. The only file that knows
 * undici, loaded at the first request.
 *
 * Invariant: nothing waits for ever: connecting, the first header and every pause between two pieces of a body
 * are bounded (a reader that pauses is not a stalled peer). A body holds at most BODY_QUEUE_MAX_BYTES plus one
 * piece in memory; whoever gets a body reads it or calls discard().
 */
import type { Dispatcher } from 'undici';

export interface TlsOptions {
  /** PEM bundles that replace the runtime's own list of authorities. */
  readonly ca?: readonly string[];
  readonly cert?: string;
  readonly key?: string;
  readonly verify: boolean;
}

export interface Timeouts {
  readonly connectMs: number;
  /** Longest silence of the peer, before the headers and inside the body. */
  readonly stallMs: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = { connectMs: 15_000, stallMs: 60_000 };

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
}

export interface ResponseBody extends AsyncIterable<Uint8Array> {
  /** Drops the connection unless the body has already ended. */
  discard(): void;
}

export interface HttpResponse {
  /** Where the response came from. */
  readonly url: URL;
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: ResponseBody;
}

export interface Transport {
  /** Rejects with undici's or Node's error; http-errors.ts gives it words. */
  exchange(request: HttpRequest): Promise<HttpResponse>;
  close(): Promise<void>;
}

/** Several layers at once, each on its own connection. */
const CONNECTIONS_PER_ORIGIN_MAX = 16;
const BODY_QUEUE_MAX_BYTES = 1024 * 1024;
const BODY_QUEUE_RESUME_BYTES = 256 * 1024;

/** `env` gives the proxies; `tlsFor` the trust and the client certificate of an origin. */
export function openTransport(options: {
  env: NodeJS.ProcessEnv;
  timeouts: Timeouts;
  tlsFor(origin: URL): TlsOptions;
}): Transport {
  const dispatchers = new Map<string, Promise<Dispatcher>>();

  function dispatcherFor(url: URL): Promise<Dispatcher> {
    let dispatcher = dispatchers.get(url.origin);
    if (dispatcher === undefined) {
      const tls = url.protocol === 'https:' ? options.tlsFor(url) : undefined;
      dispatcher = openDispatcher(url, tls, options.timeouts, options.env);
      dispatchers.set(url.origin, dispatcher);
    }
    return dispatcher;
  }

  return {
    exchange: async (request) => await exchange(await dispatcherFor(request.url), request),
    async close() {
      const opened = await Promise.allSettled(dispatchers.values());
      dispatchers.clear();
      for (const result of opened) if (result.status === 'fulfilled') await result.value.destroy();
    },
  };
}

async function openDispatcher(
  url: URL,
  tls: TlsOptions | undefined,
  timeouts: Timeouts,
  env: NodeJS.ProcessEnv,
): Promise<Dispatcher> {
  const connect = {
    ...(tls === undefined ? {} : { rejectUnauthorized: tls.verify }),
    ...(tls?.ca === undefined ? {} : { ca: [...tls.ca] }),
    ...(tls?.cert === undefined ? {} : { cert: tls.cert, key: tls.key }),
  };
  const common = {
    // One connection per stream: HTTP/2 would put every layer behind one TCP window.
    allowH2: false,
    connections: CONNECTIONS_PER_ORIGIN_MAX,
    connectTimeout: timeouts.connectMs,
    headersTimeout: timeouts.stallMs,
    bodyTimeout: timeouts.stallMs,
  };
  const variable = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const proxy = env[variable] || env[variable.toUpperCase()];
  if (proxy) {
    const { default: EnvHttpProxyAgent } = await import('undici/lib/dispatcher/env-http-proxy-agent.js');
    const noProxy = env['no_proxy'] ?? env['NO_PROXY'] ?? '';
    // A proxy of our own scheme only: undici would else use the http proxy for https.
    return new EnvHttpProxyAgent({
      ...common,
      httpProxy: proxy,
      httpsProxy: proxy,
      noProxy,
      connect,
      requestTls: connect,
    });
  }
  const { default: Pool } = await import('undici/lib/dispatcher/pool.js');
  return new Pool(url.origin, { ...common, connect });
}

function exchange(dispatcher: Dispatcher, request: HttpRequest): Promise<HttpResponse> {
  const { url, signal } = request;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let controller: Dispatcher.DispatchController | undefined;
    const queue = createBodyQueue({
      pause: () => controller?.pause(),
      resume: () => controller?.resume(),
      abort: () => controller?.abort(new Error('the body is not wanted')),
    });
    const onAbort = () => {
      const reason = signal!.reason as Error;
      reject(reason);
      queue.fail(reason);
      controller?.abort(reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const settle = () => signal?.removeEventListener('abort', onAbort);
    dispatcher.dispatch(
      {
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: request.method,
        headers: request.headers,
        ...(request.body === undefined ? {} : { body: request.body }),
      },
      {
        onRequestStart(started) {
          controller = started;
          if (signal?.aborted) started.abort(signal.reason as Error);
        },
        onResponseStart(_controller, status, headers) {
          if (status >= 200) resolve({ url, status, headers, body: queue.body });
        },
        onResponseData: (_controller, chunk) => queue.push(chunk),
        onResponseEnd() {
          settle();
          queue.end();
        },
        onResponseError(_controller, error) {
          settle();
          reject(error);
          queue.fail(error);
        },
      },
    );
  });
}

/** Turns the pieces that undici pushes into an iterable that pulls. */
function createBodyQueue(flow: { pause(): void; resume(): void; abort(): void }) {
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
    body: { [Symbol.asyncIterator]: read, discard } satisfies ResponseBody,
    push(piece: Uint8Array): void {
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
    fail: (error: unknown) => change('failed', error),
  };
}
