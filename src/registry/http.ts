/**
 * What the two HTTP clients have in common: one exchange is one request to one origin and its response, without
 * redirects, retries or authentication.
 */
import type { ResponseBody } from './body-queue.ts';

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
  /** Longest time for all of an exchange, but for the body of a blob. */
  readonly documentMs: number;
  /** A blob has to bring BLOB_MIN_BYTES_PER_SECOND on the average of this time. */
  readonly rateWindowMs: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = {
  connectMs: 15_000,
  stallMs: 60_000,
  documentMs: 120_000,
  rateWindowMs: 60_000,
};

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
  /** The body may be large; it is wanted as it comes. */
  readonly bulk?: boolean | undefined;
}

export interface HttpResponse {
  /** Where the response came from. */
  readonly url: URL;
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: ResponseBody;
}

export interface HttpClient {
  /** Rejects with the client's or Node's error; http-errors.ts gives it words. */
  exchange(request: HttpRequest): Promise<HttpResponse>;
  close(): Promise<void>;
}

/** Several layers at once, each on its own connection. */
export const CONNECTIONS_PER_ORIGIN_MAX = 16;
