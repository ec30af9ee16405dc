/** The compiler against a small BPF machine: the exact answer for (architecture, number, arguments). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Seccomp } from '../../../src/oci/runtime-spec.ts';
import { architecture } from '../../../src/seccomp/architectures.ts';
import { compileSeccomp } from '../../../src/seccomp/compile.ts';
import { throwsOci } from '../expect-error.ts';
import { assertLoadable, type Call, runFilter } from './bpf-machine.ts';

type Entry = NonNullable<Seccomp['syscalls']>[number];
type Arg = NonNullable<Entry['args']>[number];

const ALLOW = 0x7fff_0000;
const ERRNO = 0x0005_0000;
const KILL_PROCESS = 0x8000_0000;
const ENOSYS = 38;

const allow = (names: string[], args: Arg[] = []): Entry => ({ names, action: 'SCMP_ACT_ALLOW', args });
const refuse = (names: string[], errnoRet: number, args: Arg[] = []): Entry => ({
  names,
  action: 'SCMP_ACT_ERRNO',
  errnoRet,
  args,
});
const arg = (index: number, op: string, value: number, valueTwo = 0): Arg => ({
  index,
  op: `SCMP_CMP_${op}`,
  value,
  valueTwo,
});

function compile(seccomp: Partial<Seccomp>, native = 'SCMP_ARCH_X86_64') {
  const compiled = compileSeccomp({ defaultAction: 'SCMP_ACT_ERRNO', ...seccomp }, native);
  assertLoadable(compiled.program);
  return { ...compiled, run: (call: Call) => runFilter(compiled.program, call) };
}

test('actions and their numbers', () => {
  const table: [string, number | undefined, number][] = [
    ['SCMP_ACT_KILL', undefined, 0],
    ['SCMP_ACT_KILL_THREAD', undefined, 0],
    ['SCMP_ACT_KILL_PROCESS', undefined, KILL_PROCESS],
    ['SCMP_ACT_TRAP', undefined, 0x0003_0000],
    ['SCMP_ACT_ERRNO', undefined, ERRNO + 1],
    ['SCMP_ACT_ERRNO', 0, ERRNO],
    ['SCMP_ACT_ERRNO', 4095, ERRNO + 4095],
    ['SCMP_ACT_TRACE', 7, 0x7ff0_0007],
    ['SCMP_ACT_LOG', undefined, 0x7ffc_0000],
    ['SCMP_ACT_ALLOW', undefined, ALLOW],
  ];
  for (const [action, errnoRet, value] of table) {
    const entry = { names: ['mkdir'], action, ...(errnoRet === undefined ? {} : { errnoRet }), args: [] };
    const { run } = compile({ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 22, syscalls: [entry] });
    assert.equal(run({ arch: 'x86_64', nr: 83 }), value, action);
    assert.equal(run({ arch: 'x86_64', nr: 82 }), ERRNO + 22);
    assert.equal(run({ arch: 'x86_64', nr: 84 }), ERRNO + 22);
  }
});

test('operators compare 64 bits, unsigned', () => {
  const big = 0x1_0000_0005;
  const table: [Arg, bigint[], bigint[]][] = [
    [arg(0, 'EQ', big), [0x1_0000_0005n], [5n, 0x2_0000_0005n, 0x1_0000_0004n]],
    [arg(0, 'NE', big), [5n, 0x2_0000_0005n], [0x1_0000_0005n]],
    [arg(0, 'GT', big), [0x1_0000_0006n, 0x2_0000_0000n, 2n ** 64n - 1n], [0x1_0000_0005n, 0xffff_ffffn]],
    [arg(0, 'GE', big), [0x1_0000_0005n, 0x2_0000_0000n], [0x1_0000_0004n, 0xffff_ffffn]],
    [arg(0, 'LT', big), [0x1_0000_0004n, 0xffff_ffffn], [0x1_0000_0005n, 0x2_0000_0000n]],
    [arg(0, 'LE', big), [0x1_0000_0005n, 0xffff_ffffn], [0x1_0000_0006n, 0x2_0000_0000n]],
    [arg(0, 'MASKED_EQ', 0xff00, 0x1200), [0x12ffn, 0xab_0001_1200n], [0x1300n, 0n]],
    [
      arg(0, 'MASKED_EQ', 0x3_0000_000f, 0x1_0000_0002),
      [0x1_0000_00f2n, 0x5_0000_0002n],
      [2n, 0x3_0000_0002n],
    ],
    // bits of the value outside the mask do not count
    [arg(0, 'MASKED_EQ', 0x0f, 0xf2), [2n], [0xf3n]],
    [arg(0, 'MASKED_EQ', 0, 0), [0n, 2n ** 64n - 1n], []],
    [arg(0, 'EQ', 2 ** 64), [2n ** 64n - 1n], [0n, 2n ** 63n]],
  ];
  for (const [condition, yes, no] of table) {
    const { run } = compile({ syscalls: [allow(['close'], [condition])] });
    for (const value of yes)
      assert.equal(run({ arch: 'x86_64', nr: 3, args: [value] }), ALLOW, `${condition.op} ${value}`);
    for (const value of no)
      assert.equal(run({ arch: 'x86_64', nr: 3, args: [value] }), ERRNO + 1, `${condition.op} ${value}`);
  }
});

test('a 32-bit program: the lower halves alone', () => {
  const { run } = compile({
    architectures: ['SCMP_ARCH_X86'],
    syscalls: [allow(['personality'], [arg(0, 'EQ', 0xffff_ffff)])],
  });
  assert.equal(run({ arch: 'i386', nr: 136, args: [0xffff_ffffn] }), ALLOW);
  assert.equal(run({ arch: 'i386', nr: 136, args: [0n] }), ERRNO + 1);
  assert.equal(run({ arch: 'x86_64', nr: 135, args: [0xffff_ffffn] }), ALLOW);
  assert.equal(run({ arch: 'x86_64', nr: 136, args: [0xffff_ffffn] }), ERRNO + 1);
});

test('conditions: of different arguments all, of one argument any', () => {
  const all = compile({ syscalls: [allow(['socket'], [arg(0, 'EQ', 16), arg(2, 'NE', 9)])] });
  assert.equal(all.run({ arch: 'x86_64', nr: 41, args: [16n, 0n, 0n] }), ALLOW);
  assert.equal(all.run({ arch: 'x86_64', nr: 41, args: [16n, 0n, 9n] }), ERRNO + 1);
  assert.equal(all.run({ arch: 'x86_64', nr: 41, args: [2n, 0n, 0n] }), ERRNO + 1);
  const any = compile({ syscalls: [allow(['socket'], [arg(0, 'EQ', 1), arg(0, 'EQ', 2), arg(2, 'EQ', 7)])] });
  for (const args of [
    [1n, 0n, 0n],
    [2n, 0n, 0n],
    [5n, 0n, 7n],
  ])
    assert.equal(any.run({ arch: 'x86_64', nr: 41, args }), ALLOW);
  assert.equal(any.run({ arch: 'x86_64', nr: 41, args: [5n, 0n, 0n] }), ERRNO + 1);
});

test('several rules for a call: as libseccomp', () => {
  const nr = 83;
  // the first without conditions decides alone, wherever it stands
  const alone = compile({
    syscalls: [refuse(['mkdir'], 5, [arg(1, 'EQ', 0)]), allow(['mkdir']), refuse(['mkdir'], 6)],
  });
  assert.equal(alone.run({ arch: 'x86_64', nr, args: [0n, 0n] }), ALLOW);
  // conditions in the profile's order
  const ordered = compile({
    syscalls: [refuse(['mkdir'], 5, [arg(1, 'EQ', 1)]), allow(['mkdir'], [arg(1, 'LT', 10)])],
  });
  assert.equal(ordered.run({ arch: 'x86_64', nr, args: [0n, 1n] }), ERRNO + 5);
  assert.equal(ordered.run({ arch: 'x86_64', nr, args: [0n, 2n] }), ALLOW);
  // a rule that does what happens anyway does not count
  const same = compile({ syscalls: [refuse(['mkdir'], 1), allow(['mkdir'], [arg(1, 'EQ', 3)])] });
  assert.equal(same.run({ arch: 'x86_64', nr, args: [0n, 3n] }), ALLOW);
});

test('architectures: listed, not listed, the other calling convention', () => {
  const both = compile({
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_S390X'],
    syscalls: [allow(['read'])],
  });
  assert.equal(both.run({ arch: 'x86_64', nr: 0 }), ALLOW);
  assert.equal(both.run({ arch: 'i386', nr: 3 }), ALLOW);
  assert.equal(both.run({ arch: 'i386', nr: 0 }), ERRNO + 1);
  assert.equal(both.run({ arch: 'aarch64', nr: 63 }), KILL_PROCESS);
  const own = compile({ syscalls: [allow(['read'])] });
  assert.equal(own.run({ arch: 'i386', nr: 3 }), KILL_PROCESS);
  const open = compile({ defaultAction: 'SCMP_ACT_ALLOW' });
  assert.equal(open.run({ arch: 'x86_64', nr: 0x3fff_ffff }), ALLOW);
  for (const nr of [0x4000_0000, 0x4000_0001, 0xffff_ffff])
    assert.equal(open.run({ arch: 'x86_64', nr }), ERRNO + ENOSYS);
  const arm = compile(
    { architectures: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'], syscalls: [allow(['read', 'cacheflush'])] },
    'SCMP_ARCH_AARCH64',
  );
  assert.equal(arm.run({ arch: 'aarch64', nr: 63 }), ALLOW);
  assert.equal(arm.run({ arch: 'arm', nr: 3 }), ALLOW);
  assert.equal(arm.run({ arch: 'arm', nr: 0xf0002 }), ALLOW);
  assert.equal(arm.run({ arch: 'x86_64', nr: 0 }), KILL_PROCESS);
});

test('i386 socketcall and ipc follow the rules of their single calls', () => {
  const architectures = ['SCMP_ARCH_X86'];
  const SOCKETCALL = 102;
  const IPC = 117;
  const allowed = compile({ architectures, syscalls: [allow(['bind', 'recv', 'shmat'])] });
  assert.equal(allowed.run({ arch: 'i386', nr: SOCKETCALL, args: [2n] }), ALLOW);
  assert.equal(allowed.run({ arch: 'i386', nr: SOCKETCALL, args: [10n] }), ALLOW);
  assert.equal(allowed.run({ arch: 'i386', nr: SOCKETCALL, args: [1n] }), ERRNO + 1);
  assert.equal(allowed.run({ arch: 'i386', nr: IPC, args: [21n] }), ALLOW);
  assert.equal(allowed.run({ arch: 'i386', nr: IPC, args: [0x1_0015n] }), ALLOW);
  assert.equal(allowed.run({ arch: 'i386', nr: IPC, args: [22n] }), ERRNO + 1);
  // the domain of socket lies in memory there: refused whatever it is
  const refused = compile({
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures,
    syscalls: [refuse(['socket'], 97, [arg(0, 'EQ', 40)])],
  });
  assert.equal(refused.run({ arch: 'i386', nr: 359, args: [2n] }), ALLOW);
  assert.equal(refused.run({ arch: 'i386', nr: SOCKETCALL, args: [1n] }), ERRNO + 97);
  assert.equal(refused.run({ arch: 'i386', nr: SOCKETCALL, args: [2n] }), ALLOW);
  // the call itself, by name, decides for all
  const whole = compile({ architectures, syscalls: [allow(['socketcall']), refuse(['bind'], 5)] });
  assert.equal(whole.run({ arch: 'i386', nr: SOCKETCALL, args: [2n] }), ALLOW);
});

test('unknown names have no effect and are told', () => {
  const { unknown, run } = compile({ syscalls: [allow(['read', 'no_such_call', 'socketcall', 'recv'])] });
  assert.deepEqual(unknown, ['no_such_call', 'socketcall', 'recv']);
  assert.equal(run({ arch: 'x86_64', nr: 0 }), ALLOW);
});

test('long programs: every jump arrives', () => {
  // each of 300 calls with its own answer, and conditions that push the targets far apart
  const names = [...architecture('SCMP_ARCH_X86_64')!.calls.keys()].slice(0, 300);
  const { run, program } = compile({
    syscalls: names.map((name, nr) => refuse([name], nr + 100, [arg(0, 'GT', nr), arg(1, 'NE', 7)])),
  });
  assert.ok(program.length / 8 > 2000, String(program.length / 8));
  for (let nr = 0; nr < 300; nr++) {
    assert.equal(run({ arch: 'x86_64', nr, args: [BigInt(nr) + 1n, 0n] }), ERRNO + nr + 100);
    assert.equal(run({ arch: 'x86_64', nr, args: [BigInt(nr), 0n] }), ERRNO + 1);
    assert.equal(run({ arch: 'x86_64', nr, args: [BigInt(nr) + 1n, 7n] }), ERRNO + 1);
  }
  throwsOci(
    () =>
      compile({
        syscalls: names.flatMap((name) => [1, 2, 3, 4].map((n) => refuse([name], n + 1, [arg(0, 'GT', n)]))),
      }),
    'UNSUPPORTED',
    /longer than the kernel's 4096 instructions/,
  );
});

test('what cannot be done is refused by name', () => {
  const table: [Partial<Seccomp>, 'UNSUPPORTED' | 'CONFIG', RegExp][] = [
    [{ defaultAction: 'SCMP_ACT_NOTIFY' }, 'UNSUPPORTED', /SCMP_ACT_NOTIFY needs a listener/],
    [{ syscalls: [{ names: ['read'], action: 'SCMP_ACT_NOTIFY' }] }, 'UNSUPPORTED', /SCMP_ACT_NOTIFY/],
    [{ listenerPath: '/run/x.sock' }, 'UNSUPPORTED', /listenerPath/],
    [{ flags: ['SECCOMP_FILTER_FLAG_LOG'] }, 'UNSUPPORTED', /'SECCOMP_FILTER_FLAG_LOG' cannot be set/],
    [{ defaultAction: 'ALLOW' }, 'CONFIG', /'ALLOW' is not an action/],
    [{ defaultAction: 'toString' }, 'CONFIG', /'toString' is not an action/],
    [{ defaultErrnoRet: 4096 }, 'CONFIG', /4096 is not an error number/],
    [{ defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 1 }, 'CONFIG', /SCMP_ACT_ALLOW takes no errnoRet/],
    [{ architectures: ['x86\n'] }, 'CONFIG', /'x86\\x0a' is not an architecture/],
    [{ syscalls: [allow(['read'], [arg(6, 'EQ', 0)])] }, 'CONFIG', /index 6 is not 0 to 5/],
    [{ syscalls: [allow(['read'], [arg(0, 'XX', 0)])] }, 'CONFIG', /'SCMP_CMP_XX' is not an operator/],
    [{ syscalls: [allow(['read'], [arg(0, 'EQ', 2 ** 60)])] }, 'CONFIG', /is not exact/],
    [{ syscalls: [allow(['read'], [arg(0, 'EQ', -1)])] }, 'CONFIG', /is not exact/],
    [{ syscalls: [allow(Array(10_001).fill('read'), [arg(0, 'EQ', 1)])] }, 'CONFIG', /more than 10000 rules/],
  ];
  for (const [seccomp, code, message] of table) throwsOci(() => compile(seccomp), code, message);
  throwsOci(() => compile({}, 'SCMP_ARCH_RISCV64'), 'UNSUPPORTED', /SCMP_ARCH_RISCV64/);
  compile({ flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW', 'SECCOMP_FILTER_FLAG_TSYNC'] });
});
