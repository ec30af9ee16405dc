/**
 * docker://: an image in a registry, asked for at its mirrors first where registries.conf has some.
 *
 * Invariant: whichever endpoint answers, the name is the one the user meant; --creds, --cert-dir, --tls-verify and
 * --plain-http concern the registry itself and never its mirrors, which are other hosts.
 */
import type { BlobPiece, BlobStream, ByteRange } from '../oci/content.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError, toOciError } from '../oci/errors.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { tlsOptionsFor } from '../registry/certificates.ts';
import { openRegistryClient, type RegistryClient } from '../registry/client.ts';
import type { Credentials } from '../registry/credentials.ts';
import type { Timeouts } from '../registry/http.ts';
import { findCredentials } from '../registry/load-credentials.ts';
import { type Endpoint, endpointsFor, type RegistriesConf } from '../registry/registries-conf.ts';
import type { RetryPolicy } from '../registry/retry.ts';
import type { ImageSource } from './image-source.ts';

export interface DockerSourceOptions {
  readonly authfile?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly certDir?: string | undefined;
  readonly tlsVerify?: boolean | undefined;
  readonly plainHttp?: boolean | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly root: string;
  readonly timeouts?: Timeouts | undefined;
  readonly retry?: RetryPolicy | undefined;
  notice(message: string): void;
}

interface BlobRequest {
  readonly offset?: number;
  readonly signal?: AbortSignal;
}

/** `reference` has a tag or a digest. */
export function openDockerSource(
  reference: Reference,
  conf: RegistriesConf,
  options: DockerSourceOptions,
): ImageSource {
  const endpoints = endpointsFor(reference, conf);
  const clients = new Map<Endpoint, RegistryClient>();
  /** The endpoint that gave the manifest is asked first for the rest. */
  let preferred = endpoints[0]!;
  /** Of a blob, by digest: who gave the bytes of the last try, and whose bytes were wrong. */
  const given = new Map<Digest, Set<Endpoint>>();
  const wrong = new Map<Digest, Map<Endpoint, OciError>>();

  function clientOf(endpoint: Endpoint): RegistryClient {
    let client = clients.get(endpoint);
    if (client === undefined) {
      client = openEndpoint(endpoint, options, conf.credentialHelpers);
      clients.set(endpoint, client);
    }
    return client;
  }

  /** Asks the endpoints that are not in `failed`, whose errors it adds there; throws when none is left. */
  async function atEach<T>(
    ask: (client: RegistryClient) => Promise<T>,
    signal?: AbortSignal,
    failed: Map<Endpoint, OciError> = new Map(),
  ): Promise<{ answer: T; endpoint: Endpoint }> {
    for (const endpoint of [preferred, ...endpoints]) {
      if (failed.has(endpoint)) continue;
      try {
        const answer = await ask(clientOf(endpoint));
        preferred = endpoint;
        return { answer, endpoint };
      } catch (error) {
        if (signal?.aborted) throw error;
        fail(endpoint, error, failed);
      }
    }
    throw combine(endpoints.flatMap((endpoint) => failed.get(endpoint) ?? []));
  }

  function fail(endpoint: Endpoint, error: unknown, failed: Map<Endpoint, OciError>): void {
    const known = toOciError(error);
    failed.set(endpoint, known);
    if (endpoint.isMirror) options.notice(`mirror ${endpoint.host}: ${known.message}`);
  }

  /** The rest of a blob comes from the next endpoint where one breaks off for good. */
  async function openBlob(descriptor: Descriptor, { offset = 0, signal }: BlobRequest): Promise<BlobStream> {
    const failed = new Map(wrong.get(descriptor.digest));
    const givers = new Set<Endpoint>();
    given.set(descriptor.digest, givers);
    const open = async (from: number) => {
      const opened = await atEach(
        (client) =>
          client.openBlob(descriptor, { offset: from, ...(signal === undefined ? {} : { signal }) }),
        signal,
        failed,
      );
      givers.add(opened.endpoint);
      return opened;
    };
    const first = await open(offset);

    async function* read(): AsyncGenerator<Uint8Array> {
      let { answer: stream, endpoint } = first;
      let position = stream.offset;
      for (;;) {
        try {
          let at = stream.offset;
          for await (const piece of stream.body) {
            const fresh = piece.subarray(Math.min(Math.max(position - at, 0), piece.length));
            at += piece.length;
            position += fresh.length;
            if (fresh.length > 0) yield fresh;
          }
          return;
        } catch (error) {
          if (signal?.aborted) throw error;
          fail(endpoint, error, failed);
          ({ answer: stream, endpoint } = await open(position));
        }
      }
    }
    return { offset: first.answer.offset, body: read() };
  }

  /** What one endpoint does not give comes from the next. */
  async function* readRanges(
    descriptor: Descriptor,
    ranges: readonly ByteRange[],
    signal?: AbortSignal,
  ): AsyncGenerator<BlobPiece> {
    const failed = new Map(wrong.get(descriptor.digest));
    const givers = new Set<Endpoint>();
    given.set(descriptor.digest, givers);
    let position = 0;
    for (const endpoint of new Set([preferred, ...endpoints])) {
      if (failed.has(endpoint)) continue;
      const left = ranges
        .filter(({ end }) => end > position)
        .map(({ offset, end }) => ({ offset: Math.max(offset, position), end }));
      try {
        for await (const piece of clientOf(endpoint).readRanges(descriptor, left, signal)) {
          givers.add(endpoint);
          yield piece;
          position = piece.offset + piece.bytes.length;
        }
        preferred = endpoint;
        return;
      } catch (error) {
        if (signal?.aborted) throw error;
        fail(endpoint, error, failed);
      }
    }
    throw combine(endpoints.flatMap((endpoint) => failed.get(endpoint) ?? []));
  }

  /** One of several givers is wrong, nobody knows which: the first is left out, so that each try has fewer. */
  function distrust({ digest }: Descriptor, error: OciError): boolean {
    const [endpoint] = given.get(digest) ?? [];
    if (endpoint === undefined) return false;
    const failed = wrong.get(digest) ?? new Map<Endpoint, OciError>();
    wrong.set(digest, failed);
    fail(endpoint, error, failed);
    return endpoints.some((other) => !failed.has(other));
  }

  let top: ReturnType<RegistryClient['fetchManifest']> | undefined;
  return {
    description: `docker://${formatReference(reference)}`,
    localName: formatReference(reference),
    fetchManifest(digest?: Digest) {
      const fetch = async (what: string) => (await atEach((client) => client.fetchManifest(what))).answer;
      if (digest !== undefined) return fetch(digest);
      top ??= fetch(reference.digest ?? reference.tag ?? 'latest');
      return top;
    },
    openBlob: (descriptor, request = {}) => openBlob(descriptor, request),
    readRanges,
    distrust,
    async close() {
      for (const client of clients.values()) await client.close();
    },
  };
}

/** The registry's own error, with what the mirrors said as detail. */
function combine(errors: readonly OciError[]): OciError {
  if (errors.length === 1) return errors[0]!;
  const own = errors.at(-1)!;
  return new OciError(own.code, own.message, {
    hint: own.hint,
    detail: errors.map(({ message }) => message).join('\n'),
    cause: own,
  });
}

function openEndpoint(
  endpoint: Endpoint,
  options: DockerSourceOptions,
  credentialHelpers: readonly string[],
): RegistryClient {
  const { env, root } = options;
  const { host, repository, isMirror } = endpoint;
  const insecure = endpoint.insecure || (!isMirror && options.tlsVerify === false);
  const plainHttp = !isMirror && options.plainHttp === true;
  const credentials = isMirror ? undefined : options.credentials;
  return openRegistryClient({
    host,
    repository,
    schemes: plainHttp ? ['http'] : insecure ? ['https', 'http'] : ['https'],
    tlsFor: tlsOptionsFor(host, !insecure, { certDir: isMirror ? undefined : options.certDir, env, root }),
    credentials: async () =>
      credentials ??
      (await findCredentials(host, repository, {
        authfile: options.authfile,
        credentialHelpers,
        env,
        root,
        warn: options.notice,
      })),
    env,
    notice: options.notice,
    timeouts: options.timeouts,
    retry: options.retry,
  });
}
