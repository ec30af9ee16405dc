/**
 * Every file of a directory tree, whatever somebody made of it: any depth, any names, links anywhere.
 *
 * Invariant: every step is relative to an open directory and follows no link; file systems mounted inside are not
 * entered. The order is fixed: a directory before what is in it, names in the order of their bytes. Nothing is
 * written, not even access times.
 */
import { toByteString } from '../archive/byte-string.ts';
import {
  AT_FDCWD,
  check,
  close,
  directoryNames,
  errno,
  type FileStat,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  S_IFDIR,
  S_IFMT,
  statAt,
} from '../host/syscalls.ts';

export interface TreeVisitor {
  /** `path` is a byte string, '' for the top; `directory` and `name` open it; `fd` is that of a directory, or -1. */
  entry(path: string, stat: FileStat, directory: number, name: string, fd: number): void;
  /** A file or directory that cannot be looked at, with the negative errno. Those that vanish meanwhile are no error. */
  unreadable(path: string, status: number): void;
}

const DIRECTORY_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME;

/** Throws when the top itself cannot be opened. */
export function walkTree(top: string, visitor: TreeVisitor): void {
  const fd = check(openat(AT_FDCWD, toByteString(top), DIRECTORY_FLAGS), 'open', top);
  try {
    const stat = statAt(fd, '');
    if (typeof stat === 'number') visitor.unreadable('', stat);
    else visitor.entry('', stat, fd, '', fd);
    walk(fd, '', visitor);
  } finally {
    close(fd);
  }
}

function walk(directory: number, path: string, visitor: TreeVisitor): void {
  const names = directoryNames(directory);
  if (typeof names === 'number') {
    visitor.unreadable(path, names);
    return;
  }
  const below = path === '' ? '' : `${path}/`;
  for (const name of names.sort()) {
    const stat = statAt(directory, name);
    if (typeof stat === 'number') failed(stat, below + name, visitor);
    else if ((stat.mode & S_IFMT) !== S_IFDIR) visitor.entry(below + name, stat, directory, name, -1);
    else {
      const fd = openat2(directory, name, DIRECTORY_FLAGS, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
      if (fd < 0) {
        failed(fd, below + name, visitor);
        continue;
      }
      try {
        visitor.entry(below + name, stat, directory, name, fd);
        walk(fd, below + name, visitor);
      } finally {
        close(fd);
      }
    }
  }
}

function failed(status: number, path: string, visitor: TreeVisitor): void {
  if (status !== -errno.ENOENT) visitor.unreadable(path, status);
}
