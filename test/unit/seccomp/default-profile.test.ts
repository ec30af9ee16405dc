/** The default profile: every call of the tables is decided on, and what that means for single calls. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { architecture } from '../../../src/seccomp/architectures.ts';
import { compileSeccomp } from '../../../src/seccomp/compile.ts';
import {
  ALLOWED,
  CONDITIONAL,
  defaultProfile,
  defaultProfileByNames,
  GONE,
  REFUSED,
  WITH_CAPABILITY,
} from '../../../src/seccomp/default-profile.ts';
import { assertLoadable, runFilter } from './bpf-machine.ts';

const X86_64 = architecture('SCMP_ARCH_X86_64')!;
const TABLES = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'];
const ALLOW = 0x7fff_0000;
const ERRNO = 0x0005_0000;
const [EPERM, ENOSYS, EAFNOSUPPORT] = [ERRNO + 1, ERRNO + 38, ERRNO + 97];

test('numbers of system calls, by architecture', () => {
  const numbers = (name: string) => TABLES.map((table) => architecture(table)!.calls.get(name));
  assert.deepEqual(numbers('read'), [0, 3, 63, 3]);
  assert.deepEqual(numbers('keyctl'), [250, 288, 219, 311]);
  assert.deepEqual(numbers('clone3'), [435, 435, 435, 435]);
  assert.deepEqual(numbers('open'), [2, 5, undefined, 5]);
  assert.deepEqual(numbers('sync_file_range2'), [undefined, undefined, undefined, 341]);
  for (const table of TABLES) {
    const { calls } = architecture(table)!;
    assert.ok(calls.size > 300, table);
    const sharing = [...calls].filter(
      ([, number], _, all) => all.filter((each) => each[1] === number).length > 1,
    );
    assert.deepEqual(
      sharing.map(([name]) => name),
      table === 'SCMP_ARCH_ARM' ? ['arm_sync_file_range', 'sync_file_range2'] : [],
    );
  }
});

test('every call of the tables is in exactly one list, and no other name is', () => {
  const known = new Set(TABLES.flatMap((table) => [...architecture(table)!.calls.keys()]));
  known.add('send').add('recv'); // on i386 through socketcall alone
  const listed = [
    ...ALLOWED,
    ...WITH_CAPABILITY.flatMap(({ names }) => names),
    ...REFUSED,
    ...GONE,
    ...CONDITIONAL,
  ];
  assert.deepEqual([...listed].sort(), [...known].sort());
});

function answers(capabilities: string[]): (name: string, ...args: bigint[]) => number {
  const { program } = compileSeccomp(defaultProfile(capabilities), 'SCMP_ARCH_X86_64');
  assertLoadable(program);
  return (name, ...args) => runFilter(program, { arch: 'x86_64', nr: X86_64.calls.get(name)!, args });
}

test('the exact form: what is allowed, refused, unknown', () => {
  const answer = answers(['CAP_CHOWN', 'CAP_SYS_CHROOT']);
  for (const name of ['read', 'openat2', 'mseal', 'ptrace', 'seccomp', 'setxattrat', 'chroot', 'vfork'])
    assert.equal(answer(name), ALLOW, name);
  for (const name of [
    'keyctl',
    'mount',
    'unshare',
    'setns',
    'bpf',
    'io_uring_setup',
    'reboot',
    'userfaultfd',
  ])
    assert.equal(answer(name), EPERM, name);
  for (const name of ['clone3', 'create_module', 'personality']) assert.equal(answer(name, 1n), ENOSYS, name);
  const { program } = compileSeccomp(defaultProfile([]), 'SCMP_ARCH_X86_64');
  // newer than the tables; and chroot without its capability
  assert.equal(runFilter(program, { arch: 'x86_64', nr: 600 }), ENOSYS);
  assert.equal(runFilter(program, { arch: 'x86_64', nr: 161 }), EPERM);
  assert.equal(runFilter(program, { arch: 'i386', nr: 288 }), EPERM);
  assert.equal(runFilter(program, { arch: 'i386', nr: 3 }), ALLOW);
  assert.ok(program.length / 8 < 400, `${program.length / 8} instructions`);
});

test('the exact form: arguments, also with something in the upper half of the register', () => {
  const answer = answers([]);
  const upper = 7n << 32n;
  for (const noise of [0n, upper]) {
    assert.equal(answer('socket', 1n + noise), ALLOW);
    assert.equal(answer('socket', 16n + noise), ALLOW);
    assert.equal(answer('socket', 39n + noise), ALLOW);
    assert.equal(answer('socket', 38n + noise), EAFNOSUPPORT);
    assert.equal(answer('socket', 40n + noise), EAFNOSUPPORT);
    assert.equal(answer('clone', 0x1200011n + noise), ALLOW); // fork of glibc
    assert.equal(answer('clone', 0x3d0f00n + noise), ALLOW); // a thread
    assert.equal(answer('clone', 0x1000_0011n + noise), EPERM); // CLONE_NEWUSER
    assert.equal(answer('clone', 0x6c02_0011n + noise), EPERM);
    for (const value of [0n, 8n, 0x2_0000n, 0x2_0008n, 0xffff_ffffn])
      assert.equal(answer('personality', value + noise), ALLOW, String(value));
    assert.equal(answer('personality', 0x4_0000n + noise), ENOSYS);
  }
});

test('capabilities bring their calls', () => {
  const admin = answers(['CAP_SYS_ADMIN']);
  for (const name of ['mount', 'unshare', 'setns', 'bpf', 'perf_event_open', 'clone3', 'syslog'])
    assert.equal(admin(name), ALLOW, name);
  assert.equal(admin('clone', 0x1000_0011n), ALLOW);
  assert.equal(admin('keyctl'), EPERM);
  assert.equal(admin('reboot'), EPERM);
  assert.equal(answers(['CAP_BPF'])('bpf'), ALLOW);
  assert.equal(answers(['CAP_SYS_TIME'])('clock_settime'), ALLOW);
});

test('the form by names refuses the same calls, but what a start needs and what systemd 257 does not know', () => {
  const { defaultAction, syscalls } = defaultProfileByNames(['CAP_SYS_CHROOT']);
  assert.equal(defaultAction, 'SCMP_ACT_ALLOW');
  assert.equal(syscalls!.length, 1);
  const [{ names, action, errnoRet, args } = { names: [], action: '' }] = syscalls!;
  assert.deepEqual([action, errnoRet, args], ['SCMP_ACT_ERRNO', 1, undefined]);
  const exact = defaultProfile(['CAP_SYS_CHROOT']).syscalls![1]!;
  assert.deepEqual(
    exact.names.filter((name) => !names.includes(name)),
    ['listns', 'open_tree_attr', 'setns'],
  );
  assert.ok(names.every((name) => exact.names.includes(name)));
  assert.ok(names.includes('keyctl') && names.includes('unshare') && !names.includes('chroot'));
});
