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

/** `certDir` is --cert-dir: the directory itself. `host` has passed parseDomain(). */
export function hostCertificates(
  host: string,
  { certDir, env, root }: { certDir?: string | undefined; env: NodeJS.ProcessEnv; root: string },
): HostCertificates {
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
