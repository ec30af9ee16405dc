/**
 * Gives words to what goes wrong on the wire: network errors and statuses become OciErrors with a hint.
 *
 * Invariant: no query string (it may be a signature), no user information and no header of ours reaches a message;
 * what the peer says goes capped and escaped into `detail`.
 */
import { escapeControl, OciError, quote } from '../oci/errors.ts';
import { ERROR_BODY_MAX_BYTES } from '../oci/limits.ts';
import { essence } from '../oci/media-type.ts';
import type { HttpResponse } from './http.ts';

const DETAIL_MAX_CHARS = 1000;
const BRIEFLY_MS = 5000;

export function header(response: Pick<HttpResponse, 'headers'>, name: string): string | undefined {
  const value = response.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** `https://host/path`, without user information and query. */
export function redactUrl(url: URL): string {
  return quote(`${url.origin}${url.pathname}`);
}

/** The whole body; undefined where it has more than maxBytes. */
export async function readBody(response: HttpResponse, maxBytes: number): Promise<Buffer | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  if (Number(header(response, 'content-length') ?? 0) > maxBytes) {
    response.body.discard();
    return undefined;
  }
  for await (const piece of response.body) {
    length += piece.length;
    if (length > maxBytes) return undefined;
    pieces.push(Buffer.from(piece)); // a client may use its memory again
  }
  return Buffer.concat(pieces, length);
}

/** Reads a body that nobody wants where it is short, so that its connection can be used again. */
export async function drain(response: HttpResponse): Promise<void> {
  await readBriefly(response).catch(() => {});
}

/** What comes of a body that is not worth waiting for; undefined where it is long. */
async function readBriefly(response: HttpResponse): Promise<Buffer | undefined> {
  const timer = setTimeout(() => response.body.discard(), BRIEFLY_MS);
  try {
    return await readBody(response, ERROR_BODY_MAX_BYTES);
  } finally {
    clearTimeout(timer);
  }
}

interface Fault {
  readonly error: OciError;
  /** Worth another attempt. */
  readonly transient: boolean;
}

const RESET_CODES: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'UND_ERR_SOCKET',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'EAI_AGAIN',
]);
const TIMEOUT_CODES: ReadonlySet<string> = new Set([
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]);
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses the connection',
  ENOTFOUND: 'is not a known host',
  EHOSTUNREACH: 'cannot be reached',
  ENETUNREACH: 'cannot be reached',
  EADDRNOTAVAIL: 'cannot be reached',
};
const CERTIFICATE_CODE =
  /CERT|^UNABLE_TO_|SELF_SIGNED|^INVALID_(CA|PURPOSE)$|^HOSTNAME_MISMATCH$|^PATH_LENGTH_EXCEEDED$/;

/** Anything but an OciError that exchange() or a body threw. An abort of the caller is passed through as it is. */
export function networkFault(error: unknown, url: URL): Fault {
  if (error instanceof OciError) return { error, transient: false };
  const host = quote(url.host);
  const code = String((error as NodeJS.ErrnoException | undefined)?.code ?? '');
  const text = escapeControl(error instanceof Error ? error.message : String(error)).slice(0, 300);
  const fault = (
    kind: 'UNAVAILABLE' | 'TEMPORARY' | 'PROTOCOL' | 'DENIED',
    message: string,
    hint: string,
    transient = false,
  ) => ({
    error: new OciError(kind, message, { hint, detail: `${code || 'error'}: ${text}`, cause: error }),
    transient,
  });

  const unreachable = UNREACHABLE[code];
  if (unreachable !== undefined)
    return fault(
      'UNAVAILABLE',
      `${host} ${unreachable}`,
      'Check the name, the network and the proxy settings.',
    );
  if (TIMEOUT_CODES.has(code))
    return fault('TEMPORARY', `${host} does not answer in time`, 'Try again later.', true);
  if (RESET_CODES.has(code))
    return fault('TEMPORARY', `${host} broke the connection: ${text}`, 'Try again later.', true);
  if (/_ALERT_(CERTIFICATE_|BAD_CERTIFICATE|UNKNOWN_CA)/.test(code))
    return fault(
      'DENIED',
      `${host} asks for a client certificate`,
      `Put client.cert and client.key into /etc/containers/certs.d/${url.host}/`,
    );
  if (CERTIFICATE_CODE.test(code))
    return fault(
      'UNAVAILABLE',
      `the certificate of ${host} is not trusted: ${text}`,
      `Put its authority's certificate into /etc/containers/certs.d/${url.host}/ca.crt`,
    );
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_'))
    return fault(
      'PROTOCOL',
      `${host} does not speak TLS as expected`,
      `If it is a plain HTTP registry, set insecure=true for it in registries.conf, or give --plain-http.`,
    );
  // undici's names and those of Node's own parser.
  if ((error as Error | undefined)?.name === 'HTTPParserError' || /^(UND_ERR_|HPE_)/.test(code))
    return fault(
      'PROTOCOL',
      `${host} does not speak HTTP as expected: ${text}`,
      'Check the host and the port.',
    );
  return fault(
    'UNAVAILABLE',
    `the connection to ${host} failed: ${text}`,
    'Check the network and try again.',
  );
}

/** What the body of an unwelcome response says, read up to its cap; the connection is given up beyond it. */
async function peerSays(response: HttpResponse): Promise<string> {
  let text = '';
  try {
    text = (await readBriefly(response))?.toString('utf8') ?? '';
    const { errors } = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    if (Array.isArray(errors) && errors.length > 0)
      text = errors.map((e) => `${String(e?.code ?? '')}: ${String(e?.message ?? '')}`).join('; ');
  } catch {
    // not JSON, or cut off: the text we have is all there is to say
  }
  // Some servers show the headers they did not like, with our credentials in them.
  const harmless = text.replace(/\b(Basic|Bearer)(\s+)[\w+/=.~-]{4,}/gi, '$1$2…');
  return escapeControl(harmless.slice(0, DETAIL_MAX_CHARS));
}

/** The error for a response that is not the wanted one. Reads and ends the body. */
export async function statusError(
  response: HttpResponse,
  what: string,
  host: string,
  authenticated: boolean,
): Promise<OciError> {
  const { status } = response;
  const isPage = isHtml(response);
  const detail = await peerSays(response);
  const make = (
    code: 'DENIED' | 'IMAGE_NOT_FOUND' | 'TEMPORARY' | 'PROTOCOL',
    message: string,
    hint: string,
  ) => new OciError(code, `${what}: ${message}`, { hint, ...(detail === '' ? {} : { detail }) });
  switch (true) {
    case status === 401 || status === 403:
      return make(
        'DENIED',
        `${quote(host)} ${authenticated ? 'refuses these credentials' : 'asks for credentials'} (HTTP ${status})`,
        `Check the name, or run: ocictl login ${host}`,
      );
    case status === 404:
      return isPage
        ? make(
            'IMAGE_NOT_FOUND',
            `${quote(host)} answers with a web page`,
            'Check the host: it may not be a registry.',
          )
        : make('IMAGE_NOT_FOUND', `no such image or tag at ${quote(host)}`, 'Check the name and the tag.');
    case status === 429:
      return make(
        'TEMPORARY',
        `${quote(host)} limits requests (HTTP 429)`,
        `Try later, or run: ocictl login ${host}`,
      );
    case status === 408 || status >= 500:
      return make('TEMPORARY', `${quote(host)} has a fault (HTTP ${status})`, 'Try again later.');
    case status === 400 && /https/i.test(detail):
      return make('PROTOCOL', `${quote(host)} speaks HTTPS, not plain HTTP`, 'Leave out --plain-http.');
    default:
      return make('PROTOCOL', `${quote(host)} answers HTTP ${status}`, 'Check the host and the name.');
  }
}

export function isHtml(response: HttpResponse): boolean {
  return essence(header(response, 'content-type') ?? '') === 'text/html';
}

export function portalError(response: HttpResponse, what: string): OciError {
  return new OciError('PROTOCOL', `${what}: ${quote(response.url.host)} answers with a web page`, {
    hint: 'Log in to the network first if it has a sign-in page, else check the host: it may not be a registry.',
  });
}
