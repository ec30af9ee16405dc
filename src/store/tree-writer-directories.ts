/**
 * The directories of a layer tree while it is written: which exist, their descriptors, and the way to a name.
 *
 * Invariant: a node stands for a real directory that we made below the tree's root. Ways are walked from node to node;
 * symlinks are read and resolved here, inside the root ('..' at the root stays there), never by the kernel.
 * What is known here is all there is: nobody else writes to the tree.
 */
import { showBytes, toByteString } from '../archive/byte-string.ts';
import { checkName, LINK_NAMES_MAX, SYMLINKS_MAX } from '../archive/layer-path.ts';
import { Refusal } from '../archive/refusal.ts';
import {
  AT_FDCWD,
  check,
  close,
  errno,
  type FileTime,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  readlinkat,
} from '../host/syscalls.ts';
import { quote } from '../oci/errors.ts';
import { PATH_MAX_BYTES } from '../oci/limits.ts';

export interface Directory {
  readonly name: string;
  readonly parent: Directory | undefined;
  readonly pathBytes: number;
  /** Undefined for none. */
  children: Map<string, Directory> | undefined;
  /** Names of the whiteouts in it; undefined for none. */
  whiteouts: Set<string> | undefined;
  /** No entry describes it: it only leads to other entries. */
  implied: boolean;
  /** Something else than whiteouts is in it or below, or it has an entry itself. */
  filled: boolean;
  /** Hides what the layers below have there. */
  opaque: boolean;
  removed: boolean;
  mtime: FileTime | undefined;
  /** Would be inherited by what is made inside, so it is set last. */
  defaultAcl: Buffer | undefined;
}

/** How far a path leads in the layer: the deepest directory and the names behind it that do not exist (yet). */
export interface Way {
  readonly directory: Directory;
  readonly missing: readonly string[];
}

export interface Directories {
  readonly root: Directory;
  /** An open descriptor. It stays open until some other descriptors were asked for. */
  fdOf(directory: Directory): number;
  add(parent: Directory, name: string): Directory;
  /** The directory and all below it are gone. */
  forget(directory: Directory): void;
  /** Follows symlinks on the way and at its end. Throws a Refusal when the way meets another file. */
  walk(names: readonly string[]): Way;
  close(): void;
}

const FDS_MAX = 64;
export function pathOf(directory: Directory): string {
  const names: string[] = [];
  for (let at = directory; at.parent !== undefined; at = at.parent) names.push(at.name);
  return names.reverse().join('/');
}

/** The path of a name in a directory. */
export function joinPath(parent: Directory, name: string): string {
  return parent.parent === undefined ? name : `${pathOf(parent)}/${name}`;
}

function node(name: string, parent: Directory | undefined): Directory {
  return {
    name,
    parent,
    pathBytes: (parent?.pathBytes ?? 0) + 1 + name.length,
    children: undefined,
    whiteouts: undefined,
    implied: true,
    filled: false,
    opaque: false,
    removed: false,
    mtime: undefined,
    defaultAcl: undefined,
  };
}

export function openDirectories(treeDir: string): Directories {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  const rootFd = check(openat(AT_FDCWD, toByteString(treeDir), flags), 'open', quote(treeDir));
  const root = node('', undefined);
  /** Open descriptors but the root's, least recently used first. */
  const fds = new Map<Directory, number>();
  let recent = root;
  let recentFd = rootFd;
  let linkNames = 0;

  function open(directory: Directory): number {
    const parentFd = directory.parent === root ? rootFd : fds.get(directory.parent!);
    const fd =
      parentFd !== undefined
        ? openat(parentFd, directory.name, flags)
        : openat2(rootFd, pathOf(directory), flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    check(fd, 'open', showBytes(pathOf(directory)));
    if (fds.size >= FDS_MAX) {
      const [oldest, oldestFd] = fds.entries().next().value!;
      close(oldestFd);
      fds.delete(oldest);
    }
    return fd;
  }

  function fdOf(directory: Directory): number {
    if (directory === recent) return recentFd;
    if (directory === root) return rootFd;
    const known = fds.get(directory);
    if (known !== undefined) fds.delete(directory);
    const fd = known ?? open(directory);
    fds.set(directory, fd);
    recent = directory;
    recentFd = fd;
    return fd;
  }

  function forget(directory: Directory): void {
    directory.parent?.children?.delete(directory.name);
    const gone = [directory];
    for (let at = gone.pop(); at !== undefined; at = gone.pop()) {
      at.removed = true;
      const fd = fds.get(at);
      if (fd !== undefined) close(fd);
      fds.delete(at);
      for (const child of at.children?.values() ?? []) gone.push(child);
    }
    recent = root;
    recentFd = rootFd;
  }

  return {
    root,
    fdOf,
    forget,
    add(parent, name) {
      const directory = node(name, parent);
      if (directory.pathBytes > PATH_MAX_BYTES)
        throw new Refusal(`leads to a path of more than ${PATH_MAX_BYTES} bytes`);
      parent.children ??= new Map();
      parent.children.set(name, directory);
      return directory;
    },
    walk(names) {
      let directory = root;
      let missing: string[] = [];
      const ahead = names.toReversed();
      for (let links = 0, name = ahead.pop(); name !== undefined; name = ahead.pop()) {
        if (name === '' || name === '.') continue;
        checkName(name);
        if (name === '..') {
          if (missing.length > 0) missing.pop();
          else directory = directory.parent ?? root;
          continue;
        }
        const child = missing.length > 0 ? undefined : directory.children?.get(name);
        if (child !== undefined) {
          directory = child;
          continue;
        }
        const target =
          missing.length > 0 || directory.whiteouts?.has(name)
            ? -errno.ENOENT
            : readlinkat(fdOf(directory), name);
        if (target === -errno.ENOENT) {
          missing.push(name);
        } else if (typeof target === 'string') {
          if (++links > SYMLINKS_MAX) throw new Refusal('its path has too many levels of symlinks');
          if (target.startsWith('/')) {
            directory = root;
            missing = [];
          }
          const targetNames = target.split('/');
          linkNames += targetNames.length;
          if (linkNames > LINK_NAMES_MAX)
            throw new Refusal('its path needs too much time: the symlinks of the layer are too long');
          ahead.push(...targetNames.reverse());
        } else if (target === -errno.EINVAL) {
          throw new Refusal(`${showBytes(name)} on its path is not a directory`);
        } else check(target, 'readlink', showBytes(name));
      }
      return { directory, missing };
    },
    close() {
      for (const fd of fds.values()) close(fd);
      fds.clear();
      close(rootFd);
    },
  };
}
