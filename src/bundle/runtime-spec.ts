/**
 * Image configuration + options → runtime-spec configuration (image-spec conversion.md). Pure.
 *
 * Invariant: everything the units are made from is in the RuntimeSpec that comes out; the bundle's config.json is
 * the whole story of a container.
 */
import {
  ANNOTATION,
  DEFAULT_STOP_SIGNAL,
  DEFAULT_STOP_TIMEOUT_SECONDS,
  OUR_ANNOTATIONS,
} from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { ImageConfig } from '../oci/image-config.ts';
import { CONTAINER_ID_MAX } from '../oci/limits.ts';
import type {
  Capabilities,
  Device,
  IDMapping,
  Linux,
  Mount,
  NamespaceType,
  Process,
  Resources,
  RuntimeSpec,
} from '../oci/runtime-spec.ts';
import { capabilitySets } from './capabilities.ts';
import { payloadArgs } from './command.ts';
import {
  DEFAULT_MASKED_PATHS,
  DEFAULT_READONLY_PATHS,
  HOST_USERS_MASKED_PATHS,
  SHM_SIZE_BYTES,
} from './defaults.ts';
import { buildEnvironment } from './environment.ts';
import { type HealthOptions, healthCheck } from './health.ts';
import { type SecurityOptions, stillMasked } from './name-value.ts';
import type { NetworkMode } from './network.ts';
import { chooseSeccomp, type SeccompChoice } from './seccomp.ts';
import type { ResolvedUser } from './user.ts';

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
  restart?: string;
  logTag?: string;
  health: HealthOptions;
  labels: Record<string, string>;
  resources: Resources;
  rlimits: NonNullable<Process['rlimits']>;
  sysctl: Record<string, string>;
  capAdd: string[];
  capDrop: string[];
  security: SecurityOptions;
  /** Undefined: the default profile. */
  seccomp?: SeccompChoice;
  /** Undefined: a fresh range at every start. */
  range?: IDMapping;
  /** No user namespace: its ids are the host's. */
  hostUsers?: true;
  shmSizeBytes?: number;
}

export interface TranslationInput {
  unit: string;
  imageName: string;
  manifestDigest: string;
  imageConfig: ImageConfig;
  user: ResolvedUser;
  devices: readonly Device[];
  options: ContainerOptions;
  terminal?: boolean;
  callerEnv: Readonly<Record<string, string | undefined>>;
}

export function translateImage(input: TranslationInput): RuntimeSpec {
  const { imageConfig, options, user } = input;
  const hostname = options.hostname ?? hostnameOf(input.unit);
  const capabilities = capabilitySets(user.uid, options.capAdd, options.capDrop);
  const cwd = options.workdir ?? (imageConfig.config.WorkingDir || '/');
  if (!cwd.startsWith('/') || cwd.split('/').includes('..'))
    throw new OciError('BAD_IMAGE', `working directory ${quote(cwd)} is not an absolute path`, {
      hint: 'Name another one with --workdir /DIR.',
    });
  const health = healthCheck(imageConfig.config, options.health);
  return {
    ociVersion: '1.2.1',
    root: { path: 'rootfs', readonly: options.readOnly },
    hostname,
    process: {
      terminal: input.terminal ?? false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids, umask: 0o022 },
      args: payloadArgs(imageConfig.config, options.entrypoint, options.command),
      env: buildEnvironment({
        image: imageConfig.config.Env,
        user: [...(input.terminal ? ['TERM'] : []), ...options.env],
        caller: input.callerEnv,
        home: user.home,
        hostname,
      }),
      cwd,
      capabilities,
      noNewPrivileges: options.security.noNewPrivileges,
      ...(options.security.apparmorProfile === undefined
        ? {}
        : { apparmorProfile: options.security.apparmorProfile }),
      ...(options.rlimits.length > 0 ? { rlimits: options.rlimits } : {}),
    },
    mounts: [...defaultMounts(options), ...(options.readOnly ? READ_ONLY_TMPFS : []), ...options.mounts],
    annotations: {
      ...foreignLabels(imageConfig.config.Labels),
      ...options.labels,
      [ANNOTATION.image]: input.imageName,
      [ANNOTATION.digest]: input.manifestDigest,
      [ANNOTATION.stopSignal]: options.stopSignal ?? imageConfig.config.StopSignal ?? DEFAULT_STOP_SIGNAL,
      [ANNOTATION.stopTimeout]: String(options.stopTimeoutSeconds ?? DEFAULT_STOP_TIMEOUT_SECONDS),
      ...(options.restart === undefined ? {} : { [ANNOTATION.restart]: options.restart }),
      ...(options.logTag === undefined ? {} : { [ANNOTATION.logTag]: options.logTag }),
      ...(health === undefined ? {} : { [ANNOTATION.healthCheck]: JSON.stringify(health) }),
      ...(options.hostUsers ? { [ANNOTATION.userns]: 'host' } : {}),
    },
    linux: linux(options, capabilities, input.devices),
  };
}

/** What is said by annotations of ours is the user's business, not the image's. */
function foreignLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !name.startsWith(OUR_ANNOTATIONS)));
}

const defaultMounts = ({ shmSizeBytes = SHM_SIZE_BYTES, hostUsers }: ContainerOptions): Mount[] => [
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
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${shmSizeBytes}`],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    // the host's root could change its own limits there
    options: ['nosuid', 'noexec', 'nodev', hostUsers ? 'ro' : 'rw'],
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

function linux(options: ContainerOptions, capabilities: Capabilities, devices: readonly Device[]): Linux {
  const { network, security } = options;
  const seccomp = chooseSeccomp(options.seccomp ?? 'default', capabilities, security.noNewPrivileges);
  const namespaces: NamespaceType[] = [
    ...(['pid', 'mount', 'ipc', 'uts'] as const),
    ...(options.hostUsers ? [] : (['user'] as const)),
    'cgroup',
  ];
  const masked = [...DEFAULT_MASKED_PATHS, ...(options.hostUsers ? HOST_USERS_MASKED_PATHS : [])];
  return {
    namespaces: [...namespaces.map((type) => ({ type })), ...networkNamespace(network)],
    ...(options.range === undefined ? {} : { uidMappings: [options.range], gidMappings: [options.range] }),
    ...(devices.length > 0 ? { devices: [...devices] } : {}),
    resources: options.resources,
    ...(seccomp === undefined ? {} : { seccomp }),
    sysctl: {
      ...(network.kind === 'host' ? {} : networkSysctl(network, options.range?.size ?? CONTAINER_ID_MAX + 1)),
      ...options.sysctl,
    },
    maskedPaths: [...stillMasked(masked, security), ...security.masked],
    readonlyPaths: stillMasked(DEFAULT_READONLY_PATHS, security),
  };
}

function networkNamespace(network: NetworkMode): Linux['namespaces'] {
  if (network.kind === 'host') return [];
  return [{ type: 'network', ...(network.kind === 'path' ? { path: network.path } : {}) }];
}

/**
 * A network namespace serves the container alone: its root and everybody else may use any port of it, and ping. In
 * one that is joined the container's groups are foreign, so all are allowed.
 */
function networkSysctl({ kind }: NetworkMode, rangeSize: number): Record<string, string> {
  return {
    'net.ipv4.ip_unprivileged_port_start': '0',
    'net.ipv4.ping_group_range': `0 ${kind === 'path' ? 2 ** 31 - 1 : rangeSize - 1}`,
  };
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
