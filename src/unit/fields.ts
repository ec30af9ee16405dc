/**
 * What becomes of every field of config.json. One table for two uses: checkFields() refuses what it says cannot be
 * honoured, and oci-units(7) shows it (test/unit/unit/fields.test.ts holds both and the schema together).
 *
 * A row stands for its field and everything below it, unless a longer path has a row of its own.
 */
import { RUNTIME_SPEC, type RuntimeSpec } from '../oci/runtime-spec.ts';
import { usedPaths } from '../oci/schema.ts';
import { refusal } from './refuse.ts';

/**
 * unit: a setting of the payload's unit; setup: done by NAME-setup.service; shim: done between systemd and the
 * payload; kept: read by us and others, changes nothing; refused: an error that names the field.
 */
export type By = 'unit' | 'setup' | 'shim' | 'kept' | 'refused';

export interface Fate {
  by: By;
  /** Settings by systemd's names, or the reason of a refusal. */
  how: string;
  /** Of systemd, where the recipe as a whole, 257, is not enough. */
  since?: number;
}

const V1 = 'there is only cgroup v1 for it';
const OTHER_SYSTEM = 'it is for another operating system';
const LATE_HOOK = 'the payload is the first process inside the container: no hook can run there before it';

export const FIELDS: Readonly<Record<string, Fate>> = {
  ociVersion: { by: 'kept', how: 'any version; fields that it does not know are named in a warning' },
  'root.path': { by: 'unit', how: 'RootDirectory=, id-mapped by the setup unit' },
  'root.readonly': { by: 'setup', how: 'a read-only overlay' },
  hostname: { by: 'setup', how: 'in the uts namespace' },
  domainname: { by: 'setup', how: 'in the uts namespace' },
  annotations: {
    by: 'kept',
    how: 'stop signal, stop time-out, restart policy, log tag and health check are read from ours',
  },
  mounts: {
    by: 'unit',
    how: 'BindPaths=, BindReadOnlyPaths=; /proc, /dev, /sys as every container has them',
  },
  'mounts[].type': { by: 'unit', how: 'bind, tmpfs and the standard ones; others are refused' },
  'mounts[].options': {
    by: 'setup',
    how: 'flags, private, slave, idmap, size, mode, tmpcopyup; shared is refused; ro covers mounts below too',
  },
  'mounts[].uidMappings': {
    by: 'refused',
    how: 'the container’s range of host ids is known at its start only',
  },
  'mounts[].gidMappings': {
    by: 'refused',
    how: 'the container’s range of host ids is known at its start only',
  },

  'process.terminal': {
    by: 'unit',
    how: 'with -t, whatever it says: StandardInput=, StandardOutput=, StandardError=; without -t nothing',
  },
  'process.consoleSize': { by: 'kept', how: 'where oci-run -t has no terminal itself to take the size from' },
  'process.user.uid': { by: 'shim', how: 'setpriv --reuid' },
  'process.user.gid': { by: 'shim', how: 'setpriv --regid' },
  'process.user.umask': { by: 'unit', how: 'UMask=' },
  'process.user.additionalGids': { by: 'shim', how: 'setpriv --groups' },
  'process.user.username': { by: 'refused', how: OTHER_SYSTEM },
  'process.args': { by: 'unit', how: 'ExecStart=, after the words of the shim' },
  'process.commandLine': { by: 'refused', how: OTHER_SYSTEM },
  'process.env': { by: 'unit', how: 'Environment=; what steers the dynamic loader by the shim' },
  'process.cwd': { by: 'unit', how: 'WorkingDirectory=; nsenter --wdns where systemd cannot enter it' },
  'process.capabilities': {
    by: 'shim',
    how: 'setpriv --bounding-set, --inh-caps, --ambient-caps; the kernel makes the effective and permitted sets of them',
  },
  'process.noNewPrivileges': { by: 'shim', how: 'setpriv --no-new-privs' },
  'process.rlimits': { by: 'unit', how: 'LimitNOFILE= and the fifteen others, soft and hard' },
  'process.oomScoreAdj': { by: 'unit', how: 'OOMScoreAdjust=' },
  'process.scheduler': {
    by: 'unit',
    how: 'CPUSchedulingPolicy=, CPUSchedulingPriority=, Nice=, CPUSchedulingResetOnFork=',
  },
  'process.scheduler.runtime': { by: 'refused', how: 'systemd does not set SCHED_DEADLINE' },
  'process.scheduler.deadline': { by: 'refused', how: 'systemd does not set SCHED_DEADLINE' },
  'process.scheduler.period': { by: 'refused', how: 'systemd does not set SCHED_DEADLINE' },
  'process.ioPriority': { by: 'unit', how: 'IOSchedulingClass=, IOSchedulingPriority=' },
  'process.execCPUAffinity': { by: 'refused', how: 'processes that join run where the container’s may' },
  'process.apparmorProfile': {
    by: 'shim',
    how: 'setpriv --apparmor-profile; refused where the host has no AppArmor or no such profile',
  },
  'process.selinuxLabel': {
    by: 'shim',
    how: 'setpriv --selinux-label; refused where the host has no SELinux',
  },

  'hooks.prestart': { by: 'setup', how: 'run with the state, before createRuntime' },
  'hooks.createRuntime': { by: 'setup', how: 'run with the state, pid is a process in the namespaces' },
  'hooks.createContainer': { by: 'refused', how: LATE_HOOK },
  'hooks.startContainer': { by: 'refused', how: LATE_HOOK },
  'hooks.poststart': { by: 'refused', how: 'nothing of ours runs beside a started payload' },
  'hooks.poststop': { by: 'setup', how: 'ExecStopPost= of the setup unit' },

  'linux.namespaces': {
    by: 'unit',
    how: 'PrivatePIDs=, NetworkNamespacePath=, IPCNamespacePath=, ProtectControlGroups=; user and uts by the shim; there are always a mount namespace and, but for oci-run --userns host, a user namespace; time is refused',
  },
  'linux.namespaces[].path': {
    by: 'unit',
    how: 'network and ipc: NetworkNamespacePath=, IPCNamespacePath=; others are refused',
  },
  'linux.uidMappings': {
    by: 'setup',
    how: 'one range from id 0 on, the same for groups; without: a fresh one',
  },
  'linux.gidMappings': { by: 'setup', how: 'as linux.uidMappings' },
  'linux.devices': { by: 'setup', how: 'mknod in the container’s /dev' },
  'linux.cgroupsPath': { by: 'unit', how: 'SLICE:PREFIX:NAME gives Slice=; a path is refused' },
  'linux.sysctl': {
    by: 'setup',
    how: 'net.*, kernel.msg*, kernel.shm*, kernel.sem, fs.mqueue.*, kernel.domainname',
  },
  'linux.seccomp': {
    by: 'unit',
    how: 'SystemCallFilter= where calls are refused by name alone; else setpriv --seccomp-filter, which sets no_new_privs',
  },
  'linux.seccomp.listenerPath': { by: 'refused', how: 'no process listens' },
  'linux.seccomp.listenerMetadata': { by: 'refused', how: 'no process listens' },
  'linux.rootfsPropagation': { by: 'unit', how: 'MountFlags=; unbindable is refused' },
  'linux.maskedPaths': { by: 'unit', how: 'InaccessiblePaths=, BindPaths=' },
  'linux.readonlyPaths': { by: 'unit', how: 'ReadOnlyPaths=' },
  'linux.mountLabel': { by: 'refused', how: 'an overlay of several layers has the labels of its files' },
  'linux.personality': { by: 'unit', how: 'Personality=; flags are refused' },
  'linux.intelRdt': { by: 'refused', how: 'systemd has no setting for it' },
  'linux.timeOffsets': { by: 'refused', how: 'systemd cannot make a time namespace' },
  'linux.netDevices': { by: 'refused', how: 'a device cannot be given away before the network exists' },
  'linux.memoryPolicy': { by: 'refused', how: 'NUMAPolicy= cannot say the same: use -p' },

  'linux.resources.devices': {
    by: 'unit',
    how: 'DevicePolicy=closed, DeviceAllow=; exceptions from what is allowed are refused',
  },
  'linux.resources.memory.limit': { by: 'unit', how: 'MemoryMax=' },
  'linux.resources.memory.reservation': { by: 'unit', how: 'MemoryLow=' },
  'linux.resources.memory.swap': { by: 'unit', how: 'MemorySwapMax=, less the limit of memory' },
  'linux.resources.memory.kernel': { by: 'refused', how: V1 },
  'linux.resources.memory.kernelTCP': { by: 'refused', how: V1 },
  'linux.resources.memory.swappiness': { by: 'refused', how: V1 },
  'linux.resources.memory.disableOOMKiller': { by: 'refused', how: V1 },
  'linux.resources.memory.useHierarchy': { by: 'kept', how: 'cgroup v2 always does' },
  'linux.resources.memory.checkBeforeUpdate': { by: 'kept', how: 'a new container uses no memory yet' },
  'linux.resources.cpu.shares': { by: 'unit', how: 'CPUWeight=, 1024 is 100' },
  'linux.resources.cpu.quota': { by: 'unit', how: 'CPUQuota=' },
  'linux.resources.cpu.period': { by: 'unit', how: 'CPUQuotaPeriodSec=' },
  'linux.resources.cpu.burst': { by: 'refused', how: 'systemd has no setting for it' },
  'linux.resources.cpu.realtimeRuntime': { by: 'refused', how: V1 },
  'linux.resources.cpu.realtimePeriod': { by: 'refused', how: V1 },
  'linux.resources.cpu.cpus': { by: 'unit', how: 'AllowedCPUs=' },
  'linux.resources.cpu.mems': { by: 'unit', how: 'AllowedMemoryNodes=' },
  'linux.resources.cpu.idle': { by: 'unit', how: 'CPUWeight=idle' },
  'linux.resources.pids.limit': { by: 'unit', how: 'TasksMax=; 0 and -1 are no limit' },
  'linux.resources.blockIO.weight': { by: 'unit', how: 'IOWeight=, 10..1000 as 1..10000' },
  'linux.resources.blockIO.leafWeight': { by: 'refused', how: V1 },
  'linux.resources.blockIO.weightDevice': { by: 'unit', how: 'IODeviceWeight=' },
  'linux.resources.blockIO.weightDevice[].leafWeight': { by: 'refused', how: V1 },
  'linux.resources.blockIO.throttleReadBpsDevice': { by: 'unit', how: 'IOReadBandwidthMax=' },
  'linux.resources.blockIO.throttleWriteBpsDevice': { by: 'unit', how: 'IOWriteBandwidthMax=' },
  'linux.resources.blockIO.throttleReadIOPSDevice': { by: 'unit', how: 'IOReadIOPSMax=' },
  'linux.resources.blockIO.throttleWriteIOPSDevice': { by: 'unit', how: 'IOWriteIOPSMax=' },
  'linux.resources.hugepageLimits': { by: 'refused', how: 'systemd has no setting for it' },
  'linux.resources.network': { by: 'refused', how: V1 },
  'linux.resources.rdma': { by: 'refused', how: 'systemd has no setting for it' },
  'linux.resources.unified': {
    by: 'unit',
    how: 'memory.*, pids.max, cpu.weight, cpu.idle, cpu.max, cpuset.*, io.weight; other files are refused',
  },

  solaris: { by: 'refused', how: OTHER_SYSTEM },
  windows: { by: 'refused', how: OTHER_SYSTEM },
  vm: { by: 'refused', how: OTHER_SYSTEM },
  zos: { by: 'refused', how: OTHER_SYSTEM },
  freebsd: { by: 'refused', how: OTHER_SYSTEM },
};

/** The row that stands for a field. */
export function fateOf(path: string): Fate | undefined {
  for (let rest = path; rest !== ''; rest = rest.replace(/(\[\]|\.?[^.[\]]+)$/, ''))
    if (Object.hasOwn(FIELDS, rest)) return FIELDS[rest];
  return undefined;
}

/** Throws UNSUPPORTED for the first field in use that cannot be honoured. */
export function checkFields(spec: RuntimeSpec): void {
  for (const path of usedPaths(RUNTIME_SPEC, spec)) {
    const fate = fateOf(path);
    if (fate === undefined) throw refusal(path, 'nobody has said what becomes of it', 'Leave it out.');
    if (fate.by === 'refused') throw refusal(path, fate.how, 'Remove it from config.json.');
  }
}

const WHO: Record<By, string> = {
  unit: '',
  setup: 'setup: ',
  shim: 'shim: ',
  kept: 'kept: ',
  refused: 'refused: ',
};

/** The table as scdoc(5) has it, for man/oci-units.7.scd. */
export function fieldsTable(): string {
  const rows = Object.entries(FIELDS).map(
    ([path, { by, how, since }]) =>
      `|  ${path.replaceAll('_', '\\_')}\n:  ${WHO[by]}${how.replaceAll('*', '\\*').replaceAll('_', '\\_')}${since === undefined ? '' : ` (systemd ${since})`}\n`,
  );
  return `[[ *Field*\n:[ *What becomes of it*\n${rows.join('')}`;
}
