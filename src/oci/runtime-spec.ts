/**
 * The runtime specification's configuration, config.json: every field of config.md and config-linux.md (1.3), names
 * exactly as there, so that parseRuntimeSpec() reads any bundle. What becomes of each field: src/unit/fields.ts.
 *
 * A user namespace without uidMappings means: a fresh 64K range at every start (see src/uid).
 */
import { parseJson } from './json.ts';
import { anything, flag, type Infer, integer, list, map, object, oneOf, text } from './schema.ts';

/** Large enough for any bundle: a seccomp profile is the largest part of one. */
const RUNTIME_SPEC_MAX_BYTES = 4 * 1024 * 1024;

const ID_MAPPING = object({ containerID: integer, hostID: integer, size: integer });
export type IDMapping = Infer<typeof ID_MAPPING>;

/** Names as capabilities(7) spells them: `CAP_CHOWN`. */
const CAPABILITIES = object({
  bounding: list(text),
  effective: list(text),
  permitted: list(text),
  inheritable: list(text),
  ambient: list(text),
});
export type Capabilities = Infer<typeof CAPABILITIES>;

const PROCESS = object(
  {
    user: object(
      { uid: integer, gid: integer },
      { umask: integer, additionalGids: list(integer), username: text },
    ),
    args: list(text),
    /** `NAME=VALUE`, in order. */
    env: list(text),
    /** Absolute. */
    cwd: text,
  },
  {
    terminal: flag,
    consoleSize: object({ height: integer, width: integer }),
    capabilities: CAPABILITIES,
    noNewPrivileges: flag,
    rlimits: list(object({ type: text, soft: integer, hard: integer })),
    oomScoreAdj: integer,
    scheduler: object(
      { policy: text },
      {
        nice: integer,
        priority: integer,
        flags: list(text),
        runtime: integer,
        deadline: integer,
        period: integer,
      },
    ),
    ioPriority: object({ class: text }, { priority: integer }),
    execCPUAffinity: object({}, { initial: text, final: text }),
    apparmorProfile: text,
    selinuxLabel: text,
    commandLine: text,
  },
);
export type Process = Infer<typeof PROCESS>;

const MOUNT = object(
  { destination: text },
  {
    type: text,
    source: text,
    options: list(text),
    uidMappings: list(ID_MAPPING),
    gidMappings: list(ID_MAPPING),
  },
);
export type Mount = Infer<typeof MOUNT>;

const HOOK = object({ path: text }, { args: list(text), env: list(text), timeout: integer });
export type Hook = Infer<typeof HOOK>;
const HOOKS = object(
  {},
  {
    prestart: list(HOOK),
    createRuntime: list(HOOK),
    createContainer: list(HOOK),
    startContainer: list(HOOK),
    poststart: list(HOOK),
    poststop: list(HOOK),
  },
);

const THROTTLE = list(object({ major: integer, minor: integer, rate: integer }));
const RESOURCES = object(
  {},
  {
    devices: list(object({ allow: flag }, { type: text, major: integer, minor: integer, access: text })),
    /** Bytes; -1 is no limit. */
    memory: object(
      {},
      {
        limit: integer,
        reservation: integer,
        /** Memory and swap together. */
        swap: integer,
        kernel: integer,
        kernelTCP: integer,
        swappiness: integer,
        disableOOMKiller: flag,
        useHierarchy: flag,
        checkBeforeUpdate: flag,
      },
    ),
    /** quota: microseconds of run time per period. */
    cpu: object(
      {},
      {
        shares: integer,
        quota: integer,
        period: integer,
        burst: integer,
        realtimeRuntime: integer,
        realtimePeriod: integer,
        cpus: text,
        mems: text,
        idle: integer,
      },
    ),
    pids: object({}, { limit: integer }),
    blockIO: object(
      {},
      {
        weight: integer,
        leafWeight: integer,
        weightDevice: list(
          object({ major: integer, minor: integer }, { weight: integer, leafWeight: integer }),
        ),
        throttleReadBpsDevice: THROTTLE,
        throttleWriteBpsDevice: THROTTLE,
        throttleReadIOPSDevice: THROTTLE,
        throttleWriteIOPSDevice: THROTTLE,
      },
    ),
    hugepageLimits: list(object({ pageSize: text, limit: integer })),
    network: object({}, { classID: integer, priorities: list(object({ name: text, priority: integer })) }),
    rdma: map(object({}, { hcaHandles: integer, hcaObjects: integer })),
    /** Files of cgroup v2 and what to write into them. */
    unified: map(text),
  },
);
export type Resources = Infer<typeof RESOURCES>;

const NAMESPACE_TYPE = oneOf('pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time');
export type NamespaceType = Infer<typeof NAMESPACE_TYPE>;

const DEVICE = object(
  { type: oneOf('c', 'u', 'b', 'p'), path: text },
  { major: integer, minor: integer, fileMode: integer, uid: integer, gid: integer },
);
export type Device = Infer<typeof DEVICE>;

const SECCOMP = object(
  { defaultAction: text },
  {
    defaultErrnoRet: integer,
    architectures: list(text),
    flags: list(text),
    listenerPath: text,
    listenerMetadata: text,
    syscalls: list(
      object(
        { names: list(text), action: text },
        {
          errnoRet: integer,
          args: list(object({ index: integer, value: integer, op: text }, { valueTwo: integer })),
        },
      ),
    ),
  },
);
export type Seccomp = Infer<typeof SECCOMP>;

const LINUX = object(
  {
    namespaces: list(object({ type: NAMESPACE_TYPE }, { path: text })),
    resources: RESOURCES,
    maskedPaths: list(text),
    readonlyPaths: list(text),
  },
  {
    uidMappings: list(ID_MAPPING),
    gidMappings: list(ID_MAPPING),
    devices: list(DEVICE),
    cgroupsPath: text,
    sysctl: map(text),
    seccomp: SECCOMP,
    rootfsPropagation: text,
    mountLabel: text,
    personality: object({ domain: oneOf('LINUX', 'LINUX32') }, { flags: list(text) }),
    intelRdt: anything,
    timeOffsets: map(object({}, { secs: integer, nanosecs: integer })),
    netDevices: map(object({}, { name: text })),
    memoryPolicy: anything,
  },
);
export type Linux = Infer<typeof LINUX>;

export const RUNTIME_SPEC = object(
  {
    ociVersion: text,
    root: object({ path: text }, { readonly: flag }),
    process: PROCESS,
    mounts: list(MOUNT),
    annotations: map(text),
    linux: LINUX,
  },
  {
    hostname: text,
    domainname: text,
    hooks: HOOKS,
    solaris: anything,
    windows: anything,
    vm: anything,
    zos: anything,
    freebsd: anything,
  },
);
export type RuntimeSpec = Infer<typeof RUNTIME_SPEC>;

/** `unknown`: paths of fields that the specification does not have, or has since a later version. */
export function parseRuntimeSpec(bytes: Uint8Array): { spec: RuntimeSpec; unknown: string[] } {
  const document = parseJson(bytes, RUNTIME_SPEC_MAX_BYTES, 'config.json');
  const unknown: string[] = [];
  return { spec: RUNTIME_SPEC.read(document, '', unknown), unknown };
}

/** As config.json. 2^64-1, "no limit" of an rlimit, is beyond what a number holds exactly. */
export function formatRuntimeSpec(spec: RuntimeSpec): string {
  return `${JSON.stringify(spec, null, 2)}\n`.replaceAll(
    /\b18446744073709552000\b(?=,?$)/gm,
    '18446744073709551615',
  );
}
