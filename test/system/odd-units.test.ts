/** What of an image reaches its unit: stop signals, labels, names; and parts of a configuration that nobody uses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stdoutOf } from '../machine/machine.ts';
import { unitProperties } from './container.ts';
import { type Case, type Expected, machine, type OddImage, odd, refused } from './odd-image.ts';

/** Says which signal came, and ends; without children, which the signal may reach as well. */
const TRAP = `for s in HUP INT QUIT TERM USR1 WINCH 36 37 62; do trap "echo $s; exit 0" $s; done; echo ready; mkfifo /tmp/p; exec 3<>/tmp/p; while :; do read -r _ <&3; done`;
const signal = (StopSignal: unknown, expected: Expected, more: OddImage = {}): Case => [
  JSON.stringify(StopSignal) + (more.options ?? []).map((each) => ` ${each}`).join(''),
  { config: { StopSignal }, run: TRAP, stop: true, ...more },
  expected,
];
const came = (name: string) => `ready\n${name}\n`;
const NO_SIGNAL = refused(65, /is not a signal/);

odd('stop signals', [
  signal(undefined, came('TERM')),
  signal('', came('TERM')),
  signal('SIGQUIT', came('QUIT')),
  signal('QUIT', came('QUIT')),
  signal('quit', came('QUIT')),
  signal('3', came('QUIT')),
  signal('SIGINT', came('INT')),
  signal('SIGWINCH', came('WINCH')),
  signal('SIGRTMIN+3', came('37')),
  signal('RTMIN+2', came('36')),
  signal('RTMAX-2', came('62')),
  signal('37', came('37')),
  signal('SIGKILL', { status: 137, stdout: 'ready\n' }),
  signal('SIGQUIT', came('HUP'), { options: ['--stop-signal', 'HUP'] }),
  signal(
    'SIGTERM',
    { status: 137, stdout: 'ready\n' },
    {
      run: 'trap "" TERM INT QUIT HUP; echo ready; while :; do sleep 0.05; done',
      options: ['--stop-timeout', '1'],
    },
  ),
  signal('SIGWRONG', NO_SIGNAL),
  signal('0', NO_SIGNAL),
  signal('65', NO_SIGNAL),
  signal('-9', NO_SIGNAL),
  signal('SIGRTMIN+31', NO_SIGNAL),
  signal('TERM\nExecStart=/x', NO_SIGNAL),
  signal(9, refused(65, /config StopSignal is not a string/)),
]);

const plain = (name: string, config: object, expected: Expected = 'ok\n', more: OddImage = {}): Case => [
  name,
  { config, run: 'echo ok', ...more },
  expected,
];
const LABELS = {
  'a%n': '$X\n[Service]\nUser=root',
  ü: '\u001b[2J',
  '': 'no name',
  long: 'x'.repeat(100_000),
  '-p': 'y',
};

odd('the rest of a configuration', [
  plain('labels of all kinds', { Labels: LABELS }),
  plain('a label with NUL', { Labels: { a: 'b\0c' } }),
  plain('labels as an array', { Labels: ['a=b'] }, refused(65, /config Labels/)),
  plain('a label that is no string', { Labels: { a: 1 } }, refused(65, /config Labels/)),
  plain('a label of ours', { Labels: { 'org.ocictl.restart': 'always' } }),
  plain('ports', { ExposedPorts: { '80/tcp': {}, '0': {}, '99999/sctp': {}, 'x\n': {}, '1-70000/udp': {} } }),
  plain('ports as an array', { ExposedPorts: ['80'] }, refused(65, /config ExposedPorts/)),
  plain('a health check', {
    Healthcheck: { Test: ['CMD-SHELL', 'exit 1'], Interval: 1_000_000_000, Retries: 1 },
  }),
  plain('a health check of none', { Healthcheck: { Test: ['NONE'] } }),
  plain('OnBuild, ArgsEscaped, Shell and others', {
    ...{
      OnBuild: ['RUN x'],
      ArgsEscaped: true,
      Shell: ['/bin/x'],
      Hostname: 'h',
      Domainname: 'd',
      Tty: true,
      OpenStdin: true,
    },
    ...{
      AttachStdin: true,
      NetworkDisabled: true,
      MacAddress: 'x',
      StopTimeout: 1,
      Image: 'sha256:x',
      unknown: [{}],
    },
  }),
  plain('unknown fields outside', {}, 'ok\n', {
    document: (document) => ({
      ...document,
      'os.version': '10',
      'os.features': ['win32k'],
      container_config: { User: 5 },
      docker_version: 1,
    }),
  }),
  plain('no config at all', {}, 'ok\n', {
    run: ['/bin/echo', 'ok'],
    document: ({ config: _, ...document }) => document,
  }),
  plain('config is null', {}, 'ok\n', {
    run: ['/bin/echo', 'ok'],
    document: (document) => ({ ...document, config: null }),
  }),
  plain('config is an array', {}, refused(65, /config is not an object/), {
    document: (document) => ({ ...document, config: [] }),
  }),
  plain('another architecture', {}, refused(69, /s390x/), {
    document: (document) => ({ ...document, architecture: 's390x' }),
  }),
  plain('another system', {}, refused(69, /windows/), {
    document: (document) => ({ ...document, os: 'windows' }),
  }),
  plain('no architecture', {}, 'ok\n', { document: ({ architecture: _, ...document }) => document }),
  plain('a host name of 64', {}, `${'h'.repeat(64)}\n`, {
    options: ['--hostname', 'h'.repeat(64)],
    run: 'hostname',
  }),
  plain('a host name with a line break', {}, refused(64, /is not a host name/), {
    options: ['--hostname', 'a\nb'],
  }),
]);

test('labels stay annotations: no property, no journal line', async () => {
  const label = 'x%n\nExecStart=/bin/evil\nOCI_IMAGE=evil';
  stdoutOf(
    await machine.run([
      ...['oci-run', '--unit', 'odd-label', '--label', `a=${label}`],
      ...['127.0.0.1:5000/busybox', 'sh', '-c', 'echo one; trap "exit 0" TERM; while :; do sleep 0.1; done'],
    ]),
  );
  const { ExecStart, User } = await unitProperties(machine, 'odd-label', 'ExecStart', 'User');
  assert.doesNotMatch(ExecStart!, /evil/);
  assert.equal(User, 'oci-odd-label');
  const lines = stdoutOf(
    await machine.script(
      'id=$(systemctl show -P InvocationID odd-label); for i in $(seq 150); do journalctl --sync; journalctl -o json _SYSTEMD_INVOCATION_ID=$id | grep -q \'"MESSAGE":"one"\' && break; sleep 0.1; done; journalctl -o json _SYSTEMD_INVOCATION_ID=$id; systemctl stop odd-label',
    ),
  );
  const entries = lines
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(entries.filter(({ MESSAGE }) => MESSAGE === 'one').length, 1);
  for (const { OCI_IMAGE } of entries)
    assert.ok(OCI_IMAGE === undefined || OCI_IMAGE === '127.0.0.1:5000/busybox:latest', OCI_IMAGE);
});
