/** Living with a container: ps, exec, logs, stats, pause, resume, kill, wait. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, rangeOf, unitProperties } from './container.ts';
import { onTerminal } from './terminal.ts';

const machine = sharedMachine();
const ctl = (...args: string[]) => machine.run(['ocictl', ...args]);
const PAYLOAD = 'trap "exit 0" TERM; echo started; while :; do sleep 0.1; done';

before(async () => {
  stdoutOf(
    await machine.run([
      'oci-run',
      '--unit',
      'live',
      '--user',
      '1234:5678',
      '-e',
      'A=1',
      '-w',
      '/work',
      BUSYBOX,
      'sh',
      '-c',
      PAYLOAD,
    ]),
  );
});

after(async () => {
  await machine.run(['systemctl', 'stop', 'live']);
  await assertNothingLeft(machine);
});

test('ps lists it with its state and process', async () => {
  const [container, ...others] = JSON.parse(stdoutOf(await ctl('--json', 'ps')));
  assert.deepEqual(others, []);
  const { MainPID } = await unitProperties(machine, 'live', 'MainPID');
  assert.equal(container.unit, 'live');
  assert.equal(container.image, `${BUSYBOX}:latest`);
  assert.equal(container.state, 'active (running)');
  assert.equal(container.pid, Number(MainPID));
  assert.deepEqual(container.command, ['sh', '-c', PAYLOAD]);
  assert.match(
    stdoutOf(await ctl('ps')),
    /^UNIT +IMAGE +DIGEST +STATE +HEALTH +PID +STARTED +PORTS +COMMAND\nlive +/,
  );
});

test('inspect tells of it what ps does, and all of its bundle', async () => {
  const [listed] = JSON.parse(stdoutOf(await ctl('--json', 'ps')));
  const { config, directory, ...state } = JSON.parse(
    stdoutOf(await ctl('--json', 'inspect', 'live.service')),
  );
  assert.deepEqual(state, listed);
  assert.deepEqual([config.process.cwd, directory], ['/work', '/run/oci/containers/live']);
  assert.match(stdoutOf(await ctl('inspect', 'live')), /^User: +1234:5678$/m);
  const rm = await ctl('rm', 'live');
  assert.equal(rm.status, 66);
  assert.match(rm.stderr, /; it is a container\nhint: To end it: systemctl stop live\. /);
});

test('exec: in the namespaces and the cgroup, as the user, with the environment; its status and streams', async () => {
  const inside = async (...args: string[]) => stdoutOf(await ctl('exec', ...args)).trim();
  assert.equal(await inside('live', 'id'), 'uid=1234 gid=5678 groups=5678');
  assert.equal(await inside('-u', '0', 'live', 'id', '-u'), '0');
  assert.equal(
    await inside('live', 'sh', '-c', 'echo $A $PWD $HOME $HOSTNAME; hostname'),
    '1 /work / live\nlive',
  );
  assert.equal(await inside('-e', 'A=2', '-w', '/', 'live', 'sh', '-c', 'echo $A $PWD'), '2 /');
  assert.equal(
    await inside('live', 'cat', '/proc/self/uid_map').then((map) => map.trim().split(/\s+/)[1]),
    String(await rangeOf(machine, 'live')),
  );
  // the environment of the caller stays outside
  assert.equal(
    await inside('live', 'env').then((text) =>
      text
        .split('\n')
        .map((line) => line.split('=')[0])
        .sort()
        .join(' '),
    ),
    'A HOME HOSTNAME PATH container',
  );
  assert.equal(
    await inside('live', 'grep', 'Cap', '/proc/self/status').then((text) =>
      [...text.matchAll(/\t(\w+)/g)].map((m) => m[1]).join(' '),
    ),
    '0000000000000000 0000000000000000 0000000000000000 00000000800405fb 0000000000000000',
  );
  assert.equal((await ctl('exec', 'live', 'sh', '-c', 'exit 7')).status, 7);
  assert.equal((await ctl('exec', 'live', 'no-such')).status, 127);
  const piped = await machine.run(['ocictl', 'exec', '-i', 'live', 'cat'], { input: 'through\n' });
  assert.deepEqual(piped, { status: 0, stdout: 'through\n', stderr: '' });
  // its processes are the unit's: systemd sees them, limits them, and ends them with it
  stdoutOf(
    await machine.script(
      'ocictl exec live sleep 987 >/dev/null 2>&1 & for i in $(seq 300); do systemctl status live | grep -q "sleep 987" && exit; sleep 0.1; done; exit 1',
    ),
  );
});

test('exec -it: a terminal of the container, with job control, the window size, and the status', async () => {
  await onTerminal(
    machine,
    'ocictl exec -it live sh',
    `
expect ' [$] '
send 'tty; stty size\\r'; expect '/dev/pts/0\\r'; expect '40 100\\r'
job; send '\\003'; expect '\\^C'; expect ' [$] '
send 'exit 5\\r'; expect 'status 5\\r'`,
  );
});

test('exec without -t: no terminal, and nothing else that the caller has open; its keys work all the same', async () => {
  await onTerminal(
    machine,
    `bash -c 'exec 200</etc; ocictl exec live sh -c "echo \\$(ls /proc/self/fd); tty; : </dev/tty"'
ocictl exec -i live cat
ocictl exec live sh -c 'echo waiting; sleep 1000'`,
    `
expect '^0 1 2 3\\r'; expect 'not a tty'; expect 'No such device or address'
send 'typed\\r'; expect typed; expect typed; send '\\004'
expect '^waiting'; send '\\003'; expect 'status 130\\r'`,
  );
});

test('logs are the payload’s lines', async () => {
  assert.equal(stdoutOf(await machine.script('journalctl --sync; ocictl logs live')), 'started\n');
});

test('logs under another tag, and of no container', async () => {
  const script = `
oci-run --quiet --wait --name tagged --log-tag other --rm ${BUSYBOX} sh -c 'echo plain; echo by name >/dev/stderr'
journalctl --sync; ocictl logs tagged`;
  assert.deepEqual(
    stdoutOf(await machine.script(script))
      .split('\n')
      .sort(),
    ['', 'by name', 'plain'],
  );
  assert.equal(stdoutOf(await ctl('logs', '--until', '100h', 'tagged')), '');
  assert.equal(stdoutOf(await ctl('logs', '--since', '100h', '--tail', '1', 'live')), 'started\n');
  const bogus = await ctl('logs', '--since', 'bogus', 'tagged');
  assert.equal(bogus.status, 64);
  assert.match(bogus.stderr, /^ocictl: --since: 'bogus' is no time\nhint: .*\n$/);
  const { status, stderr } = await ctl('logs', 'nobody');
  assert.equal(status, 66);
  assert.match(stderr, /^ocictl: the journal has no lines of a container 'nobody'\nhint: .*\n$/);
});

test('stats', async () => {
  const [usage] = JSON.parse(stdoutOf(await ctl('--json', 'stats', 'live')));
  assert.equal(usage.unit, 'live');
  assert.ok(usage.cpuNsec > 0);
  assert.equal(typeof usage.cpuPercent, 'number');
  assert.match(
    stdoutOf(await ctl('stats', '--no-stream')),
    /^UNIT +CPU +MEMORY +LIMIT +TASKS +READ +WRITTEN\nlive +[0-9.]+% /,
  );
});

test('pause and resume', async () => {
  stdoutOf(await ctl('pause', 'live'));
  stdoutOf(await ctl('pause', 'live'));
  assert.equal(stdoutOf(await machine.script('systemctl is-active live-paused')), 'active\n');
  const ticks = async () =>
    stdoutOf(await machine.script('cut -d" " -f14,15 /proc/$(systemctl show -P MainPID live)/stat'));
  const before = await ticks();
  assert.equal(JSON.parse(stdoutOf(await ctl('--json', 'ps')))[0].state, 'frozen');
  const refused = await ctl('exec', 'live', 'true');
  assert.equal(
    refused.stderr,
    "ocictl: container 'live' is paused\nhint: Let it go on first: ocictl resume live.\n",
  );
  assert.equal(refused.status, 69);
  assert.equal(await ticks(), before);
  stdoutOf(await ctl('resume', 'live'));
  assert.equal(JSON.parse(stdoutOf(await ctl('--json', 'ps')))[0].state, 'active (running)');
  stdoutOf(await machine.script('systemctl freeze live; ocictl resume live'));
  assert.equal((await unitProperties(machine, 'live', 'FreezerState'))['FreezerState'], 'running');
});

test('what is paused stops as told, is killed at once, and leaves no pause behind', async () => {
  const payload = 'trap "echo bye; exit 0" TERM; while :; do sleep 0.1; done';
  stdoutOf(await machine.run(['oci-run', '--unit', 'rest', BUSYBOX, 'sh', '-c', payload]));
  stdoutOf(await ctl('pause', 'rest'));
  stdoutOf(await machine.run(['systemctl', 'stop', 'rest']));
  assert.match(stdoutOf(await machine.script('journalctl --sync; ocictl logs -n 1 rest')), /^bye$/m);
  const slow = ['--unit', 'rest', '--stop-timeout', '90'];
  stdoutOf(await machine.run(['oci-run', ...slow, BUSYBOX, 'sh', '-c', payload]));
  stdoutOf(await ctl('pause', 'rest'));
  const begin = Date.now();
  stdoutOf(await machine.script('ocictl wait rest & ocictl kill rest; wait'));
  assert.ok(Date.now() - begin < 60_000, 'killed at once, not after TimeoutStopSec');
  assert.equal((await machine.run(['systemctl', 'is-active', 'rest-paused'])).stdout, 'inactive\n');
});

test('the name of one that has just been stopped is free', async () => {
  const run = ['oci-run', '--quiet', '--unit', 'again', '--stop-signal', 'KILL', BUSYBOX, 'sleep', '600'];
  const dropIn = '/run/systemd/system/again-setup.service.d';
  await machine.writeFile(`${dropIn}/slow.conf`, '[Service]\nExecStop=sleep 3\n');
  try {
    stdoutOf(await machine.run(['systemctl', 'daemon-reload']));
    stdoutOf(await machine.run(run));
    const first = await unitProperties(machine, 'again', 'InvocationID');
    const refused = await machine.run(run);
    assert.equal(refused.status, 73);
    assert.match(refused.stderr, /^oci-run: unit 'again\.service' exists\n/);
    const ending = 'systemctl stop again; systemctl show -P ActiveState again-setup';
    const second = stdoutOf(await machine.script(`${ending}; ${run.join(' ')}`));
    assert.match(second, /^(active|deactivating)\nagain\.service\n$/); // its setup is there for three seconds
    const now = await unitProperties(machine, 'again', 'InvocationID', 'ActiveState');
    assert.equal(now['ActiveState'], 'active');
    assert.notEqual(now['InvocationID'], first['InvocationID']);
  } finally {
    await machine.script(`systemctl stop again; rm -r ${dropIn}; systemctl daemon-reload`);
  }
});

test('wait and kill', async () => {
  stdoutOf(await machine.run(['oci-run', '--unit', 'brief', BUSYBOX, 'sleep', '600']));
  const waited = machine.run(['ocictl', 'wait', 'brief']);
  stdoutOf(await machine.script('until systemctl show -P Refs brief | grep -q .; do sleep 0.05; done')); // it watches
  stdoutOf(await ctl('kill', 'brief'));
  assert.deepEqual(await waited, { status: 0, stdout: '137\n', stderr: '' });
});

test('a container that is not there', async () => {
  for (const command of [
    ['exec', 'nope', 'true'],
    ['pause', 'nope'],
    ['kill', 'nope'],
    ['wait', 'nope'],
    ['stats', 'nope'],
    ['exec', '../live', 'true'],
  ]) {
    const { status, stderr } = await ctl(...command);
    assert.equal(status, 66, command.join(' '));
    assert.match(stderr, /^ocictl: no container '[^']*' is running\nhint: /);
  }
});
