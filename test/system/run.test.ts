/** oci-run on a booted systemd: the payload as a unit's main process, limits, streams, statuses, and no leftovers. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { type RunOptions, type RunResult, sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, NGINX, rangeOf, unitProperties } from './container.ts';

const machine = sharedMachine();
const run = (...args: string[]) => machine.run(['oci-run', ...args]);
const pipe = (args: string[], options?: RunOptions) =>
  machine.run(['oci-run', '--pipe', BUSYBOX, ...args], options);

/** A refusal: its exit status, one line of error, one of hint, nothing on stdout, nothing left. */
async function assertRefused(result: RunResult, status: number, part: string): Promise<void> {
  assert.equal(result.status, status, result.stderr);
  assert.equal(result.stdout, '');
  const lines = result.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 2, result.stderr);
  assert.ok(lines[0]!.startsWith('oci-run: ') && lines[0]!.includes(part), lines[0]);
  assert.match(lines[1]!, /^hint: [A-Z].*\.$/);
  await assertNothingLeft(machine);
}

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  stdoutOf(await machine.run(['oci-pull', '--quiet', NGINX]));
});

// a test that fails half-way leaves no container to the next
afterEach(async () => {
  await endContainers(machine);
  await assertNothingLeft(machine);
});

test('a web server: limits, identity, range, live change, stop', async () => {
  const started = await run(
    '--unit',
    'web',
    '--memory',
    '256M',
    '--cpus',
    '1.5',
    '--pids-limit',
    '200',
    '--network',
    'host',
    NGINX,
  );
  assert.equal(started.status, 0, started.stderr);
  assert.match(started.stdout, /^web\.service$/m);

  const page = stdoutOf(
    await machine.script(
      'for i in $(seq 150); do curl -fsS http://127.0.0.1:8080/ && exit; sleep 0.2; done; exit 1',
    ),
  );
  assert.match(page, /<h1>/);

  const properties = await unitProperties(
    machine,
    'web',
    'MainPID',
    'MemoryMax',
    'CPUQuotaPerSecUSec',
    'TasksMax',
    'User',
    'Slice',
    'Description',
    'KillSignal',
    'Type',
  );
  assert.equal(properties['MemoryMax'], String(256 * 2 ** 20));
  assert.equal(properties['CPUQuotaPerSecUSec'], '1.500000s');
  assert.equal(properties['TasksMax'], '200');
  assert.equal(properties['User'], 'oci-web');
  assert.equal(properties['Slice'], 'oci.slice');
  assert.equal(properties['KillSignal'], '3');
  assert.match(
    properties['Description']!,
    /^OCI container web \(127\.0\.0\.1:5000\/nginx:latest, sha256:[0-9a-f]{12}\)$/,
  );

  // the unit's main process is the container's PID 1 and runs nginx itself
  const pid = properties['MainPID']!;
  assert.match(stdoutOf(await machine.run(['cat', `/proc/${pid}/comm`])), /^nginx$/m);
  assert.match(stdoutOf(await machine.run(['grep', '^NSpid', `/proc/${pid}/status`])), /\t1$/m);

  const range = await rangeOf(machine, 'web');
  assert.equal(range % 65536, 0);
  assert.ok(range >= 524288 && range <= 1879048191);
  assert.equal(stdoutOf(await machine.run(['id', '-u', 'oci-web'])).trim(), String(range));
  // www-data of the image, in the range
  assert.equal(stdoutOf(await machine.run(['stat', '-c', '%u', `/proc/${pid}`])).trim(), String(range + 33));

  // seven namespaces are its own; the network is the host's
  const namespaces = stdoutOf(
    await machine.script(
      `for n in pid mnt ipc uts cgroup user net; do [ "$(readlink /proc/${pid}/ns/$n)" = "$(readlink /proc/1/ns/$n)" ] && echo $n; done; true`,
    ),
  );
  assert.equal(namespaces.trim(), 'net');

  const journal = stdoutOf(
    await machine.script('journalctl --sync; journalctl --output=json --unit=web OCI_UNIT=web.service'),
  );
  const entry = JSON.parse(journal.split('\n')[0]!);
  assert.equal(entry.OCI_IMAGE, `${NGINX}:latest`);
  assert.match(entry.OCI_MANIFEST_DIGEST, /^sha256:[0-9a-f]{64}$/);

  stdoutOf(await machine.run(['systemctl', 'set-property', '--runtime', 'web', 'MemoryMax=128M']));
  assert.equal((await unitProperties(machine, 'web', 'MemoryMax'))['MemoryMax'], String(128 * 2 ** 20));

  const again = await run('--unit', 'web', BUSYBOX, 'true');
  assert.equal(again.status, 73);
  assert.match(again.stderr, /^oci-run: unit 'web\.service' exists\nhint: /);

  stdoutOf(await machine.run(['systemctl', 'stop', 'web']));
  await assertNothingLeft(machine);

  // another start, another range
  stdoutOf(await run('--unit', 'web', '--network', 'host', NGINX));
  assert.notEqual(await rangeOf(machine, 'web'), range);
  stdoutOf(await machine.run(['systemctl', 'stop', 'web']));
  await assertNothingLeft(machine);
});

test('restart keeps the container, a crash ends it, and both leave nothing', async () => {
  stdoutOf(
    await run(
      '--unit',
      'again',
      BUSYBOX,
      'sh',
      '-c',
      'echo x >>/count; trap "exit 0" TERM; while :; do sleep 0.1; done',
    ),
  );
  const range = await rangeOf(machine, 'again');
  stdoutOf(await machine.run(['systemctl', 'restart', 'again']));
  assert.equal(await rangeOf(machine, 'again'), range);
  const { MainPID } = await unitProperties(machine, 'again', 'MainPID');
  const count = `/proc/${MainPID}/root/count`;
  const counted = `until [ "$(wc -l <${count})" = 2 ]; do sleep 0.1; done; cat ${count}`;
  assert.equal(stdoutOf(await machine.script(counted)), 'x\nx\n');
  stdoutOf(await machine.run(['kill', '-KILL', MainPID!]));
  await assertNothingLeft(machine);
});

test('services that were started meanwhile keep no copy of the mounts', async () => {
  stdoutOf(
    await run('--unit', 'leaky', BUSYBOX, 'sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'),
  );
  stdoutOf(
    await machine.run(['systemd-run', '--quiet', '--unit=bystander', '-p', 'PrivateTmp=yes', 'sleep', '600']),
  );
  stdoutOf(await machine.run(['systemctl', 'stop', 'leaky']));
  await assertNothingLeft(machine);
  stdoutOf(await machine.run(['systemctl', 'stop', 'bystander']));
});

test('--wait and --pipe: the payload’s status and streams', async () => {
  assert.equal((await run('--wait', BUSYBOX, 'sh', '-c', 'exit 42')).status, 42);
  assert.equal((await run('--wait', BUSYBOX, 'sh', '-c', 'exit 255')).status, 255);
  const killed = await machine.script(
    `oci-run --wait --unit victim ${BUSYBOX} sleep 100 & until systemctl is-active --quiet victim; do sleep 0.05; done; systemctl kill -s KILL victim; wait $! || echo $?`,
  );
  assert.equal(killed.stdout, '137\n', killed.stderr);
  const upper = await pipe(['tr', 'a-z', 'A-Z'], { input: 'hello\n' });
  assert.deepEqual(upper, { status: 0, stdout: 'HELLO\n', stderr: '' });
  const both = await pipe(['sh', '-c', 'echo out; echo err >&2; echo again >/dev/stdout; exit 3']);
  assert.deepEqual(both, { status: 3, stdout: 'out\nagain\n', stderr: 'err\n' });
  const big = await pipe(['sh', '-c', 'cat | wc -c'], { input: Buffer.alloc(5_000_000, 'x') });
  assert.equal(big.stdout.trim(), '5000000');
  const much = await pipe(['dd', 'if=/dev/zero', 'bs=1000000', 'count=5']);
  assert.equal(much.stdout.length, 5_000_000);
  // streams of a shell: files, a pipe, /dev/null; the rest of a script's input is not eaten
  const files = await machine.script(
    `cd /tmp; echo from-file >in; echo before >out; oci-run --pipe ${BUSYBOX} cat <in >>out; oci-run --pipe ${BUSYBOX} echo piped </dev/null | cat >>out; cat out`,
  );
  assert.equal(stdoutOf(files), 'before\nfrom-file\npiped\n');
  await assertNothingLeft(machine);
});

test('a start uses no part of node that it could do without: each takes milliseconds', async () => {
  const used = '/run/used-by-oci-run';
  await machine.writeFile(
    '/run/used.cjs',
    `const opened = [];
for (const name of ['stdout', 'stderr']) {
  const { get } = Object.getOwnPropertyDescriptor(process, name);
  Object.defineProperty(process, name, { configurable: true, get: () => (opened.push(name), get.call(process)) });
}
const costly = ['crypto', 'child_process', 'tty', 'http', 'worker_threads'];
process.on('exit', () => require('node:fs').writeFileSync('${used}', JSON.stringify({
  opened, modules: costly.filter((name) => process.moduleLoadList.includes('NativeModule ' + name)) })));`,
  );
  for (const words of [`--pipe ${BUSYBOX} true`, `--wait --name web ${BUSYBOX} true`]) {
    const start = `NODE_OPTIONS='--require /run/used.cjs' oci-run ${words}`;
    // a pipe and a device, which are handed over as they are
    const result = await machine.script(
      `{ ${start} </dev/null 2>/dev/null; echo $?; } | cat; cat ${used}; rm ${used}`,
    );
    assert.equal(result.stdout, '0\n{"opened":[],"modules":[]}', result.stderr);
  }
  stdoutOf(await machine.run(['rm', '/run/used.cjs']));
});

test('oci-run moves itself to the cgroup that it is in, so that systemd need not wait to move its services', async () => {
  const told = '/run/told-by-oci-run';
  await machine.writeFile(
    '/run/moves.cjs',
    `const fs = require('node:fs');
const cgroup = () => /^0::(.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))[1];
const before = cgroup();
const moves = new Set();
const writeFile = fs.writeFile;
fs.writeFile = (path, data, done) => writeFile(path, data, (error) => {
  moves.add([path, data, error?.code ?? 'moved'].join(' '));
  done(error);
});
process.on('exit', () => fs.writeFileSync('${told}', JSON.stringify({ before, after: cgroup(), moves: [...moves] })));`,
  );
  const hooked = { env: { NODE_OPTIONS: '--require /run/moves.cjs' } };
  const result = await machine.run(['oci-run', '--wait', BUSYBOX, 'true'], hooked);
  assert.equal(result.status, 0, result.stderr);
  const { before, after, moves } = JSON.parse(stdoutOf(await machine.run(['cat', told])));
  assert.equal(after, before);
  assert.deepEqual(moves, [`/sys/fs/cgroup${before}/cgroup.procs 0 moved`]);
  stdoutOf(await machine.run(['rm', told, '/run/moves.cjs']));
});

test('a file of variables is for the payload alone', async () => {
  await machine.writeFile('/var/tmp/variables', 'A=b c\nNODE_OPTIONS=--require=/nosuch.cjs\n');
  for (const option of [['--env-file', '/var/tmp/variables'], ['--env-file=/var/tmp/variables']]) {
    const { status, stdout, stderr } = await run('--pipe', ...option, BUSYBOX, 'env');
    assert.equal(status, 0, stderr);
    const lines = stdout.split('\n');
    assert.ok(lines.includes('A=b c') && lines.includes('NODE_OPTIONS=--require=/nosuch.cjs'), stdout);
  }
  const missing = await run('--env-file', '/nosuch', BUSYBOX);
  assert.equal(missing.stderr.split('\n')[0], "oci-run: --env-file: cannot read '/nosuch'");
  assert.equal(missing.status, 66);
});

test('what is written to /dev/stdout and /dev/stderr by name reaches the journal, also at the very end', async () => {
  const wrote = await run(
    '--wait',
    '--unit',
    'named',
    BUSYBOX,
    'sh',
    '-c',
    'echo plain; echo by name >/dev/stdout; echo last words >/dev/stderr; exit 5',
  );
  assert.equal(wrote.status, 5);
  const lines = stdoutOf(
    await machine.script('journalctl --sync; journalctl --output=cat --unit=named'),
  ).split('\n');
  assert.deepEqual(
    ['plain', 'by name', 'last words'].filter((line) => !lines.includes(line)),
    [],
  );
  stdoutOf(
    await run(
      '--unit',
      'longer',
      BUSYBOX,
      'sh',
      '-c',
      'trap "exit 0" TERM; i=0; while :; do i=$((i+1)); echo tick $i >/dev/stderr; sleep 0.2; done',
    ),
  );
  const seen = await machine.script(
    'for i in $(seq 150); do journalctl --sync; journalctl --output=cat --unit=longer | grep -q "tick 3" && exit; sleep 0.1; done; exit 1',
  );
  assert.equal(seen.status, 0);
  stdoutOf(await machine.run(['systemctl', 'stop', 'longer']));
  await assertNothingLeft(machine);
});

test('what the payload sees', async () => {
  const inside = async (script: string, ...options: string[]) =>
    stdoutOf(await machine.run(['oci-run', '--pipe', ...options, BUSYBOX, 'sh', '-c', script])).trim();
  assert.equal(
    await inside('echo $$; hostname; pwd; id -u; id -g', '--hostname', 'box', '-w', '/no/such/dir'),
    '1\nbox\n/no/such/dir\n0\n0',
  );
  assert.equal(await inside('cat /proc/self/uid_map | tr -s " " | cut -d" " -f2,4'), '0 65536');
  assert.equal(
    await inside('env | sort', '-e', 'A=1 2', '-e', 'PCT=100%n $X', '-e', 'DOT.TED=y', '--unit', 'envtest'),
    [
      'A=1 2',
      'DOT.TED=y',
      'HOME=/root',
      'HOSTNAME=envtest',
      'PATH=/bin',
      'PCT=100%n $X',
      'PWD=/',
      'SHLVL=1',
      'container=oci',
    ].join('\n'),
  );
  assert.equal(await inside('grep CapBnd /proc/self/status | cut -f2'), '00000000800405fb');
  assert.equal(
    await inside('grep Cap /proc/self/status | cut -f2 | sort -u', '--user', '1234:5678'),
    '0000000000000000\n00000000800405fb',
  );
  assert.equal(await inside('id', '--user', '1234:5678'), 'uid=1234 gid=5678 groups=5678');
  assert.equal(await inside('touch /made && ls -ln /made | tr -s " " | cut -d" " -f3,4'), '0 0');
  assert.equal(
    await inside('ls /dev | tr "\\n" " "'),
    'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero',
  );
  assert.equal(
    await inside(
      'for f in /proc/sys/kernel/hostname /sys/kernel/uevent_seqnum /proc/sysrq-trigger; do echo x >$f; done 2>&1 | grep -c "can.t create"',
    ),
    '3',
  );
  assert.equal(
    await inside('mknod /tmp/sda b 8 0 2>&1; mount -t tmpfs t /tmp 2>&1; echo'),
    'mknod: /tmp/sda: Operation not permitted\nmount: permission denied (are you root?)',
  );
  assert.equal(
    await inside('ip link | grep -c "^[0-9]"; ip addr show lo | grep -q UP,LOWER_UP && echo lo'),
    '1\nlo',
  );
  await assertNothingLeft(machine);
});

test('--read-only and volumes', async () => {
  stdoutOf(
    await machine.script(
      'mkdir -p "/srv/da ta:1"; echo hello >"/srv/da ta:1/f"; chmod 777 "/srv/da ta:1"; ln -sfn "/srv/da ta:1" /srv/plain',
    ),
  );
  const inside = (script: string, ...options: string[]) =>
    machine.run(['oci-run', '--pipe', ...options, BUSYBOX, 'sh', '-c', script]);
  const readOnly = await inside('touch /x; touch /tmp/x /run/x /var/tmp/x && echo ok', '--read-only');
  assert.equal(readOnly.stdout, 'ok\n');
  assert.equal(readOnly.stderr, 'touch: /x: Read-only file system\n');
  const volume = await inside('cat /data/f; echo new >/data/g', '-v', '/srv/plain:/data');
  assert.equal(volume.stdout, 'hello\n');
  assert.equal(stdoutOf(await machine.run(['cat', '/srv/da ta:1/g'])), 'new\n');
  const fixed = await inside('cat /data/f; echo no >/data/h', '-v', '/srv/plain:/data:ro', '--read-only');
  assert.deepEqual(
    [fixed.stdout, fixed.stderr],
    ['hello\n', "sh: line 0: can't create /data/h: Read-only file system\n"],
  );
  await assertNothingLeft(machine);
});

test('bad input is refused in one line, with a hint and a status, and leaves nothing', async () => {
  await assertRefused(await run(`${BUSYBOX}:no-such-tag`), 66, 'no-such-tag');
  await assertRefused(await run('--pull', 'never', 'never-heard-of'), 66, "'never-heard-of'");
  await assertRefused(await run('127.0.0.1:1/x'), 69, '127.0.0.1:1');
  await assertRefused(
    await run('--user', 'ghost', BUSYBOX, 'true'),
    64,
    "user 'ghost' does not exist in the image",
  );
  await assertRefused(await run('--user', '4294967296', BUSYBOX, 'true'), 64, "'4294967296'");
  await assertRefused(await run(BUSYBOX, 'no-such-command'), 127, "command 'no-such-command' does not exist");
  await assertRefused(await run(BUSYBOX, '/etc/passwd'), 126, "command '/etc/passwd' is not executable");
  await assertRefused(await run(BUSYBOX, '/etc'), 126, "command '/etc' is a directory");
  await assertRefused(await run('--memory', 'lots', BUSYBOX), 64, "--memory: 'lots'");
  await assertRefused(await run('--network', 'token-ring', BUSYBOX), 64, "'token-ring'");
  await assertRefused(await run('--unit', 'no/slash', BUSYBOX), 64, "'no/slash'");
  await assertRefused(await run('-v', '/does/not/exist:/x', BUSYBOX, 'true'), 66, "'/does/not/exist'");
  await assertRefused(await run('--no-such-option', BUSYBOX), 64, '--no-such-option');
  const noSystemd = await machine.script(
    'unshare --mount sh -c "mount -t tmpfs t /run/dbus; exec oci-run busybox true"',
  );
  await assertRefused(noSystemd, 69, 'cannot reach systemd');
  const asJson = await run('--json', BUSYBOX, 'no-such-command');
  assert.equal(asJson.status, 127);
  assert.deepEqual(Object.keys(JSON.parse(asJson.stderr)).sort(), ['code', 'hint', 'message']);
});

test('a setup that fails is explained and undone', async () => {
  const result = await machine.script(`
    mount --bind /bin/false /usr/bin/unshare
    status=0
    oci-run --unit broken ${BUSYBOX} true || status=$?
    umount /usr/bin/unshare
    exit $status`);
  await assertRefused(
    result,
    69,
    "unit 'broken.service' failed to start: broken-setup: cannot make the namespaces",
  );
});

test('a limit with which nothing can be started is named; a hint can be typed whatever the path', async () => {
  const { status, stderr } = await run('-i', '--unit', 'tight', '--ulimit', 'nofile=1', BUSYBOX, 'true');
  assert.equal(status, 69);
  assert.match(
    stderr,
    /^oci-run: unit 'tight\.service' failed to start: .+\nhint: Raise --ulimit nofile=1: systemd sets the container up within these limits, too\.\n$/,
  );
  const missing = await run('-v', "/no such/it's:/x", BUSYBOX, 'true');
  assert.equal(missing.status, 66);
  assert.match(missing.stderr, /^hint: Make it first: mkdir -p '\/no such\/it'\\''s'\.$/m);
  await assertNothingLeft(machine);
});

test('a secret that is not there is what the error speaks of', async () => {
  const { status, stderr } = await run(
    '-i',
    '--unit',
    'secret',
    '--credential',
    'a:/nosuch',
    BUSYBOX,
    'true',
  );
  assert.equal(status, 69);
  // from systemd's own words (257 may say EPROTO, which is that of a process of its own), or from its exit status where
  // the journal does not know whose words they were
  assert.match(
    stderr,
    /^oci-run: unit 'secret\.service' failed to start: .*(set up credentials: (No such file or directory|Protocol error)|243: its credentials could not be loaded)$/m,
  );
  await assertNothingLeft(machine);
});

test('a left-over of a crash is cleared away', async () => {
  stdoutOf(
    await machine.script(
      'mkdir -p /run/oci/containers/stale/mnt; mount -t tmpfs t /run/oci/containers/stale/mnt',
    ),
  );
  assert.equal((await run('--wait', '--unit', 'stale', BUSYBOX, 'true')).status, 0);
  await assertNothingLeft(machine);
});

test('a /run in which nothing can be executed, as Debian’s initramfs mounts it', async () => {
  const script = `
    mkdir /run/noexec; mount -t tmpfs -o nosuid,nodev,noexec tmpfs /run/noexec
    oci-run --run-root /run/noexec --wait ${BUSYBOX} true; oci-run --run-root /run/noexec --wait ${BUSYBOX} sh -c 'exit 3' || echo $?
    grep -c ' /run/noexec' /proc/self/mountinfo
    umount -R /run/noexec; rmdir /run/noexec`;
  // the file system itself, and once for all containers what makes an exception
  assert.equal(stdoutOf(await machine.script(script)), '3\n2\n');
  await assertNothingLeft(machine);
});

test('--dry-run shows the units and starts nothing', async () => {
  const shown = stdoutOf(await run('--dry-run', '--unit', 'dry', '--memory', '64M', BUSYBOX, 'echo', '100%'));
  assert.match(shown, /^# dry-setup\.service\n\[Unit\]/m);
  assert.match(shown, /^# dry\.service\n\[Unit\]/m);
  assert.match(shown, /^MemoryMax=67108864$/m);
  assert.match(shown, /^ExecStart=:\/run\/\.oci\/ld\.so .* echo 100%%$/m);
  await assertNothingLeft(machine);
});

test('ten containers at once', async () => {
  const script = `for i in 1 2 3 4 5 6 7 8 9 10; do (oci-run --wait --unit many$i ${BUSYBOX} sh -c "exit $i" || echo $i $?) & done; wait`;
  const lines = stdoutOf(await machine.script(script))
    .trim()
    .split('\n')
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  assert.deepEqual(
    lines,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((i) => `${i} ${i}`),
  );
  await assertNothingLeft(machine);
});
