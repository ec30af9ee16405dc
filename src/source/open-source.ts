/**
 * From what the user typed to the place the image comes from.
 *
 * Invariant: a short name that the search list completes in several ways goes to the first registry that has it; a
 * registry that cannot answer stops the search, because the next one's image of that name may be somebody else's.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseName, parseReference, type Reference } from '../oci/reference.ts';
import { splitPair } from '../registry/credentials.ts';
import { DEFAULT_TIMEOUTS, type Timeouts } from '../registry/http.ts';
import { loadRegistriesConf } from '../registry/load-registries-conf.ts';
import type { RegistriesConf } from '../registry/registries-conf.ts';
import type { RetryPolicy } from '../registry/retry.ts';
import { resolveShortName, withTag } from '../registry/short-name.ts';
import { type DockerSourceOptions, openDockerSource } from './docker-source.ts';
import type { ImageSource } from './image-source.ts';

export interface SourceOptions {
  /** --authfile: the only file of credentials to read. */
  authfile?: string;
  /** --creds, `user:password`; for the registry named, never for its mirrors. */
  creds?: string;
  /** --cert-dir: *.crt, *.cert and *.key for the registry named. */
  certDir?: string;
  /** --tls-verify=false: certificates are not checked, plain http is tried where https fails. */
  tlsVerify?: boolean;
  /** --plain-http: no TLS at all. */
  plainHttp?: boolean;
  /** Put before /etc, /run, /usr and /var wherever configuration is read (tests). */
  configRoot?: string;
  /** Default: process.env. Gives HOME, XDG_*, proxies and the variables of podman and docker. */
  env?: NodeJS.ProcessEnv;
  /** Hears of retries, mirrors that fail and helpers that cannot be asked: one line each. */
  notice?: (message: string) => void;
  timeouts?: Partial<Timeouts>;
  retry?: RetryPolicy;
}

type OpenOnDisk = (spec: string, env: NodeJS.ProcessEnv) => Promise<ImageSource>;

/** Loaded when they are asked for: most pulls come from a registry. */
const ON_DISK: Readonly<Record<string, () => Promise<OpenOnDisk>>> = {
  'oci:': async () => (await import('./oci-layout-source.ts')).openOciLayoutSource,
  'oci-archive:': async () => (await import('./oci-layout-source.ts')).openOciArchiveSource,
  'docker-archive:': async () => (await import('./docker-archive-source.ts')).openDockerArchiveSource,
};
/** What other tools know. */
const FOREIGN = ['docker-daemon:', 'containers-storage:', 'dir:'];

/** `fedora`, `quay.io/x/y:tag@sha256:…`, `docker://…`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]`. */
export async function openSource(name: string, options: SourceOptions = {}): Promise<ImageSource> {
  const env = options.env ?? process.env;
  for (const [prefix, load] of Object.entries(ON_DISK))
    if (name.startsWith(prefix)) return (await load())(name.slice(prefix.length), env);
  const foreign = FOREIGN.find((prefix) => name.startsWith(prefix));
  if (foreign !== undefined)
    throw new OciError('UNSUPPORTED', `${quote(name)}: images cannot come from ${foreign}`, {
      hint: 'Save the image into an archive and use oci-archive:FILE or docker-archive:FILE.',
    });
  const root = options.configRoot ?? '';
  const conf = loadRegistriesConf({ env, root });
  const references = candidates(name, conf);
  const credentials = options.creds === undefined ? undefined : splitPair(options.creds);
  if (options.creds !== undefined && credentials === undefined)
    throw new OciError('USAGE', '--creds is not a user and a password', {
      hint: 'Write it as --creds USER:PASSWORD.',
    });
  if (credentials !== undefined && references.length > 1)
    throw new OciError('USAGE', `--creds with the short name ${quote(name)} would go to several registries`, {
      hint: `Write the registry too, for example ${references[0]!.domain}/${references[0]!.path}`,
    });
  const dockerOptions: DockerSourceOptions = {
    authfile: options.authfile,
    credentials,
    certDir: options.certDir,
    tlsVerify: options.tlsVerify,
    plainHttp: options.plainHttp,
    env,
    root,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    retry: options.retry,
    notice: options.notice ?? (() => {}),
  };
  if (references.length === 1) return openDockerSource(references[0]!, conf, dockerOptions);
  return await firstThatHasIt(name, references, conf, dockerOptions);
}

function candidates(name: string, conf: RegistriesConf): Reference[] {
  if (name.startsWith('docker://')) return [withTag(parseReference(name.slice('docker://'.length)), conf)];
  return resolveShortName(parseName(name), conf);
}

async function firstThatHasIt(
  name: string,
  references: readonly Reference[],
  conf: RegistriesConf,
  options: DockerSourceOptions,
): Promise<ImageSource> {
  const refusals: OciError[] = [];
  for (const reference of references) {
    let source: ImageSource | undefined;
    try {
      source = openDockerSource(reference, conf, options);
      await source.fetchManifest(); // kept by the source
      return source;
    } catch (error) {
      await source?.close();
      // Registries say "denied" for what they do not have, too.
      const code = error instanceof OciError ? error.code : undefined;
      if (code !== 'IMAGE_NOT_FOUND' && code !== 'DENIED') throw error;
      refusals.push(error as OciError);
    }
  }
  const denied = refusals.some(({ code }) => code === 'DENIED');
  throw new OciError(
    denied ? 'DENIED' : 'IMAGE_NOT_FOUND',
    `no configured registry gives us ${quote(name)}`,
    {
      hint: denied
        ? refusals.find(({ code }) => code === 'DENIED')!.hint!
        : 'Check the name, or write the registry too.',
      detail: refusals.map(({ message }) => message).join('\n'),
      cause: refusals.at(-1),
    },
  );
}
