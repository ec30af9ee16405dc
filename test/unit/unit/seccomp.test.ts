/** linux.seccomp: by systemd where names are enough and no_new_privs is not wanted, else by setpriv. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RuntimeSpec, Seccomp } from '../../../src/oci/runtime-spec.ts';
import { defaultProfile, defaultProfileByNames } from '../../../src/seccomp/default-profile.ts';
import { planSeccomp } from '../../../src/unit/seccomp.ts';
import { throwsOci } from '../expect-error.ts';

function plan(
  seccomp: Seccomp | undefined,
  { noNewPrivileges = false, machine = 'x64', annotations = {} } = {},
) {
  const spec = {
    process: { noNewPrivileges },
    annotations,
    linux: seccomp === undefined ? {} : { seccomp },
  } as unknown as RuntimeSpec;
  return planSeccomp(spec, machine);
}

const ARCHITECTURES = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'];
const byNames = (names: string[], more: Partial<Seccomp> = {}): Seccomp => ({
  defaultAction: 'SCMP_ACT_ALLOW',
  architectures: ARCHITECTURES,
  syscalls: [{ names, action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
  ...more,
});

test('no profile, no filter', () => {
  assert.equal(plan(undefined), undefined);
});

test('refused by name alone: a setting of the unit, and a filter for exec', () => {
  const made = plan(byNames(['keyctl', 'bpf']))!;
  assert.equal(made.by, 'systemd');
  assert.deepEqual(
    made.settings.map(({ property, signature, value, lines }) => [property, signature, value, lines]),
    [
      ['SystemCallFilter', '(bas)', [false, ['keyctl', 'bpf']], ['SystemCallFilter=~keyctl bpf']],
      ['SystemCallErrorNumber', 'i', 95, ['SystemCallErrorNumber=95']],
      ['CapabilityBoundingSet', 't', 0n, ['CapabilityBoundingSet=']],
    ],
  );
  assert.ok(made.program!.length > 0);
  assert.equal(made.noUserNamespaces, false);
  // without unshare, clone must not make user namespaces either
  assert.equal(plan(byNames(['unshare']))!.noUserNamespaces, true);
});

test('everything else: compiled, loaded by setpriv', () => {
  const condition = [{ index: 0, op: 'SCMP_CMP_EQ', value: 1, valueTwo: 0 }];
  const others: Seccomp[] = [
    byNames(['keyctl'], { defaultAction: 'SCMP_ACT_LOG' }),
    byNames(['keyctl'], { architectures: ['SCMP_ARCH_X86_64'] }),
    byNames(['keyctl'], { flags: ['SECCOMP_FILTER_FLAG_TSYNC'] }),
    // what the shim itself needs
    byNames(['setns']),
    byNames(['execve']),
    byNames([], { syscalls: [{ names: ['keyctl'], action: 'SCMP_ACT_ERRNO', args: condition }] }),
    byNames([], { syscalls: [{ names: ['keyctl'], action: 'SCMP_ACT_KILL' }] }),
    byNames([], { syscalls: [{ names: ['keyctl'], action: 'SCMP_ACT_ERRNO', errnoRet: 0 }] }),
    byNames([], {
      syscalls: [
        { names: ['keyctl'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
        { names: ['bpf'], action: 'SCMP_ACT_ERRNO', errnoRet: 2 },
      ],
    }),
    byNames([], { syscalls: [] }),
    defaultProfile([]),
  ];
  for (const seccomp of others) {
    const made = plan(seccomp)!;
    assert.deepEqual([made.by, made.settings], ['setpriv', []], JSON.stringify(seccomp).slice(0, 200));
    assert.ok(made.program!.length > 0);
  }
  assert.equal(plan(byNames(['keyctl']), { noNewPrivileges: true })!.by, 'setpriv');
});

test('without a user namespace filters do what a limit of it does', () => {
  const annotations = { 'io.ocictl.userns': 'host' };
  const refused = byNames(['unshare', 'keyctl']);
  const made = plan(refused, { annotations })!;
  assert.equal(made.noUserNamespaces, false); // that limit would be the host's
  assert.deepEqual(
    made.settings.map(({ property, signature, value, lines }) => [property, signature, value, lines]),
    [
      ['SystemCallFilter', '(bas)', [false, ['unshare', 'keyctl']], ['SystemCallFilter=~unshare keyctl']],
      ['SystemCallErrorNumber', 'i', 95, ['SystemCallErrorNumber=95']],
      ['RestrictNamespaces', 't', 0x6e02_0000n, ['RestrictNamespaces=~user']],
      ['RestrictAddressFamilies', '(bas)', [false, ['AF_VSOCK']], ['RestrictAddressFamilies=~AF_VSOCK']],
    ],
  );
  assert.notDeepEqual(made.program, plan(refused)!.program);
  // with CAP_SYS_ADMIN namespaces may be made
  assert.deepEqual(
    plan(byNames(['keyctl']), { annotations })!.settings.map(({ property }) => property),
    ['SystemCallFilter', 'SystemCallErrorNumber'],
  );
});

test('a machine without tables: names still work, a compiled filter does not', () => {
  const made = plan(defaultProfileByNames([]), { machine: 'riscv64' })!;
  assert.deepEqual([made.by, made.program], ['systemd', undefined]);
  throwsOci(() => plan(defaultProfile([]), { machine: 'riscv64' }), 'UNSUPPORTED', "'riscv64'");
});
