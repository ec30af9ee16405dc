/** The options of oci-run that shape a container: how they are declared, and what each text means. */
import { closeSync, openSync, readSync } from 'node:fs';
import { type Command, Option } from 'commander';
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
import { type TrustTexts, trustOptions } from './trust-options.ts';

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

const each = (value: string, previous: string[] = []) => [...previous, value];

/** The limits: of oci-run, and of ocictl update. */
export function resourceOptions(program: Command): Command {
  return program
    .option('-m, --memory <size>', 'most memory, as 256M')
    .option('--memory-reservation <size>', 'memory that is taken last when memory gets short')
    .option('--memory-swap <size>', 'most memory and swap together')
    .option('--cpus <number>', "most CPUs' worth of time, as 1.5")
    .option('--cpu-weight <number>', 'share of the CPUs when they are busy, 1 to 10000 (default: 100)')
    .option('--cpu-shares <number>', 'the same as docker counts it, 2 to 262144')
    .option('--cpuset-cpus <list>', 'CPUs that may be used, as 0-3,7')
    .option('--cpuset-mems <list>', 'memory nodes that may be used')
    .option('--io-weight <number>', 'share of the disks when they are busy, 1 to 10000 (default: 100)')
    .option('--pids-limit <number>', 'most processes and threads');
}

export function containerOptions(program: Command): Command {
  return trustOptions(resourceOptions(program))
    .option('--ulimit <name=soft[:hard]>', 'limit of setrlimit(2), as nofile=1024:4096', each)
    .option('-e, --env <name=value>', 'set an environment variable', each)
    .option('--env-file <file>', 'set the variables in a file', each)
    .option(
      '-v, --volume <source:container[:options]>',
      'show a directory of the host, or a volume, in the container',
      each,
    )
    .option('--mount <type=bind|volume|tmpfs|image,…>', 'the same in words', each)
    .option('--tmpfs <dir[:options]>', 'mount a file system in memory', each)
    .option('--state-dir <[name:]dir>', "show the unit's own /var/lib/NAME there", each)
    .option('--cache-dir <[name:]dir>', "show the unit's own /var/cache/NAME there", each)
    .option('--logs-dir <[name:]dir>', "show the unit's own /var/log/NAME there", each)
    .option('--config-dir <[name:]dir>', 'show /etc/NAME there, read-only', each)
    .option('--credential <name[:file|=value]>', 'give the container a secret', each)
    .option('--credential-encrypted <name[:file]>', 'give it one that systemd-creds(1) encrypted', each)
    .option('--device <host[:container][:rwm]>', 'give the container a device', each)
    .option('--shm-size <size>', 'size of /dev/shm (default: 64M)')
    .option(
      '--net, --network <mode>',
      'private, none, host, bridge[:name], container=unit or ns:path (default: private, with ports bridge)',
    )
    .option(
      '--publish <[[ip:][host]:]container[/protocol]>',
      'lead a port of the host into the container',
      each,
    )
    .option('--ip <address>', 'fixed address in the network of the bridge')
    .option('--add-host <name:address>', "add a line to /etc/hosts; host-gateway is the host's address", each)
    .option('--dns <address>', 'name server in /etc/resolv.conf', each)
    .option('--dns-search <domain>', 'domain in which names are looked up; . for none', each)
    .option('--dns-option <option>', 'option of resolv.conf(5)', each)
    .option('-u, --user <user[:group]>', 'run as this user of the image')
    .option('--group-add <group>', 'add a supplementary group', each)
    .option('--userns <auto|base:size>', 'range of host ids; auto: a fresh one', 'auto')
    .option('--cap-add <capability>', 'add a capability, or ALL', each)
    .option('--cap-drop <capability>', 'take a capability away, or ALL', each)
    .option(
      '--security-opt <option>',
      'no-new-privileges, apparmor=PROFILE, seccomp=PROFILE, mask=PATH, unmask=PATH',
      each,
    )
    .option(
      '--seccomp <default|unconfined|file>',
      'system calls that are refused (default: the default profile)',
    )
    .addOption(new Option('--privileged', 'not supported').hideHelp())
    .option('-w, --workdir <dir>', 'working directory')
    .option('--entrypoint <command>', "replace the image's entrypoint")
    .option('--hostname <name>', "host name inside (default: the unit's name)")
    .option('-l, --label <name=value>', 'add an annotation', each)
    .option('--read-only', "make the container's root read-only")
    .option('--sysctl <name=value>', 'set a kernel parameter of the container', each)
    .option('--init', 'run an init of the host as PID 1')
    .option('--stop-signal <signal>', "signal that stops the payload (default: the image's)")
    .option('--stop-timeout <seconds>', 'time from that signal to SIGKILL')
    .option('--health-cmd <command>', "check of the container's health (default: the image's)")
    .option('--health-interval <time>', 'time from one check to the next (default: 30s)')
    .option('--health-timeout <time>', 'longest time a check may take (default: 30s)')
    .option('--health-retries <number>', 'failures in a row that make it unhealthy (default: 3)')
    .option('--health-start-period <time>', 'time after the start in which failures do not count')
    .option('--health-start-interval <time>', 'the interval until the first success (default: 5s)')
    .option('--health-on-failure <action>', 'none, restart, stop or kill (default: none)')
    .option('--no-healthcheck', 'no check, whatever the image says');
}

export function unitOptions(program: Command): Command {
  return program
    .option('--property <name=value>', 'set a property of the unit, as systemd-run does', each)
    .option('-p <property|port>', '--property, or where the value is a port --publish', each)
    .option(
      '--socket <address>',
      'listen there, and start the payload with that socket when it is needed',
      each,
    )
    .option('--notify', 'the payload says when it is ready, by sd_notify(3)')
    .option('--notify=healthy', 'it counts as started when it is healthy')
    .option('--restart <policy>', 'start it again: no, on-failure[:N], always or unless-stopped')
    .option('--log-tag <tag>', "identifier of its journal lines (default: the unit's name)");
}

export function pullOption(): Option {
  return new Option('--pull <policy>', 'when to pull')
    .choices(['missing', 'always', 'newer', 'never'])
    .default('missing');
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
  const range = parseUserns(texts.userns);
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
      mounts: [
        ...(texts.volume ?? []).map(parseVolume),
        ...(texts.mount ?? []).map(parseMount),
        ...(texts.tmpfs ?? []).map(parseTmpfs),
        ...directories.mounts,
      ],
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
      ...(range === undefined ? {} : { range }),
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
export function parseUnitName(text: string): string {
  const name = text.replace(/\.service$/, '');
  if (
    /^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/.test(name) &&
    name.length <= UNIT_NAME_MAX_CHARS &&
    !name.endsWith('@')
  )
    return name;
  throw new OciError('USAGE', `--unit: ${quote(text)} is not a name for a service`, {
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
