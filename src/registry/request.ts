/**
 * Requests as the client wants them: redirects followed, transient faults retried.
 *
 * Invariant: Authorization never crosses an origin (scheme, host and port) and, once dropped, does not come back;
 * https never becomes http; at most REDIRECTS_MAX hops, RetryPolicy.attempts attempts and RetryPolicy.budgetMs.
 */
import { OciError, quote } from '../oci/errors.ts';
import type { HttpClient, HttpRequest, HttpResponse } from './http.ts';
import { drain, header, networkFault, readBody, redactUrl, statusError } from './http-errors.ts';
import {
  backoffMs,
  isTransientStatus,
  monotonicMs,
  parseRetryAfter,
  RETRY_AFTER_MAX_MS,
  type RetryPolicy,
  sleep,
} from './retry.ts';

const REDIRECTS_MAX = 5;
const REDIRECT_STATUSES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export interface SentResponse extends HttpResponse {
  /** The whole body of a 200, where documentMaxBytes was given; undefined where it is longer. */
  readonly document?: Buffer | undefined;
}

/** With `documentMaxBytes` the body is part of the attempt, so that one that breaks off is asked for again. */
export type Send = (request: HttpRequest, documentMaxBytes?: number) => Promise<SentResponse>;

/** The response of any status but a redirect or a transient one. `notice` hears of every attempt that failed. */
export function createSend(client: HttpClient, policy: RetryPolicy, notice: (message: string) => void): Send {
  return async (request, documentMaxBytes) => {
    const started = monotonicMs();
    for (let failures = 1; ; failures++) {
      const attempt = await tryOnce(client, request, documentMaxBytes);
      if ('response' in attempt) return attempt.response;
      const wait = attempt.retryAfterMs ?? backoffMs(failures, policy);
      if (!attempt.transient || failures >= policy.attempts) throw attempt.error;
      if (wait > RETRY_AFTER_MAX_MS)
        throw new OciError(
          'TEMPORARY',
          `${attempt.error.message}; it asks to wait ${Math.ceil(wait / 1000)} s`,
          {
            hint: 'Try again after that time.',
            cause: attempt.error,
          },
        );
      if (monotonicMs() - started + wait > policy.budgetMs) throw attempt.error;
      notice(`${attempt.error.message}; trying again in ${(wait / 1000).toFixed(1)} s`);
      await sleep(wait, request.signal);
    }
  };
}

type Attempt =
  | { response: SentResponse }
  | { error: OciError; transient: boolean; retryAfterMs?: number | undefined };

/** One walk from the registry to the end of its redirects. */
async function tryOnce(
  client: HttpClient,
  request: HttpRequest,
  documentMaxBytes?: number,
): Promise<Attempt> {
  let current = request;
  try {
    for (let hops = 0; ; hops++) {
      const response = await client.exchange(current);
      if (REDIRECT_STATUSES.has(response.status)) {
        await drain(response);
        if (hops >= REDIRECTS_MAX)
          throw new OciError(
            'PROTOCOL',
            `${redactUrl(request.url)} redirects more than ${REDIRECTS_MAX} times`,
          );
        current = redirected(current, response.status, header(response, 'location'));
      } else if (isTransientStatus(response.status)) {
        const retryAfterMs = parseRetryAfter(header(response, 'retry-after'));
        const authenticated = current.headers['authorization'] !== undefined;
        const error = await statusError(response, redactUrl(response.url), response.url.host, authenticated);
        return { error, transient: true, retryAfterMs };
      } else if (documentMaxBytes !== undefined && response.status === 200)
        return { response: { ...response, document: await readBody(response, documentMaxBytes) } };
      else return { response };
    }
  } catch (error) {
    if (request.signal?.aborted) throw error;
    return networkFault(error, current.url);
  }
}

/** The request for the next hop, or an error where the redirect must not be followed. */
export function redirected(request: HttpRequest, status: number, location: string | undefined): HttpRequest {
  const from = redactUrl(request.url);
  if (request.method === 'POST')
    throw new OciError('PROTOCOL', `${from} redirects a POST request (HTTP ${status})`);
  const url = location === undefined ? null : URL.parse(location, request.url.href);
  if (url === null) throw new OciError('PROTOCOL', `${from} redirects to nowhere (HTTP ${status})`);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new OciError('PROTOCOL', `${from} redirects to a URL of the scheme ${quote(url.protocol)}`);
  if (request.url.protocol === 'https:' && url.protocol === 'http:')
    throw new OciError(
      'PROTOCOL',
      `refusing the redirect of ${from} from https to http, at ${quote(url.host)}`,
      {
        hint: 'Log in to the network first if it has a sign-in page, else tell the registry.',
      },
    );
  url.username = '';
  url.password = '';
  if (url.origin === request.url.origin) return { ...request, url };
  const { authorization: _, ...headers } = request.headers;
  return { ...request, url, headers };
}
