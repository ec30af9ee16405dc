/** --userns host: who the payload is inside and on disk, what it may do, and what of the host it does not get at. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { type RunResult, sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, unitProperties } from './container.ts';
import { onTerminal } from './terminal.ts';

const machine = sharedMachine();
const WORK = '/var/tmp/host-users';
/** The first id of files on disk. */
const FOREIGN = 2147352576;
const run = (...args: string[]) => machine.run(['oci-run', '--quiet', '--userns', 'host', ...args]);
const text = async (script: string) => stdoutOf(await machine.script(script)).trimEnd();
/** What a command in such a container writes; its exit status does not matter. */
const inside = async (options: readonly string[], script: string): Promise<string> =>
  stdoutOf(await run('--pipe', ...options, BUSYBOX, 'sh', '-c', `{ ${script}; } 2>&1 || :`)).trimEnd();

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  await text(`
mkdir -p ${WORK}; cd ${WORK}
for user in 0 1000; do echo "of $user" >$user; chown $user:$user $user; chmod 600 $user; done
skopeo copy --quiet docker://${BUSYBOX} oci:layout:busybox
umoci config --image layout:busybox --config.label io.ocictl.userns=host
umoci unpack --image layout:busybox bundle`);
});
after(() => machine.script(`rm -rf ${WORK}; ocictl volume rm host-users; ocictl rm labelled`));
afterEach(async () => {
  await endContainers(machine);
  await machine.run(['systemctl', 'reset-failed']);
  await assertNothingLeft(machine);
});

const IDENTITY = 'id -u; id -g; tr -s " " </proc/self/uid_map';
const ALL_IDS = ' 0 0 4294967295';

test('the ids are the host’s; a file of the host is its owner’s', async () => {
  const mine = ['--cap-drop', 'ALL', '-v', `${WORK}:/w`];
  assert.equal(
    await inside(mine, `${IDENTITY}; cat /w/0 /w/1000`),
    `0\n0\n${ALL_IDS}\nof 0\ncat: can't open '/w/1000': Permission denied`,
  );
  assert.equal(
    await inside([...mine, '--user', '1000:1000'], `${IDENTITY}; cat /w/1000 /w/0`),
    `1000\n1000\n${ALL_IDS}\nof 1000\ncat: can't open '/w/0': Permission denied`,
  );
  assert.equal(
    await inside([], 'stat -c "%u:%g %n" / /bin/busybox /etc/hosts /dev/null /tmp'),
    ['0:0 /', '0:0 /bin/busybox', '0:0 /etc/hosts', '0:0 /dev/null', '0:0 /tmp'].join('\n'),
  );
});

test('on disk nothing belongs to a user of the host, whatever the payload makes', async () => {
  await text(`oci-run --quiet --userns host --unit disk --tmpfs /t -v host-users:/vol \\
    --mount type=image,source=${BUSYBOX},target=/img,rw=true ${BUSYBOX} sh -c '
      cp /bin/busybox /setuid; cp /bin/busybox /vol/setuid; cp /bin/busybox /img/setuid; chmod 4755 /*/setuid /setuid
      mkdir /of; chown 1000:100 /of; : >/vol/of; chown 65535:65535 /vol/of; chown 65536 /vol/of 2>/vol/error
      touch /t/ready; exec sleep 1000'
    until ocictl exec disk test -e /t/ready; do sleep 0.1; done`);
  assert.equal(
    await text(`ocictl exec disk stat -c '%a %u %g %n' /setuid /vol/setuid /img/setuid /of /vol/of
cd /var/lib/oci; stat -c '%a %u %g %n' writable/disk/data/setuid volumes/host-users/setuid writable/disk/bind1/data/setuid \\
  writable/disk/data/of volumes/host-users/of
cat volumes/host-users/error; find writable/disk/data writable/disk/scaffold writable/disk/*/data volumes/host-users -uid -${FOREIGN} -o -gid -${FOREIGN}`),
    [
      '4755 0 0 /setuid',
      '4755 0 0 /vol/setuid',
      '4755 0 0 /img/setuid',
      '755 1000 100 /of',
      '644 65535 65535 /vol/of',
      `4755 ${FOREIGN} ${FOREIGN} writable/disk/data/setuid`,
      `4755 ${FOREIGN} ${FOREIGN} volumes/host-users/setuid`,
      `4755 ${FOREIGN} ${FOREIGN} writable/disk/bind1/data/setuid`,
      `755 ${FOREIGN + 1000} ${FOREIGN + 100} writable/disk/data/of`,
      `644 ${FOREIGN + 65535} ${FOREIGN + 65535} volumes/host-users/of`,
      'chown: /vol/of: Value too large for defined data type',
    ].join('\n'),
  );
  // another container, with ids of its own, shows the same volume as its own
  assert.equal(
    stdoutOf(
      await machine.run([
        'oci-run',
        '--pipe',
        '-v',
        'host-users:/vol',
        BUSYBOX,
        'stat',
        '-c',
        '%u',
        '/vol/of',
      ]),
    ),
    '65535\n',
  );
});

const STATUS = 'grep -E "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)" /proc/self/status | cut -f 2';
const NONE = '0000000000000000';
const DEFAULT = '00000000800405fb';
const WITH_NET_ADMIN = '00000000800415fb';
const NET_ADMIN = '0000000000001000';
/** [options, the sets of the payload: inheritable, permitted, effective, bounding, ambient] */
const SETS: [string[], string[]][] = [
  [[], [NONE, DEFAULT, DEFAULT, DEFAULT, NONE]],
  [
    ['--cap-add', 'NET_ADMIN'],
    [NONE, WITH_NET_ADMIN, WITH_NET_ADMIN, WITH_NET_ADMIN, NONE],
  ],
  [
    ['--cap-drop', 'ALL'],
    [NONE, NONE, NONE, NONE, NONE],
  ],
  [
    ['--user', '1000'],
    [NONE, NONE, NONE, DEFAULT, NONE],
  ],
  [
    ['--user', '1000', '--cap-add', 'NET_ADMIN'],
    [NET_ADMIN, NET_ADMIN, NET_ADMIN, WITH_NET_ADMIN, NET_ADMIN],
  ],
];

for (const [options, sets] of SETS)
  test(`exactly the container's capabilities, also with exec: ${options.join(' ')}`, async () => {
    stdoutOf(
      await run(
        ...['--unit', 'sets', '--stop-signal', 'KILL', ...options, BUSYBOX],
        ...['sh', '-c', `${STATUS} >/dev/shm/new; mv /dev/shm/new /dev/shm/status; exec sleep 1000`],
      ),
    );
    assert.equal(
      await text(
        'until ocictl exec sets test -e /dev/shm/status; do sleep 0.1; done; ocictl exec sets cat /dev/shm/status',
      ),
      [...sets, '0'].join('\n'),
    );
    // the filter that a process of exec has sets no_new_privs
    assert.equal(await text(`ocictl exec sets sh -c '${STATUS}'`), [...sets, '1'].join('\n'));
    assert.equal(await text('ocictl exec --user 7:8 sets id'), 'uid=7 gid=8 groups=8');
  });

test('what the host has in /proc, /sys and /run cannot be written', async () => {
  const host =
    'find /run/systemd/inaccessible /run/oci/shared-* -printf "%p %m %s %T@\\n" | sort; cat /proc/sys/user/max_user_namespaces';
  const before = await text(host);
  const paths = [
    ...[
      '/proc/sys/kernel/core_pattern',
      '/proc/sys/user/max_user_namespaces',
      '/proc/sys/net/ipv4/ip_forward',
    ],
    ...['/proc/irq/default_smp_affinity', '/proc/keys', '/proc/timer_list', '/sys/kernel/uevent_helper'],
    ...['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/cgroup.procs', '/sys/firmware/x'],
    ...['/run/.oci/x', '/run/.oci/ld.so', '/run/.oci/seccomp'],
  ];
  const said = await inside([], `for path in ${paths.join(' ')}; do (echo 1 >>$path); done`);
  assert.deepEqual(
    said
      .replace(/^sh: line 0: can't create /gm, '')
      .replace(/(Permission denied)$/gm, 'Read-only file system'),
    paths.map((path) => `${path}: Read-only file system`).join('\n'),
  );
  assert.equal(
    await inside([], 'ls -A /sys/kernel/debug /sys/kernel/tracing /sys/fs/bpf /sys/dev/block'),
    ['/sys/dev/block:', '', '/sys/fs/bpf:', '', '/sys/kernel/debug:', '', '/sys/kernel/tracing:'].join('\n'),
  );
  assert.equal(await text(host), before);
});

test('no namespaces, mounts, devices and processes of the host', async () => {
  const refused = async (options: string[], script: string, said: RegExp) =>
    assert.match(await inside(options, script), said);
  await refused([], 'unshare -U true', /Operation not permitted/);
  await refused([], 'mount -t tmpfs none /tmp', /permission denied/);
  await refused(['--cap-add', 'MKNOD'], 'mknod /mem c 1 1', /Operation not permitted/);
  await refused(['--cap-add', 'MKNOD'], 'mknod /disk b 8 0', /Operation not permitted/);
  await refused([], 'chroot / true; kill -0 2', /No such process/);
  assert.equal(await inside(['--cap-add', 'SYS_PTRACE'], 'ls -d /proc/[0-9]* | wc -l'), '3');
  // with all capabilities devices are still those of the unit alone
  await refused(['--cap-add', 'ALL'], 'mknod /mem c 1 1', /Operation not permitted/);
  assert.equal(
    await inside(
      ['--device', '/dev/loop-control:/dev/loop:r'],
      'stat -c "%t:%T %u" /dev/loop; (: </dev/loop); (: >/dev/loop)',
    ),
    ['a:ed 0', "sh: line 0: can't create /dev/loop: Operation not permitted"].join('\n'),
  );
});

test('two on a bridge with ports, healthy, restarted, copied to; nothing is left', async () => {
  const state =
    "ip -o link | sed 's/^[0-9]*: //; s/ state .*//'; nft list ruleset; find /run/oci /run/userdb | sort; grep -c oci /proc/mounts || :";
  // what comes with the first container on a bridge stays: /run/oci/network.lock
  stdoutOf(await run('--wait', '--network', 'bridge', BUSYBOX, 'true'));
  await assertNothingLeft(machine);
  const before = await text(state);
  const since = await text('date +%s.%N');
  for (const [unit, port] of [
    ['one', '8091'],
    ['two', '8092'],
  ] as const)
    stdoutOf(
      await run(
        ...[
          '--unit',
          unit,
          '-p',
          `${port}:80`,
          '--health-cmd',
          `wget -q -O - 127.0.0.1`,
          '--health-interval',
          '1s',
          BUSYBOX,
        ],
        ...[
          'sh',
          '-c',
          `mkdir -p /www; echo ${unit} >/www/index.html; trap "exit 0" TERM; httpd -p 80 -h /www; echo up >/dev/stdout; while :; do sleep 0.1; done`,
        ],
      ),
    );
  const page = (port: number) =>
    text(`curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:${port}/`);
  assert.deepEqual([await page(8091), await page(8092)], ['one', 'two']);
  await text(
    'for unit in one two; do until ocictl ps | grep -q "^$unit .* healthy "; do sleep 0.1; done; done',
  );
  assert.equal((await unitProperties(machine, 'one', 'StatusText'))['StatusText'], 'healthy');
  await text(`systemctl restart one; echo copied >${WORK}/file; ocictl cp ${WORK}/file one:/www/copied`);
  assert.equal(await page(8091), 'one');
  assert.equal(
    await text('curl -sS http://127.0.0.1:8091/copied; ocictl exec one stat -c %u /www/copied'),
    'copied\n0',
  );
  assert.equal(
    await text(
      `journalctl --sync; journalctl --quiet --output=cat --since=@${since} -u one SYSLOG_IDENTIFIER=one | grep -cx up`,
    ),
    '2',
  );
  await text('ocictl pause two; ocictl resume two; systemctl stop one two');
  await assertNothingLeft(machine);
  assert.equal(await text(state), before);
});

test('a read-only root, settings of its namespaces, the host’s network, a terminal', async () => {
  assert.equal(
    await inside(['--read-only'], 'touch /x; touch /tmp/x /run/x && stat -c "%u %n" /tmp/x /run/x'),
    'touch: /x: Read-only file system\n0 /tmp/x\n0 /run/x',
  );
  assert.equal(
    await inside(
      ['--sysctl', 'kernel.shmmax=12345', '--sysctl', 'net.ipv4.ip_forward=1', '--hostname', 'boxed'],
      'cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward; hostname',
    ),
    '12345\n1\nboxed',
  );
  const links = 'ls /sys/class/net | sort';
  assert.equal(await inside(['--network', 'host'], links), await text(links));
  assert.equal(await inside([], links), 'lo');
  await onTerminal(
    machine,
    `oci-run -it --userns host --user 1000 ${BUSYBOX} sh`,
    `
expect '~ \\$ '
send 'stat -c %%u:%%g $(tty); id -u\\r'; expect '1000:5\\r'; expect '1000\\r'
send 'exit 5\\r'; expect 'status 5\\r'`,
  );
});

function assertRefused({ status, stderr }: RunResult, wanted: number, part: string): void {
  assert.equal(status, wanted, stderr);
  assert.ok(stderr.split('\n')[0]!.includes(part), stderr);
}

test('only the option asks for it', async () => {
  assertRefused(
    await machine.run(['oci-run', '--bundle', `${WORK}/bundle`]),
    69,
    'io.ocictl.userns cannot be honoured',
  );
  assertRefused(
    await machine.run(['oci-run', '--label', 'io.ocictl.userns=host', BUSYBOX]),
    64,
    "--label: 'io.ocictl.userns=host'",
  );
  stdoutOf(await machine.run(['oci-pull', '--quiet', `oci:${WORK}/layout:busybox`, 'labelled']));
  const labelled = await machine.run(['oci-run', '--pipe', 'labelled', 'cat', '/proc/self/uid_map']);
  assert.match(stdoutOf(labelled), /^ +0 +\d{6,} +65536\n$/);
});

test('an installed service, updated and rolled back', async () => {
  const words = `${BUSYBOX} --name kept --userns host --state-dir /data --user 1000`;
  const payload = `sh -c 'id -u >/data/me; trap "exit 0" TERM; while :; do sleep 0.1; done'`;
  await text(`ocictl --quiet install ${words} --now ${payload}`);
  const map = 'tr -s " " </proc/$(systemctl show -P MainPID kept)/uid_map';
  const seen = `until [ -s /var/lib/kept/me ]; do sleep 0.1; done; cat /var/lib/kept/me; stat -c %u /var/lib/private/kept/me; ${map}`;
  const wanted = `1000\n${FOREIGN + 1000}\n${ALL_IDS}`;
  assert.equal(await text(seen), wanted);
  assert.equal(await text('grep -c ^User= /etc/systemd/system/kept.service || :'), '0');
  await text(`rm /var/lib/kept/me; ocictl --quiet install ${words} --now -e A=b ${payload}`);
  assert.equal(await text(seen), wanted);
  await text('rm /var/lib/kept/me; ocictl --quiet rollback kept');
  assert.equal(await text(seen), wanted);
  await text('ocictl --quiet uninstall --purge kept');
});
