/**
 * --state-dir, --cache-dir, --logs-dir, --config-dir: a directory of the host that bears the unit's name and shows in
 * the container, as StateDirectory= and its kin give one to a service with DynamicUser= (systemd.exec(5)). The real
 * directory lies below …/private, which only root enters, since programs in it may have set-user-ID bits; files have
 * foreign ids on disk. Configuration is the administrator's: it shows read-only, with the host's ids.
 */
import { MADE_OPTION, UNIT_PLACEHOLDER, VOLUME_OPTION } from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { Mount } from '../oci/runtime-spec.ts';
import { checkDestination } from './volume.ts';

/** As commander gives them. */
export interface DirectoryTexts {
  stateDir?: string[];
  cacheDir?: string[];
  logsDir?: string[];
  configDir?: string[];
}

const KINDS = [
  { key: 'stateDir', option: '--state-dir', base: '/var/lib/private', variable: 'STATE_DIRECTORY' },
  { key: 'cacheDir', option: '--cache-dir', base: '/var/cache/private', variable: 'CACHE_DIRECTORY' },
  { key: 'logsDir', option: '--logs-dir', base: '/var/log/private', variable: 'LOGS_DIRECTORY' },
  { key: 'configDir', option: '--config-dir', base: '/etc', variable: 'CONFIGURATION_DIRECTORY' },
] as const;

/** `[NAME:]DIR` each; without a NAME that of the unit. */
export function parseDirectories(texts: DirectoryTexts): { mounts: Mount[]; env: string[] } {
  const kinds = KINDS.map(({ key, option, base, variable }) => ({
    variable,
    mounts: (texts[key] ?? []).map((text) => parseDirectory(option, base, text)),
  }));
  const mounts = kinds.flatMap((kind) => kind.mounts);
  const twice = mounts.find(({ source }, i) => mounts.findIndex((other) => other.source === source) !== i);
  if (twice !== undefined)
    throw new OciError('USAGE', `${quote(twice.destination)} has the same directory as another place`, {
      hint: 'Name it: --state-dir NAME:/DIR.',
    });
  return {
    mounts,
    env: kinds
      .filter((kind) => kind.mounts.length > 0)
      .map((kind) => `${kind.variable}=${kind.mounts.map(({ destination }) => destination).join(':')}`),
  };
}

function parseDirectory(option: string, base: string, text: string): Mount {
  const [, name, destination = ''] = /^(?:([A-Za-z0-9][A-Za-z0-9_.-]{0,127}):)?(\/.*)$/s.exec(text) ?? [];
  if (destination === '')
    throw new OciError('USAGE', `${option}: ${quote(text)} is not [NAME:]DIR`, {
      hint: `Write it as ${option} /DIR, a directory of the container.`,
    });
  checkDestination(option, text, destination);
  const access = base === '/etc' ? ['ro', 'idmap'] : ['rw', VOLUME_OPTION];
  return {
    destination,
    type: 'bind',
    source: `${base}/${name ?? UNIT_PLACEHOLDER}`,
    options: ['rbind', 'nosuid', 'nodev', ...access, MADE_OPTION],
  };
}
