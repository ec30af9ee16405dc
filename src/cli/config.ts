/**
 * oci.conf: an ini file; networks have sections, cli/network-conf.ts, and trust has one, cli/trust-conf.ts.
 *
 *   root = /var/lib/oci
 *   run-root = /run/oci
 *   additional-stores = /usr/share/oci:/mnt/images
 *   keep = 2
 *   store-format = composefs
 *   [network]
 *   subnet = 10.90.0.0/24 fd90::/64
 *   [network.db]
 *   subnet = 10.91.0.0/24
 *   internal = true
 *   [trust]
 *   keys = /etc/oci/release.pem:/etc/oci/me.pem
 *   require-signature = true
 *
 * Read in this order, later values win: /etc/oci/oci.conf, /etc/oci/oci.conf.d/*.conf by name, the same two in
 * $XDG_CONFIG_HOME/oci (~/.config/oci). --config FILE is read instead of them all.
 */
import { readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { TrustPolicy } from '../image-signatures.ts';
import { OciError, quote } from '../oci/errors.ts';
import { readSmallFile } from '../registry/small-file.ts';
import type { StoreFormat } from '../store/layout.ts';
import { type Networks, parseNetworks } from './network-conf.ts';
import { parseTrust } from './trust-conf.ts';

export interface OciConf {
  readonly root?: string;
  readonly runRoot?: string;
  /** Stores to look in besides `root`, in this order; they are only read. */
  readonly additionalStores?: readonly string[];
  /** How many old versions of an installed service stay. */
  readonly keep?: number;
  /** Of images that are pulled. */
  readonly storeFormat?: StoreFormat;
  /** By name; where two files describe one, the later one counts. */
  readonly networks?: Networks;
  /** Of two files, the later one's word counts, each for itself. */
  readonly trust?: Partial<TrustPolicy>;
}

export interface ConfPlaces {
  /** --config. */
  readonly file?: string | undefined;
  readonly env?: NodeJS.ProcessEnv;
  readonly systemDirectory?: string;
}

const KEYS: Readonly<Record<string, 'root' | 'runRoot' | 'additionalStores'>> = {
  root: 'root',
  'run-root': 'runRoot',
  'additional-stores': 'additionalStores',
};
const FILE_MAX_BYTES = 1024 * 1024;

/** Throws INPUT_NOT_FOUND for a missing --config, CONFIG for what is not understood. */
export async function loadOciConf({
  file,
  env = process.env,
  systemDirectory = '/etc/oci',
}: ConfPlaces): Promise<OciConf> {
  if (file !== undefined) {
    const text = readSmallFile(file, FILE_MAX_BYTES)?.toString();
    if (text === undefined)
      throw new OciError('INPUT_NOT_FOUND', `no configuration file ${quote(file)}`, {
        hint: 'Check the path given to --config.',
      });
    return parseOciConf(text, file);
  }
  const home = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  let conf: OciConf = {};
  for (const path of [systemDirectory, join(home, 'oci')].flatMap(confFiles)) {
    const text = readSmallFile(path, FILE_MAX_BYTES)?.toString();
    if (text !== undefined) conf = merge(conf, await parseOciConf(text, path));
  }
  return conf;
}

function merge(before: OciConf, after: OciConf): OciConf {
  const networks = { ...before.networks, ...after.networks };
  const trust = { ...before.trust, ...after.trust };
  return {
    ...before,
    ...after,
    ...(Object.keys(networks).length > 0 ? { networks } : {}),
    ...(Object.keys(trust).length > 0 ? { trust } : {}),
  };
}

function confFiles(directory: string): string[] {
  let dropIns: string[] = [];
  try {
    dropIns = readdirSync(join(directory, 'oci.conf.d')).filter(
      (name) => name.endsWith('.conf') && !name.startsWith('.'),
    );
  } catch {
    // none
  }
  return [join(directory, 'oci.conf'), ...dropIns.sort().map((name) => join(directory, 'oci.conf.d', name))];
}

/** `path` is for messages. */
export async function parseOciConf(text: string, path: string): Promise<OciConf> {
  const { default: ini } = await import('ini'); // most machines have no oci.conf
  const conf: { -readonly [K in keyof OciConf]: OciConf[K] } = {};
  for (const [key, value] of Object.entries(ini.parse(text))) {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      if (key === 'network') conf.networks = parseNetworks(value, path);
      else if (key === 'trust') conf.trust = parseTrust(value, path);
      // [Trust] must not pass for a policy
      else
        throw new OciError('CONFIG', `${quote(path)}: there is no section ${quote(key)}`, {
          hint: 'Use one of: network, network.NAME, trust, in small letters.',
        });
      continue;
    }
    if (key === 'keep') {
      conf.keep = parseKeep(value, path);
      continue;
    }
    if (key === 'store-format') {
      conf.storeFormat = parseStoreFormat(value, path);
      continue;
    }
    const name = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
    if (name === undefined)
      throw new OciError('CONFIG', `${quote(path)}: unknown key ${quote(key)}`, {
        hint: `Use one of: ${[...Object.keys(KEYS), 'keep', 'store-format'].join(', ')}.`,
      });
    const directories =
      typeof value !== 'string' ? [''] : name === 'additionalStores' ? list(value) : [value];
    if (!directories.every(isAbsolute))
      throw new OciError('CONFIG', `${quote(path)}: ${key} is not an absolute path`, {
        hint: `Write it as ${key} = /some/directory, once.`,
      });
    if (name === 'additionalStores') conf[name] = directories;
    else conf[name] = directories[0]!;
  }
  return conf;
}

function parseKeep(value: unknown, path: string): number {
  if (typeof value === 'string' && /^\d{1,3}$/.test(value)) return Number(value);
  throw new OciError('CONFIG', `${quote(path)}: keep is no number of versions`, {
    hint: 'Write it as keep = 2, once.',
  });
}

function parseStoreFormat(value: unknown, path: string): StoreFormat {
  if (value === 'tree' || value === 'composefs') return value;
  throw new OciError('CONFIG', `${quote(path)}: store-format is no format of images`, {
    hint: 'Write it as store-format = tree or store-format = composefs, once.',
  });
}

/** `DIR:DIR`; an empty value takes back what a file before said. */
function list(value: string): string[] {
  return value.split(':').filter((directory) => directory !== '');
}
