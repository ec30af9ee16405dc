/** Files and directories that may not be there, and changes of them that last. */
import {
  closeSync,
  fchownSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncfs } from './syscalls.ts';

/** Whether a call of node:fs, or one through check() in syscalls.ts, failed with one of the codes: 'ENOENT', …. */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}

/** The names in a directory, in no order; none where it is not there. */
export function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** The text of a file; undefined where it is not there, or goes at this moment. */
export function readTextIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Writes a file anew, durably: a reader sees the old text or the new one, also after a power cut. A call that fails
 * leaves the old one. The caller sees to it that no other writes the same file. `mode`: of the new file. `owner`: the
 * caller where there is none.
 */
export function replaceFile(path: string, text: string, mode: number, owner?: FileOwner): void {
  const directory = dirname(path);
  const fresh = join(directory, `.${basename(path)}.new`);
  rmSync(fresh, { force: true }); // of a call that was killed
  const fd = openSync(fresh, 'wx', mode);
  try {
    if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
    writeFileSync(fd, text);
    fsyncSync(fd);
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  syncDirectory(directory);
}

/** Makes the entries of a directory durable. */
export function syncDirectory(path: string): void {
  withOpen(path, fsyncSync);
}

/** Writes back the whole file system that `path` is on: one call instead of an fsync for each file. */
export function syncFileSystem(path: string): void {
  withOpen(path, syncfs);
}

function withOpen(path: string, use: (fd: number) => void): void {
  const fd = openSync(path, 'r');
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}
