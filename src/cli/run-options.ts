/** The options of oci-run that shape a container (declare-run-options.ts): what each text means. */
import { closeSync, openSync, readSync } from 'node:fs';
import { posix } from 'node:path';
import { parseCredential, parseEncryptedCredential } from '../bundle/credential.ts';
import { type DeviceRequest, parseDevice } from '../bundle/device.ts';
import { parseEnvFile } from '../bundle/environment.ts';
import { type HealthTexts, parseHealthOptions } from '../bundle/health.ts';
import {
  parseAddHost,
  parseLabel,
  parseLogTag,
  parseNameserver,
  parseRestart,
  parseSecurityOptions,
  parseSysctl,
  parseUlimit,
  parseUserns,
} from '../bundle/name-value.ts';
import {
  type NetworkChoice,
  parseIP,
  parseNetwork,
  parsePublish,
  parseResolverWord,
} from '../bundle/network.ts';
import { parseCount, parseFiniteSize } from '../bundle/quantity.ts';
import { parseResources, type ResourceTexts } from '../bundle/resources.ts';
import type { ContainerOptions } from '../bundle/runtime-spec.ts';
import { type DirectoryTexts, parseDirectories } from '../bundle/service-directory.ts';
import { parseMount, parseTmpfs, parseVolume } from '../bundle/volume.ts';
import type { PublishedPort } from '../oci/address.ts';
import { ANNOTATION } from '../oci/annotations.ts';
import type { Credential } from '../oci/credential.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseSignal } from '../oci/signal.ts';
import { HOST_GATEWAY, type NetworkFiles, type UnitContext } from '../unit/context.ts';
import { parseProperty } from '../unit/property.ts';
import type { Setting } from '../unit/setting.ts';
import { parseSeccompOption } from './seccomp-option.ts';
import type { TrustTexts } from './trust-options.ts';

/** As commander gives them; all of them texts of the user. */
export interface ContainerTexts extends ResourceTexts, HealthTexts, DirectoryTexts, TrustTexts {
  env?: string[];
  envFile?: string[];
  volume?: string[];
  mount?: string[];
  tmpfs?: string[];
  device?: string[];
  credential?: string[];
  credentialEncrypted?: string[];
  shmSize?: string;
  network?: string;
  publish?: string[];
  ip?: string;
  addHost?: string[];
  dns?: string[];
  dnsSearch?: string[];
  dnsOption?: string[];
  user?: string;
  groupAdd?: string[];
  userns: string;
  capAdd?: string[];
  capDrop?: string[];
  securityOpt?: string[];
  seccomp?: string;
  privileged?: boolean;
  workdir?: string;
  entrypoint?: string;
  hostname?: string;
  label?: string[];
  readOnly?: boolean;
  sysctl?: string[];
  ulimit?: string[];
  init?: boolean;
  stopSignal?: string;
  stopTimeout?: string;
}

/** Those that concern the unit more than the container: a bundle takes them too. */
export interface UnitTexts {
  property?: string[];
  /** -p: a property or a port. */
  p?: string[];
  restart?: string;
  logTag?: string;
  socket?: string[];
  notify?: boolean;
  'notify=healthy'?: boolean;
}

export interface ParsedOptions {
  container: Omit<ContainerOptions, 'network'>;
  network: NetworkChoice;
  ports: PublishedPort[];
  /** --ip, as a number. */
  address?: number;
  devices: DeviceRequest[];
  credentials: Credential[];
  groups: string[];
  networkFiles: NetworkFiles;
}

const STOP_TIMEOUT_MAX_SECONDS = 31_536_000;

export function parseContainerOptions(command: string[], texts: ContainerTexts & UnitTexts): ParsedOptions {
  if (texts.privileged)
    throw new OciError('UNSUPPORTED', '--privileged: no container gets all of the host', {
      hint: 'Give it what it needs: --cap-add, --device, -v, --network host.',
    });
  const security = parseSecurityOptions(texts.securityOpt ?? []);
  const directories = parseDirectories(texts);
  return {
    ...networkOptions(texts),
    container: {
      command,
      ...(texts.entrypoint === undefined ? {} : { entrypoint: parseEntrypoint(texts.entrypoint) }),
      env: [...directories.env, ...(texts.envFile ?? []).flatMap(readEnvFile), ...(texts.env ?? [])],
      ...(texts.hostname === undefined ? {} : { hostname: parseHostname(texts.hostname) }),
      ...(texts.workdir === undefined ? {} : { workdir: parseWorkdir(texts.workdir) }),
      mounts: eachElsewhere([
        ...(texts.volume ?? []).map(parseVolume),
        ...(texts.mount ?? []).map(parseMount),
        ...(texts.tmpfs ?? []).map(parseTmpfs),
        ...directories.mounts,
      ]),
      readOnly: texts.readOnly ?? false,
      ...(texts.stopSignal === undefined ? {} : { stopSignal: signalOption(texts.stopSignal) }),
      ...(texts.stopTimeout === undefined
        ? {}
        : {
            stopTimeoutSeconds: parseCount('--stop-timeout', texts.stopTimeout, 0, STOP_TIMEOUT_MAX_SECONDS),
          }),
      ...(texts.restart === undefined ? {} : { restart: parseRestart(texts.restart) }),
      ...(texts.logTag === undefined ? {} : { logTag: parseLogTag(texts.logTag) }),
      health: parseHealthOptions(texts),
      labels: Object.fromEntries((texts.label ?? []).map(parseLabel)),
      resources: parseResources(texts),
      rlimits: (texts.ulimit ?? []).map(parseUlimit),
      sysctl: Object.fromEntries((texts.sysctl ?? []).map(parseSysctl)),
      capAdd: texts.capAdd ?? [],
      capDrop: texts.capDrop ?? [],
      security,
      seccomp: parseSeccompOption(texts.seccomp ?? security.seccomp ?? 'default'),
      ...parseUserns(texts.userns),
      ...(texts.shmSize === undefined ? {} : { shmSizeBytes: parseFiniteSize('--shm-size', texts.shmSize) }),
    },
    devices: (texts.device ?? []).map(parseDevice),
    credentials: [
      ...(texts.credential ?? []).map(parseCredential),
      ...(texts.credentialEncrypted ?? []).map(parseEncryptedCredential),
    ],
    groups: texts.groupAdd ?? [],
  };
}

/** Throws USAGE for two at one place: the first could never be seen. */
function eachElsewhere<Place extends { readonly destination: string }>(mounts: Place[]): Place[] {
  const places = new Set<string>();
  for (const { destination } of mounts) {
    const place = posix.join(destination, '/');
    if (places.has(place))
      throw new OciError('USAGE', `two mounts at ${quote(destination)}`, { hint: 'Leave one of them out.' });
    places.add(place);
  }
  return mounts;
}

function networkOptions(
  texts: ContainerTexts & UnitTexts,
): Pick<ParsedOptions, 'network' | 'ports' | 'address' | 'networkFiles'> {
  const ports = publishTexts(texts).map(parsePublish);
  const needsBridge = ports.length > 0 ? '--publish' : texts.ip !== undefined ? '--ip' : undefined;
  const network = parseNetwork(texts.network ?? (needsBridge === undefined ? 'private' : 'bridge'));
  if (needsBridge !== undefined && network.kind !== 'bridge')
    throw new OciError('USAGE', `${needsBridge}: --network ${texts.network} is no bridge`, {
      hint: `Leave out ${needsBridge}, or use --network bridge.`,
    });
  const hosts = (texts.addHost ?? []).map(parseAddHost);
  if (
    network.kind !== 'bridge' &&
    network.kind !== 'host' &&
    hosts.some((line) => line.startsWith(HOST_GATEWAY))
  )
    throw new OciError('USAGE', `--add-host: from this network the host has no address`, {
      hint: 'Use --network bridge.',
    });
  return {
    network,
    ports,
    ...(texts.ip === undefined ? {} : { address: parseIP(texts.ip) }),
    networkFiles: {
      hosts,
      nameservers: (texts.dns ?? []).map(parseNameserver),
      searchDomains: (texts.dnsSearch ?? []).map((text) => parseResolverWord('--dns-search', text)),
      resolverOptions: (texts.dnsOption ?? []).map((text) => parseResolverWord('--dns-option', text)),
    },
  };
}

/** Who says that the container is ready. */
export function parseNotify(texts: UnitTexts): Pick<UnitContext, 'notify'> {
  const healthy = texts['notify=healthy'] ?? false;
  if (healthy && texts.notify)
    throw new OciError('USAGE', '--notify and --notify=healthy exclude each other', {
      hint: 'Leave one of them out.',
    });
  return healthy ? { notify: 'healthy' } : texts.notify ? { notify: 'payload' } : {};
}

/** For a bundle, what an image's container has in its options. */
export function unitAnnotations(texts: UnitTexts): Record<string, string> {
  return {
    ...(texts.restart === undefined ? {} : { [ANNOTATION.restart]: parseRestart(texts.restart) }),
    ...(texts.logTag === undefined ? {} : { [ANNOTATION.logTag]: parseLogTag(texts.logTag) }),
  };
}

export function parseProperties(texts: UnitTexts): Setting[] {
  const short = (texts.p ?? []).filter(isProperty);
  return [...(texts.property ?? []), ...short].flatMap(parseProperty);
}

/** --publish, and -p as podman has it. */
export function publishTexts(texts: { publish?: string[]; p?: string[] }): string[] {
  return [...(texts.publish ?? []), ...(texts.p ?? []).filter((text) => !isProperty(text))];
}

/** Of what -p is given: a property has its name before an =, a port never does. */
function isProperty(text: string): boolean {
  return text.includes('=');
}

/** As the image's would be, but the user's fault. */
function signalOption(text: string): string {
  try {
    return parseSignal(text).name;
  } catch {
    throw new OciError('USAGE', `--stop-signal: ${quote(text)} is not a signal`, {
      hint: 'Use a name or a number of signal(7), as SIGINT.',
    });
  }
}

/** One word, or a JSON array of words, as podman takes it. */
function parseEntrypoint(text: string): string[] {
  if (!text.startsWith('[')) return text === '' ? [] : [text];
  try {
    const words: unknown = JSON.parse(text);
    if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
  } catch {}
  throw new OciError('USAGE', `--entrypoint: ${quote(text)} is not a JSON array of strings`, {
    hint: `Write it as --entrypoint '["sh", "-c"]'.`,
  });
}

/** More than execve(2) takes. */
const ENV_FILE_MAX_BYTES = 4 * 1024 * 1024;

/** A file, or what a shell makes of `<(...)`. */
export function readEnvFile(file: string): string[] {
  let bytes: Buffer;
  try {
    bytes = readAtMost(file, ENV_FILE_MAX_BYTES + 1);
  } catch (error) {
    throw new OciError('INPUT_NOT_FOUND', `--env-file: cannot read ${quote(file)}`, {
      hint: 'Name a file that exists.',
      cause: error,
    });
  }
  if (bytes.length > ENV_FILE_MAX_BYTES || bytes.includes(0))
    throw new OciError(
      'USAGE',
      `--env-file: ${quote(file)} ${bytes.includes(0) ? 'holds a NUL byte' : 'is larger than 4 MiB'}`,
      { hint: 'Name a file of lines NAME=VALUE.' },
    );
  return parseEnvFile(bytes.toString());
}

function readAtMost(file: string, maxBytes: number): Buffer {
  const fd = openSync(file, 'r');
  try {
    const parts: Buffer[] = [];
    for (let left = maxBytes; left > 0; ) {
      const part = Buffer.alloc(Math.min(left, 65536));
      const got = readSync(fd, part);
      if (got === 0) break;
      parts.push(part.subarray(0, got));
      left -= got;
    }
    return Buffer.concat(parts);
  } finally {
    closeSync(fd);
  }
}

function parseHostname(text: string): string {
  if (/^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/.test(text)) return text;
  throw new OciError('USAGE', `--hostname: ${quote(text)} is not a host name`, {
    hint: 'Use letters, digits, hyphens and dots, at most 64.',
  });
}

function parseWorkdir(text: string): string {
  if (text.startsWith('/') && !text.split('/').includes('..')) return text;
  throw new OciError('USAGE', `--workdir: ${quote(text)} is not an absolute path`, {
    hint: 'Write it as --workdir /DIR.',
  });
}

const UNIT_NAME_MAX_CHARS = 200; // NAME_MAX, less what the setup unit's name adds

/**
 * systemd.unit(5)'s characters; `.service` may be there. No colon: it would be part of paths in BindPaths=, which
 * systemd reads wrongly from the file of a transient unit.
 */
export function parseUnitName(text: string, option: '--name' | '--unit' = '--name'): string {
  const name = text.replace(/\.service$/, '');
  if (
    /^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/.test(name) &&
    name.length <= UNIT_NAME_MAX_CHARS &&
    !name.endsWith('@')
  )
    return name;
  throw new OciError('USAGE', `${option}: ${quote(text)} is not a name for a service`, {
    hint: `Use letters, digits and _ . - @, at most ${UNIT_NAME_MAX_CHARS}.`,
  });
}

export function parseSlice(text: string): string {
  const name = text.endsWith('.slice') ? text : `${text}.slice`;
  if (/^[A-Za-z0-9:_.@\\-]+\.slice$/.test(name) && !/^-|--|-\.slice$/.test(name)) return name;
  throw new OciError('USAGE', `--slice: ${quote(text)} is not the name of a slice`, {
    hint: 'Write it as --slice oci-web.slice.',
  });
}
