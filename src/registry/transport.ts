/**
 * Chooses the HTTP client: Node's own for small documents, undici for blobs and behind a proxy.
 *
 * Invariant of both: nothing waits for ever: connecting, the first header and every pause between two pieces of a body
 * are bounded (a reader that pauses is not a stalled peer). A body holds little in memory; whoever gets one reads
 * it or calls discard().
 */
import type { HttpClient, HttpRequest, HttpResponse, Timeouts, TlsOptions } from './http.ts';
import { openNodeClient } from './node-client.ts';

/** `env` gives the proxies; `tlsFor` the trust and the client certificate of an origin. */
export function openTransport(options: {
  env: NodeJS.ProcessEnv;
  timeouts: Timeouts;
  tlsFor(origin: URL): TlsOptions;
}): HttpClient {
  const { env, timeouts, tlsFor } = options;
  const small = openNodeClient(timeouts, tlsFor);
  let large: Promise<HttpClient> | undefined;
  const openLarge = async () => (await import('./undici-client.ts')).openUndiciClient(timeouts, tlsFor, env);
  const hasProxy = ['http_proxy', 'https_proxy'].some((name) => env[name] || env[name.toUpperCase()]);

  async function exchange(request: HttpRequest): Promise<HttpResponse> {
    if (!request.bulk && !hasProxy) return small.exchange(request);
    large ??= openLarge();
    return (await large).exchange(request);
  }

  return {
    async exchange(request) {
      const deadline = new AbortController();
      const timer = setTimeout(() => deadline.abort(tooSlow()), timeouts.documentMs).unref();
      const signal = AbortSignal.any([deadline.signal, ...(request.signal ? [request.signal] : [])]);
      const response = await exchange({ ...request, signal });
      if (request.bulk && (response.status === 200 || response.status === 206)) clearTimeout(timer);
      return response;
    },
    async close() {
      await small.close();
      await (await large)?.close();
    },
  };
}

function tooSlow(): Error {
  return Object.assign(new Error('the answer takes too long'), { code: 'ETIMEDOUT' });
}
