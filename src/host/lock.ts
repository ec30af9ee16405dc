/**
 * Kernel locks (flock(2)) on open files and directories: shared or exclusive, waiting or not.
 *
 * Invariant: a lock belongs to a descriptor, so it ends with the process, however that ends; no lock file needs
 * cleaning up and no record of an owner can go stale. Waiting polls, which keeps the event loop alive.
 */
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { escapeControl, OciError } from '../oci/errors.ts';
import { isErrno } from './files.ts';
import { LOCK_EX, LOCK_NB, LOCK_SH, tryFlock } from './syscalls.ts';

export type LockMode = 'shared' | 'exclusive';

export interface Waiting {
  /** false: fail with BUSY at once. Default true. */
  readonly wait?: boolean;
  readonly signal?: AbortSignal;
  /** Called once, after a second of waiting, with a sentence that says for what and for whom. */
  readonly onWait?: (message: string) => void;
}

export interface Lock extends Disposable {
  readonly fd: number;
  /** Closes `fd`, which ends the lock. Idempotent. */
  release(): void;
}

const TELL_AFTER_SECONDS = 1;
const POLL_FIRST_MS = 10;
const POLL_LONGEST_MS = 200;

/** True when the lock was free and is now held by `fd`. */
export function tryLock(fd: number, mode: LockMode): boolean {
  return tryFlock(fd, (mode === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB);
}

/** Resolves when `fd` holds the lock. `what` names the locked thing: "the store '/var/lib/oci'". */
export async function waitForLock(
  fd: number,
  mode: LockMode,
  what: string,
  waiting: Waiting = {},
): Promise<void> {
  let told = false;
  let pause = POLL_FIRST_MS;
  const started = process.uptime(); // performance would load a module at every start
  while (!tryLock(fd, mode)) {
    if (waiting.wait === false)
      throw new OciError('BUSY', `${what} is in use${by(fd)}`, {
        hint: 'Try again later, or leave out --no-wait to wait for it.',
      });
    if (!told && process.uptime() - started >= TELL_AFTER_SECONDS) {
      told = true;
      waiting.onWait?.(`waiting for ${what}, in use${by(fd)}`);
    }
    await sleep(pause, undefined, waiting.signal === undefined ? {} : { signal: waiting.signal }).catch(
      (error) => {
        throw waiting.signal?.reason ?? error;
      },
    );
    pause = Math.min(pause * 1.5, POLL_LONGEST_MS);
  }
}

/** Locks a file, made when it is missing. */
export async function lockFile(
  path: string,
  mode: LockMode,
  what: string,
  waiting: Waiting = {},
): Promise<Lock> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  return lockOpened(fd, mode, what, waiting);
}

/** The same for a file that is only read, on a read-only file system, too; undefined where there is none. */
export async function lockPresentFile(
  path: string,
  mode: LockMode,
  what: string,
  waiting: Waiting = {},
): Promise<Lock | undefined> {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  return lockOpened(fd, mode, what, waiting);
}

/** Takes `fd` over: it is closed with the lock, or here when there is none. */
async function lockOpened(fd: number, mode: LockMode, what: string, waiting: Waiting): Promise<Lock> {
  try {
    await waitForLock(fd, mode, what, waiting);
    return lockOf(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * Locks a directory exclusively, made (0700) when it is missing. While we waited its holder may have removed or
 * renamed it: then this makes and locks a new one, so that the lock is always on what `path` leads to.
 */
export async function lockDirectory(path: string, what: string, waiting: Waiting = {}): Promise<Lock> {
  for (;;) {
    const fd = openDirectory(path);
    if (fd === undefined) continue;
    try {
      await waitForLock(fd, 'exclusive', what, waiting);
      if (leadsTo(path, fd)) return lockOf(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
  }
}

/** The exclusive lock of a directory that is there; undefined where there is none, or where somebody holds it. */
export function tryLockDirectory(path: string): Lock | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
  if (tryLock(fd, 'exclusive') && leadsTo(path, fd)) return lockOf(fd);
  closeSync(fd);
  return undefined;
}

function openDirectory(path: string): number | undefined {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Whether the name still leads to the open (and locked) file. */
export function leadsTo(path: string, fd: number): boolean {
  const open = fstatSync(fd, { bigint: true });
  const named = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return named !== undefined && named.ino === open.ino && named.dev === open.dev;
}

/** The lock that `fd` holds. */
function lockOf(fd: number): Lock {
  let held = true;
  const release = () => {
    if (held) closeSync(fd);
    held = false;
  };
  return { fd, release, [Symbol.dispose]: release };
}

function by(fd: number): string {
  const holders = lockHolders(fd);
  return holders.length === 0 ? '' : ` by ${holders.join(', ')}`;
}

/** The processes that hold a lock on the file behind `fd`, as "oci-pull (pid 123)"; those we cannot see are left out. */
function lockHolders(fd: number): string[] {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const [major, minor] = [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
  const hex = (number: bigint) => number.toString(16).padStart(2, '0');
  const file = `${hex(major)}:${hex(minor)}:${ino}`;
  const holders: string[] = [];
  try {
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF; a waiting one has "->" in front of FLOCK.
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, type, , , pid, lockedFile] = line.split(/\s+/);
      if (type !== 'FLOCK' || lockedFile !== file || !(Number(pid) > 0)) continue;
      holders.push(`${commandName(pid!)} (pid ${pid})`);
    }
  } catch {
    // /proc is a help for the message only
  }
  return holders;
}

function commandName(pid: string): string {
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    // "node /usr/bin/oci-pull …" is better told by the script
    const name =
      (/(^|\/)node$/.test(argv[0]!) ? argv.slice(1).find((word) => !word.startsWith('-')) : argv[0]) ??
      'node';
    return escapeControl(name.slice(name.lastIndexOf('/') + 1).replace(/\.m?[jt]s$/, ''));
  } catch {
    return 'a process';
  }
}
