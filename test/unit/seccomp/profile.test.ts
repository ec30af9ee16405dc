/** Docker's and podman's profile format: what applies to which container on which machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileSeccomp } from '../../../src/seccomp/compile.ts';
import { PROFILE_MAX_BYTES, parseSeccompProfile, resolveProfile } from '../../../src/seccomp/profile.ts';
import { throwsOci } from '../expect-error.ts';
import { runFilter } from './bpf-machine.ts';

const parse = (profile: unknown) => parseSeccompProfile(Buffer.from(JSON.stringify(profile)));
const HOST = { architecture: 'amd64', kernelRelease: '6.12.3-rt1', capabilities: ['CAP_CHOWN'] };

/** Names that are allowed without conditions. */
function allowedNames(entry: object, host: Partial<typeof HOST> = {}): string[] {
  const profile = parse({
    defaultAction: 'SCMP_ACT_ERRNO',
    syscalls: [{ names: ['bpf'], action: 'SCMP_ACT_ALLOW', ...entry }],
  });
  return resolveProfile(profile, { ...HOST, ...host }).syscalls!.flatMap(({ names }) => names);
}

test('includes: all capabilities, one of the architectures, the kernel or a later one', () => {
  const table: [object, boolean][] = [
    [{}, true],
    [{ includes: null, excludes: {}, args: null, comment: '' }, true],
    [{ includes: { caps: ['CAP_CHOWN'] } }, true],
    [{ includes: { caps: ['CAP_CHOWN', 'CAP_BPF'] } }, false],
    [{ includes: { arches: ['arm64', 'amd64'] } }, true],
    [{ includes: { arches: ['arm64'] } }, false],
    [{ includes: { minKernel: '6.12' } }, true],
    [{ includes: { minKernel: '6.13' } }, false],
    [{ includes: { minKernel: '4.99' } }, true],
    [{ excludes: { caps: ['CAP_BPF'] } }, true],
    [{ excludes: { caps: ['CAP_BPF', 'CAP_CHOWN'] } }, false],
    [{ excludes: { arches: ['amd64'] } }, false],
    [{ excludes: { minKernel: '6.12' } }, false],
    [{ excludes: { minKernel: '7.0' } }, true],
    [{ includes: { caps: ['CAP_CHOWN'] }, excludes: { arches: ['amd64'] } }, false],
  ];
  for (const [entry, applies] of table)
    assert.deepEqual(allowedNames(entry), applies ? ['bpf'] : [], JSON.stringify(entry));
  assert.deepEqual(allowedNames({ names: undefined, name: 'bpf' }), ['bpf']);
});

test('archMap: the machine with its sub-architectures; errors by name; values', () => {
  const profile = parse({
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 1,
    defaultErrno: 'ENOSYS',
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    ],
    syscalls: [
      {
        names: ['socket'],
        action: 'SCMP_ACT_ERRNO',
        errno: 'EINVAL',
        args: [{ index: 0, op: 'SCMP_CMP_EQ' }],
      },
    ],
  });
  const resolved = resolveProfile(profile, HOST);
  assert.deepEqual(resolved, {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 38,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [
      {
        names: ['socket'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 22,
        args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 0 }],
      },
    ],
  });
  assert.deepEqual(resolveProfile(profile, { ...HOST, architecture: 'arm64' }).architectures, [
    'SCMP_ARCH_AARCH64',
    'SCMP_ARCH_ARM',
  ]);
  const { program } = compileSeccomp(resolved, 'SCMP_ARCH_X86_64');
  assert.equal(runFilter(program, { arch: 'x86_64', nr: 41, args: [0n] }), 0x0005_0000 + 22);
  assert.equal(runFilter(program, { arch: 'i386', nr: 1 }), 0x0005_0000 + 38);
});

test('the plain form of the specification is one, too', () => {
  const plain = {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86_64'],
    flags: [],
    syscalls: [],
  };
  assert.deepEqual(resolveProfile(parse(plain), HOST), plain);
  assert.deepEqual(resolveProfile(parse({ defaultAction: 'SCMP_ACT_ALLOW' }), HOST).syscalls, []);
});

test('what is not understood is refused', () => {
  const table: [unknown, RegExp][] = [
    [[], /is not an object/],
    [{}, /defaultAction is not a string/],
    [{ defaultAction: 'SCMP_ACT_ALLOW', sysCalls: [] }, /unknown field 'sysCalls'/],
    [
      { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['a'], action: 'x', include: {} }] },
      /unknown field 'syscalls\[0\].include'/,
    ],
    [{ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ action: 'SCMP_ACT_ALLOW' }] }, /either name or names/],
    [{ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: 'read', action: 'x' }] }, /names is not a list/],
    [
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86'],
        archMap: [{ architecture: 'SCMP_ARCH_X86' }],
      },
      /both architectures and archMap/,
    ],
  ];
  for (const [profile, message] of table) throwsOci(() => parse(profile), 'CONFIG', message);
  for (const includes of [{ minKernel: '6' }, { minKernel: '6.1.2' }])
    throwsOci(() => allowedNames({ includes }), 'CONFIG', /minKernel/);
  throwsOci(() => allowedNames({ errno: 'toString' }), 'CONFIG', /'toString' is not the name of an error/);
});

test('limits and strict JSON', () => {
  const bytes = (text: string) => () => parseSeccompProfile(Buffer.from(text));
  assert.throws(bytes(' '.repeat(PROFILE_MAX_BYTES + 1)), /more than the 1048576 allowed/);
  assert.throws(bytes('{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW"}'), /twice/);
  assert.throws(bytes('['.repeat(100)), /nested deeper/);
});
