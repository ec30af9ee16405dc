import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalPath } from '../../../src/bundle/canonical-path.ts';
import { capabilitySets } from '../../../src/bundle/capabilities.ts';
import { checkCommand, payloadArgs } from '../../../src/bundle/command.ts';
import { parseDevice } from '../../../src/bundle/device.ts';
import { buildEnvironment, parseEnvFile } from '../../../src/bundle/environment.ts';
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
  stillMasked,
} from '../../../src/bundle/name-value.ts';
import { parseCount, parseCpus, parseSize } from '../../../src/bundle/quantity.ts';
import { parseResources } from '../../../src/bundle/resources.ts';
import { parseMount, parseTmpfs, parseVolume } from '../../../src/bundle/volume.ts';
import { parseSignal } from '../../../src/oci/signal.ts';
import { throwsOci } from '../expect-error.ts';

test('sizes', () => {
  const table: [string, number][] = [
    ['4096', 4096],
    ['1b', 1],
    ['256M', 256 * 2 ** 20],
    ['256m', 256 * 2 ** 20],
    ['256MiB', 256 * 2 ** 20],
    ['1.5g', 1.5 * 2 ** 30],
    ['2T', 2 * 2 ** 40],
    ['infinity', Number.POSITIVE_INFINITY],
  ];
  for (const [text, bytes] of table) assert.equal(parseSize('--memory', text), bytes, text);
  for (const text of ['', '0', '-5', '1x', '1 G', 'NaN', '9999999999T', '0x10', '1e9'])
    throwsOci(() => parseSize('--memory', text), 'USAGE', '--memory');
});

test('CPUs and counts', () => {
  assert.equal(parseCpus('1.5'), 1.5);
  assert.equal(parseCpus('0.01'), 0.01);
  for (const text of ['0', '-1', '', 'all', '1e3', '0.001'])
    throwsOci(() => parseCpus(text), 'USAGE', '--cpus');
  assert.equal(parseCount('--pids-limit', '100', 1, 4194304, true), 100);
  assert.equal(parseCount('--pids-limit', '-1', 1, 4194304, true), Number.POSITIVE_INFINITY);
  for (const text of ['0', '-2', '1.5', '4194305', ''])
    throwsOci(() => parseCount('--pids-limit', text, 1, 4194304, true), 'USAGE', '--pids-limit');
});

test('volumes', () => {
  const bind = (options: string[], source = '/a') => ({ destination: '/b', type: 'bind', source, options });
  assert.deepEqual(parseVolume('/a:/b'), bind(['rbind', 'rw']));
  assert.deepEqual(parseVolume('/a:/b:ro'), bind(['rbind', 'ro']));
  assert.deepEqual(parseVolume('/a:/b:bind,rw'), bind(['bind', 'rw']));
  assert.deepEqual(
    parseVolume('/a:/b:nosuid,idmap,rslave'),
    bind(['rbind', 'rw', 'nosuid', 'idmap', 'rslave']),
  );
  assert.deepEqual(parseVolume('da.ta-1:/b'), bind(['rbind', 'rw', 'x-oci.volume'], 'da.ta-1'));
  for (const text of [
    ...['', '/a', '/a:', ':/b', '/a:b', '/a:/', '/a:/b/../../c', '/a:/b:ro,rw', '/a:/b:ro:x', '/a:/b\n'],
    ...['../x:/b', '.:/b', '-x:/b', 'a/b:/b'],
  ])
    throwsOci(() => parseVolume(text), 'USAGE', '--volume');
  for (const option of ['z', 'Z', 'U', 'rshared', 'x-oci.volume', 'O'])
    throwsOci(() => parseVolume(`/a:/b:${option}`), 'UNSUPPORTED', `'${option}'`);
  throwsOci(() => parseVolume('data:/b:idmap'), 'UNSUPPORTED', "'idmap'");
});

test('--mount and --tmpfs', () => {
  const bind = (options: string[], source = '/a') => ({ destination: '/b', type: 'bind', source, options });
  assert.deepEqual(parseMount('type=bind,src=/a,dst=/b,ro'), bind(['rbind', 'ro']));
  assert.deepEqual(
    parseMount('type=bind,source=/a,target=/b,readonly=false,bind-propagation=rprivate,idmap'),
    bind(['rbind', 'rw', 'rprivate', 'idmap']),
  );
  assert.deepEqual(parseMount('src=v,destination=/b'), bind(['rbind', 'rw', 'x-oci.volume'], 'v'));
  const tmpfs = (...options: string[]) => ({ destination: '/t', type: 'tmpfs', source: 'tmpfs', options });
  assert.deepEqual(parseTmpfs('/t'), tmpfs('nosuid', 'nodev', 'mode=1777', 'tmpcopyup'));
  assert.deepEqual(
    parseTmpfs('/t:size=1k,mode=700,suid,noexec'),
    tmpfs('nodev', 'tmpcopyup', 'size=1024', 'mode=700', 'suid', 'noexec'),
  );
  assert.deepEqual(
    parseMount('type=tmpfs,dst=/t,tmpfs-size=1M'),
    tmpfs('nosuid', 'nodev', 'mode=1777', 'tmpcopyup', 'size=1048576'),
  );
  for (const text of [
    ...['', 'type=bind', 'type=bind,src=a,dst=/b', 'type=volume,src=/a,dst=/b', 'type=bind,src=/a,dst=b'],
    ...['type=bind,src=/a,dst=/b,dst=/c', 'type=tmpfs,src=/a,dst=/t', 'type=tmpfs,dst=/'],
  ])
    throwsOci(() => parseMount(text), 'USAGE', '--mount');
  const image = (...options: string[]) => bind(['rbind', ...options], 'docker.io/x:1');
  assert.deepEqual(
    parseMount('type=image,source=docker.io/x:1,destination=/b'),
    image('ro', 'nosuid', 'nodev', 'x-oci.image'),
  );
  assert.deepEqual(
    parseMount('type=image,src=docker.io/x:1,dst=/b,rw=true,subpath=/a/../c'),
    image('rw', 'nosuid', 'nodev', 'x-oci.image', 'x-oci.subpath=/a/../c'),
  );
  for (const text of ['src=,dst=/b', 'dst=/b', 'src=x,dst=/', 'src=x,dst=/b,ro,rw', 'src=x,dst=/b,subpath=c'])
    throwsOci(() => parseMount(`type=image,${text}`), 'USAGE', '--mount');
  throwsOci(() => parseMount('type=nfs,src=a,dst=/b'), 'UNSUPPORTED', "'nfs'");
  throwsOci(() => parseMount('type=image,src=a,dst=/b,idmap'), 'UNSUPPORTED', "'idmap'");
  throwsOci(() => parseMount('type=bind,src=/a,dst=/b,relabel=shared'), 'UNSUPPORTED', "'relabel'");
  throwsOci(() => parseTmpfs('t'), 'USAGE', '--tmpfs');
  throwsOci(() => parseTmpfs('/t:size=big'), 'USAGE', "--tmpfs: 'big' is not a size");
  throwsOci(() => parseTmpfs('/t:uid=0'), 'UNSUPPORTED', "'uid=0'");
});

test('limits by podman’s names', () => {
  assert.deepEqual(parseResources({}), {});
  assert.deepEqual(
    parseResources({
      ...{ memory: '1M', memoryReservation: '1k', memorySwap: '-1', cpus: '0.5', cpuShares: '512' },
      ...{ cpusetCpus: '0-1,3', cpusetMems: '0', cpuWeight: '7', ioWeight: '8', pidsLimit: '-1' },
    }),
    {
      memory: { limit: 1048576, reservation: 1024, swap: -1 },
      cpu: { quota: 50000, period: 100000, shares: 512, cpus: '0-1,3', mems: '0' },
      pids: { limit: -1 },
      unified: { 'cpu.weight': '7', 'io.weight': 'default 8' },
    },
  );
  for (const [texts, part] of [
    [{ memorySwap: '1M' }, '--memory-swap'],
    [{ memorySwap: '1M', memory: '2M' }, '--memory-swap'],
    [{ cpuWeight: '0' }, '--cpu-weight'],
    [{ cpuShares: '1' }, '--cpu-shares'],
    [{ ioWeight: '10001' }, '--io-weight'],
    [{ cpusetCpus: '0-' }, '--cpuset-cpus'],
    [{ cpusetMems: 'all' }, '--cpuset-mems'],
  ] as const)
    throwsOci(() => parseResources(texts), 'USAGE', part);
});

test('capabilities', () => {
  const small = (sets: { bounding: string[] }) => sets.bounding.map((name) => name.slice(4));
  assert.equal(capabilitySets(0, [], []).bounding.length, 11);
  assert.deepEqual(small(capabilitySets(0, ['net_raw', 'CAP_CHOWN'], ['all'])), ['CHOWN', 'NET_RAW']);
  assert.equal(capabilitySets(0, ['ALL'], ['SYS_ADMIN,SYS_BOOT']).bounding.length, 39);
  assert.deepEqual(capabilitySets(0, [], ['ALL']).effective, []);
  const user = capabilitySets(1000, ['NET_RAW'], ['CHOWN']);
  assert.equal(user.bounding.length, 11);
  for (const set of [user.effective, user.permitted, user.inheritable, user.ambient])
    assert.deepEqual(set, ['CAP_NET_RAW']);
  throwsOci(() => capabilitySets(0, ['ALL'], ['ALL']), 'USAGE', 'exclude');
  throwsOci(() => capabilitySets(0, ['FLY'], []), 'USAGE', "--cap-add: 'FLY'");
});

test('names with values', () => {
  assert.deepEqual(parseUlimit('nofile=10:20'), { type: 'RLIMIT_NOFILE', soft: 10, hard: 20 });
  assert.deepEqual(parseUlimit('core=-1'), { type: 'RLIMIT_CORE', soft: 2 ** 64, hard: 2 ** 64 });
  assert.deepEqual(parseSysctl('net.x=a=b'), ['net.x', 'a=b']);
  assert.equal(parseAddHost('db:10.0.0.5'), '10.0.0.5 db');
  assert.equal(parseAddHost('a;b:::1'), '::1 a b');
  assert.equal(parseAddHost('db:host-gateway'), 'host-gateway db');
  assert.equal(parseNameserver('fe80::1'), 'fe80::1');
  assert.deepEqual(parseUserns('auto'), {});
  assert.deepEqual(parseUserns('host'), { hostUsers: true });
  assert.deepEqual(parseUserns('1048576:65536'), {
    range: { containerID: 0, hostID: 1048576, size: 65536 },
  });
  assert.deepEqual(parseRestart('on-failure:3'), 'on-failure:3');
  assert.equal(parseLogTag('a b%c'), 'a b%c');
  for (const [parse, texts] of [
    [parseUlimit, ['', 'nofile', 'nofile=', 'nofile=20:10', 'nofile=-1:5', 'NOFILE=1', 'a=1e3']],
    [parseLabel, ['', '=x', 'io.ocictl.userns=host', 'io.ocictl.x']],
    [parseSysctl, ['', 'x', '=x']],
    [
      parseAddHost,
      ['', 'db', 'db:', ':10.0.0.1', 'db:gateway', 'a b:10.0.0.1', 'db:10.0.0.1\n', 'db:300.0.0.1'],
    ],
    [parseNameserver, ['', 'dns.example', '10.0.0.1\n']],
    [parseUserns, ['', 'keep-id', '5', '-1:5', '1:2:3']],
    [parseRestart, ['', 'yes', 'on-failure:', 'always:3']],
    [parseLogTag, ['', 'a\nb', ' a', 'a\\']],
  ] as const)
    for (const text of texts) throwsOci(() => parse(text), 'USAGE', '--');
});

test('masked paths: more of them, or fewer', () => {
  const security = parseSecurityOptions(['mask=/proc/a:/b c', 'no-new-privileges', 'unmask=/proc/*:/sys/x']);
  assert.deepEqual(security, {
    noNewPrivileges: true,
    masked: ['/proc/a', '/b c'],
    unmasked: ['/proc/*', '/sys/x'],
  });
  assert.deepEqual(stillMasked(['/proc/keys', '/proc/a/b', '/sys/x', '/sys/xy'], security), [
    '/proc/a/b',
    '/sys/xy',
  ]);
  assert.deepEqual(parseSecurityOptions(['label=disable', 'apparmor:unconfined']), parseSecurityOptions([]));
  assert.deepEqual(stillMasked(['/proc/keys'], parseSecurityOptions(['unmask=all'])), []);
  for (const text of ['mask=', 'mask=proc', 'mask=/', 'mask=/a/../b', 'unmask=/a::/b', 'mask=/a\nb'])
    throwsOci(() => parseSecurityOptions([text]), 'USAGE', 'names no absolute path');
  for (const text of ['label=type:x', 'seccomp', 'proc-opts=x'])
    throwsOci(() => parseSecurityOptions([text]), 'UNSUPPORTED', 'cannot be honoured');
});

test('devices', () => {
  const device = (source: string, path: string, access: string) => ({ source, path, access });
  assert.deepEqual(parseDevice('/dev/fuse'), device('/dev/fuse', '/dev/fuse', 'rwm'));
  assert.deepEqual(parseDevice('/dev/fuse:r'), device('/dev/fuse', '/dev/fuse', 'r'));
  assert.deepEqual(parseDevice('/srv/x:/dev/y:rw'), device('/srv/x', '/dev/y', 'rw'));
  for (const text of ['', 'fuse', '/srv/x', '/dev/x:/y', '/dev/x:/dev/../y', '/dev/x:/dev/y:rw:z', '/dev/'])
    throwsOci(() => parseDevice(text), 'USAGE', '--device');
});

test('environment: image, then ours, then the user; the last word wins', () => {
  const environment = buildEnvironment({
    image: ['A=1', 'B=x=y', 'NOVALUE', '=odd', 'HOME=/image'],
    user: ['A=2', 'FROM_CALLER', 'ABSENT', 'EMPTY='],
    caller: { FROM_CALLER: 'c' },
    home: '/root',
    hostname: 'h',
  });
  assert.deepEqual(environment, [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/image',
    'HOSTNAME=h',
    'container=oci',
    'A=2',
    'B=x=y',
    'FROM_CALLER=c',
    'EMPTY=',
  ]);
  const input = { image: [], user: ['=x'], caller: {}, home: '/', hostname: 'h' };
  throwsOci(() => buildEnvironment(input), 'USAGE', 'has no name');
  throwsOci(() => buildEnvironment({ ...input, user: [], image: ['A=\0'] }), 'BAD_IMAGE', 'NUL');
  assert.deepEqual(parseEnvFile('# c\nA=1 \r\n\n  B="q"\nC'), ['A=1 ', 'B="q"', 'C']);
});

test('entrypoint and command', () => {
  const image = { Entrypoint: ['e', '1'], Cmd: ['c'] };
  assert.deepEqual(payloadArgs(image, undefined, []), ['e', '1', 'c']);
  assert.deepEqual(payloadArgs(image, undefined, ['x']), ['e', '1', 'x']);
  assert.deepEqual(payloadArgs(image, ['n'], []), ['n']);
  assert.deepEqual(payloadArgs({ Entrypoint: [''], Cmd: ['c'] }, undefined, []), ['c']);
  assert.deepEqual(payloadArgs(image, [], ['x']), ['x']);
});

test('the command is looked for as execvp(3) does', () => {
  const files: Record<string, { kind: string; mode: number }> = {
    '/bin/sh': { kind: 'file', mode: 0o755 },
    '/bin/data': { kind: 'file', mode: 0o644 },
    '/bin/dir': { kind: 'directory', mode: 0o755 },
    '/usr/bin/data': { kind: 'file', mode: 0o755 },
    '/work/run': { kind: 'file', mode: 0o755 },
  };
  // elf(5): little-endian, e_machine
  const elf = (machine: string) => `\x7fELF\x02\x01${'\0'.repeat(12)}${machine}`;
  const heads: Record<string, string> = {
    '/work/text': 'echo\n',
    '/work/empty': '',
    '/work/script': '#!/bin/sh\n',
    '/work/blanks': '#! /bin/sh -e\n',
    '/work/no-name': '#! \t\necho\n',
    '/work/no-end': '#!x',
    '/work/long': `#!/${'x'.repeat(253)}`,
    '/work/data': '\0\0\0',
    '/work/cut': '\x7fELF\0',
    '/work/arm': elf('\xb7\0'),
    '/work/i386': elf('\x03\0'),
  };
  for (const path of Object.keys(heads)) files[path] = { kind: 'file', mode: 0o755 };
  let interpreters = false;
  const check = (command: string, PATH = '/bin:/usr/bin') =>
    checkCommand({
      args: [command],
      env: [`PATH=${PATH}`],
      cwd: '/work',
      lookup: (path) => files[path.replace('/./', '/')],
      head: (path) => Buffer.from(heads[path.replace('/./', '/')] ?? elf('\x3e\0'), 'latin1'),
      covered: (path) => path.startsWith('/mnt/'),
      architecture: 'x64',
      hasInterpreters: () => interpreters,
    });
  check('sh');
  check('/bin/sh');
  check('./run');
  check('run', ':/bin');
  check('data'); // not executable in /bin, but in /usr/bin
  check('/mnt/anything');
  throwsOci(() => check('nope'), 'COMMAND_NOT_FOUND', "'nope' does not exist");
  throwsOci(() => check('/bin/nope'), 'COMMAND_NOT_FOUND', "'/bin/nope'");
  throwsOci(() => check(''), 'COMMAND_NOT_FOUND', 'no command');
  throwsOci(() => check('data', '/bin'), 'COMMAND_CANNOT_RUN', 'is not executable');
  throwsOci(() => check('/bin/dir'), 'COMMAND_CANNOT_RUN', 'is a directory');
  for (const name of ['script', 'blanks', 'no-end', 'i386']) check(`./${name}`);
  throwsOci(() => check('./no-name'), 'COMMAND_CANNOT_RUN', "'./no-name' names no interpreter after #!");
  throwsOci(() => check('./long'), 'COMMAND_CANNOT_RUN', 'has too long a line after #!');
  for (const name of ['data', 'cut', 'arm'])
    throwsOci(() => check(`./${name}`), 'COMMAND_CANNOT_RUN', 'is no program for this machine');
  throwsOci(() => check('./text'), 'COMMAND_CANNOT_RUN', "'./text' is text without #!");
  throwsOci(() => check('./empty'), 'COMMAND_CANNOT_RUN', 'is text without #!');
  interpreters = true; // as of qemu-user
  check('./arm');
  throwsOci(() => check('./text'), 'COMMAND_CANNOT_RUN', 'is text without #!');
});

test('canonical paths stay inside', () => {
  const links: Record<string, string> = {
    '/lib': 'usr/lib',
    '/var/run': '/run',
    '/up': '../../../etc',
    '/a': '/b',
    '/b': 'a',
  };
  const canonical = (path: string) => canonicalPath(path, (p) => links[p]);
  assert.equal(canonical('/lib/x/y'), '/usr/lib/x/y');
  assert.equal(canonical('/var/run/app'), '/run/app');
  assert.equal(canonical('/up/passwd'), '/etc/passwd');
  assert.equal(canonical('//x/./y/../z/'), '/x/z');
  assert.equal(canonical('/../..'), '/');
  throwsOci(() => canonical('/a/x'), 'BAD_IMAGE', 'leads round');
});

test('signals', () => {
  const table: [string, number, string][] = [
    ['SIGTERM', 15, 'SIGTERM'],
    ['quit', 3, 'SIGQUIT'],
    ['9', 9, 'SIGKILL'],
    ['SIGRTMIN+3', 37, 'SIGRTMIN+3'],
    ['RTMAX-1', 63, 'SIGRTMIN+29'],
    ['SIGRTMIN', 34, 'SIGRTMIN'],
    ['SIGABRT', 6, 'SIGABRT'],
    ['37', 37, 'SIGRTMIN+3'],
  ];
  for (const [text, number, name] of table) assert.deepEqual(parseSignal(text), { number, name }, text);
  for (const text of ['', '0', '65', 'SIGNOPE', '-1', 'SIGRTMIN+31', 'RTMAX-31', '15x', 'constructor'])
    throwsOci(() => parseSignal(text), 'BAD_IMAGE', 'is not a signal');
});
