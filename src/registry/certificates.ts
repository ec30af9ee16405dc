/**
 * Trust in registries: the host's own list of authorities, and containers-certs.d(5) directories
 * (`<dir>/<host[:port]>/`: *.crt authorities, x.cert with x.key for the client).
 *
 * Invariant: the first existing directory wins and is the only one read; a .cert without its .key is an error.
 */
import { type Dirent, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { OciError, quote } from '../oci/errors.ts';
import { apiHost } from '../oci/reference.ts';
import type { TlsOptions } from './http.ts';
import { readSmallFile } from './small-file.ts';

export interface HostCertificates {
  readonly ca: readonly string[];
  readonly cert?: string;
  readonly key?: string;
}

const CERTIFICATE_MAX_BYTES = 4 * 1024 * 1024;

/** Where distributions keep the bundle: Debian, Fedora, openSUSE, Alpine. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The host's authorities as PEM, which include the administrator's own; undefined: use the runtime's list. */
export function systemAuthorities(env: NodeJS.ProcessEnv): string | undefined {
  for (const path of env['SSL_CERT_FILE'] ? [env['SSL_CERT_FILE']] : SYSTEM_BUNDLES) {
    const bytes = readSmallFile(path, CERTIFICATE_MAX_BYTES);
    if (bytes !== undefined) return bytes.toString('latin1');
  }
  return undefined;
}

/** Where certificates are looked for. */
export interface CertificatePlaces {
  /** --cert-dir: the directory itself. */
  readonly certDir?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly root: string;
}

/** `host` has passed parseDomain(). */
export function hostCertificates(host: string, { certDir, env, root }: CertificatePlaces): HostCertificates {
  const config = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  const directories =
    certDir === undefined
      ? [
          join(config, 'containers/certs.d', host),
          join(root, '/etc/containers/certs.d', host),
          join(root, '/etc/docker/certs.d', host),
        ]
      : [certDir];
  for (const directory of directories) {
    const entries = list(directory);
    if (entries !== undefined) return read(directory, entries);
  }
  if (certDir === undefined) return { ca: [] };
  throw new OciError('INPUT_NOT_FOUND', `no directory ${quote(certDir)}`, { hint: 'Check --cert-dir.' });
}

function list(directory: string): string[] | undefined {
  let entries: Dirent[];
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A directory that this user may not read is one that is not meant for it.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined;
    throw new OciError('CONFIG', `cannot read ${quote(directory)}: ${code}`, { cause: error });
  }
  return entries.map(({ name }) => name).sort();
}

function read(directory: string, names: readonly string[]): HostCertificates {
  const text = (name: string) =>
    readSmallFile(join(directory, name), CERTIFICATE_MAX_BYTES)?.toString('latin1');
  const ca = names.filter((name) => name.endsWith('.crt')).map((name) => text(name) ?? '');
  const name = names.find((candidate) => candidate.endsWith('.cert'));
  if (name === undefined) return { ca };
  const key = text(name.replace(/cert$/, 'key'));
  if (key === undefined)
    throw new OciError('CONFIG', `${quote(join(directory, name))} has no key beside it`, {
      hint: `Put its key into ${join(directory, name.replace(/cert$/, 'key'))}`,
    });
  return { ca, cert: text(name) ?? '', key };
}

/**
 * What a registry's origin, and the hosts it sends us to, are trusted by. The registry's trust holds for its token
 * server and its storage as well; its client certificate is shown to itself only.
 */
export function tlsOptionsFor(
  host: string,
  verify: boolean,
  places: CertificatePlaces,
): (origin: URL) => TlsOptions {
  const own = new URL(`https://${apiHost(host)}`).origin;
  let known: HostCertificates | undefined;
  return ({ origin }) => {
    known ??= hostCertificates(host, places);
    const system = systemAuthorities(places.env);
    const client = origin === own && known.cert !== undefined ? { cert: known.cert, key: known.key! } : {};
    // Without a bundle on this host the runtime's list stays, unless the registry brings an authority of its own.
    const ca = [...(system === undefined ? [] : [system]), ...known.ca];
    return { verify, ...(ca.length === 0 ? {} : { ca }), ...client };
  };
}
