/**
 * Image configuration + options → runtime-spec configuration (image-spec conversion.md). Pure.
 *
 * Invariant: everything the units are made from is in the RuntimeSpec that comes out; the bundle's config.json is
 * the whole story of a container.
 */
import { ANNOTATION, DEFAULT_STOP_SIGNAL, DEFAULT_STOP_TIMEOUT_SECONDS } from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { ImageConfig } from '../oci/image-config.ts';
import type { Linux, Mount, NamespaceType, Resources, RuntimeSpec } from '../oci/runtime-spec.ts';
import { payloadArgs } from './command.ts';
import {
  DEFAULT_CAPABILITIES,
  DEFAULT_MASKED_PATHS,
  DEFAULT_READONLY_PATHS,
  SHM_SIZE_BYTES,
} from './defaults.ts';
import { buildEnvironment } from './environment.ts';
import type { ResolvedUser } from './user.ts';

export type NetworkMode = 'host' | 'none' | 'private';

/** The options of oci-run that shape the container, parsed. */
export interface ContainerOptions {
  command: string[];
  entrypoint?: string[];
  env: string[];
  hostname?: string;
  workdir?: string;
  mounts: Mount[];
  network: NetworkMode;
  readOnly: boolean;
  stopSignal?: string;
  stopTimeoutSeconds?: number;
  memoryMaxBytes?: number;
  cpus?: number;
  pidsLimit?: number;
  labels: Record<string, string>;
}

export interface TranslationInput {
  unit: string;
  imageName: string;
  manifestDigest: string;
  imageConfig: ImageConfig;
  user: ResolvedUser;
  options: ContainerOptions;
  callerEnv: Readonly<Record<string, string | undefined>>;
}

export function translateImage(input: TranslationInput): RuntimeSpec {
  const { imageConfig, options, user } = input;
  const hostname = options.hostname ?? hostnameOf(input.unit);
  const capabilities = [...DEFAULT_CAPABILITIES];
  const cwd = options.workdir ?? (imageConfig.config.WorkingDir || '/');
  if (!cwd.startsWith('/') || cwd.split('/').includes('..'))
    throw new OciError('BAD_IMAGE', `working directory ${quote(cwd)} is not an absolute path`, {
      hint: 'Name another one with --workdir /DIR.',
    });
  return {
    ociVersion: '1.2.1',
    root: { path: 'rootfs', readonly: options.readOnly },
    hostname,
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids, umask: 0o022 },
      args: payloadArgs(imageConfig.config, options.entrypoint, options.command),
      env: buildEnvironment({
        image: imageConfig.config.Env,
        user: options.env,
        caller: input.callerEnv,
        home: user.home,
        hostname,
      }),
      cwd,
      capabilities: {
        bounding: capabilities,
        // a user other than root starts without any, as with podman; set-user-ID programs can still gain the bounding set
        effective: user.uid === 0 ? capabilities : [],
        permitted: user.uid === 0 ? capabilities : [],
        inheritable: [],
        ambient: [],
      },
      noNewPrivileges: false,
    },
    mounts: [...DEFAULT_MOUNTS, ...(options.readOnly ? READ_ONLY_TMPFS : []), ...options.mounts],
    annotations: {
      ...imageConfig.config.Labels,
      ...options.labels,
      [ANNOTATION.image]: input.imageName,
      [ANNOTATION.digest]: input.manifestDigest,
      [ANNOTATION.stopSignal]: options.stopSignal ?? imageConfig.config.StopSignal ?? DEFAULT_STOP_SIGNAL,
      [ANNOTATION.stopTimeout]: String(options.stopTimeoutSeconds ?? DEFAULT_STOP_TIMEOUT_SECONDS),
    },
    linux: linux(options),
  };
}

const DEFAULT_MOUNTS: readonly Mount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=64k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${SHM_SIZE_BYTES}`],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'rw'],
  },
];

/** Programs expect to write here even where the root is read-only; podman does the same (--read-only-tmpfs). */
const READ_ONLY_TMPFS: readonly Mount[] = [
  {
    destination: '/run',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'nodev', 'mode=755', 'tmpcopyup'],
  },
  { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=1777'] },
  { destination: '/var/tmp', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=1777'] },
];

function linux(options: ContainerOptions): Linux {
  const namespaces: NamespaceType[] = ['pid', 'mount', 'ipc', 'uts', 'user', 'cgroup'];
  if (options.network !== 'host') namespaces.push('network');
  const resources: Resources = {};
  if (options.memoryMaxBytes !== undefined) resources.memory = { limit: limitOf(options.memoryMaxBytes) };
  if (options.cpus !== undefined)
    resources.cpu = { quota: Math.round(options.cpus * CPU_PERIOD_USEC), period: CPU_PERIOD_USEC };
  if (options.pidsLimit !== undefined) resources.pids = { limit: limitOf(options.pidsLimit) };
  return {
    namespaces: namespaces.map((type) => ({ type })),
    resources,
    // a fresh network namespace is the container's own: its root and everybody else may use any port of it
    ...(options.network === 'host'
      ? {}
      : { sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 65535' } }),
    maskedPaths: DEFAULT_MASKED_PATHS,
    readonlyPaths: DEFAULT_READONLY_PATHS,
  };
}

const CPU_PERIOD_USEC = 100_000;

function limitOf(value: number): number {
  return value === Number.POSITIVE_INFINITY ? -1 : value;
}

/** A unit name as a host name: letters, digits and hyphens, at most 63 (hostname(7)). */
export function hostnameOf(unit: string): string {
  const name = unit
    .replace(/[^A-Za-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 63)
    .replace(/-+$/, '');
  return name === '' ? 'container' : name;
}
