/**
 * Nothing from the image runs with more than the payload's rights: a library (preload.c) that an image can have loaded
 * in many ways says for each process that loads it who that is.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, NGINX } from './container.ts';

const machine = sharedMachine();
const FILES = '/var/tmp/rights';
const LIBRARIES = '/usr/lib/x86_64-linux-gnu';

/** File of the container → file of FILES that is there for it. */
const HOSTILE: Record<string, string> = {
  '/etc/ld.so.preload': 'ld.so.preload',
  '/preload.so': 'preload.so',
  // getpwnam(3): a name service of the image's own, and another user by the name '33'
  '/etc/nsswitch.conf': 'nsswitch.conf',
  '/etc/passwd': 'passwd',
  '/etc/group': 'passwd',
  [`${LIBRARIES}/libnss_hostile.so.2`]: 'nss.so',
  // beside what the shim and systemd use themselves
  [`${LIBRARIES}/libcap-ng.so.0`]: 'shim.so',
  [`${LIBRARIES}/libseccomp.so.2`]: 'systemd.so',
};
const VOLUMES = Object.entries(HOSTILE).flatMap(([path, file]) => ['-v', `${FILES}/${file}:${path}:ro`]);
/** Loaded by the payload's processes too, so that the test sees the libraries do work. */
const VARIABLES = [
  'LD_AUDIT=/audit.so',
  'LD_LIBRARY_PATH=/other',
  'LANGUAGE=x',
  'LOCPATH=/x',
  'GCONV_PATH=/x',
];

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', NGINX]));
  const directory = mkdtempSync(join(tmpdir(), 'rights-'));
  try {
    for (const role of ['preload', 'nss', 'shim', 'systemd', 'late']) {
      const library = join(directory, `${role}.so`);
      execFileSync('gcc', [
        ...['-shared', '-fPIC', '-nostdlib', '-Wall', '-Werror', `-DROLE="${role}"`],
        ...['-o', library, join(import.meta.dirname, 'preload.c')],
      ]);
      await machine.writeFile(`${FILES}/${role}.so`, readFileSync(library), 0o755);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  await machine.writeFile(`${FILES}/ld.so.preload`, '/preload.so\n');
  await machine.writeFile(`${FILES}/nsswitch.conf`, 'passwd: hostile files\ngroup: hostile files\n');
  await machine.writeFile(`${FILES}/passwd`, '33:x:0:0::/:/bin/sh\n7:x:0:\n');
});

after(() => machine.run(['rm', '-r', FILES]));
afterEach(() => assertNothingLeft(machine));

interface Load {
  role: string;
  command: string;
  /** Uid, effective and bounding capabilities, no_new_privs, seccomp mode. */
  rights: string;
}

function loadsIn(text: string): Load[] {
  return [...text.matchAll(/^loaded (\w+)\|(.*)\|(Name:.*)\|$/gm)].map(
    ([, role = '', command = '', status = '']) => ({
      role,
      command: command.trim(),
      rights: ['Uid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp']
        .map((field) => new RegExp(`${field}: *(\\w+)`).exec(status)?.[1])
        .join(' '),
    }),
  );
}

const SCRIPT = 'id -u; grep -E "^Groups" /proc/self/status; true';
const NONE = '0000000000000000';
/** [options, what each process that loads anything of the image may have] */
const CASES: [string, string[], string][] = [
  ['without capabilities', ['--user', '33', '--cap-drop', 'ALL'], `33 ${NONE} ${NONE} 0 2`],
  ['root without capabilities', ['--user', '0', '--cap-drop', 'ALL'], `0 ${NONE} ${NONE} 0 2`],
  [
    'with a compiled filter and no_new_privs',
    ['--user', '33', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
    `33 ${NONE} ${NONE} 1 2`,
  ],
  [
    'without a filter',
    ['--user', '33', '--cap-drop', 'ALL', '--group-add', '7', '--seccomp', 'unconfined'],
    `33 ${NONE} ${NONE} 0 0`,
  ],
  [
    'with ids of the host',
    ['--userns', 'host', '--user', '33', '--cap-drop', 'ALL'],
    `33 ${NONE} ${NONE} 0 2`,
  ],
  [
    'with ids of the host, as its root',
    ['--userns', 'host', '--user', '0', '--cap-drop', 'ALL'],
    `0 ${NONE} ${NONE} 0 2`,
  ],
  [
    'with ids of the host, without a filter',
    ['--userns', 'host', '--user', '33', '--cap-drop', 'ALL', '--seccomp', 'unconfined', '-w', '/made'],
    `33 ${NONE} ${NONE} 0 0`,
  ],
];

for (const [what, options, rights] of CASES)
  test(`${what}: no process of the start has more than the payload`, async () => {
    const { status, stdout, stderr } = await machine.run([
      ...['oci-run', '--pipe', ...options, ...VOLUMES, '-v', `${FILES}/late.so:/late.so:ro`],
      ...['-e', 'LD_PRELOAD=/late.so', ...VARIABLES.flatMap((variable) => ['-e', variable])],
      ...['--entrypoint', '["sh", "-c"]', NGINX, SCRIPT],
    ]);
    assert.equal(status, 0, stderr);
    assert.equal(stdout.split('\n')[0], rights.split(' ')[0]);
    const loads = loadsIn(stderr);
    // the payload alone, and all that it starts
    assert.deepEqual(
      loads.map(({ role, command, rights }) => `${role}: ${command}: ${rights}`),
      [`sh -c ${SCRIPT}`, 'id -u', 'grep -E ^Groups /proc/self/status'].flatMap((command) => [
        `preload: ${command}: ${rights}`,
        `late: ${command}: ${rights}`,
      ]),
    );
  });

for (const userns of ['auto', 'host'])
  test(`exec, in a container that has written such files since its start, with --userns ${userns}`, () =>
    traceExec(userns));

async function traceExec(userns: string): Promise<void> {
  const run = [
    ...['oci-run', '--unit', 'hostile', '--stop-signal', 'KILL', '--userns', userns],
    ...['--user', '33', '--cap-drop', 'ALL', ...VOLUMES],
  ];
  stdoutOf(
    await machine.run([...run, '-e', 'LD_PRELOAD=/preload.so', '--entrypoint', 'sleep', NGINX, '600']),
  );
  const rights = `33 ${NONE} ${NONE} 1 2`;
  const exec = await machine.run(['ocictl', 'exec', '-e', 'LD_LIBRARY_PATH=/x', 'hostile', 'id', '-u']);
  assert.equal(exec.stdout, '33\n', exec.stderr);
  assert.deepEqual(loadsIn(exec.stderr), [{ role: 'preload', command: 'id -u', rights }]);
  // every file that is opened between the entrance and the payload
  const traced = await machine.script(
    `strace --seccomp-bpf -f -qq -z -s 200 -e trace=execve,open,openat,openat2,connect -o ${FILES}/trace ocictl exec hostile true 2>/dev/null; cat ${FILES}/trace`,
  );
  const calls = stdoutOf(traced).split('\n');
  const first = calls.findIndex((line) => line.includes('execve("/run/.oci/ld.so"'));
  const last = calls.findIndex((line) => line.includes('execve("') && line.includes('["true"]'));
  assert.ok(first > 0 && last > first, stdoutOf(traced));
  const opened = calls
    .slice(first, last)
    .flatMap((line) => /(?:open\w*\(.*?|execve\()"(.*?)"/.exec(line)?.[1] ?? []);
  assert.ok(opened.includes('/run/.oci/setpriv') && opened.includes('/run/.oci/libc.so.6'));
  assert.deepEqual(
    opened.filter((path) => !/^\/(run\/\.oci|proc)\//.test(path)),
    [],
  );
  assert.deepEqual(
    calls.slice(first, last).filter((line) => line.includes('connect(')),
    [],
  );
  stdoutOf(await machine.run(['systemctl', 'stop', 'hostile']));
}

const UNTIL_READY = `for i in $(seq 300); do [ ! -e ${FILES}/probe/ready ] || break; sleep 0.1; done`;
/** What becomes of an exec into `covering` and of its health check. */
const EXEC_AND_HEALTH = `${UNTIL_READY}
ocictl exec covering true || echo status $?
for i in $(seq 300); do
  systemctl show -P StatusText covering | grep -q ^unhealthy && break
  sleep 0.1
done
systemctl show -P StatusText covering`;

test('a container with CAP_SYS_ADMIN cannot have exec and health checks start its own programs', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const covering = await machine.script(
    `
mkdir -m 777 ${FILES}/probe
printf '#!/bin/sh\\ngrep Cap /proc/self/status >>/probe/ran\\n' >${FILES}/ld.so
chmod 755 ${FILES}/ld.so
oci-run --quiet --unit covering --stop-signal KILL --cap-drop ALL --cap-add SYS_ADMIN -v ${FILES}/ld.so:/ld.so -v ${FILES}/probe:/probe \\
  --health-cmd 'true' --health-interval 1s --health-retries 1 ${BUSYBOX} sh -c '
    exec unshare -m sh -c "mount -t tmpfs none /run/.oci && cp /ld.so /run/.oci/ && touch /probe/ready; sleep 600"' >/dev/null
${EXEC_AND_HEALTH}
systemctl stop covering
rm ${FILES}/probe/ready
cat ${FILES}/probe/* || echo nothing ran
rm -r ${FILES}/probe`,
  );
  assert.deepEqual(covering.stdout.trim().split('\n'), [
    'status 77',
    'unhealthy: exit status 125, the first process made a mount namespace of its own',
    'nothing ran',
  ]);
});

test('with ids of the host such a program has what the container has, and no more than entering takes', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const covering = await machine.script(`
mkdir -m 777 ${FILES}/probe
printf '#!/bin/sh\\ngrep -E "^Cap(Prm|Bnd)" /proc/self/status >>/probe/ran\\n' >${FILES}/ld.so
chmod 755 ${FILES}/ld.so
oci-run --quiet --unit covering --userns host --stop-signal KILL --cap-drop ALL --cap-add SYS_ADMIN \\
  -v ${FILES}/ld.so:/ld.so -v ${FILES}/probe:/probe ${BUSYBOX} sh -c '
    exec unshare -m sh -c "mount -t tmpfs none /run/.oci && cp /ld.so /run/.oci/ && touch /probe/ready; sleep 600"' >/dev/null
${UNTIL_READY}
ocictl exec covering true
systemctl stop covering
cat ${FILES}/probe/ran
rm -r ${FILES}/probe`);
  // SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN
  assert.equal(stdoutOf(covering), 'CapPrm:\t00000000002c01c0\nCapBnd:\t00000000002c01c0\n');
});

test('with ids of the host a mount namespace that the container made is not entered either', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const covering = await machine.script(`
mkdir -m 777 ${FILES}/probe
oci-run --quiet --unit covering --userns host --stop-signal KILL --cap-drop ALL --seccomp unconfined -v ${FILES}/probe:/probe \\
  --health-cmd 'true' --health-interval 1s --health-retries 1 ${BUSYBOX} unshare -U -m sh -c 'touch /probe/ready; sleep 600' >/dev/null
${EXEC_AND_HEALTH}
systemctl stop covering
rm -r ${FILES}/probe`);
  assert.deepEqual(covering.stdout.trim().split('\n'), [
    'status 77',
    'unhealthy: exit status 125, the first process made a mount namespace of its own',
  ]);
});

test('nothing that a container has put in the place of programs runs when it ends', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const hostile = `
printf '#!/bin/busybox ash\\necho $0 as $(/bin/busybox id -u) >>/probe/ran\\n' >/hostile
chmod 755 /hostile
for program in sh cat dd sleep; do cp /hostile /hostile.$program; mv /hostile.$program /bin/$program; done
/bin/sh; exit 3`;
  const ended = await machine.script(
    `
mkdir -m 777 ${FILES}/probe
status=0
oci-run --quiet --wait --unit ending -v ${FILES}/probe:/probe ${BUSYBOX} /bin/sh -c "$HOSTILE" || status=$?
echo $status
cat ${FILES}/probe/ran`,
    { env: { HOSTILE: hostile } },
  );
  assert.equal(stdoutOf(ended), '3\n/bin/sh as 0\n'); // once, in the container
  await assertNothingLeft(machine);
  assert.equal(stdoutOf(await machine.run(['cat', `${FILES}/probe/ran`])), '/bin/sh as 0\n');
});

test('what a container has put in the place of /dev/stdout is not followed when it ends', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const lines = await machine.script(`
echo 'secret of the host' >${FILES}/secret
since=$(date +%s.%N)
for target in ${FILES}/secret zero; do
  oci-run --quiet --wait --unit linking ${BUSYBOX} sh -c '
    rm /dev/journal; [ "$1" = zero ] && mv /dev/zero /dev/journal || ln -s "$1" /dev/journal; echo done' sh $target
done
journalctl --sync
journalctl --output=cat --identifier=linking --since=@$since | cut -c 1-100`);
  assert.deepEqual(
    stdoutOf(lines)
      .split('\n')
      .filter((line) => !/^\0*$/.test(line)),
    ['done', 'done'],
  );
});
