/**
 * docker://: an image in a registry, asked for at its mirrors first where registries.conf has some.
 *
 * Invariant: whichever endpoint answers, the name is the one the user meant; --creds, --cert-dir, --tls-verify and
 * --plain-http concern the registry itself and never its mirrors, which are other hosts.
 */
import type { Digest } from '../oci/digest.ts';
import { OciError, toOciError } from '../oci/errors.ts';
import { DOCKER_HUB, formatReference, type Reference } from '../oci/reference.ts';
import { hostCertificates, systemAuthorities } from '../registry/certificates.ts';
import { openRegistryClient, type RegistryClient } from '../registry/client.ts';
import type { Credentials } from '../registry/credentials.ts';
import { findCredentials } from '../registry/load-credentials.ts';
import { type Endpoint, endpointsFor, type RegistriesConf } from '../registry/registries-conf.ts';
import type { RetryPolicy } from '../registry/retry.ts';
import type { Timeouts, TlsOptions } from '../registry/transport.ts';
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

  function clientOf(endpoint: Endpoint): RegistryClient {
    let client = clients.get(endpoint);
    if (client === undefined) {
      client = openEndpoint(endpoint, options);
      clients.set(endpoint, client);
    }
    return client;
  }

  async function atEach<T>(ask: (client: RegistryClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const errors: OciError[] = [];
    for (const endpoint of [preferred, ...endpoints.filter((other) => other !== preferred)]) {
      try {
        const answer = await ask(clientOf(endpoint));
        preferred = endpoint;
        return answer;
      } catch (error) {
        if (signal?.aborted) throw error;
        errors.push(toOciError(error));
        if (endpoint.isMirror) options.notice(`mirror ${endpoint.host}: ${errors.at(-1)!.message}`);
      }
    }
    throw combine(errors);
  }

  let top: ReturnType<RegistryClient['fetchManifest']> | undefined;
  return {
    description: `docker://${formatReference(reference)}`,
    localName: formatReference(reference),
    fetchManifest(digest?: Digest) {
      const fetch = (what: string) => atEach((client) => client.fetchManifest(what));
      if (digest !== undefined) return fetch(digest);
      top ??= fetch(reference.digest ?? reference.tag ?? 'latest');
      return top;
    },
    openBlob: (descriptor, blobOptions) =>
      atEach((client) => client.openBlob(descriptor, blobOptions), blobOptions?.signal),
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
    ...(own.hint === undefined ? {} : { hint: own.hint }),
    detail: errors.map(({ message }) => message).join('\n'),
    cause: own,
  });
}

function openEndpoint(endpoint: Endpoint, options: DockerSourceOptions): RegistryClient {
  const { env, root } = options;
  const { host, repository, isMirror } = endpoint;
  const insecure = endpoint.insecure || (!isMirror && options.tlsVerify === false);
  const plainHttp = !isMirror && options.plainHttp === true;
  const credentials = isMirror ? undefined : options.credentials;
  return openRegistryClient({
    host,
    repository,
    schemes: plainHttp ? ['http'] : insecure ? ['https', 'http'] : ['https'],
    tlsFor: tlsOptions(host, !insecure, isMirror ? undefined : options.certDir, env, root),
    credentials: async () =>
      credentials ??
      (await findCredentials(host, repository, {
        authfile: options.authfile,
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

/**
 * The registry's trust holds for the hosts it sends us to as well (its token server, its storage); its client
 * certificate is shown to itself only.
 */
function tlsOptions(
  host: string,
  verify: boolean,
  certDir: string | undefined,
  env: NodeJS.ProcessEnv,
  root: string,
): (origin: URL) => TlsOptions {
  const own = new URL(`https://${host === DOCKER_HUB ? 'registry-1.docker.io' : host}`).origin;
  let known: ReturnType<typeof hostCertificates> | undefined;
  return ({ origin }) => {
    known ??= hostCertificates(host, { certDir, env, root });
    const system = systemAuthorities(env);
    const client = origin === own && known.cert !== undefined ? { cert: known.cert, key: known.key! } : {};
    // Without a bundle on this host the runtime's list stays, unless the registry brings an authority of its own.
    const ca = [...(system === undefined ? [] : [system]), ...known.ca];
    return { verify, ...(ca.length === 0 ? {} : { ca }), ...client };
  };
}
