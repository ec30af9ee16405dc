/**
 * Deletes a directory with all that is in it, whatever somebody made of it: any depth, any names, links anywhere.
 *
 * Invariant: nothing outside the directory is touched: every step is relative to an open directory and follows no
 * link, and file systems mounted inside are refused. Three descriptors are open at most, as subdirectories move up to
 * the top of the tree instead of being descended into.
 */
import { lstatSync, readdirSync, unlinkSync } from 'node:fs';
import { showBytes, toByteString } from '../archive/byte-string.ts';
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  check,
  close,
  errno,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  openat2,
  RENAME_NOREPLACE,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  renameat2,
  systemCallError,
  unlinkat,
} from '../host/syscalls.ts';

/** Deletes the directory at `path`. Nothing happens when it does not exist. A crash leaves part of it: delete again. */
export function removeTree(path: string): void {
  const bytes = toByteString(path);
  // Links in the path that leads to the tree are the caller's business; its last part must be a directory.
  removeTreeAt(AT_FDCWD, bytes, 0);
}

/** Deletes whatever is at `path`, if anything. */
export function removeAny(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory()) removeTree(path);
  else if (stat !== undefined) unlinkSync(path);
}

/** Deletes the directory `name` (a byte string) below an open directory. Nothing happens when it does not exist. */
export function removeTreeAt(
  directory: number,
  name: string,
  resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
): void {
  const top = openDirectory(directory, name, resolve);
  if (top < 0) return;
  try {
    const queue: string[] = [];
    let counter = 0;
    /** Deletes what is in `fd`; directories that are not empty end in the queue, in `top`. */
    const empty = (fd: number): void => {
      for (const entry of list(fd)) {
        const status = unlinkat(fd, entry);
        if (status === 0) continue;
        // EISDIR from Linux; EPERM is what POSIX says for directories.
        if (status !== -errno.EISDIR && status !== -errno.EPERM) check(status, 'unlink', showBytes(entry));
        const removed = unlinkat(fd, entry, AT_REMOVEDIR);
        if (removed === 0) continue;
        if (removed === -errno.ENOTDIR) throw systemCallError(status, 'unlink', showBytes(entry));
        if (removed !== -errno.ENOTEMPTY) check(removed, 'rmdir', showBytes(entry));
        if (fd === top) queue.push(entry);
        else queue.push(moveUp(fd, entry));
      }
    };
    const moveUp = (fd: number, entry: string): string => {
      for (;;) {
        const moved = `.removing-${counter++}`;
        const status = renameat2(fd, entry, top, moved, RENAME_NOREPLACE);
        if (status === 0) return moved;
        if (status !== -errno.EEXIST) check(status, 'rename', showBytes(entry));
      }
    };
    empty(top);
    for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
      const fd = openDirectory(top, entry, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
      try {
        empty(fd);
      } finally {
        close(fd);
      }
      check(unlinkat(top, entry, AT_REMOVEDIR), 'rmdir', showBytes(entry));
    }
  } finally {
    close(top);
  }
  check(unlinkat(directory, name, AT_REMOVEDIR), 'rmdir', showBytes(name));
}

/** -1 when it does not exist. */
function openDirectory(directory: number, name: string, resolve: number): number {
  const fd = openat2(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve);
  if (fd === -errno.ENOENT) return -1;
  return check(fd, 'open', showBytes(name));
}

function list(fd: number): string[] {
  return readdirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1' });
}
