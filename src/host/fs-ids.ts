/**
 * Whose files are made: setfsuid(2), setfsgid(2). A mount whose ids are mapped takes new files only from ids that its
 * map has, and host root is in none of a container's.
 *
 * Invariant: the ids are those of the calling thread, for the time of one synchronous call; capabilities stay.
 */
import { koffi } from './koffi.ts';
import { check } from './syscalls.ts';

const PR_SET_SECUREBITS = 28;
/** Else the kernel takes away the capabilities for files of whoever stops acting as root (capabilities(7)). */
const SECBIT_NO_SETUID_FIXUP = 1 << 2;

function bind() {
  const libc = koffi().load('libc.so.6');
  const prctl = libc.func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
  const status: number = prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
  check(status < 0 ? -koffi().errno() : status, 'prctl', 'the capabilities');
  return {
    setfsuid: libc.func('setfsuid', 'uint32_t', ['uint32_t']) as (uid: number) => number,
    setfsgid: libc.func('setfsgid', 'uint32_t', ['uint32_t']) as (gid: number) => number,
  };
}

let bound: ReturnType<typeof bind> | undefined;

/** Does the work as these ids of the host, with all that root may. */
export function withFileIds<Result>(uid: number, gid: number, work: () => Result): Result {
  bound ??= bind();
  const { setfsuid, setfsgid } = bound;
  const before = { gid: setfsgid(gid), uid: setfsuid(uid) };
  try {
    return work();
  } finally {
    setfsuid(before.uid);
    setfsgid(before.gid);
  }
}
