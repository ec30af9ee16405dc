/**
 * Node's own HTTP client, for what is small: it is there already, so that a pull of an image that is here, one
 * request, is over before undici would have been loaded.
 */
import type * as Http from 'node:http';
import type { Agent, IncomingMessage, RequestOptions } from 'node:http';
import { createBodyQueue } from './body-queue.ts';
import {
  CONNECTIONS_PER_ORIGIN_MAX,
  type HttpClient,
  type HttpRequest,
  type HttpResponse,
  type Timeouts,
  type TlsOptions,
} from './http.ts';

interface Origin {
  readonly agent: Agent;
  readonly options: RequestOptions;
  readonly request: typeof Http.request;
}

export function openNodeClient(timeouts: Timeouts, tlsFor: (origin: URL) => TlsOptions): HttpClient {
  const origins = new Map<string, Origin>();

  function originOf(url: URL): Origin {
    let origin = origins.get(url.origin);
    if (origin === undefined) {
      origin = openOrigin(url, url.protocol === 'https:' ? tlsFor(url) : undefined);
      origins.set(url.origin, origin);
    }
    return origin;
  }

  return {
    exchange: async (request) => await exchange(originOf(request.url), request, timeouts),
    async close() {
      for (const { agent } of origins.values()) agent.destroy();
      origins.clear();
    },
  };
}

function openOrigin(url: URL, tls: TlsOptions | undefined): Origin {
  // `import 'node:http'` reads all its exports, and one of them loads undici.
  const { Agent, request } = process.getBuiltinModule(tls === undefined ? 'node:http' : 'node:https');
  const agent = new Agent({
    keepAlive: true,
    maxSockets: CONNECTIONS_PER_ORIGIN_MAX,
    ...(tls === undefined ? {} : { rejectUnauthorized: tls.verify }),
    ...(tls?.ca === undefined ? {} : { ca: [...tls.ca] }),
    ...(tls?.cert === undefined ? {} : { cert: tls.cert, key: tls.key }),
  });
  const host = url.hostname.replace(/^\[|\]$/g, '');
  // An empty name is none: an address is not to be sent (RFC 6066 3). node finds that out by an expression that takes 1 ms.
  const servername = host !== url.hostname || /^[\d.]+$/.test(host) ? '' : host;
  return { agent, options: { host, port: url.port, agent, ...(tls && { servername }) }, request };
}

function exchange(origin: Origin, request: HttpRequest, timeouts: Timeouts): Promise<HttpResponse> {
  const { url, method, headers, body, signal } = request;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let response: IncomingMessage | undefined;
    const queue = createBodyQueue({
      pause() {
        response?.pause();
        clearTimeout(timer); // a reader that pauses is not a stalled peer
      },
      resume() {
        response?.resume();
        expect(timeouts.stallMs);
      },
      abort: () => end(new Error('the body is not wanted')),
    });

    let timer: NodeJS.Timeout | undefined;
    /** Gives the peer so long from now on. */
    function expect(ms: number): void {
      clearTimeout(timer);
      timer = setTimeout(
        () => end(Object.assign(new Error('the peer is silent'), { code: 'ETIMEDOUT' })),
        ms,
      );
    }

    let over = false;
    /** Settles everything, once; an error also ends the connection. */
    function end(error?: Error): void {
      if (over) return;
      over = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      if (error === undefined) queue.end();
      else {
        reject(error);
        queue.fail(error);
        sent.destroy();
      }
    }
    const onAbort = () => end(signal!.reason as Error);
    signal?.addEventListener('abort', onAbort, { once: true });

    const sent = origin.request(
      { ...origin.options, path: `${url.pathname}${url.search}`, method, headers: { ...headers } },
      (received) => {
        response = received;
        expect(timeouts.stallMs);
        received.on('data', (piece: Buffer) => {
          expect(timeouts.stallMs);
          queue.push(piece);
        });
        received.on('end', () => end());
        received.on('error', end);
        received.on('close', () => end(brokenOff()));
        resolve({ url, status: received.statusCode!, headers: received.headers, body: queue.body });
      },
    );
    expect(timeouts.connectMs);
    sent.on('socket', (socket) => {
      if (!socket.connecting) expect(timeouts.stallMs);
      else
        socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => expect(timeouts.stallMs));
    });
    sent.on('error', end);
    sent.on('close', () => end(brokenOff()));
    sent.end(body);
  });
}

function brokenOff(): Error {
  return Object.assign(new Error('the connection ended'), { code: 'ECONNRESET' });
}
