import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { ContainerOptions } from '../../../src/bundle/runtime-spec.ts';
import { hostnameOf, translateImage } from '../../../src/bundle/runtime-spec.ts';
import { parseImageConfig } from '../../../src/oci/image-config.ts';
import type { RuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import { unitPath } from '../../../src/systemd/manager.ts';
import { rangeUserName } from '../../../src/uid/range.ts';
import { type ContainerUnits, containerUnits } from '../../../src/unit/container-units.ts';
import type { UnitContext } from '../../../src/unit/context.ts';
import { featuresOf } from '../../../src/unit/features.ts';
import { quoteWord } from '../../../src/unit/setting.ts';
import { shellWord } from '../../../src/unit/shell.ts';
import { shimArgv, unitEnvironment } from '../../../src/unit/shim.ts';
import { terminalStreams } from '../../../src/unit/terminal.ts';
import { unitText } from '../../../src/unit/unit-text.ts';
import { throwsOci } from '../expect-error.ts';

const NO_OPTIONS: ContainerOptions = {
  command: [],
  env: [],
  mounts: [],
  network: { kind: 'private' },
  readOnly: false,
  health: {},
  labels: {},
  resources: {},
  rlimits: [],
  sysctl: {},
  capAdd: [],
  capDrop: [],
  security: { noNewPrivileges: false, masked: [], unmasked: [] },
};

const DIFF = `sha256:${'1'.repeat(64)}`;

function spec(options: Partial<ContainerOptions> = {}, config: object = {}): RuntimeSpec {
  return translateImage({
    unit: 'web',
    imageName: 'docker.io/library/nginx:latest',
    manifestDigest: `sha256:${'a'.repeat(64)}`,
    imageConfig: parseImageConfig(
      Buffer.from(
        JSON.stringify({
          os: 'linux',
          architecture: 'amd64',
          config: {
            Cmd: ['nginx', '-g', 'daemon off;'],
            Env: ['PATH=/bin'],
            StopSignal: 'SIGQUIT',
            ...config,
          },
          rootfs: { type: 'layers', diff_ids: [DIFF] },
        }),
      ),
    ),
    user: { uid: 0, gid: 0, additionalGids: [], home: '/root' },
    devices: [],
    options: { ...NO_OPTIONS, ...options },
    callerEnv: {},
  });
}

const context: UnitContext = {
  unit: 'web',
  imageName: 'docker.io/library/nginx:latest',
  manifestDigest: `sha256:${'a'.repeat(64)}`,
  slice: 'oci.slice',
  layerTrees: ['/var/lib/oci/layers/1/tree', '/var/lib/oci/layers/2/tree'],
  writableDir: '/var/lib/oci/writable/web',
  bundleDir: '/run/oci/containers/web',
  sharedDir: '/run/oci/shared',
  rootAttributes: { uid: 2147352576, gid: 2147352576, mode: 0o755, covered: false },
  scaffold: { directories: ['/proc', '/work dir'], files: ['/etc/hosts'], cover: [] },
  idBase: 2147352576,
  cwdBy: 'unit',
  copyUp: new Map(),
  networkFiles: { hosts: [], nameservers: [], searchDomains: [], resolverOptions: [] },
  features: { ownsMainProcess: true, architecture: 'x64' },
};

function units(
  options: Partial<ContainerOptions> = {},
  config: object = {},
  more: Partial<UnitContext> = {},
): ContainerUnits {
  return containerUnits(spec(options, config), { ...context, ...more });
}

function value({ payload }: ContainerUnits, property: string): unknown {
  const found = payload.settings.filter((setting) => setting.property === property);
  assert.ok(found.length <= 1, `${property} is set twice`);
  return found[0]?.value;
}

test('namespaces: host networking has no namespace of its own', () => {
  const own = units();
  assert.equal(value(own, 'NetworkNamespacePath'), '/run/oci/containers/web/mnt/netns');
  assert.match(own.setupScript, /unshare --user --net --ipc --uts/);
  const host = units({ network: { kind: 'host' } });
  assert.equal(value(host, 'NetworkNamespacePath'), undefined);
  assert.match(host.setupScript, /unshare --user --ipc --uts/);
  assert.doesNotMatch(host.setupScript, /\/netns/);
  for (const each of [own, host]) {
    assert.equal(value(each, 'User'), 'oci-web');
    assert.equal(value(each, 'PrivatePIDs'), 'yes');
    assert.equal(value(each, 'IPCNamespacePath'), '/run/oci/containers/web/mnt/ipcns');
    assert.equal(value(each, 'ProtectControlGroupsEx'), 'private');
  }
});

test('life cycle: stop signal, time-out, kill mode by what systemd has', () => {
  assert.equal(value(units(), 'KillSignal'), 3);
  assert.equal(value(units({ stopSignal: 'SIGRTMIN+3', stopTimeoutSeconds: 3 }), 'KillSignal'), 37);
  assert.equal(value(units({ stopTimeoutSeconds: 3 }), 'TimeoutStopUSec'), 3_000_000n);
  assert.equal(value(units(), 'KillMode'), 'mixed');
  assert.equal(value(units(), 'ExecStartPostEx'), undefined);
  const older = units({}, {}, { features: { ownsMainProcess: false, architecture: 'x64' } });
  assert.equal(value(older, 'KillMode'), 'control-group');
  // in the container, as its user: never with `+`
  assert.deepEqual(value(older, 'ExecStartPostEx'), [
    [
      '/run/.oci/ld.so',
      ['/run/.oci/ld.so', '--verify', '/run/.oci/env'],
      ['ignore-failure', 'no-env-expand'],
    ],
  ]);
});

test('read-only: no upper directory, and places to write', () => {
  const script = units({ readOnly: true }).setupScript;
  assert.match(
    script,
    /^ {2}oci-web "\$MOUNTS_FIELD\/rootfs" overlay "X-mount.mkdir,ro,userxattr,lowerdir=l2:l1:l0" \\$/m,
  );
  assert.doesNotMatch(script, /upperdir/);
  // more than fsconfig(2) takes in one string
  const many = units({}, {}, { layerTrees: Array.from({ length: 60 }, (_, i) => `/${i}`) }).setupScript;
  assert.match(
    many,
    /^LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o X-mount.mkdir,userxattr,lowerdir=l60:.*:l0,upperdir=u\/data,workdir=u\/work "oci-\$NAME" rootfs$/m,
  );
  assert.doesNotMatch(many, /" overlay "/);
  const destinations = (value(units({ readOnly: true }), 'BindPaths') as [string, string][]).map(
    ([, destination]) => destination,
  );
  assert.deepEqual(destinations, [
    '/run/.oci/userns',
    '/run/.oci/utsns',
    '/run/.oci/seccomp',
    '/dev',
    '/etc/hosts',
    '/etc/hostname',
    '/etc/resolv.conf',
    '/run',
    '/tmp',
    '/var/tmp',
  ]);
});

test('volumes: read-only and writable binds, and a file of ours gives way', () => {
  const mounts = [
    { destination: '/data', type: 'bind', source: '/srv/a b:c', options: ['rbind', 'rw'] },
    { destination: '/etc/hosts', type: 'bind', source: '/srv/hosts', options: ['bind', 'ro'] },
  ];
  const made = units({ mounts });
  // what systemd could not write into its own file is mounted aside by the setup
  assert.deepEqual((value(made, 'BindPaths') as unknown[]).at(-1), [
    '/run/oci/containers/web/mnt/bind0',
    '/data',
    false,
    16384n,
  ]);
  assert.match(made.setupScript, /^mount --rbind --make-rprivate '\/srv\/a b:c' bind0$/m);
  assert.deepEqual((value(made, 'BindReadOnlyPaths') as unknown[]).at(-1), [
    '/srv/hosts',
    '/etc/hosts',
    false,
    0n,
  ]);
});

test('places that systemd mistakes the names of are mounted upon by the setup, in what covers them', () => {
  const bind = (destination: string, ...options: string[]) => ({
    destination,
    type: 'bind',
    source: '/srv',
    options,
  });
  const made = units({ mounts: [bind('/data'), bind('/a b'), bind('/data/x:y', 'ro')] });
  const mnt = '/run/oci/containers/web/mnt';
  assert.deepEqual((value(made, 'BindPaths') as unknown[]).slice(-2), [
    [`${mnt}/run`, '/run', false, 16384n],
    [`${mnt}/bind0`, '/data', false, 16384n],
  ]);
  const planted = (script: string) => script.split('\n').filter((line) => line.startsWith('plant '));
  assert.deepEqual(planted(made.setupScript), [
    "plant rootfs 'a b' bind1",
    'plant bind0 x:y bind2 ,ro=recursive',
  ]);
  // where the image has links there
  const places = new Map([
    ['/a b', '/srv/a b'],
    ['/srv', '/srv'],
    ['/a b/c', '/run/x/c'],
  ]);
  const linked = units({ mounts: [bind('/srv'), bind('/a b'), bind('/a b/c')] }, {}, { places });
  assert.deepEqual(planted(linked.setupScript), ["plant bind0 'a b' bind1", 'plant run x/c bind2']);
  assert.doesNotMatch(units({ mounts: [bind('/data')] }).setupScript, /reach|plant/);
  for (const [mounts, part] of [
    [[bind('/proc/a b')], "'/proc/a b'"],
    [[bind('/sys/fs/cgroup/a b')], "'/sys/fs/cgroup/a b'"],
    [[bind('/data', 'ro'), bind('/data/a b')], "the mount at '/data' is read-only"],
  ] as const)
    throwsOci(() => units({ mounts: [...mounts] }), 'UNSUPPORTED', part);
  throwsOci(
    () => units({ mounts: [bind('/b'), bind('/a b')] }, {}, { places: new Map([['/a b', '/b']]) }),
    'UNSUPPORTED',
    "another mount lies at '/b'",
  );
});

test('images are mounted by their layers', () => {
  const image = (...options: string[]) => ({
    destination: '/x',
    type: 'bind',
    source: 'other',
    options: ['rbind', ...options, 'nosuid', 'nodev', 'x-oci.image'],
  });
  const images = new Map([
    [
      'other',
      {
        manifestDigest: `sha256:${'b'.repeat(64)}`,
        layerTrees: ['/store/1', "/sto re/it's"],
        rootAttributes: { uid: 2147352577, gid: 2147352578, mode: 0o1777 },
      },
    ],
  ]);
  const readOnly = units({ mounts: [image('ro')] }, {}, { images });
  assert.deepEqual((value(readOnly, 'BindReadOnlyPaths') as unknown[]).at(-1), [
    '/run/oci/containers/web/mnt/bind0',
    '/x',
    false,
    16384n,
  ]);
  const script = readOnly.setupScript;
  assert.match(
    script,
    /^ {2}'\/sto\\040re\/it'\\''s' "\$MOUNTS_FIELD\/bind0l2" none "X-mount.mkdir,bind,private,ro,X-mount.idmap=b:\$D:\$B:\$SIZE" \\$/m,
  );
  assert.match(
    script,
    / mount -t overlay -o X-mount.mkdir,userxattr,lowerdir=bind0l2:bind0l1:bind0l0,nosuid,nodev,ro "oci-\$NAME" bind0t\nmkdir bind0; mount --bind bind0t bind0$/m,
  );
  // written to in the container's own directory, also where its root is read-only
  const writable = units({ readOnly: true, mounts: [image('rw')] }, {}, { images }).setupScript;
  assert.match(writable, /"\$MOUNTS_FIELD\/u" none/);
  assert.match(
    writable,
    /^mkdir -p "\$WRITABLE\/bind\d\/data" .*; chown 2147352577:2147352578 .*; chmod 1777 /m,
  );
  assert.match(writable, /,upperdir=u\/bind0\/data,workdir=u\/bind0\/work /);
  const part = units({ mounts: [image('ro', 'x-oci.subpath=/a b/c')] }, {}, { images }).setupScript;
  assert.match(
    part,
    /^\(reach bind0t 'a b\/c' bind0; mount -c --bind "\.\/\$part" "\$BUNDLE\/mnt\/bind0"\)$/m,
  );
  throwsOci(() => units({ mounts: [image('ro')] }), 'UNSUPPORTED', "the image at '/x'");
});

test('the shim joins the namespaces, becomes the user, and keeps the loader from the image', () => {
  const LD = ['/run/.oci/ld.so', '--inhibit-cache', '--library-path', '/run/.oci'];
  const { process } = spec({
    env: ['LD_PRELOAD=/evil.so', 'GLIBC_TUNABLES=x', 'A.B=c', 'OK=1', 'CTRL=\x01'],
  });
  assert.deepEqual(unitEnvironment(process), [
    'PATH=/bin',
    'HOME=/root',
    'HOSTNAME=web',
    'container=oci',
    'OK=1',
  ]);
  process.user = { uid: 33, gid: 34, additionalGids: [4, 5] };
  process.capabilities!.bounding = ['CAP_CHOWN', 'CAP_NET_BIND_SERVICE'];
  process.noNewPrivileges = true;
  assert.deepEqual(shimArgv(process), [
    ...LD, '/run/.oci/nsenter', '--user=/run/.oci/userns', '--uts=/run/.oci/utsns', '-S', '0', '-G', '0', '--',
    ...LD, '/run/.oci/setpriv', '--reuid', '33', '--regid', '34', '--groups', '4,5',
    '--bounding-set=-all,+chown,+net_bind_service', '--inh-caps=-all', '--no-new-privs', '--',
    ...LD, '/run/.oci/env', '--', 'LD_PRELOAD=/evil.so', 'GLIBC_TUNABLES=x', 'A.B=c', 'CTRL=\x01',
    'nginx', '-g', 'daemon off;',
  ]); // biome-ignore format: one program a line
  process.args = ['a=b', 'c=d'];
  // env(1) would take the command for a variable
  const last = ['CTRL=\x01', ...LD, '/run/.oci/setpriv', '--', 'a=b', 'c=d'];
  assert.deepEqual(shimArgv(process).slice(-last.length), last);
});

test('a terminal: the setup asks for it and waits, systemd opens it, the shim makes it the controlling one', () => {
  const made = spec();
  const without = containerUnits(made, context);
  made.process.terminal = true;
  const stdio = terminalStreams(context)!;
  const withIt = containerUnits(made, { ...context, stdio });
  const pts = '/run/oci/containers/web/mnt/dev/pts/0';
  for (const name of ['StandardInputFile', 'StandardOutputFile', 'StandardErrorFile'])
    assert.equal(value(withIt, name), pts);
  const words = shimArgv(made.process);
  const at = words.indexOf('/run/.oci/setsid');
  assert.deepEqual(words.slice(at, at + 2), ['/run/.oci/setsid', '--ctty']);
  // joined already, and not yet the user
  assert.ok(words.indexOf('/run/.oci/nsenter') < at && at < words.indexOf('/run/.oci/setpriv'));
  const { setupScript } = withIt;
  const [devpts, asks, waits] = ['/dev/pts" devpts', 'terminal-asked', 'terminal-open'].map((text) =>
    setupScript.indexOf(text),
  );
  assert.ok(devpts! > 0 && devpts! < asks! && asks! < waits! && waits! < setupScript.length);
  assert.ok(
    !/terminal|console/.test(without.setupScript) && !shimArgv(spec().process).join().includes('setsid'),
  );
});

test('arguments arrive byte for byte in a property and escaped in text', () => {
  const args = ['$HOME', '100%', '-x', '"q"', 'a\nb', '', '\\', 'ü'];
  const made = units({ entrypoint: ['/bin/echo'], command: args });
  const [[path, argv, flags]] = value(made, 'ExecStartEx') as [[string, string[], string[]]];
  assert.equal(path, '/run/.oci/ld.so');
  assert.deepEqual(argv.slice(-9), ['/bin/echo', ...args]);
  assert.deepEqual(flags, ['no-env-expand']);
  const line = unitText(made.payload.settings)
    .split('\n')
    .find((text) => text.startsWith('ExecStart='))!;
  assert.ok(line.startsWith('ExecStart=:/run/.oci/ld.so '));
  assert.ok(line.endsWith(String.raw`/bin/echo "$HOME" 100%% -x "\"q\"" "a\x0ab" "" "\\" "ü"`), line);
  throwsOci(() => units({ command: ['a\0b'] }), 'BAD_IMAGE', 'NUL');
});

test('words of unit files and of the shell', () => {
  assert.equal(quoteWord('plain/word:1'), 'plain/word:1');
  assert.equal(quoteWord("it's"), `"it's"`);
  assert.equal(quoteWord('%i'), '%%i');
  for (const word of [
    '',
    'a b',
    "it's",
    '$(touch /tmp/x)',
    '`id`',
    '-n',
    'a\nb',
    '*',
    '~',
    '\\',
    '"',
    '!x',
    '#',
    'a;b',
  ]) {
    const echoed = spawnSync('sh', ['-c', `printf %s ${shellWord(word)}`], { encoding: 'utf8' });
    assert.equal(echoed.stdout, word);
  }
});

test('setup and teardown are shell, whatever the names are', () => {
  const odd = units(
    { hostname: "h'; touch /x" },
    {},
    {
      writableDir: "/var/lib/o'ci/$(id)/w",
      scaffold: { directories: ["/it's"], files: ['/a b/c'], cover: [] },
    },
  );
  for (const script of [odd.setupScript, odd.teardownScript]) {
    const checked = spawnSync('sh', ['-n'], { input: script, encoding: 'utf8' });
    assert.equal(checked.status, 0, checked.stderr);
  }
  assert.match(odd.setupScript, /^HOSTNAME='h'\\''; touch \/x'$/m);
});

test('names: range users, host names, object paths', () => {
  assert.equal(rangeUserName('web'), 'oci-web');
  assert.match(rangeUserName('Web.1'), /^oci-[0-9a-f]{16}$/);
  assert.match(rangeUserName('x'.repeat(40)), /^oci-[0-9a-f]{16}$/);
  assert.equal(hostnameOf('web@1.x_'), 'web-1-x');
  assert.equal(hostnameOf('---'), 'container');
  assert.equal(hostnameOf('a'.repeat(80)).length, 63);
  assert.equal(unitPath('web-1.service'), '/org/freedesktop/systemd1/unit/web_2d1_2eservice');
  assert.equal(unitPath('1a'), '/org/freedesktop/systemd1/unit/_31a');
});

test('a systemd without the needed properties is refused by name', () => {
  const has = [
    'PrivatePIDs',
    'BindLogSockets',
    'IPCNamespacePath',
    'DelegateSubgroup',
    'SetLoginEnvironment',
  ];
  assert.deepEqual(featuresOf(new Set(has), '257', 'x64'), { ownsMainProcess: false, architecture: 'x64' });
  assert.deepEqual(featuresOf(new Set([...has, 'DelegateNamespaces']), '262', 'x64'), {
    ownsMainProcess: true,
    architecture: 'x64',
  });
  throwsOci(
    () => featuresOf(new Set(has.slice(2)), '255', 'x64'),
    'UNSUPPORTED',
    'systemd 255 is too old: it has no PrivatePIDs, BindLogSockets',
  );
});

test('the bundle says what the image says', () => {
  const made = spec(
    { network: { kind: 'host' }, labels: { a: 'b' } },
    { WorkingDir: '/srv', Labels: { a: 'x', c: 'd' } },
  );
  assert.equal(made.process.cwd, '/srv');
  assert.deepEqual(made.process.args, ['nginx', '-g', 'daemon off;']);
  assert.equal(made.annotations['a'], 'b');
  assert.equal(made.annotations['c'], 'd');
  assert.equal(made.annotations['org.opencontainers.image.stopSignal'], 'SIGQUIT');
  assert.deepEqual(made.linux.sysctl, {});
  throwsOci(() => spec({}, { WorkingDir: '../x' }), 'BAD_IMAGE', "'../x'");
});

test('a composefs image: bound and checked first, mounted with its ids, its objects below it alone', () => {
  const composefs = {
    image: "/sto re/it's.cfs",
    digest: 'd'.repeat(64),
    content: Buffer.alloc(0),
    sha256: 'e'.repeat(64),
    objects: '/sto re/objects',
    verity: false,
  };
  const script = (readOnly: boolean, verity: boolean) =>
    units({ readOnly }, {}, { layerTrees: [], composefs: { ...composefs, verity } }).setupScript;
  const plain = script(false, false);
  const at = (text: string) => {
    assert.ok(plain.includes(text), `${text} is not in\n${plain}`);
    return plain.indexOf(text);
  };
  const steps = [
    `mount --bind --make-private '/sto re/it'\\''s.cfs' "$BUNDLE/mnt/l1.cfs"`,
    `[ "$(sha256sum <"$BUNDLE/mnt/l1.cfs")" = "${'e'.repeat(64)}  -" ] ||`,
    'dd if="$BUNDLE/mnt/l1.cfs" iflag=nocache count=0 status=none || true',
    `"$MOUNTS_FIELD/l1.cfs" "$MOUNTS_FIELD/l1" erofs "X-mount.mkdir,ro,noacl,X-mount.idmap=b:0:$B:$SIZE"`,
    `'/sto\\040re/objects' "$MOUNTS_FIELD/l1o" none "X-mount.mkdir,bind,private,ro"`,
    'overlay "X-mount.mkdir,metacopy=on,redirect_dir=on,lowerdir=l1:l0::l1o,upperdir=u/data,workdir=u/work"',
  ].map(at);
  assert.deepEqual(
    steps,
    steps.toSorted((a, b) => a - b),
  );
  assert.doesNotMatch(plain, /userxattr|verity=|no fs-verity/);
  assert.match(
    script(true, true),
    / overlay "X-mount.mkdir,ro,metacopy=on,redirect_dir=follow,verity=require,lowerdir=l1:l0::l1o"/,
  );
  assert.match(
    script(true, true),
    /^if \(: >>"\$BUNDLE\/mnt\/l1\.cfs"\) 2>\/dev\/null; then\n {2}fail .* has no fs-verity any more/m,
  );
});
