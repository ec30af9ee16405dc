/** System calls that a container may make, as a real kernel answers them. perl's syscall() asks without a compiler. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, NGINX } from './container.ts';

const machine = sharedMachine();
const pipe = (options: readonly string[], script: string) =>
  machine.run([
    'oci-run',
    '--pipe',
    '--user',
    'root',
    ...options,
    '--entrypoint',
    '["sh", "-euc"]',
    NGINX,
    script,
  ]);
const inside = async (options: readonly string[], script: string): Promise<string> =>
  stdoutOf(await pipe(options, script)).trimEnd();

/** Numbers of x86-64, which the machine is. */
const CALLS = {
  keyctl: '250, 0, -3, 1', // KEYCTL_GET_KEYRING_ID of the session
  cloneUser: '56, 0x10000011, 0, 0, 0, 0', // CLONE_NEWUSER | SIGCHLD
  clone3: '435, 0, 0',
  vsock: '41, 40, 1, 0',
  vsockUpperHalf: '41, 0x700000028, 1, 0',
  noRandomize: '135, 0x40000', // personality(ADDR_NO_RANDOMIZE)
  ioUring: '425, 1, 0',
  audit: '41, 16, 3, 9', // AF_NETLINK, NETLINK_AUDIT
};

/** Error numbers of the calls; 0 where one succeeds. A child that clone makes ends at once. */
async function errors(
  options: readonly string[],
  ...names: (keyof typeof CALLS)[]
): Promise<Record<string, number>> {
  const ask = names.map(
    (name) =>
      `$! = 0; $r = syscall(${CALLS[name]}); ${name === 'cloneUser' ? 'if ($r == 0) { syscall(231, 0) }' : ''} printf "%d\\n", $r < 0 ? $! : 0;`,
  );
  const lines = (await inside(options, `exec perl -e '$| = 1; ${ask.join(' ')}'`)).split('\n').map(Number);
  assert.equal(lines.length, names.length);
  return Object.fromEntries(names.map((name, index) => [name, lines[index]!]));
}

const STATUS = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t\\n' ' '";
const [EPERM, EFAULT, EINVAL, ENOSPC, ENOSYS, EAFNOSUPPORT] = [1, 14, 22, 28, 38, 97];

/** A copy of id(1) that belongs to root and has the set-user-ID bit, called by another user. */
const SET_USER_ID =
  'cp /usr/bin/id /srv/id; chmod 4755 /srv/id; setpriv --reuid 33 --regid 33 --clear-groups /srv/id -u';

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', NGINX]));
});

afterEach(async () => {
  await machine.script('systemctl stop seccomp-exec.service 2>/dev/null || true; systemctl reset-failed');
  await assertNothingLeft(machine);
});

test('the default profile: on, without no_new_privs', async () => {
  assert.equal(await inside([], STATUS), 'NoNewPrivs: 0 Seccomp: 2');
  assert.equal(await inside([], SET_USER_ID), '0');
  assert.deepEqual(await errors([], 'keyctl', 'ioUring', 'cloneUser'), {
    keyctl: EPERM,
    ioUring: EPERM,
    cloneUser: ENOSPC,
  });
  assert.match((await pipe([], 'unshare --user true')).stderr, /Operation not permitted/);
});

test('without a user namespace the default profile also refuses what its limit and its ids did', async () => {
  const host = ['--userns', 'host'];
  assert.equal(await inside(host, STATUS), 'NoNewPrivs: 0 Seccomp: 2');
  assert.equal(await inside(host, SET_USER_ID), '0');
  const wanted = { keyctl: EPERM, ioUring: EPERM, cloneUser: EPERM, clone3: ENOSYS, vsock: EAFNOSUPPORT };
  assert.deepEqual(await errors(host, ...(Object.keys(wanted) as (keyof typeof wanted)[])), wanted);
  assert.match((await pipe(host, 'unshare --user true')).stderr, /Operation not permitted/);
});

test('the default profile lets usual programs work', async () => {
  const script =
    'dpkg --configure -a; dpkg --verify dpkg >/dev/null; nginx -t; perl -e "fork || exit; wait; print qq(forked)"';
  assert.equal(await inside([], script), 'forked');
});

test('with no-new-privileges it is exact: arguments, ENOSYS for what is newer', async () => {
  const options = ['--security-opt', 'no-new-privileges'];
  assert.equal(await inside(options, STATUS), 'NoNewPrivs: 1 Seccomp: 2');
  assert.equal(await inside(options, SET_USER_ID), '33');
  assert.deepEqual(
    await errors(options, 'keyctl', 'cloneUser', 'clone3', 'vsock', 'vsockUpperHalf', 'noRandomize'),
    {
      keyctl: EPERM,
      cloneUser: EPERM,
      clone3: ENOSYS,
      vsock: EAFNOSUPPORT,
      vsockUpperHalf: EAFNOSUPPORT,
      noRandomize: ENOSYS,
    },
  );
  assert.equal(
    await inside(options, 'nginx -t; dpkg --configure -a; perl -e "fork || exit; wait; print 1"'),
    '1',
  );
});

test('unconfined and --cap-add lift it', async () => {
  for (const options of [
    ['--seccomp', 'unconfined'],
    ['--security-opt', 'seccomp=unconfined'],
  ]) {
    assert.equal(await inside(options, STATUS), 'NoNewPrivs: 0 Seccomp: 0');
    assert.deepEqual(await errors(options, 'keyctl', 'ioUring', 'cloneUser', 'clone3'), {
      keyctl: 0,
      ioUring: EFAULT,
      cloneUser: 0,
      clone3: EINVAL,
    });
  }
  assert.equal(await inside(['--cap-add', 'SYS_ADMIN'], 'unshare --user echo made'), 'made');
});

test('a profile with conditions and an error number of its own', async () => {
  await machine.writeFile(
    '/var/tmp/profile.json',
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
      syscalls: [
        {
          names: ['mkdir'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 95,
          args: [{ index: 1, value: 0o700, op: 'SCMP_CMP_EQ' }],
          excludes: { caps: ['CAP_SYS_TIME'] },
        },
      ],
    }),
  );
  const script = `perl -e 'for (0700, 0755) { print mkdir("/srv/$_", $_) ? "made" : $!+0, " " }'; ${STATUS}`;
  assert.equal(
    await inside(['--seccomp', '/var/tmp/profile.json'], script),
    '95 made NoNewPrivs: 1 Seccomp: 2',
  );
  assert.equal(
    await inside(['--seccomp', '/var/tmp/profile.json', '--cap-add', 'SYS_TIME'], script),
    'made made NoNewPrivs: 1 Seccomp: 2',
  );
});

test("podman's own profile", async () => {
  const options = ['--seccomp', '/usr/share/containers/seccomp.json'];
  assert.equal(await inside(options, STATUS), 'NoNewPrivs: 1 Seccomp: 2');
  assert.deepEqual(await errors(options, 'audit', 'noRandomize'), {
    audit: EINVAL,
    noRandomize: ENOSYS,
  });
  assert.equal(await inside(options, 'nginx -t; dpkg --configure -a; echo well'), 'well');
});

test('a process of ocictl exec has the filter, too', async () => {
  stdoutOf(await machine.run(['oci-run', '--unit', 'seccomp-exec', NGINX]));
  const exec = await machine.run(['ocictl', 'exec', 'seccomp-exec', 'sh', '-c', STATUS]);
  assert.equal(stdoutOf(exec).trim(), 'NoNewPrivs: 1 Seccomp: 2');
});

test('what is wrong with a profile is said before anything starts', async () => {
  await machine.writeFile('/var/tmp/notify.json', '{"defaultAction":"SCMP_ACT_NOTIFY"}');
  await machine.writeFile('/var/tmp/unknown.json', '{"defaultAction":"SCMP_ACT_ALLOW","syscall":[]}');
  const table: [string, number, RegExp][] = [
    ['/var/tmp/notify.json', 69, /^oci-run: seccomp: SCMP_ACT_NOTIFY needs a listener/],
    [
      '/var/tmp/unknown.json',
      78,
      /^oci-run: --seccomp '\/var\/tmp\/unknown.json': .*unknown field 'syscall'/,
    ],
    ['/nonexistent', 66, /^oci-run: --seccomp '\/nonexistent': cannot read the file/],
    ['/dev/zero', 78, /more than the 1048576 allowed/],
  ];
  for (const [file, status, message] of table) {
    const result = await machine.run(['oci-run', '--seccomp', file, NGINX]);
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr, message);
    assert.match(result.stderr, /^hint: [A-Z]/m);
  }
});
