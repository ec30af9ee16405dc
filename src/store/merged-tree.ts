/**
 * Read access to a stack of layer trees as overlayfs would show it, without mounting it: whiteouts (character device 0:0),
 * opaque directories (user.overlay.opaque), symlinks resolved inside the merged root.
 *
 * Invariant: nothing outside the trees is ever opened, whatever their symlinks say: each step opens one path that
 * consists of real directories (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS). Fifos and devices are looked at,
 * never opened. A root's opaque mark is not looked for, as in overlayfs.
 */
import { opendirSync } from 'node:fs';
import { showBytes, toByteString } from '../archive/byte-string.ts';
import { SYMLINKS_MAX } from '../archive/layer-path.ts';
import {
  AT_FDCWD,
  check,
  close,
  errno,
  type FileStat,
  type FileTime,
  getxattr,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  read,
  readlinkat,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  statAt,
} from '../host/syscalls.ts';
import { OciError, quote } from '../oci/errors.ts';
import { PATH_MAX_BYTES } from '../oci/limits.ts';
import { OPAQUE_XATTR } from './tree-writer-xattrs.ts';

/**
 * Names in the targets of symlinks, on one way and, beyond that, on all ways of a stack, times its trees. Without a
 * limit a small layer could keep us busy for days (see tree-writer-directories.ts); no real path needs the first.
 */
const LINK_NAMES_FREE = 64;
const LINK_COST_MAX = 200_000;

export type FileKind = 'file' | 'directory' | 'symlink' | 'device' | 'fifo' | 'socket';

export interface MergedEntry {
  readonly kind: FileKind;
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  /** As on the disk: idBase + id. */
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: FileTime;
  /** Of a symlink, as it is written. */
  readonly target?: Buffer;
}

export interface MergedTree {
  /** What is at the path, taken from the root; undefined when there is nothing. A final symlink is followed by default. */
  lookup(path: string | Buffer, options?: { followLast?: boolean }): MergedEntry | undefined;
  /** Whether what another tree below these has at the path, or on the way to it, would not be seen. */
  hides(path: string): boolean;
  /** Content of a regular file, symlinks followed; undefined when there is none. Throws BAD_IMAGE beyond `maxBytes`. */
  readFile(path: string | Buffer, maxBytes: number): Buffer | undefined;
  /** The first bytes of a regular file, symlinks followed; undefined when there is none. */
  readHead(path: string | Buffer, maxBytes: number): Buffer | undefined;
  close(): void;
}

/** `trees`: lowest first. */
export function openMergedTree(trees: readonly string[]): MergedTree {
  const stack = openStack(trees);
  const find = (path: string | Buffer, followLast: boolean): StackWay | undefined => {
    const way = stack.walk(toByteString(path).split('/'), followLast);
    return way.problem === undefined && way.missing.length === 0 ? way : undefined;
  };
  const readStart = (way: StackWay | undefined, path: string | Buffer, bytes: number): Buffer | undefined => {
    if (way === undefined || kindOf(way.node.stat.mode) !== 'file') return undefined;
    const flags = O_RDONLY | O_NONBLOCK;
    const fd = check(stack.open(way.node.trees[0]!, way.names, flags), 'open', quote(String(path)));
    try {
      const content = Buffer.alloc(Math.min(bytes, way.node.stat.size));
      return content.subarray(
        0,
        content.length === 0 ? 0 : check(read(fd, content), 'read', quote(String(path))),
      );
    } finally {
      close(fd);
    }
  };
  return {
    lookup(path, options = {}) {
      const way = find(path, options.followLast ?? true);
      if (way === undefined) return undefined;
      const { stat } = way.node;
      const kind = kindOf(stat.mode);
      return {
        kind,
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        mtime: stat.mtime,
        ...(kind === 'symlink' ? { target: Buffer.from(stack.readLink(way.node, way.names), 'latin1') } : {}),
      };
    },
    hides(path) {
      const names = toByteString(path).split('/').slice(1);
      return names.some((_, depth) => stack.ends(names.slice(0, depth + 1)));
    },
    readFile(path, maxBytes) {
      const way = find(path, true);
      const size = way?.node.stat.size ?? 0;
      if (way !== undefined && kindOf(way.node.stat.mode) === 'file' && size > maxBytes)
        throw new OciError('BAD_IMAGE', `${quote(String(path))} has ${size} bytes, more than ${maxBytes}`);
      return readStart(way, path, size);
    },
    readHead: (path, maxBytes) => readStart(find(path, true), path, maxBytes),
    close: () => stack.close(),
  };
}

export function kindOf(mode: number): FileKind {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 'file';
    case S_IFDIR:
      return 'directory';
    case S_IFLNK:
      return 'symlink';
    case S_IFCHR:
    case S_IFBLK:
      return 'device';
    case S_IFIFO:
      return 'fifo';
    default:
      return 'socket';
  }
}

export function isWhiteout(stat: FileStat): boolean {
  return (stat.mode & S_IFMT) === S_IFCHR && stat.deviceMajor === 0 && stat.deviceMinor === 0;
}

/** One name of the merged tree. */
export interface StackNode {
  /** The trees it comes from, by index, highest first: one, or for a directory all that take part in it. */
  readonly trees: readonly number[];
  /** Of the highest. */
  readonly stat: FileStat;
}

export interface StackWay {
  /** The real path: no symlink, no '..'. */
  readonly names: readonly string[];
  /** What is there: anything when the way ends, else the directory after which names are missing. */
  readonly node: StackNode;
  /** The names after that which do not exist. */
  readonly missing: readonly string[];
  /** Why the way cannot be walked at all. */
  readonly problem: string | undefined;
}

/** The merged tree in terms of its trees; what settleLayer() works with. */
export interface Stack {
  readonly root: StackNode;
  /** What `names` (a real path, of which `parent` is the last directory) is, or undefined. */
  child(parent: StackNode, names: readonly string[]): StackNode | undefined;
  /** Whether a tree has something at `names` that nothing of the trees below it is merged with. */
  ends(names: readonly string[]): boolean;
  /** Of the wanted names in a directory: `parent` with those trees only that are not above the name's highest. */
  withNames(
    parent: StackNode,
    names: readonly string[],
    wanted: ReadonlySet<string>,
  ): ReadonlyMap<string, StackNode>;
  walk(names: readonly string[], followLast: boolean): StackWay;
  /** A new descriptor of a real path in one tree, or the negative errno. */
  open(tree: number, names: readonly string[], flags: number): number;
  readLink(node: StackNode, names: readonly string[]): string;
  close(): void;
}

/** `trees`: lowest first. */
export function openStack(trees: readonly string[]): Stack {
  const fds: number[] = [];
  let linkCost = 0;
  const closeAll = () => {
    for (const fd of fds.splice(0)) close(fd);
  };

  function open(tree: number, names: readonly string[], flags: number): number {
    const path = names.length === 0 ? '.' : names.join('/');
    return openat2(fds[tree]!, path, flags | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
  }

  function child(parent: StackNode, names: readonly string[]): StackNode | undefined {
    const path = names.join('/');
    if (path.length > PATH_MAX_BYTES || path.includes('\0')) return undefined;
    let stat: FileStat | undefined;
    const taking: number[] = [];
    for (const tree of parent.trees) {
      const fd = open(tree, names, O_PATH);
      if (fd === -errno.ENOENT || fd === -errno.ENAMETOOLONG) continue;
      check(fd, 'open', showBytes(path));
      try {
        const found = statOf(fd, names);
        const directory = (found.mode & S_IFMT) === S_IFDIR;
        if (isWhiteout(found) || (stat !== undefined && !directory)) break;
        stat ??= found;
        taking.push(tree);
        if (!directory || isOpaque(fd)) break;
      } finally {
        close(fd);
      }
    }
    return stat === undefined ? undefined : { trees: taking, stat };
  }

  function ends(names: readonly string[]): boolean {
    return trees.some((_, tree) => {
      const fd = open(tree, names, O_PATH);
      if (fd < 0) return false;
      try {
        return (statOf(fd, names).mode & S_IFMT) !== S_IFDIR || isOpaque(fd);
      } finally {
        close(fd);
      }
    });
  }

  function withNames(
    parent: StackNode,
    names: readonly string[],
    wanted: ReadonlySet<string>,
  ): Map<string, StackNode> {
    const found = new Map<string, StackNode>();
    for (const [i, tree] of parent.trees.entries()) {
      const path = names.join('/');
      const fd = check(open(tree, names, O_RDONLY | O_DIRECTORY), 'open', showBytes(path));
      const from = { ...parent, trees: parent.trees.slice(i) };
      try {
        // Not all names at once: there may be millions.
        using directory = opendirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1' as BufferEncoding });
        for (let entry = directory.readSync(); entry !== null; entry = directory.readSync())
          if (wanted.has(entry.name) && !found.has(entry.name)) found.set(entry.name, from);
      } finally {
        close(fd);
      }
      if (found.size === wanted.size) break;
    }
    return found;
  }

  function readLink(node: StackNode, names: readonly string[]): string {
    const fd = check(open(node.trees[0]!, names, O_PATH), 'open', showBytes(names.join('/')));
    try {
      const target = readlinkat(fd, '');
      if (typeof target === 'string') return target;
      throw check(target, 'readlink', showBytes(names.join('/')));
    } finally {
      close(fd);
    }
  }

  function walk(path: readonly string[], followLast: boolean): StackWay {
    const names: string[] = [];
    const nodes = [root];
    let missing: string[] = [];
    const ahead = path.filter((name) => name !== '' && name !== '.').reverse();
    const way = (problem?: string): StackWay => ({ names, node: nodes.at(-1)!, missing, problem });
    let links = 0;
    let linkNames = 0;
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      const parent = nodes.at(-1)!;
      if (missing.length === 0 && kindOf(parent.stat.mode) !== 'directory')
        return way(`${showBytes(names.join('/'))} is not a directory`);
      if (name === '..') {
        if (missing.pop() === undefined && names.pop() !== undefined) nodes.pop();
        continue;
      }
      const node = missing.length > 0 ? undefined : child(parent, [...names, name]);
      if (node === undefined) {
        missing.push(name);
        continue;
      }
      names.push(name);
      nodes.push(node);
      if (kindOf(node.stat.mode) !== 'symlink' || (ahead.length === 0 && !followLast)) continue;
      if (++links > SYMLINKS_MAX) return way('too many levels of symlinks');
      const target = readLink(node, names);
      names.pop();
      nodes.pop();
      if (target.startsWith('/')) {
        names.length = 0;
        nodes.length = 1;
        missing = [];
      }
      const targetNames = target.split('/').filter((part) => part !== '' && part !== '.');
      linkNames += targetNames.length;
      if (linkNames > LINK_NAMES_FREE) linkCost += targetNames.length * trees.length;
      if (linkCost > LINK_COST_MAX) return way('too long symlinks');
      ahead.push(...targetNames.reverse());
    }
    return way();
  }

  let stat = emptyStack;
  try {
    for (const tree of trees)
      fds.push(check(openat(AT_FDCWD, toByteString(tree), O_PATH | O_DIRECTORY), 'open', quote(tree)));
    if (fds.length > 0) stat = statOf(fds.at(-1)!, []);
  } catch (error) {
    closeAll();
    throw error;
  }
  const root: StackNode = { trees: trees.map((_, index) => index).reverse(), stat };
  return { root, child, ends, withNames, walk, open, readLink, close: closeAll };
}

function statOf(fd: number, names: readonly string[]): FileStat {
  const stat = statAt(fd, '');
  if (typeof stat !== 'number') return stat;
  throw check(stat, 'stat', showBytes(names.join('/')));
}

export function isOpaque(fd: number): boolean {
  const value = getxattr(fd, OPAQUE_XATTR);
  return typeof value !== 'number' && value.toString('latin1') === 'y';
}

/** The root of no trees at all: an empty directory. */
const emptyStack: FileStat = {
  mode: S_IFDIR | 0o755,
  uid: 0,
  gid: 0,
  size: 0,
  blocks: 0,
  links: 2,
  ino: 0n,
  deviceMajor: 0,
  deviceMinor: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
};
