/** Words of the specification (config-linux.md, "Seccomp") → values of seccomp(2). */
import { OciError, quote } from '../oci/errors.ts';

/** SECCOMP_RET_* of linux/seccomp.h. */
export const RETURN = {
  KILL_PROCESS: 0x8000_0000,
  KILL_THREAD: 0,
  TRAP: 0x0003_0000,
  ERRNO: 0x0005_0000,
  TRACE: 0x7ff0_0000,
  LOG: 0x7ffc_0000,
  ALLOW: 0x7fff_0000,
} as const;

export const EPERM = 1;
export const ENOSYS = 38;
const ERRNO_MAX = 4095; // the kernel's MAX_ERRNO

const ACTIONS: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: RETURN.KILL_THREAD,
  SCMP_ACT_KILL_THREAD: RETURN.KILL_THREAD,
  SCMP_ACT_KILL_PROCESS: RETURN.KILL_PROCESS,
  SCMP_ACT_TRAP: RETURN.TRAP,
  SCMP_ACT_ERRNO: RETURN.ERRNO,
  SCMP_ACT_TRACE: RETURN.TRACE,
  SCMP_ACT_LOG: RETURN.LOG,
  SCMP_ACT_ALLOW: RETURN.ALLOW,
};

/** What the filter returns for an action; ERRNO and TRACE carry a number, EPERM unless the profile gives one. */
export function returnValue(action: string, errnoRet: number | undefined): number {
  if (action === 'SCMP_ACT_NOTIFY')
    throw new OciError(
      'UNSUPPORTED',
      'seccomp: SCMP_ACT_NOTIFY needs a listener process, and there is none',
      {
        hint: 'Use SCMP_ACT_ERRNO or SCMP_ACT_ALLOW for these calls.',
      },
    );
  const value = Object.hasOwn(ACTIONS, action) ? ACTIONS[action]! : undefined;
  if (value === undefined) throw badProfile(`${quote(action)} is not an action`);
  const carriesNumber = value === RETURN.ERRNO || value === RETURN.TRACE;
  if (!carriesNumber) {
    if (errnoRet !== undefined) throw badProfile(`${action} takes no errnoRet`);
    return value;
  }
  const number = errnoRet ?? EPERM;
  if (!Number.isInteger(number) || number < 0 || number > ERRNO_MAX)
    throw badProfile(`errnoRet ${number} is not an error number`);
  return value + number;
}

/** `why` is made of quoted parts. */
export function badProfile(why: string): OciError {
  return new OciError('CONFIG', `seccomp profile: ${why}`, {
    hint: 'Correct the profile, or run without one: --seccomp unconfined.',
  });
}
