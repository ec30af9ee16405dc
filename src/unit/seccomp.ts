/**
 * linux.seccomp, in one of two ways (docs/adr/0005-seccomp.md):
 *
 * - A profile that only refuses calls by name becomes SystemCallFilter=. systemd loads it before anything of the
 *   image runs, and it leaves no_new_privs as it is: set-user-ID programs work.
 * - Any other is compiled, and setpriv loads it as the payload begins. That sets no_new_privs.
 *
 * A process that `ocictl exec` starts has no unit of its own and always gets the compiled filter.
 */
import type { RuntimeSpec, Seccomp } from '../oci/runtime-spec.ts';
import { RETURN } from '../seccomp/actions.ts';
import { architecture, architectureName } from '../seccomp/architectures.ts';
import { compileSeccomp } from '../seccomp/compile.ts';
import { HOST_USERS_CONDITIONS } from '../seccomp/default-profile.ts';
import { collectRules } from '../seccomp/rules.ts';
import { hasHostUsers } from './host-users.ts';
import {
  noCapabilities,
  number,
  refusedCalls,
  refusedFamilies,
  refusedUserNamespaces,
  type Setting,
} from './setting.ts';

export interface SeccompPlan {
  by: 'systemd' | 'setpriv';
  /** Settings of the payload's unit. */
  settings: Setting[];
  /** What setpriv(1) --seccomp-filter reads; none where no filter can be compiled for the machine. */
  program?: Uint8Array;
  /** Names in the profile that are no system calls here. */
  unknown: string[];
  /** No process of the container may make a user namespace, with clone(2) neither: a limit of its namespace says so. */
  noUserNamespaces: boolean;
}

/** `machine`: as process.arch names it. */
export function planSeccomp(spec: RuntimeSpec, machine: string): SeccompPlan | undefined {
  const { seccomp } = spec.linux;
  if (seccomp === undefined) return undefined;
  const native = architectureName(machine) ?? machine;
  const refusal = spec.process.noNewPrivileges ? undefined : refusedByName(seccomp, native);
  const noUserNamespaces = refusal?.names.includes('unshare') ?? false;
  const byFilter = noUserNamespaces && hasHostUsers(spec);
  const exact = byFilter
    ? { ...seccomp, syscalls: [...(seccomp.syscalls ?? []), ...HOST_USERS_CONDITIONS] }
    : seccomp;
  const compiled = refusal === undefined || architecture(native) ? compileSeccomp(exact, native) : undefined;
  return {
    by: refusal === undefined ? 'setpriv' : 'systemd',
    settings: [
      ...(refusal === undefined ? [] : unitSettings(refusal)),
      ...(refusal === undefined || hasHostUsers(spec) ? [] : [NO_CAPABILITIES]),
      ...(byFilter ? [refusedUserNamespaces(), refusedFamilies(['AF_VSOCK'])] : []),
    ],
    ...(compiled === undefined ? {} : { program: compiled.program }),
    unknown: compiled?.unknown ?? [],
    noUserNamespaces: noUserNamespaces && !byFilter,
  };
}

/**
 * With User= and a filter systemd leaves two capabilities inheritable that are still in the bounding set; the
 * container's own sets are those of its user namespace and begin anew there.
 */
const NO_CAPABILITIES = noCapabilities();

interface Refusal {
  names: string[];
  errno: number;
}

/** What the shim itself must be able to do after systemd has loaded the filter. */
const SHIM_CALLS = words(
  'setns execve openat read close fstat newfstatat mmap mprotect munmap brk pread64 access faccessat readlinkat',
  'arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom prctl capget capset setuid setgid setgroups',
  'setsid getpgrp getpid setresuid setresgid getuid geteuid getgid getegid exit_group futex lseek write uname statfs fcntl ioctl',
);

/** A list of names with one error number, for all architectures of the machine; undefined where it is anything else. */
function refusedByName(seccomp: Seccomp, native: string): Refusal | undefined {
  const { defaultAction, byName } = collectRules(seccomp);
  const errors = new Set([...byName.values()].flat().map(({ action }) => action));
  const [error = 0] = errors;
  const simple =
    defaultAction === RETURN.ALLOW &&
    errors.size === 1 &&
    error - RETURN.ERRNO > 0 &&
    error < RETURN.ERRNO + 0x1_0000 &&
    [...byName.values()].flat().every(({ conditions }) => conditions.length === 0) &&
    !SHIM_CALLS.some((name) => byName.has(name)) &&
    (architecture(native)?.compatible ?? []).every((name) => seccomp.architectures?.includes(name)) &&
    (seccomp.flags ?? []).length === 0;
  return simple ? { names: [...byName.keys()], errno: error - RETURN.ERRNO } : undefined;
}

function unitSettings({ names, errno }: Refusal): Setting[] {
  return [refusedCalls(names), number('SystemCallErrorNumber', errno)];
}

function words(...lines: string[]): string[] {
  return lines.flatMap((line) => line.split(' '));
}
