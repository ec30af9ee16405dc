/** Odd command lines: what is said, the exit status, and that no byte of theirs reaches the terminal as it is. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX } from './container.ts';

const machine = sharedMachine();
const WORK = '/var/tmp/odd-words';

before(async () => {
  stdoutOf(
    await machine.script(`oci-pull -q ${BUSYBOX}; mkdir -p ${WORK}; cd ${WORK}
head -c 5000000 /dev/zero | tr '\\0' A >big; printf 'A=\\0\\n' >nul; ln -s /nosuch dangling; : >file
oci-run -q --unit odd ${BUSYBOX} sleep 1000
systemd-run -q --unit held-setup sleep 1000`),
  );
});
after(async () => {
  await machine.script(`systemctl stop odd held-setup; rm -rf ${WORK}`);
  await assertNothingLeft(machine);
});

const USAGE = 64;
const NO_INPUT = 66;
const UNAVAILABLE = 69;
const EXISTS = 73;
const CONFIG = 78;

type Row = readonly [status: number, option: string, ...values: string[]];

/** Runs each, some at a time; `first` must be in the first line of stderr. */
async function refuse(lines: readonly { status: number; argv: readonly string[]; first: string }[]) {
  const left = [...lines];
  const worker = async () => {
    for (let line = left.shift(); line !== undefined; line = left.shift()) {
      const { status, stdout, stderr } = await machine.run(line.argv);
      const what = `${JSON.stringify(line.argv)}\n${JSON.stringify(stderr)}`;
      assert.equal(status, line.status, what);
      assert.equal(stdout, '', what);
      assert.doesNotMatch(stderr, /[\x00-\x09\x0b-\x1f\x7f]|�/, what);
      const [first = '', hint = '', ...rest] = stderr.split('\n');
      assert.ok(first.startsWith(`${line.argv[0]}: `) && first.includes(line.first), what);
      assert.match(hint, /^hint: .+[^ ]$/, what);
      assert.deepEqual(rest, [''], what);
      assert.doesNotMatch(first, /config\.json:|E[A-Z]{4,}:|undefined|Infinity|\[object/, what);
    }
  };
  await Promise.all([worker(), worker()]);
}

/** The value comes in the message, as far as a message goes; `as`: how the option is called there. */
const oddValues = (rows: readonly Row[], as: Readonly<Record<string, string>> = {}) =>
  rows.flatMap(([status, option, ...values]) =>
    values.map((value) => ({
      status,
      argv: ['oci-run', option, value, BUSYBOX, 'true'],
      first: as[option] ?? option,
    })),
  );

test('limits and numbers', () =>
  refuse(
    oddValues([
      [USAGE, '--memory', '', '0', 'x', '1e99', '99999999999999999999', '5%', '1M ', '\x1b[31m', '-5'],
      [USAGE, '--memory-reservation', '', 'x'],
      [USAGE, '--memory-swap', '-2', '1M'],
      [USAGE, '--cpus', '', '0', '-1', 'NaN', '1e9', '0.0001'],
      [USAGE, '--cpu-weight', '0', '10001', 'x'],
      [USAGE, '--cpu-shares', '1', '262145'],
      [USAGE, '--cpuset-cpus', '', '1-0', 'a', '0,', '9999', '0-99999999999', '-1', '0 1', '0,3-2'],
      [USAGE, '--cpuset-mems', '1-0', 'x'],
      [USAGE, '--io-weight', '0', '10001'],
      [USAGE, '--pids-limit', '0', '-2', 'x', '99999999999999999999'],
      [USAGE, '--ulimit', '', 'nofile', 'nofile=', 'nofile=2:1', 'nofile=-2', 'x=1', 'bogus=1'],
      [USAGE, '--shm-size', '', '0', '-1', 'infinity', 'x'],
      [USAGE, '--stop-timeout', '', '-1', '1.5', '99999999999'],
      [USAGE, '--stop-signal', '', '0', '65', 'SIGFOO', 'RTMIN+99', '-1'],
      [USAGE, '--jobs', '0', '99', 'x'],
    ]),
  ));

test('variables, files and mounts', () =>
  refuse(
    oddValues(
      [
        [USAGE, '-e', '', '=', '=x'],
        [NO_INPUT, '--env-file', '', '/nosuch', '/etc', `${WORK}/dangling`],
        [USAGE, '--env-file', '/dev/zero', `${WORK}/big`, `${WORK}/nul`],
        [USAGE, '-v', '', '/etc', ':/x', '/etc:etc', '/etc::ro', '-x:/x', '.x:/x', 'a b:/x'],
        [USAGE, '-v', '/etc:/', '/etc:/../x', '/etc:/x:ro,rw', '/a:/b\x07'],
        [USAGE, '--mount', '', 'type=bind', 'src=/etc,dst=/x', 'type=bind,src=/etc', 'type=tmpfs'],
        [USAGE, '--mount', 'type=tmpfs,dst=/x,tmpfs-size=x', 'type=volume,src=../x,dst=/x'],
        [UNAVAILABLE, '--mount', 'type=bogus,src=/etc,dst=/x', 'type=bind,src=/etc,dst=/x,foo=bar'],
        [USAGE, '--tmpfs', '', 'x', '/', '/x:size=y', '/x:size=-1'],
        [USAGE, '--device', '', '/nosuch', '/etc/passwd', '/dev/null:x', '/dev/null:/dev/x:z', '/dev/'],
        [NO_INPUT, '--seccomp', '', '/nosuch', '/etc'],
        [CONFIG, '--seccomp', '/etc/passwd', '/dev/zero', `${WORK}/file`],
        [USAGE, '-w', '', 'x', '/a/../b'],
        [USAGE, '--entrypoint', '[', '["a",1]'],
      ],
      { '-e': '--env', '-v': '--volume', '-w': '--workdir' },
    ).concat(
      { status: NO_INPUT, argv: ['oci-run', '-v', '/nosuch:/x', BUSYBOX], first: "'/nosuch'" },
      { status: NO_INPUT, argv: ['oci-run', '-v', './nosuch:/x', BUSYBOX], first: "nosuch'" },
      { status: NO_INPUT, argv: ['oci-run', '-v', `${WORK}/dangling:/x`, BUSYBOX], first: 'does not exist' },
      { status: NO_INPUT, argv: ['oci-run', '-v', '/a\nb:/x', BUSYBOX], first: "'/a\\x0ab'" },
      { status: USAGE, argv: ['oci-run', '-v', '/etc:/proc', BUSYBOX], first: "the mount at '/proc'" },
      { status: UNAVAILABLE, argv: ['oci-run', '-v', '/etc:/x:bogus', BUSYBOX], first: "option 'bogus'" },
      {
        status: USAGE,
        argv: ['oci-run', '-v', '/etc:/x', '--tmpfs', '/x/', BUSYBOX],
        first: "mounts at '/x/'",
      },
      {
        status: USAGE,
        argv: ['oci-run', '-v', 'a:/x', '--state-dir', '/x', BUSYBOX],
        first: "mounts at '/x'",
      },
    ),
  ));

test('users, namespaces, names and networks', () =>
  refuse(
    oddValues([
      [USAGE, '--user', 'nosuch', '-1', '0:nosuch', '4294967296', '70000', 'a:b:c', '\x1b'],
      [USAGE, '--group-add', '', 'nosuch', '-1'],
      [
        USAGE,
        '--userns',
        '',
        'keep-id',
        'Host',
        'host:',
        '0:65536',
        '100000:0',
        '100000:99999',
        '1000000',
        '1000000:65536',
      ],
      [USAGE, '--userns', '-1:5', '2147483648:65536'],
      [USAGE, '--cap-add', '', 'BOGUS'],
      [USAGE, '--cap-drop', 'x'],
      [UNAVAILABLE, '--security-opt', '', 'bogus', 'apparmor=', 'no-new-privileges=x'],
      [USAGE, '--hostname', '', '-x', 'a b', 'x'.repeat(65), 'a\n', '.'],
      [USAGE, '--label', '', '=x'],
      [USAGE, '--sysctl', '', 'x', 'kernel.hostname=x', 'net.ipv4.ip_forward=1\n2', 'net/../x=1'],
      [USAGE, '--restart', '', 'x', 'on-failure:x', 'always:3'],
      [USAGE, '--log-tag', '', 'a\nb', 'x'.repeat(300)],
      [USAGE, '--slice', '', '-', 'a/b', '-.slice', 'a--b'],
      [USAGE, '--unit', '', '-x', '.x', '..', 'a/b', 'x'.repeat(201), 'a:b', 'a@', 'a b', '\x1b[2J'],
      [USAGE, '--network', '', 'bogus', 'bridge:NOPE', 'container=../x'],
      [NO_INPUT, '--network', 'bridge:nosuch', 'ns:/nosuch', 'ns:/etc/passwd', 'ns:/'],
      [USAGE, '--publish', '', 'x', '0', '0:0', '70000:1', '80:80/foo', '[::1]:8080:80', '-1', '1-3:1-2'],
      [USAGE, '--ip', '', 'x', '1.2.3', '10.90.0.1', '10.90.0.999', '::1'],
      [USAGE, '--add-host', '', 'x', 'x:', ':1.2.3.4', 'a b:1.2.3.4', 'a:1.2.3.4\nb', 'a:host-gateway'],
      [USAGE, '--dns', '', 'x', '1.2.3.4.5'],
      [USAGE, '--dns-search', '', 'a b'],
      [USAGE, '--socket', '', 'x', '0', 'udp:'],
      [CONFIG, '--root', '', '/proc/x', '/proc/x/y', '/etc/passwd', '/etc/passwd/x', '/dev/null'],
      [CONFIG, '--run-root', '', '/proc/x', '/sys/x/y', '/etc/passwd'],
      [USAGE, '--pull', '', 'x'],
    ]),
  ));

const oneByOne = (rows: readonly (readonly [number, string, ...string[]])[]) =>
  refuse(rows.map(([status, first, ...argv]) => ({ status, first, argv })));

test('properties that systemd refuses, names that are taken', () =>
  oneByOne([
    [USAGE, 'Invalid Restart setting', 'oci-run', '-p', 'Restart=foo', BUSYBOX],
    [USAGE, 'Invalid OOMPolicy setting', 'oci-run', '-p', 'OOMPolicy=foo', BUSYBOX],
    [USAGE, 'Invalid Nice value', 'oci-run', '-p', 'Nice=99', BUSYBOX],
    [USAGE, "MemoryMax='foo'", 'oci-run', '-p', 'MemoryMax=foo', BUSYBOX],
    [USAGE, "'=x'", 'oci-run', '-p', '=x', BUSYBOX],
    [UNAVAILABLE, "its profile 'web'", 'oci-run', '--security-opt', 'apparmor=web', BUSYBOX, 'true'],
    [UNAVAILABLE, "'ExecStart'", 'oci-run', '-p', 'ExecStart=/bin/sh', BUSYBOX],
    [EXISTS, "unit 'odd.service' exists", 'oci-run', '--unit', 'odd', BUSYBOX],
    [EXISTS, "unit 'dbus.service' exists", 'oci-run', '--unit', 'dbus', BUSYBOX],
    [EXISTS, "unit 'held-setup.service' exists", 'oci-run', '--unit', 'held', BUSYBOX, 'true'],
  ]));

test('words in odd places', () =>
  oneByOne([
    [USAGE, 'no image is named', 'oci-run'],
    [USAGE, 'no image is named', 'oci-run', '--'],
    [USAGE, "'--nosuch'", 'oci-run', '--nosuch', BUSYBOX],
    [USAGE, 'argument missing', 'oci-run', '-e'],
    [USAGE, 'is not a repository name', 'oci-run', ''],
    [USAGE, 'is not a repository name', 'oci-run', '-'],
    [USAGE, "'\\x1b[31m'", 'oci-run', '\x1b[31m'],
    [USAGE, 'UPPER/case', 'oci-run', 'UPPER/case'],
    [USAGE, "'sha256:xx'", 'oci-run', `${BUSYBOX}@sha256:xx`],
    [NO_INPUT, 'nosuch', 'oci-run', '--pull', 'never', 'nosuch'],
    [127, "command '--nosuch'", 'oci-run', BUSYBOX, '--nosuch'],
    [127, "command '--'", 'oci-run', '--', BUSYBOX, '--', 'true'],
    [127, "command '/nosuch'", 'oci-run', BUSYBOX, '/nosuch'],
    [126, "command '/etc'", 'oci-run', BUSYBOX, '/etc'],
    [USAGE, 'exclude each other', 'oci-run', '--bundle', '/etc', BUSYBOX],
    [USAGE, 'exclude each other', 'oci-run', '--bundle', '/etc', '-e', 'A=1'],
    [NO_INPUT, "'/nosuch'", 'oci-run', '--bundle', '/nosuch'],
    [USAGE, '--detach excludes', 'oci-run', '-dit', BUSYBOX, 'sh'],
    [USAGE, '--tty and --restart', 'oci-run', '-it', '--restart', 'always', BUSYBOX],
    [NO_INPUT, "'/nosuch'", 'oci-run', '--config', '/nosuch', BUSYBOX],
    [CONFIG, "'/etc'", 'oci-run', '--config', '/etc', BUSYBOX],
    [CONFIG, 'unknown key', 'oci-run', '--config', '/etc/passwd', BUSYBOX],
  ]));

test('ocictl', () =>
  oneByOne([
    [USAGE, "'nosuch'", 'ocictl', 'nosuch'],
    [USAGE, "'stop'", 'ocictl', 'stop', 'odd'],
    [USAGE, "'container'", 'ocictl', 'container', 'ls'],
    [USAGE, 'too many arguments', 'ocictl', 'ps', 'x'],
    [USAGE, 'missing required argument', 'ocictl', 'exec', 'odd'],
    [USAGE, "--user: user 'nosuch'", 'ocictl', 'exec', '-u', 'nosuch', 'odd', 'id'],
    [USAGE, '--workdir', 'ocictl', 'exec', '-w', 'nope', 'odd', 'pwd'],
    [USAGE, '--env', 'ocictl', 'exec', '-e', '=x', 'odd', 'env'],
    [USAGE, '--lines', 'ocictl', 'logs', '-n', 'x', 'odd'],
    [USAGE, '--lines', 'ocictl', 'logs', '--tail', '-1', 'odd'],
    [NO_INPUT, "'\\x1b'", 'ocictl', 'logs', '\x1b'],
    [USAGE, '--signal', 'ocictl', 'kill', '-s', 'FOO', 'odd'],
    [USAGE, '--signal', 'ocictl', 'kill', '-s', '0', 'odd'],
    ...(['exec', 'kill', 'pause', 'resume', 'wait', 'port', 'stats'] as const).map(
      (word) =>
        [NO_INPUT, "no container 'no'", 'ocictl', word, 'no', ...(word === 'exec' ? ['true'] : [])] as const,
    ),
    [NO_INPUT, "'99/tcp'", 'ocictl', 'port', 'odd', '99'],
    [USAGE, 'one of source and destination', 'ocictl', 'cp', 'a', 'b'],
    [NO_INPUT, "'/nosuch'", 'ocictl', 'cp', '/nosuch', 'odd:/x'],
    [USAGE, '--cpuset-cpus', 'ocictl', 'update', '--cpuset-cpus', '1-0', 'odd'],
    [CONFIG, '--root', 'ocictl', '--root', '/proc/x', 'images'],
    [CONFIG, '--run-root', 'ocictl', '--run-root', '', 'ps'],
  ]));
