/**
 * The pull side of the distribution protocol towards one repository (distribution-spec "Pull").
 *
 * Invariant: manifests are complete, at most MANIFEST_MAX_BYTES and match the digest asked for and the one the
 * registry states; blobs are streams whose reader verifies them. Authorization goes to the registry's origin only.
 */

import type { BlobPiece, BlobStream, ByteRange, RawManifest } from '../oci/content.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestOf, parseDigest, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { ERROR_BODY_MAX_BYTES, MANIFEST_MAX_BYTES } from '../oci/limits.ts';
import { isNondistributable, MANIFEST_TYPES_ACCEPTED } from '../oci/media-type.ts';
import { apiHost } from '../oci/reference.ts';
import { readBlobRanges } from './blob-ranges.ts';
import { openBlobStream } from './blob-stream.ts';
import type { Credentials } from './credentials.ts';
import { DEFAULT_TIMEOUTS, type HttpResponse, type Timeouts, type TlsOptions } from './http.ts';
import { drain, header, isHtml, portalError, statusError } from './http-errors.ts';
import { createSend, type SentResponse } from './request.ts';
import { DEFAULT_RETRY, type RetryPolicy } from './retry.ts';
import { createAuthenticator } from './token.ts';
import { openTransport } from './transport.ts';

export interface RegistryClientOptions {
  /** `host[:port]`; docker.io stands for Docker Hub. */
  readonly host: string;
  /** None to ask about the registry itself. */
  readonly repository?: string;
  /** In order: the next is tried where no connection of the one before comes about. */
  readonly schemes: readonly ('https' | 'http')[];
  tlsFor(origin: URL): TlsOptions;
  credentials(): Promise<Credentials | undefined>;
  readonly env: NodeJS.ProcessEnv;
  /** Hears of retries. */
  notice(message: string): void;
  readonly timeouts?: Timeouts | undefined;
  readonly retry?: RetryPolicy | undefined;
}

export interface RegistryClient {
  /** By tag, or by digest: then the bytes are verified. */
  fetchManifest(tagOrDigest: string): Promise<RawManifest>;
  openBlob(descriptor: Descriptor, options?: { offset?: number; signal?: AbortSignal }): Promise<BlobStream>;
  /** Exactly these bytes, in their order; throws UNSUPPORTED where the registry has the blob only whole. */
  readRanges(
    descriptor: Descriptor,
    ranges: readonly ByteRange[],
    signal?: AbortSignal,
  ): AsyncIterable<BlobPiece>;
  /** Asks the registry whether it lets us in. False where it asked for no credentials. */
  ping(): Promise<boolean>;
  close(): Promise<void>;
}

interface GetOptions {
  readonly signal?: AbortSignal | undefined;
  /** Read the body of a 200 whole. */
  readonly documentMaxBytes?: number;
  readonly bulk?: boolean;
}

/** Blobs of this size are worth the client that is faster, but slower to load (transport.ts). */
const BULK_MIN_BYTES = 2 * 1024 * 1024;
/** Statuses that mean: not such ranges, or not so many. */
const RANGE_REFUSALS: ReadonlySet<number> = new Set([400, 413, 414, 416, 431, 501]);
/** How many of a layer's foreign URLs are tried. */
const FOREIGN_URLS_MAX = 4;

export function openRegistryClient(options: RegistryClientOptions): RegistryClient {
  const { host, repository } = options;
  const policy = options.retry ?? DEFAULT_RETRY;
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  const transport = openTransport({ env: options.env, timeouts, tlsFor: options.tlsFor });
  const send = createSend(transport, policy, options.notice);
  const plainHttpAllowed = options.schemes.includes('http');
  const authenticator = createAuthenticator({
    host,
    scope: repository === undefined ? '' : `repository:${repository}:pull`,
    plainHttpAllowed,
    credentials: options.credentials,
    send,
  });
  const bases = options.schemes.map((scheme) => new URL(`${scheme}://${apiHost(host)}`));
  let base = 0;
  let connected = false;

  /** Settles the scheme with the first response: a registry that once answered by https is not asked by http. */
  async function get(
    path: string,
    headers: Record<string, string>,
    more: GetOptions = {},
  ): Promise<SentResponse> {
    for (;;) {
      const tried = base;
      try {
        const response = await getAt(new URL(path, bases[tried]), headers, more);
        connected = true;
        return response;
      } catch (error) {
        // What networkFault() made has the network's own error as its cause; a status has none.
        const isNetworkFault =
          error instanceof OciError && error.cause instanceof Error && !(error.cause instanceof OciError);
        if (connected || !isNetworkFault || tried + 1 >= bases.length) throw error;
        base = tried + 1; // not base++: several requests may find out at once
      }
    }
  }

  async function getAt(url: URL, headers: Record<string, string>, more: GetOptions): Promise<SentResponse> {
    for (let renewed = false; ; renewed = true) {
      const authorization = authenticator.header();
      // Digests are of bytes as they are: compression on the way would be for nothing.
      const request = {
        ...headers,
        'accept-encoding': 'identity',
        ...(authorization === undefined ? {} : { authorization }),
      };
      const response = await send(
        { method: 'GET', url, headers: request, signal: more.signal, bulk: more.bulk },
        more.documentMaxBytes,
      );
      // Only the registry itself may ask for credentials: see token.ts.
      const isChallenge = response.status === 401 || isInsufficientScope(response);
      if (!isChallenge || renewed || response.url.origin !== url.origin) return response;
      connected = true;
      await drain(response);
      await authenticator.renew(response.headers['www-authenticate'], authorization);
    }
  }

  const failed = (response: HttpResponse, what: string) =>
    statusError(response, what, host, authenticator.header() !== undefined);

  async function fetchManifest(tagOrDigest: string): Promise<RawManifest> {
    const what = `manifest ${quote(tagOrDigest)} of ${quote(`${host}/${repository}`)}`;
    const accept = MANIFEST_TYPES_ACCEPTED.join(', ');
    const documentMaxBytes = MANIFEST_MAX_BYTES;
    const response = await get(
      `/v2/${repository}/manifests/${tagOrDigest}`,
      { accept },
      { documentMaxBytes },
    );
    if (response.status !== 200) throw await failed(response, what);
    if (isHtml(response)) throw portalError(response, what);
    const encoding = header(response, 'content-encoding');
    if (encoding !== undefined && encoding !== 'identity')
      throw new OciError(
        'PROTOCOL',
        `${what}: it comes encoded as ${quote(encoding)}, which was not asked for`,
        {
          hint: 'Tell the registry, or whoever runs the proxy before it.',
        },
      );
    const bytes = response.document;
    if (bytes === undefined)
      throw new OciError('BAD_IMAGE', `${what} has more than the ${MANIFEST_MAX_BYTES} bytes allowed`);
    const stated = header(response, 'docker-content-digest');
    if (stated) verifyDigest(bytes, parseDigest(stated, 'Docker-Content-Digest'), what);
    const asked = tagOrDigest.includes(':') ? (tagOrDigest as Digest) : undefined;
    if (asked) verifyDigest(bytes, asked, what);
    return { bytes, mediaType: header(response, 'content-type'), digest: asked ?? digestOf(bytes) };
  }

  const blobName = ({ digest }: Descriptor) => `blob ${digest} of ${quote(`${host}/${repository}`)}`;
  const rangeSupport = { several: true };

  function readRanges(
    descriptor: Descriptor,
    ranges: readonly ByteRange[],
    signal?: AbortSignal,
  ): AsyncIterable<BlobPiece> {
    const what = blobName(descriptor);
    const bulk = ranges.reduce((sum, { offset, end }) => sum + end - offset, 0) >= BULK_MIN_BYTES;
    const request = async (range: string | undefined): Promise<HttpResponse> => {
      const headers = range === undefined ? {} : { range };
      const response = await get(`/v2/${repository}/blobs/${descriptor.digest}`, headers, { signal, bulk });
      if (isBlobStatus(response) || RANGE_REFUSALS.has(response.status)) return response;
      throw await failed(response, what);
    };
    const { rateWindowMs } = timeouts;
    return readBlobRanges(descriptor, ranges, request, {
      what,
      policy,
      rateWindowMs,
      signal,
      notice: options.notice,
      support: rangeSupport,
    });
  }

  async function openBlob(
    descriptor: Descriptor,
    { offset = 0, signal }: { offset?: number; signal?: AbortSignal } = {},
  ): Promise<BlobStream> {
    const { digest } = descriptor;
    const bulk = descriptor.size >= BULK_MIN_BYTES;
    const what = blobName(descriptor);
    const request = async (range: string | undefined): Promise<HttpResponse> => {
      const headers = range === undefined ? {} : { range };
      const response = await get(`/v2/${repository}/blobs/${digest}`, headers, { signal, bulk });
      if (isBlobStatus(response)) return response;
      const error = await failed(response, what);
      if (error.code !== 'IMAGE_NOT_FOUND') throw error;
      return (await requestForeign(descriptor, headers, signal)) ?? Promise.reject(error);
    };
    const { rateWindowMs } = timeouts;
    return openBlobStream(descriptor, request, {
      what,
      offset,
      policy,
      rateWindowMs,
      signal,
      notice: options.notice,
    });
  }

  /** A non-distributable layer may be at its descriptor's urls, asked without any of our credentials. */
  async function requestForeign(
    descriptor: Descriptor,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ) {
    if (!isNondistributable(descriptor.mediaType)) return undefined;
    for (const text of (descriptor.urls ?? []).slice(0, FOREIGN_URLS_MAX)) {
      const url = URL.parse(text);
      if (url?.protocol !== 'https:' && !(url?.protocol === 'http:' && plainHttpAllowed)) continue;
      const response = await send({ method: 'GET', url, headers, signal, bulk: true });
      if (isBlobStatus(response)) return response;
      response.body.discard();
    }
    return undefined;
  }

  async function ping(): Promise<boolean> {
    const response = await get('/v2/', {}, { documentMaxBytes: ERROR_BODY_MAX_BYTES });
    if (response.status === 404) {
      await drain(response);
      throw new OciError('PROTOCOL', `${quote(host)} is not a registry (HTTP 404 at /v2/)`, {
        hint: 'Check the host and the port.',
      });
    }
    if (response.status !== 200) throw await failed(response, quote(host));
    if (isHtml(response)) throw portalError(response, quote(host));
    return authenticator.header() !== undefined;
  }

  return { fetchManifest, openBlob, readRanges, ping, close: () => transport.close() };
}

function isBlobStatus({ status }: HttpResponse): boolean {
  return status === 200 || status === 206 || status === 416;
}

/** A token for too little, as RFC 6750 3.1 says it. */
function isInsufficientScope(response: HttpResponse): boolean {
  return response.status === 403 && /insufficient_scope/.test(header(response, 'www-authenticate') ?? '');
}
