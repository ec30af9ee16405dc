/** One table per concern: a part of config.json, and exactly the settings or lines that it becomes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { containerUnits } from '../../../src/unit/container-units.ts';
import { endInWords, startHint } from '../../../src/unit/end.ts';
import { planMounts } from '../../../src/unit/mounts.ts';
import { fixedRange } from '../../../src/unit/namespaces.ts';
import { parseProperty } from '../../../src/unit/property.ts';
import { cpuWeightOf, ioWeightOf, resourceSettings } from '../../../src/unit/resources.ts';
import type { Setting } from '../../../src/unit/setting.ts';
import { shimArgv } from '../../../src/unit/shim.ts';
import { sysctls } from '../../../src/unit/sysctl.ts';
import { throwsOci } from '../expect-error.ts';
import { CONTEXT, payloadSettings, specWith, values } from './fixture.ts';

const UINT64_MAX = 0xffff_ffff_ffff_ffffn;
const refused = (parts: Parameters<typeof specWith>[0], part: string, code = 'UNSUPPORTED' as const) =>
  throwsOci(() => payloadSettings(specWith(parts)), code, part);
const script = (parts: Parameters<typeof specWith>[0]) =>
  containerUnits(specWith(parts), CONTEXT).setupScript;

/** Properties with values, and the lines of all of them. */
function resources(part: object): { set: Record<string, unknown>; lines: string[] } {
  const { linux } = specWith({ linux: { resources: part } });
  const settings = resourceSettings(linux.resources).filter(({ property }) => property !== 'DevicePolicy');
  return {
    set: Object.fromEntries(settings.map(({ property, value }) => [property, value])),
    lines: settings.flatMap(({ lines }) => lines),
  };
}

test('resources', () => {
  const table: [object, Record<string, unknown>, string[]][] = [
    [{}, {}, []],
    [{ memory: { limit: 268435456 } }, { MemoryMax: 268435456n }, ['MemoryMax=268435456']],
    [{ memory: { limit: -1 } }, { MemoryMax: UINT64_MAX }, ['MemoryMax=infinity']],
    [{ memory: { reservation: 5 } }, { MemoryLow: 5n }, ['MemoryLow=5']],
    [
      { memory: { limit: 100, swap: 150 } },
      { MemoryMax: 100n, MemorySwapMax: 50n },
      ['MemoryMax=100', 'MemorySwapMax=50'],
    ],
    [{ memory: { swap: -1 } }, { MemorySwapMax: UINT64_MAX }, ['MemorySwapMax=infinity']],
    [{ cpu: { shares: 1024 } }, { CPUWeight: 100n }, ['CPUWeight=100']],
    [{ cpu: { shares: 512, idle: 1 } }, { CPUWeight: 0n }, ['CPUWeight=idle']],
    [{ cpu: { quota: 50000 } }, { CPUQuotaPerSecUSec: 500000n }, ['CPUQuota=50%']],
    [
      { cpu: { quota: 5000, period: 20000 } },
      { CPUQuotaPerSecUSec: 250000n, CPUQuotaPeriodUSec: 20000n },
      ['CPUQuota=25%', 'CPUQuotaPeriodSec=20000us'],
    ],
    [{ cpu: { quota: -1 } }, {}, []],
    [{ cpu: { cpus: '0-2,9' } }, { AllowedCPUs: Buffer.from([7, 2]) }, ['AllowedCPUs=0 1 2 9']],
    [{ cpu: { mems: '1' } }, { AllowedMemoryNodes: Buffer.from([2]) }, ['AllowedMemoryNodes=1']],
    [{ pids: { limit: 10 } }, { TasksMax: 10n }, ['TasksMax=10']],
    [{ pids: { limit: -1 } }, { TasksMax: UINT64_MAX }, ['TasksMax=infinity']],
    [{ pids: { limit: 0 } }, { TasksMax: UINT64_MAX }, ['TasksMax=infinity']],
    [{ blockIO: { weight: 500 } }, { IOWeight: 4950n }, ['IOWeight=4950']],
    [
      { blockIO: { weightDevice: [{ major: 8, minor: 0, weight: 10 }] } },
      { IODeviceWeight: [['/dev/block/8:0', 1n]] },
      ['IODeviceWeight=/dev/block/8:0 1'],
    ],
    [
      { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 16, rate: 7 }] } },
      { IOReadBandwidthMax: [['/dev/block/8:16', 7n]] },
      ['IOReadBandwidthMax=/dev/block/8:16 7'],
    ],
    [
      {
        memory: { limit: 1 },
        unified: { 'memory.max': 'max', 'memory.high': '9', 'io.weight': 'default 7' },
      },
      { MemoryMax: UINT64_MAX, MemoryHigh: 9n, IOWeight: 7n },
      ['MemoryMax=infinity', 'MemoryHigh=9', 'IOWeight=7'],
    ],
    [
      { unified: { 'cpu.max': '10000 50000', 'cpu.weight': '5', 'cpuset.cpus': '1', 'pids.max': '3' } },
      {
        CPUQuotaPerSecUSec: 200000n,
        CPUQuotaPeriodUSec: 50000n,
        CPUWeight: 5n,
        AllowedCPUs: Buffer.from([2]),
        TasksMax: 3n,
      },
      ['CPUQuota=20%', 'CPUQuotaPeriodSec=50000us', 'CPUWeight=5', 'AllowedCPUs=1', 'TasksMax=3'],
    ],
  ];
  for (const [part, set, lines] of table)
    assert.deepEqual(resources(part), { set, lines }, JSON.stringify(part));
  for (const [part, named] of [
    [{ memory: { limit: 100, swap: 50 } }, 'memory.swap'],
    [{ memory: { swap: 50 } }, 'memory.swap'],
    [{ cpu: { cpus: '3-1' } }, "'3-1'"],
    [{ cpu: { cpus: '99999' } }, "'99999'"],
    [{ unified: { 'hugetlb.2MB.max': '1' } }, "unified['hugetlb.2MB.max']"],
    [{ unified: { constructor: '1' } }, "unified['constructor']"],
    [{ unified: { 'pids.max': '1\n2' } }, "'1\\x0a2'"],
  ] as const)
    throwsOci(() => resources(part), 'UNSUPPORTED', named);
});

test('weights keep defaults and ends', () => {
  assert.deepEqual([2, 512, 1024, 2048, 262144].map(cpuWeightOf), [1, 59, 100, 174, 10000]);
  assert.deepEqual([10, 500, 1000].map(ioWeightOf), [1, 4950, 10000]);
});

test('device rules', () => {
  const rules = (devices: object[]) =>
    values(payloadSettings(specWith({ linux: { resources: { devices } } })), 'DevicePolicy', 'DeviceAllow');
  const deny = { allow: false, access: 'rwm' };
  assert.deepEqual(rules([]), { DevicePolicy: 'closed', DeviceAllow: undefined });
  assert.deepEqual(rules([deny]), { DevicePolicy: 'closed', DeviceAllow: undefined });
  assert.deepEqual(
    rules([
      { allow: true, type: 'c', major: 1, minor: 1 },
      deny,
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
      { allow: true, type: 'b', major: 8, access: 'r' },
      { allow: true, type: 'c', major: -1, minor: -1, access: 'm' },
    ]),
    {
      DevicePolicy: 'closed',
      DeviceAllow: [
        ['/dev/char/10:229', 'rw'],
        ['block-8', 'r'],
        ['char-*', 'm'],
      ],
    },
  );
  assert.deepEqual(rules([deny, { allow: true, access: 'rwm' }]), {
    DevicePolicy: undefined,
    DeviceAllow: undefined,
  });
  const devices = (list: object[]) => ({ linux: { resources: { devices: list } } });
  refused(
    devices([
      { allow: true, access: 'rwm' },
      { allow: false, type: 'c', major: 1 },
    ]),
    'no exceptions',
  );
  refused(devices([deny, { allow: true, type: 'x' }]), 'type');
  refused(devices([deny, { allow: true, type: 'c', major: 1, access: 'rwx' }]), 'access');
});

test('process: limits, priorities, personality', () => {
  const process = (part: Record<string, unknown>, ...names: string[]) =>
    values(payloadSettings(specWith({ process: part })), ...names);
  const infinite = 18446744073709551615n;
  const parts = JSON.parse(`{"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": ${infinite}}]}`);
  assert.deepEqual(process(parts, 'LimitCORE', 'LimitCORESoft'), {
    LimitCORE: UINT64_MAX,
    LimitCORESoft: 0n,
  });
  assert.deepEqual(
    payloadSettings(specWith({ process: parts })).find(({ property }) => property === 'LimitCORE')?.lines,
    ['LimitCORE=0:infinity'],
  );
  assert.deepEqual(process({ oomScoreAdj: -5 }, 'OOMScoreAdjust'), { OOMScoreAdjust: -5 });
  assert.deepEqual(
    process(
      { scheduler: { policy: 'SCHED_FIFO', priority: 10, flags: ['SCHED_FLAG_RESET_ON_FORK'] } },
      ...['CPUSchedulingPolicy', 'CPUSchedulingPriority', 'CPUSchedulingResetOnFork', 'Nice'],
    ),
    { CPUSchedulingPolicy: 1, CPUSchedulingPriority: 10, CPUSchedulingResetOnFork: true, Nice: undefined },
  );
  assert.deepEqual(
    process(
      { ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 3 } },
      ...['IOSchedulingClass', 'IOSchedulingPriority'],
    ),
    { IOSchedulingClass: 2, IOSchedulingPriority: 3 },
  );
  assert.deepEqual(process({ user: { uid: 1, gid: 2, umask: 0o77 } }, 'UMask'), { UMask: 0o77 });
  refused({ process: { rlimits: [{ type: 'NOFILE', soft: 1, hard: 1 }] } }, "'NOFILE'");
  refused({ process: { rlimits: [{ type: 'RLIMIT_CPU', soft: 2, hard: 1 }] } }, 'soft limit');
  refused({ process: { scheduler: { policy: 'SCHED_DEADLINE' } } }, "'SCHED_DEADLINE'");
  refused({ process: { ioPriority: { class: 'x' } } }, 'ioPriority.class');
  for (const [part, named] of [
    [{ env: ['A'] }, "'A' is not NAME=VALUE"],
    [{ env: ['A=\0'] }, 'is not NAME=VALUE'],
    [{ cwd: 'x' }, "'x'"],
    [{ user: { uid: 65536, gid: 0 } }, 'id 65536'],
    [{ user: { uid: 0, gid: -1 } }, 'id -1'],
  ] as const)
    throwsOci(() => payloadSettings(specWith({ process: part })), 'BAD_IMAGE', named);

  const linux = { personality: { domain: 'LINUX32' } };
  const personality = (architecture: string) =>
    values(
      payloadSettings(specWith({ linux }), { features: { ownsMainProcess: true, architecture } }),
      'Personality',
    );
  assert.deepEqual(personality('x64'), { Personality: 'x86' });
  throwsOci(() => personality('riscv64'), 'UNSUPPORTED', 'personality.domain');
});

test('capabilities: exact sets, what is not inheritable is not ambient', () => {
  const argv = (capabilities: object) =>
    shimArgv(specWith({ process: { capabilities } }).process).filter((word) =>
      /^--(bound|inh-|amb)/.test(word),
    );
  assert.deepEqual(argv({}), ['--bounding-set=-all', '--inh-caps=-all']);
  assert.deepEqual(
    argv({
      bounding: ['CAP_KILL', 'CAP_CHOWN'],
      inheritable: ['CAP_KILL', 'CAP_BPF'],
      ambient: ['CAP_KILL', 'CAP_CHOWN'],
    }),
    ['--bounding-set=-all,+kill,+chown', '--inh-caps=-all,+kill', '--ambient-caps=-all,+kill'],
  );
  throwsOci(() => argv({ bounding: ['CAP_FLY'] }), 'UNSUPPORTED', "'CAP_FLY'");
  const labels = shimArgv(specWith({ process: { apparmorProfile: 'p', selinuxLabel: 'l' } }).process);
  assert.deepEqual(labels.slice(labels.indexOf('--apparmor-profile')).slice(0, 4), [
    ...['--apparmor-profile', 'p', '--selinux-label', 'l'],
  ]);
});

test('namespaces', () => {
  const names = ['PrivatePIDs', 'NetworkNamespacePath', 'IPCNamespacePath', 'ProtectControlGroupsEx'];
  const of = (namespaces: object[], more = {}) =>
    Object.values(values(payloadSettings(specWith({ linux: { namespaces }, ...more })), ...names));
  const MNT = '/run/oci/containers/web/mnt';
  const all = ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup', 'user'].map((type) => ({ type }));
  assert.deepEqual(of(all), ['yes', `${MNT}/netns`, `${MNT}/ipcns`, 'private']);
  assert.deepEqual(of([]), [undefined, undefined, undefined, undefined]);
  const readOnly = { mounts: [{ destination: '/sys/fs/cgroup', type: 'cgroup', options: ['ro'] }] };
  assert.deepEqual(of([{ type: 'cgroup' }], readOnly), [undefined, undefined, undefined, 'strict']);
  assert.deepEqual(of([], readOnly), [undefined, undefined, undefined, 'yes']);
  assert.deepEqual(values(payloadSettings(specWith(readOnly)), 'Delegate', 'DelegateSubgroup'), {
    Delegate: true,
    DelegateSubgroup: undefined,
  });
  const joined = script({ linux: { namespaces: [{ type: 'network', path: "/run/it's" }] } });
  assert.match(joined, /^ {2}'\/run\/it'\\''s' "\$MOUNTS_FIELD\/netns" none "X-mount.mkdir,bind" \\$/m);
  assert.match(joined, /unshare --user sh -c/);
  for (const type of ['pid', 'mount', 'uts', 'user', 'cgroup'])
    refused({ linux: { namespaces: [{ type, path: '/x' }] } }, `${type} by path`);
  refused({ linux: { namespaces: [{ type: 'time' }] } }, 'time');
  refused({ linux: { namespaces: [{ type: 'pid' }, { type: 'pid' }] } }, 'pid is there twice');
  assert.throws(() => specWith({ linux: { namespaces: [{ type: 'x' }] } }), /one of pid, network/);
});

test('ranges of host ids', () => {
  const map = (hostID: number, size: number, containerID = 0) => ({ containerID, hostID, size });
  const range = (uid: object[], gid = uid) =>
    fixedRange(specWith({ linux: { uidMappings: uid, gidMappings: gid } }).linux);
  assert.equal(range([]), undefined);
  assert.deepEqual(range([map(1048576, 65536)]), { base: 1048576, size: 65536 });
  assert.deepEqual(range([map(100000, 65536)]), { base: 100000, size: 65536 });
  for (const [uid, gid, why] of [
    [[map(1048576, 65536)], [], 'one and the same'],
    [[map(1048576, 100), map(2097152, 100, 100)], undefined, 'one and the same'],
    [[map(1048576, 65536, 1)], undefined, 'begin with id 0'],
    [[map(1048576, 100)], undefined, '1024 to 65536'],
    [[map(0, 65536)], undefined, 'between'],
    [[map(2147352576, 65536)], undefined, 'between'],
    [[map(1048577, 65536)], undefined, 'multiple'],
  ] as const)
    throwsOci(() => range([...uid], gid === undefined ? undefined : [...gid]), 'UNSUPPORTED', why);
});

test('mounts', () => {
  const plan = (...mounts: object[]) => planMounts(specWith({ mounts }));
  const bind = (options: string[], more = {}) => ({
    destination: '/b',
    type: 'bind',
    source: '/a',
    options,
    ...more,
  });
  const [plain] = plan(bind(['rbind', 'ro'])).binds;
  assert.deepEqual(plain, {
    source: '/a',
    destination: '/b',
    recursive: true,
    readOnly: true,
    flags: [],
    isVolume: false,
    isMade: false,
    isCredentials: false,
    owner: { uid: 0, gid: 0 },
  });
  const [flagged] = plan(bind(['bind', 'nosuid', 'noexec', 'rslave', 'idmap'])).binds;
  assert.deepEqual(flagged, {
    source: '/a',
    destination: '/b',
    recursive: false,
    readOnly: false,
    flags: ['nosuid', 'noexec'],
    propagation: 'slave',
    idBase: 'container',
    isVolume: false,
    isMade: false,
    isCredentials: false,
    owner: { uid: 0, gid: 0 },
    name: 'bind0',
  });
  // a later mount covers an earlier one at the same place, however it is written
  assert.deepEqual(
    plan(bind([]), { destination: '//b/./', type: 'tmpfs', options: ['size=1m', 'tmpcopyup'] }),
    {
      binds: [],
      temporary: [{ destination: '/b', name: 'tmp0', options: ['size=1m'], readOnly: false, copyUp: true }],
      devSize: '64k',
      shmOptions: [],
      sysReadOnly: false,
      cgroup: 'writable',
    },
  );
  const lines = script({
    mounts: [
      bind(['bind', 'nosuid', 'idmap']),
      { destination: '/data', type: 'bind', source: '/v/data', options: ['rbind', 'x-oci.volume'] },
      { destination: '/t', type: 'tmpfs', options: ['size=1m', 'mode=700'] },
    ],
  });
  assert.match(
    lines,
    /^mount --bind --make-rprivate -o "nosuid,X-mount.idmap=b:0:\$B:\$SIZE" \/a bind0 \|\|$/m,
  );
  assert.match(
    lines,
    /^mount --rbind --make-rprivate -o "X-mount.idmap=b:2147352576:\$B:\$SIZE" \/v\/data bind1 \|\|$/m,
  );
  assert.match(lines, /^as_root cp -a rootfs\/srv\/data\/\. bind1\/$/m);
  assert.match(lines, /^mount -t tmpfs -o size=1m,mode=700,uid=\$B,gid=\$B tmpfs tmp0$/m);
  for (const [mounts, named] of [
    [[bind(['rshared'])], "'rshared'"],
    [[bind(['z'])], "'z'"],
    [[bind([], { uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] })], 'uidMappings'],
    [[{ destination: '/x', type: 'nfs' }], "'nfs'"],
    [[{ destination: '/proc', type: 'bind', source: '/a' }], "'/proc'"],
    [[{ destination: '/run/', type: 'bind', source: '/a', options: ['idmap'] }], "'/run' with mapped ids"],
    [[{ destination: '/', type: 'bind', source: '/a' }], "'/'"],
    [[{ destination: '/run/.oci', type: 'tmpfs' }], "'/run/.oci'"],
    [[{ destination: '/proc', type: 'proc', options: ['hidepid=2'] }], "'hidepid=2'"],
    [[{ destination: '/t', type: 'tmpfs', options: ['size=1,uid=0'] }], "'size=1,uid=0'"],
  ] as const)
    refused({ mounts }, named);
  throwsOci(() => plan({ destination: '/a/../..', type: 'tmpfs' }), 'BAD_IMAGE', "'/a/../..'");
});

test('sysctl: only what is the container’s own', () => {
  const of = (sysctl: Record<string, string>, linux = {}) =>
    sysctls(specWith({ linux: { sysctl, ...linux } }));
  assert.deepEqual(
    of({
      'net.core.somaxconn': '1',
      'net/ipv4/conf/eth0.100/forwarding': '1',
      'kernel.sem': '1\t2',
      'kernel.domainname': 'd',
    }),
    [
      { namespace: 'network', by: 'container', path: 'net/core/somaxconn', value: '1' },
      { namespace: 'network', by: 'container', path: 'net/ipv4/conf/eth0.100/forwarding', value: '1' },
      { namespace: 'ipc', by: 'container', path: 'kernel/sem', value: '1\t2' },
      { namespace: 'uts', by: 'host', path: 'kernel/domainname', value: 'd' },
    ],
  );
  const joined = { namespaces: [{ type: 'network', path: '/run/netns/x' }] };
  assert.equal(of({ 'net.core.somaxconn': '1' }, joined)[0]?.by, 'host');
  for (const name of ['kernel.panic', 'vm.swappiness', 'kernel.shmmax2', 'fs.file-max', 'kernel.hostname'])
    throwsOci(() => of({ [name]: '1' }), 'UNSUPPORTED', 'belongs to the whole host');
  for (const name of [
    'net',
    'net...core',
    'net.core/../../kernel/panic',
    '/net/core',
    'net.a b',
    'net.$(id)',
    '',
  ])
    throwsOci(() => of({ [name]: '1' }), 'UNSUPPORTED', 'linux.sysctl[');
  throwsOci(() => of({ 'net.core.somaxconn': '1\n2' }), 'UNSUPPORTED', 'control character');
  throwsOci(() => of({ 'net.core.somaxconn': '1' }, { namespaces: [] }), 'UNSUPPORTED', 'network namespace');
});

test('devices and hooks become lines that only say what they are told', () => {
  const lines = script({
    linux: {
      devices: [
        { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o660, gid: 5 },
        { path: "/dev/my/it's", type: 'p' },
        { path: '/dev/null', type: 'c', major: 1, minor: 3 },
      ],
    },
    hooks: { createRuntime: [{ path: "/it's", args: ['x', '$(id)'], env: ['A=`id`'], timeout: 3 }] },
  });
  assert.match(
    lines,
    /^mknod -m 660 dev\/fuse c 10 229\nchown \$\(\(B \+ 0\)\):\$\(\(B \+ 5\)\) dev\/fuse$/m,
  );
  assert.match(lines, /^mkdir -p dev\/my\nmknod -m 666 'dev\/my\/it'\\''s' p$/m);
  assert.doesNotMatch(lines, /dev\/null c/);
  assert.match(lines, /\| env -i 'A=`id`' timeout 3 '\/it'\\''s' '\$\(id\)' \|\|$/m);
  for (const path of ['/etc/x', '/dev', '/dev/', '/dev/../x', '/dev/a//b'])
    refused({ linux: { devices: [{ path, type: 'c', major: 1, minor: 1 }] } }, 'below /dev');
  refused({ linux: { devices: [{ path: '/dev/x', type: 'c' }] } }, 'no major');
});

test('cgroupsPath, rootfsPropagation, restart', () => {
  const of = (linux: Record<string, unknown>, ...names: string[]) =>
    values(payloadSettings(specWith({ linux })), ...names);
  assert.deepEqual(of({ cgroupsPath: 'a.slice:x:y' }, 'Slice'), { Slice: 'a.slice' });
  assert.deepEqual(of({ cgroupsPath: '' }, 'Slice'), { Slice: 'oci.slice' });
  refused({ linux: { cgroupsPath: '/a/b' } }, 'linux.cgroupsPath');
  assert.deepEqual(of({ rootfsPropagation: 'rprivate' }, 'MountFlags'), { MountFlags: 262144n });
  assert.deepEqual(of({ rootfsPropagation: 'slave' }, 'MountFlags'), { MountFlags: 524288n });
  refused({ linux: { rootfsPropagation: 'unbindable' } }, "'unbindable'");
  const restart = (policy: string) =>
    values(
      payloadSettings(specWith({ annotations: { 'io.ocictl.restart': policy } })),
      ...['Restart', 'StartLimitBurst', 'StartLimitIntervalUSec'],
    );
  const none = { StartLimitBurst: undefined, StartLimitIntervalUSec: undefined };
  assert.deepEqual(restart('no'), { Restart: undefined, ...none });
  assert.deepEqual(restart('unless-stopped'), {
    Restart: 'always',
    StartLimitBurst: undefined,
    StartLimitIntervalUSec: 0n,
  });
  assert.equal(restart('on-failure:3')['StartLimitBurst'], 4);
  throwsOci(() => restart('sometimes'), 'BAD_IMAGE', "'sometimes'");
});

test('--property: typed, one property each', () => {
  const table: [string, [string, unknown][], string[]][] = [
    ['MemoryHigh=128M', [['MemoryHigh', 134217728n]], ['MemoryHigh=134217728']],
    ['MemoryMax=infinity', [['MemoryMax', UINT64_MAX]], ['MemoryMax=infinity']],
    ['CPUQuota=150%', [['CPUQuotaPerSecUSec', 1500000n]], ['CPUQuota=150%']],
    ['RuntimeMaxSec=1min 30s', [['RuntimeMaxUSec', 90000000n]], ['RuntimeMaxSec=90s']],
    ['Nice=-5', [['Nice', -5]], ['Nice=-5']],
    ['Description=100% $X', [['Description', '100% $X']], ['Description=100%% $X']],
    ['After=a.service b.service', [['After', ['a.service', 'b.service']]], ['After=a.service b.service']],
    ['LimitNOFILE=10:20', [['LimitNOFILE', 20n], ['LimitNOFILESoft', 10n]], ['LimitNOFILE=10:20']],
    ['LoadCredential=a:/b%c', [['LoadCredential', [['a', '/b%c']]]], ['LoadCredential=a:/b%%c']],
    ['IOReadBandwidthMax=/dev/sda 5M', [['IOReadBandwidthMax', [['/dev/sda', 5000000n]]]], ['IOReadBandwidthMax=/dev/sda 5000000']],
    ['LogLevelMax=err', [['LogLevelMax', 3]], ['LogLevelMax=err']],
  ]; // biome-ignore format: a property a line
  for (const [text, properties, lines] of table) {
    const made: Setting[] = parseProperty(text);
    assert.deepEqual(
      made.map(({ property, value }) => [property, value]),
      properties,
      text,
    );
    assert.deepEqual(
      made.flatMap((setting) => setting.lines),
      lines,
      text,
    );
  }
  for (const text of [
    'x',
    '=x',
    'MemoryHigh',
    'MemoryHigh=lots',
    'CPUQuota=5',
    'Nice=x',
    'RuntimeMaxSec=',
    'RuntimeMaxSec=5 parsec',
    'LogLevelMax=loud',
    'LoadCredential=a',
    'LoadCredential=a:/b c',
  ])
    throwsOci(() => parseProperty(text), 'USAGE', '--property');
  for (const text of [
    'ExecStartPre=/x',
    'RootDirectory=/',
    'User=root',
    'constructor=x',
    'Description=a\nExecStartPre=/x',
    'Description=a\\',
  ])
    throwsOci(() => parseProperty(text), 'UNSUPPORTED', text.slice(0, text.indexOf('=')));
  // a value takes the place of ours, a list grows
  const settings = payloadSettings(specWith({ linux: { resources: { memory: { limit: 5 } } } }), {
    extraSettings: [...parseProperty('MemoryMax=7'), ...parseProperty('After=x.service')],
  });
  assert.deepEqual(values(settings, 'MemoryMax'), { MemoryMax: 7n });
  assert.ok(settings.filter(({ property }) => property === 'After').length > 1);
});

test('the end in words', () => {
  const end = (result: string, memoryMaxBytes?: number) =>
    endInWords({ status: 137, result, memoryMaxBytes }, specWith({}));
  assert.equal(end('oom-kill', 256 * 2 ** 20), 'killed: over its 256M of memory');
  assert.equal(end('oom-kill', 1000), 'killed: over its 1000 bytes of memory');
  assert.equal(end('oom-kill'), 'killed: the host ran out of memory');
  assert.equal(end('timeout'), 'killed: it did not stop within 10 s');
  assert.equal(end('success'), undefined);
  assert.equal(end('exit-code'), undefined);
});

test('of the unit whose root is the image, systemd executes the shim and nothing else', () => {
  const commands = payloadSettings(specWith()).filter(({ property }) => property.startsWith('Exec'));
  assert.deepEqual(
    commands.map(({ property, value }) => [
      property,
      ...(value as [string, string[], string[]][]).map(([path, , flags]) => [path, flags]),
    ]),
    [
      ['ExecStartEx', ['/run/.oci/ld.so', ['no-env-expand']]],
      ['ExecStopPostEx', ['/run/.oci/ld.so', ['ignore-failure', 'no-env-expand']]],
    ],
  );
});

test('masked paths of a container that starts at once are bound where nothing else is', () => {
  const maskedPaths = [
    '/proc/kcore',
    '/proc/acpi',
    '/proc/bus',
    '/proc/bus/pci',
    '/proc/fs',
    '/opt',
    '/sys/firmware',
    '/proc/scsi',
    '/proc/asound',
  ];
  const spec = specWith({
    linux: { maskedPaths, readonlyPaths: ['/sys', '/proc/fs/x'] },
    mounts: [
      { destination: '/sys/firmware/efi', type: 'bind', source: '/srv' },
      { destination: '/proc/asound', type: 'bind', source: '/srv' },
    ],
  });
  const masks = (settings: readonly Setting[]) => {
    const { BindPaths, InaccessiblePaths } = values(settings, 'BindPaths', 'InaccessiblePaths');
    const binds = (BindPaths as [string, string, boolean, bigint][]).filter(([from]) =>
      from.startsWith('/run/systemd/'),
    );
    return [binds.map((bind) => bind.slice(0, 2)), InaccessiblePaths];
  };
  const kinds = {
    '/proc/kcore': 'file',
    '/proc/acpi': 'directory',
    '/proc/bus': 'directory',
    '/proc/fs': 'directory',
    '/sys/firmware': 'directory',
    '/proc/scsi': 'absent',
    '/proc/asound': 'absent',
  } as const;
  assert.deepEqual(masks(payloadSettings(spec, { kernelPaths: new Map(Object.entries(kinds)) })), [
    [
      ['/run/systemd/inaccessible/reg', '/proc/kcore'],
      ['/run/systemd/inaccessible/dir', '/proc/acpi'],
    ],
    ['-+/proc/bus', '-+/proc/bus/pci', '-+/proc/fs', '-+/opt', '-+/sys/firmware', '-+/proc/asound'],
  ]);
  assert.deepEqual(masks(payloadSettings(spec)), [[], maskedPaths.map((path) => `-+${path}`)]);
});

test('limits that are too low for a start are named when it fails, others are not', () => {
  const hint = (...rlimits: [string, number][]) =>
    startHint(
      specWith({ process: { rlimits: rlimits.map(([type, soft]) => ({ type, soft, hard: 2 ** 64 })) } }),
    );
  assert.equal(
    hint(['RLIMIT_NOFILE', 1], ['RLIMIT_CORE', 0], ['RLIMIT_CPU', 0], ['RLIMIT_AS', 2 ** 64]),
    'Raise --ulimit nofile=1 and cpu=0: systemd sets the container up within these limits, too.',
  );
  assert.equal(hint(['RLIMIT_NOFILE', 1024], ['RLIMIT_NPROC', 1], ['RLIMIT_FSIZE', 0]), undefined);
  assert.equal(hint(), undefined);
});
