/** A payload in the foreground: terminals (-it), signals, exit statuses, stopping in time. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers } from './container.ts';
import { onTerminal } from './terminal.ts';

const machine = sharedMachine();
const INIT = '/usr/bin/catatonit';
const WORK = '/var/tmp/foreground';

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  await machine.writeFile(INIT, readFileSync(INIT), 0o755);
});
after(() => machine.run(['rm', '-rf', INIT, WORK]));
afterEach(async () => {
  await endContainers(machine);
  await assertNothingLeft(machine);
  await machine.run(['systemctl', 'reset-failed']);
});

const IT = `oci-run -it --unit it ${BUSYBOX}`;

test('-it: a prompt, job control, the window’s size, the status; the user’s terminal as before', async () => {
  await onTerminal(
    machine,
    `${IT} sh`,
    `
expect '/ # '
send 'tty; stty size; echo $TERM $$\\r'
expect '/dev/pts/0\\r'; expect '40 100\\r'; expect 'xterm 1\\r'
stty -F "$(cat tty)" rows 50 cols 120
send 'stty size\\r'; expect '50 120\\r'; expect '/ # '
job; send '\\003'; expect '\\^C'; expect '/ # '
job; send '\\032'; expect 'Stopped'; expect '/ # '
send 'fg\\r'; expect again; send '\\003'; expect '/ # '
send 'stty -F /dev/console size\\r'; expect '50 120\\r'; expect '/ # '
send 'sh -c "exit 7"; echo inner $?; exit 5\\r'
expect 'inner 7\\r'; expect 'status 5\\r'`,
  );
});

test('-it: SIGTERM and SIGHUP give the terminal back and stop the container', async () => {
  for (const signal of ['TERM', 'HUP'])
    await onTerminal(
      machine,
      `sh -c 'echo $$ >pid; exec "$@"' sh ${IT} sh -c 'trap "" HUP; echo ready; sleep 1000'`,
      `
expect ready
kill -${signal} $(cat pid)
for i in $(seq 600); do stty -a <"$(cat tty)" | grep -q ' icanon' && break; sleep 0.05; done
stty -a <"$(cat tty)" | grep -q ' icanon' || { echo 'still raw'; exit 1; }
systemctl kill -s KILL it
expect 'status 137'`,
    );
});

test('-it: a user other than root may open its terminal by name', async () => {
  // the pause: systemd 257 takes it away as it starts the payload, and oci-run gives it back
  await onTerminal(
    machine,
    `oci-run -it --user 1000:1000 ${BUSYBOX} sh -c 'sleep 0.5; echo by name >$(tty); echo console >/dev/console'`,
    `expect 'by name'; expect console; expect 'status 0'`,
  );
});

test('-t without a terminal of one’s own: output whole, input as typed, the size of config.json', async () => {
  const much = await machine.script(
    `oci-run -t ${BUSYBOX} seq 100000 </dev/null | tr -d '\\r' >/tmp/seq; seq 100000 | cmp - /tmp/seq`,
  );
  assert.deepEqual(much, { status: 0, stdout: '', stderr: '' });
  // cat ends at the end of the input; the first line is the terminal's echo
  const typed = await machine.run(['oci-run', '-it', BUSYBOX, 'cat'], { input: 'hello\n' });
  assert.deepEqual(typed, { status: 0, stdout: 'hello\r\nhello\r\n', stderr: '' });
  // -t alone takes no input
  const closed = await machine.run(['oci-run', '-t', BUSYBOX, 'sh', '-c', 'sleep 0.5; echo end'], {
    input: 'lost\n',
  });
  assert.deepEqual(closed, { status: 0, stdout: 'end\r\n', stderr: '' });
  const bundle = await machine.script(`
mkdir -p ${WORK}; cd ${WORK}; rm -rf bundle; mkdir bundle; cp -a "$(ocictl mount ${BUSYBOX})" bundle/rootfs; ocictl umount ${BUSYBOX}
cd bundle; crun spec
jq '.process.args = ["sh", "-c", "stty size; tty"] | .process.consoleSize = {height: 30, width: 90}' config.json >new; mv new config.json
oci-run -t --bundle . </dev/null`);
  assert.deepEqual(bundle, { status: 0, stdout: '30 90\r\n/dev/pts/0\r\n', stderr: '' });
});

test('a setup whose oci-run was killed ends by itself and leaves nothing', async () => {
  // stopped when the setup unit has begun, killed when that can ask
  const result = await machine.script(
    `
oci-run -t --unit orphan ${BUSYBOX} true </dev/null & pid=$!
until [ -d /run/oci/containers/orphan/mnt ]; do :; done
kill -STOP $pid
until [ -c /run/oci/containers/orphan/mnt/dev/pts/ptmx ]; do sleep 0.05; done
sleep 0.5; systemctl is-active orphan-setup || true
kill -KILL $pid; wait $pid || true
for i in $(seq 150); do [ -e /run/oci/containers/orphan ] || break; sleep 0.1; done
journalctl --sync; journalctl -b -o cat -u orphan-setup | grep 'orphan-setup: '`,
    { timeoutMs: 60_000 },
  );
  assert.equal(
    stdoutOf(result),
    'activating\norphan-setup: nobody has opened the terminal: oci-run has ended meanwhile\n',
  );
});

const MODES = [['--wait'], ['--pipe'], ['-i'], ['-t'], ['-i', '-t']];

test('exit statuses: the payload’s, 126, 127, 128 and the signal, and those of a start that failed', async () => {
  await machine.writeFile(`${WORK}/script`, '#!/no/such\n', 0o755);
  for (const mode of MODES) {
    const run = async (...args: string[]) => (await machine.run(['oci-run', ...mode, ...args])).status;
    assert.deepEqual(
      {
        own: await run(BUSYBOX, 'sh', '-c', 'exit 42'),
        notExecutable: await run(BUSYBOX, '/etc/passwd'),
        notThere: await run(BUSYBOX, 'no-such'),
        // only the kernel can tell
        noInterpreter: await run('-v', `${WORK}/script:/script:ro`, BUSYBOX, '/script'),
        signal: await run('--init', BUSYBOX, 'sh', '-c', 'kill -KILL $$'),
        usage: await run('--memory', 'much', BUSYBOX),
        refused: await run('-p', 'NoSuch=1', BUSYBOX, 'true'),
        volume: await run('-v', '/no/such:/x', BUSYBOX, 'true'),
      },
      {
        own: 42,
        notExecutable: 126,
        notThere: 127,
        noInterpreter: 127,
        signal: 137,
        usage: 64,
        refused: 69,
        volume: 66,
      },
      mode.join(' '),
    );
  }
});

test('signals to oci-run are signals to the payload', async () => {
  for (const mode of MODES.slice(0, 4))
    for (const [signal, status] of [
      ['USR1', 11],
      ['INT', 12],
      ['TERM', 13],
      ['HUP', 14],
    ] as const) {
      const result = await machine.script(
        `oci-run ${mode.join(' ')} --unit told ${BUSYBOX} sh -c 'trap "exit 11" USR1; trap "exit 12" INT; trap "exit 13" TERM; trap "exit 14" HUP; : >/dev/shm/ready; while :; do sleep 0.05; done' </dev/null >/dev/null & pid=$!
        until [ -e /run/oci/containers/told/mnt/dev/shm/ready ]; do sleep 0.05; done
        kill -${signal} $pid; wait $pid || echo $?`,
      );
      assert.equal(result.stdout, `${status}\n`, `${mode} ${signal}: ${result.stderr}`);
    }
});

test('a payload that ignores signals: the second stops it, the third kills it', async () => {
  const result = await machine.script(
    `oci-run --wait --unit deaf --stop-timeout 60 ${BUSYBOX} sleep 1000 & pid=$!
    until systemctl -q is-active deaf; do sleep 0.05; done; sleep 0.3
    kill -INT $pid; sleep 1; systemctl show -P ActiveState deaf
    kill -INT $pid; until [ $(systemctl show -P ActiveState deaf) = deactivating ]; do sleep 0.05; done; sleep 0.5
    kill -INT $pid; wait $pid || echo $?`,
  );
  assert.equal(result.stdout, 'active\n137\n', result.stderr);
});

test('stopping: --init at once, StopSignal, --stop-timeout', async () => {
  const stopAfter = async (options: string, command: string) => {
    const text = stdoutOf(
      await machine.script(
        `oci-run -q --unit halt ${options} ${BUSYBOX} ${command} >/dev/null; sleep 0.5
        [ "$(systemctl show -P ActiveState halt)" = active ]; from=$(date +%s%N); systemctl stop halt; echo $((($(date +%s%N) - from) / 1000000))`,
      ),
    );
    await assertNothingLeft(machine);
    return Number(text);
  };
  assert.ok((await stopAfter('--stop-timeout 90 --init', 'sleep 1000')) < 60_000);
  const ignored = await stopAfter('--stop-timeout 3', 'sleep 1000');
  assert.ok(ignored >= 3000 && ignored < 10_000, String(ignored));
  const trap = `sh -c 'trap exit USR2; while :; do sleep 0.1; done'`;
  assert.ok((await stopAfter('--stop-timeout 90 --stop-signal USR2', trap)) < 60_000);
});

test('what excludes a terminal', async () => {
  for (const option of ['--pipe', '--restart=always']) {
    const { status, stderr } = await machine.run(['oci-run', '-t', option, BUSYBOX]);
    assert.equal(status, 64);
    assert.match(
      stderr,
      /^oci-run: --tty and --(pipe|restart) exclude each other\nhint: Leave one of them out/,
    );
  }
});
