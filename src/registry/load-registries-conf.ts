/**
 * Reads the files of containers-registries.conf(5) and systemd's *.oci-registry files.
 *
 * Invariant: reads only; the order is podman's, so that one configuration means the same to both. A user's own
 * registries.conf replaces the system's files, else the drop-ins of the system come before those of the user.
 */
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { OciError, quote } from '../oci/errors.ts';
import { OCI_REGISTRY_MAX_BYTES, type OciRegistryRule, parseOciRegistry } from './oci-registry.ts';
import {
  mergeRegistriesConf,
  parseRegistriesConf,
  type RegistriesConf,
  type RegistriesFile,
} from './registries-conf.ts';
import { readSmallFile } from './small-file.ts';

const REGISTRIES_CONF_MAX_BYTES = 4 * 1024 * 1024;
const OCI_REGISTRY_DIRECTORIES = [
  '/etc/systemd/oci-registry',
  '/run/systemd/oci-registry',
  '/usr/local/lib/systemd/oci-registry',
  '/usr/lib/systemd/oci-registry',
];

/** `root` is put before every path of the system, for tests. */
export function loadRegistriesConf({ env, root }: { env: NodeJS.ProcessEnv; root: string }): RegistriesConf {
  const files: RegistriesFile[] = [];
  for (const path of registriesConfFiles(env, root)) {
    const bytes = readSmallFile(path, REGISTRIES_CONF_MAX_BYTES);
    if (bytes !== undefined) files.push(parseRegistriesConf(bytes.toString('utf8'), path));
  }
  return mergeRegistriesConf(files, (fileName) => loadOciRegistryRule(fileName, root));
}

function registriesConfFiles(env: NodeJS.ProcessEnv, root: string): string[] {
  const home = env['HOME'] || homedir();
  const userDir = join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers');
  const systemDir = join(root, '/etc/containers');
  const vendorDir = join(root, '/usr/share/containers');
  const userFile = join(userDir, 'registries.conf');
  const systemFile = join(systemDir, 'registries.conf');
  const explicit = env['CONTAINERS_REGISTRIES_CONF'] || undefined;
  if (explicit !== undefined && !existsSync(explicit))
    throw new OciError('INPUT_NOT_FOUND', `no file ${quote(explicit)}`, {
      hint: 'Check $CONTAINERS_REGISTRIES_CONF.',
    });
  // The choices that podman remembers from its prompts.
  const remembered =
    process.getuid?.() === 0
      ? join(root, '/var/cache/containers/short-name-aliases.conf')
      : join(env['XDG_CACHE_HOME'] || join(home, '.cache'), 'containers/short-name-aliases.conf');
  const userDropIns = dropIns(join(userDir, 'registries.conf.d'));
  if (explicit === undefined && existsSync(userFile)) return [userFile, ...userDropIns, remembered];
  return [
    explicit ?? (existsSync(systemFile) ? systemFile : join(vendorDir, 'registries.conf')),
    ...dropIns(join(vendorDir, 'registries.conf.d')),
    ...dropIns(join(systemDir, 'registries.conf.d')),
    ...userDropIns,
    remembered,
  ];
}

function dropIns(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith('.conf'))
      .sort()
      .map((name) => join(directory, name));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new OciError('CONFIG', `cannot read ${quote(directory)}: ${code}`, { cause: error });
  }
}

/** `fileName` has no slash: ociRegistryFileName() escapes it. */
function loadOciRegistryRule(fileName: string, root: string): OciRegistryRule | undefined {
  for (const directory of OCI_REGISTRY_DIRECTORIES) {
    const path = join(root, directory, fileName);
    const bytes = readSmallFile(path, OCI_REGISTRY_MAX_BYTES);
    if (bytes !== undefined) return bytes.length === 0 ? undefined : parseOciRegistry(bytes, path);
  }
  return undefined;
}
