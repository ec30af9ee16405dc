/**
 * What settleLayer() does to a layer tree: make, move, copy up, remove, by real path from the tree's root.
 *
 * Invariant: each operation opens the parent beneath the root without following any link; a directory that is changed
 * on the way gets its old modification time back in restoreTimes().
 */
import { readdirSync } from 'node:fs';
import { showBytes, toByteString } from '../archive/byte-string.ts';
import { isOverlayXattr } from '../archive/layer-xattrs.ts';
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  check,
  close,
  copyFileRange,
  errno,
  type FileStat,
  type FileTime,
  fchmod,
  fchmodat,
  fchown,
  fchownat,
  ftruncate,
  futimens,
  getxattr,
  linkat,
  listxattr,
  lseek,
  mkdirat,
  mknodat,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  openat,
  openat2,
  RENAME_NOREPLACE,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  readlinkat,
  removexattr,
  renameat2,
  S_IFCHR,
  S_IFMT,
  SEEK_DATA,
  SEEK_HOLE,
  setxattr,
  statAt,
  symlinkat,
  unlinkat,
  utimensat,
} from '../host/syscalls.ts';
import { quote } from '../oci/errors.ts';
import { isOpaque, isWhiteout, kindOf } from './merged-tree.ts';
import { removeTreeAt } from './remove-tree.ts';
import { EPOCH } from './tree-writer.ts';
import { OPAQUE_XATTR } from './tree-writer-xattrs.ts';

/** A real path: names of directories, then of anything. The empty path is the root. */
export type Names = readonly string[];

/** Where a copy comes from: a descriptor that is only looked at, or opened again for its content. */
export interface Source {
  readonly stat: FileStat;
  /** A new descriptor with these flags. */
  open(flags: number): number;
}

export interface UpperTree {
  stat(path: Names): FileStat | undefined;
  list(path: Names): string[];
  isOpaque(path: Names): boolean;
  setOpaque(path: Names): void;
  makeWhiteout(path: Names): void;
  /** Not for directories. Nothing happens when it is not there. */
  remove(path: Names): void;
  /** Whatever is there, if anything. */
  removeAll(path: Names): void;
  /** True when it was empty and is gone. */
  removeEmptyDirectory(path: Names): boolean;
  /** Makes a directory, with the attributes of `from` if there is one. In the place of a whiteout it becomes opaque. */
  makeDirectory(path: Names, from: Source | undefined): void;
  copyAttributes(from: Source, path: Names): void;
  /** Anything but a directory, with content and attributes. Nothing must be there but a whiteout. */
  copy(from: Source, path: Names): void;
  source(path: Names): Source;
  /** False when something is at `to`. */
  move(from: Names, to: Names): boolean;
  link(from: Names, to: Names): void;
  restoreTimes(): void;
  close(): void;
}

const COPY_BYTES = 1024 * 1024 * 1024;

export function openUpperTree(treeDir: string, idBase: number): UpperTree {
  const root = check(openat(AT_FDCWD, toByteString(treeDir), O_RDONLY | O_DIRECTORY), 'open', quote(treeDir));
  /** Directories that were changed, by path, with the time they are to have. */
  const times = new Map<string, { path: Names; mtime: FileTime }>();

  function open(path: Names, flags: number): number {
    const name = path.length === 0 ? '.' : path.join('/');
    return openat2(root, name, flags | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
  }

  function withOpen<T>(path: Names, flags: number, run: (fd: number) => T): T {
    const fd = check(open(path, flags), 'open', shown(path));
    try {
      return run(fd);
    } finally {
      close(fd);
    }
  }

  /** Runs a change of a directory's content: `run` gets the parent's descriptor and the last name. */
  function change<T>(path: Names, run: (fd: number, name: string) => T): T {
    const parent = path.slice(0, -1);
    return withOpen(parent, O_RDONLY | O_DIRECTORY, (fd) => {
      const key = parent.join('/');
      if (!times.has(key)) times.set(key, { path: parent, mtime: statOf(fd, '', parent).mtime });
      return run(fd, path.at(-1)!);
    });
  }

  function stat(path: Names): FileStat | undefined {
    const fd = open(path, O_PATH);
    if (fd === -errno.ENOENT) return undefined;
    check(fd, 'open', shown(path));
    try {
      return statOf(fd, '', path);
    } finally {
      close(fd);
    }
  }

  function remove(path: Names): void {
    change(path, (fd, name) => {
      const status = unlinkat(fd, name);
      if (status !== -errno.ENOENT) check(status, 'unlink', shown(path));
    });
  }

  function removeWhiteout(path: Names): boolean {
    const found = stat(path);
    if (found === undefined || !isWhiteout(found)) return false;
    remove(path);
    return true;
  }

  function setOpaque(path: Names): void {
    withOpen(path, O_PATH, (fd) =>
      check(setxattr(fd, OPAQUE_XATTR, Buffer.from('y')), 'setxattr', shown(path)),
    );
  }

  function copyAttributes(from: Source, path: Names): void {
    withOpen(path, O_RDONLY | O_DIRECTORY, (to) => {
      check(fchown(to, from.stat.uid, from.stat.gid), 'chown', shown(path));
      check(fchmod(to, from.stat.mode & 0o7777), 'chmod', shown(path));
      copyXattrs(from, to, path);
    });
    times.set(path.join('/'), { path, mtime: from.stat.mtime });
  }

  function makeDirectory(path: Names, from: Source | undefined): void {
    const opaque = removeWhiteout(path);
    change(path, (fd, name) => {
      check(mkdirat(fd, name, 0o755), 'mkdir', shown(path));
      check(fchownat(fd, name, idBase, idBase), 'chown', shown(path));
      check(fchmodat(fd, name, 0o755), 'chmod', shown(path));
    });
    if (from === undefined) {
      // The parent may have a default ACL.
      withOpen(path, O_RDONLY | O_DIRECTORY, (fd) => clearXattrs(fd, shown(path)));
      times.set(path.join('/'), { path, mtime: EPOCH });
    } else copyAttributes(from, path);
    if (opaque) setOpaque(path);
  }

  function copy(from: Source, path: Names): void {
    removeWhiteout(path);
    const { stat } = from;
    change(path, (fd, name) => {
      const what = shown(path);
      const kind = kindOf(stat.mode);
      if (kind === 'file') copyContent(from, fd, name, what);
      else if (kind === 'symlink') {
        const target = using(from.open(O_PATH), what, (source) => readlinkat(source, ''));
        if (typeof target === 'number') check(target, 'readlink', what);
        else check(symlinkat(target, fd, name), 'symlink', what);
      } else {
        const type = (stat.mode & S_IFMT) | 0o600;
        check(mknodat(fd, name, type, stat.deviceMajor, stat.deviceMinor), 'mknod', what);
      }
      check(fchownat(fd, name, stat.uid, stat.gid), 'chown', what);
      if (kind !== 'symlink') check(fchmodat(fd, name, stat.mode & 0o7777), 'chmod', what);
      using(openat(fd, name, O_PATH | O_NOFOLLOW), what, (to) => copyXattrs(from, to, path));
      check(utimensat(fd, name, stat.mtime), 'utimens', what);
    });
  }

  return {
    stat,
    remove,
    setOpaque,
    makeDirectory,
    copyAttributes,
    copy,
    list: (path) => withOpen(path, O_RDONLY | O_DIRECTORY, listDirectory),
    isOpaque: (path) => withOpen(path, O_PATH, isOpaque),
    makeWhiteout(path) {
      change(path, (fd, name) => {
        check(mknodat(fd, name, S_IFCHR), 'mknod', shown(path));
        check(fchownat(fd, name, idBase, idBase), 'chown', shown(path));
      });
    },
    removeAll(path) {
      const found = stat(path);
      if (found === undefined) return;
      if (kindOf(found.mode) === 'directory') change(path, (fd, name) => removeTreeAt(fd, name));
      else remove(path);
    },
    removeEmptyDirectory(path) {
      return change(path, (fd, name) => {
        const status = unlinkat(fd, name, AT_REMOVEDIR);
        if (status === -errno.ENOTEMPTY) return false;
        check(status, 'rmdir', shown(path));
        return true;
      });
    },
    source: (path) => ({ stat: stat(path)!, open: (flags) => open(path, flags) }),
    move(from, to) {
      return change(from, (fromFd, fromName) =>
        change(to, (toFd, toName) => {
          const status = renameat2(fromFd, fromName, toFd, toName, RENAME_NOREPLACE);
          if (status === -errno.EEXIST) return false;
          check(status, 'rename', shown(from));
          return true;
        }),
      );
    },
    link(from, to) {
      change(to, (toFd, toName) =>
        withOpen(from.slice(0, -1), O_PATH | O_DIRECTORY, (fromFd) =>
          check(linkat(fromFd, from.at(-1)!, toFd, toName), 'link', shown(to)),
        ),
      );
    },
    restoreTimes() {
      for (const { path, mtime } of times.values()) {
        const fd = open(path, O_RDONLY | O_DIRECTORY);
        if (fd === -errno.ENOENT || fd === -errno.ENOTDIR) continue; // moved or removed meanwhile
        using(fd, shown(path), () => check(futimens(fd, mtime), 'utimens', shown(path)));
      }
      times.clear();
    },
    close: () => {
      close(root);
    },
  };
}

export function listDirectory(fd: number): string[] {
  return readdirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1' });
}

export function shown(path: Names): string {
  return showBytes(path.join('/'));
}

function using<T>(fd: number, what: string, run: (fd: number) => T): T {
  check(fd, 'open', what);
  try {
    return run(fd);
  } finally {
    close(fd);
  }
}

function statOf(fd: number, name: string, path: Names): FileStat {
  const stat = statAt(fd, name);
  if (typeof stat !== 'number') return stat;
  throw check(stat, 'stat', shown(path));
}

/** All but overlayfs' own. */
function xattrsOf(fd: number): string[] {
  const list = listxattr(fd);
  return typeof list === 'number' ? [] : list.filter((name) => !isOverlayXattr(name));
}

function clearXattrs(fd: number, what: string): void {
  for (const name of xattrsOf(fd)) check(removexattr(fd, name), 'removexattr', what);
}

/** In the place of those that are there. */
function copyXattrs(from: Source, to: number, path: Names): void {
  const what = shown(path);
  clearXattrs(to, what);
  using(from.open(O_PATH), what, (source) => {
    for (const name of xattrsOf(source)) {
      const value = getxattr(source, name);
      if (typeof value === 'number') check(value, 'getxattr', what);
      else check(setxattr(to, name, value), 'setxattr', what);
    }
  });
}

/** Keeps holes, and shares the data where the file system can. */
function copyContent(from: Source, directory: number, name: string, what: string): void {
  using(openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), what, (to) =>
    using(from.open(O_RDONLY), what, (source) => {
      check(ftruncate(to, from.stat.size), 'truncate', what);
      for (let end = 0; ; ) {
        const start = lseek(source, end, SEEK_DATA);
        if (start === -errno.ENXIO) return; // no data behind `end`
        end = check(lseek(source, check(start, 'seek', what), SEEK_HOLE), 'seek', what);
        lseek(source, start, 0);
        lseek(to, start, 0);
        for (let left = end - start; left > 0; ) {
          const copied = check(
            copyFileRange(source, to, Math.min(left, COPY_BYTES)),
            'copy_file_range',
            what,
          );
          if (copied === 0) return;
          left -= copied;
        }
      }
    }),
  );
}
