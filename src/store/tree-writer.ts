/**
 * Entries of a layer → a directory tree as overlayfs wants it (image-spec layer.md, "Applying Changesets").
 *
 * Invariant: nothing outside the tree is touched, whatever the entries say: every name is looked up relative to an open
 * directory that we made (tree-writer-directories.ts), made with O_EXCL, and never followed when it is a link.
 *
 * - Owner: idBase + id. Whiteouts are character devices 0:0, opaque directories have user.overlay.opaque=y.
 * - The last entry of a name wins. A directory over a directory changes its attributes; in the place of
 *   anything else, a whiteout included, it hides what lies below (opaque).
 * - A whiteout hides only what is below the layer: next to an entry of the same name, before or after, that entry
 *   stays and a directory becomes opaque. In the bottom layer whiteouts have nothing to hide and are left out.
 * - A path through a symlink of the layer lands where the link leads inside the root. What it takes from the layers below
 *   to decide is returned as Unsettled, for settleLayer().
 */
import { showBytes } from '../archive/byte-string.ts';
import { ENTRIES_MAX, splitPath, whiteoutOf } from '../archive/layer-path.ts';
import { DEFAULT_ACL_XATTR } from '../archive/layer-xattrs.ts';
import { atEntry, Refusal, refusing } from '../archive/refusal.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import type { TarHandler } from '../archive/tar-parser.ts';
import { crc32 } from '../host/crc32.ts';
import {
  check,
  close,
  errno,
  type FileTime,
  fchmod,
  fchmodat,
  fchown,
  fchownat,
  fsetxattr,
  ftruncate,
  futimens,
  inodeOf,
  listxattr,
  mkdirat,
  mknodat,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_WRONLY,
  openat,
  pwriteAll,
  removexattr,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  setxattrat,
  symlinkat,
  unlinkat,
  utimensat,
} from '../host/syscalls.ts';
import { type ContentSums, sumsOf } from './checksum.ts';
import { removeTreeAt } from './remove-tree.ts';
import { type Directory, joinPath, openDirectories, pathOf } from './tree-writer-directories.ts';
import { createHardLinks, type WaitingLink } from './tree-writer-links.ts';
import { checkXattr, OPAQUE_XATTR, storeXattrs } from './tree-writer-xattrs.ts';

/** What a layer leaves open until the layers below it are there. Paths are byte strings relative to the tree. */
export interface Unsettled {
  /** Directories that no entry describes, parents before children; '' is the root. */
  readonly implied: readonly string[];
  /** All directories that no entry describes, those too that hide what is below. In no order. */
  readonly undescribed: readonly string[];
  /** All whiteouts, in no order. */
  readonly whiteouts: readonly string[];
  /** Hard links whose target was not in the layer when they came: it is below, or came later. */
  readonly links: readonly WaitingLink[];
  /** Nothing of the layers below is to be seen. overlayfs does not look for the opaque mark on a root. */
  readonly rootOpaque: boolean;
}

export interface TreeWriter extends TarHandler {
  /** Counted so far: tar entries, and bytes of file content written. */
  readonly entries: number;
  readonly sizeBytes: number;
  /** Of the files written that are no more than their content: neither sparse nor with xattrs. */
  readonly sums: ContentSums;
  /** Gives directories their times, and tells what is open. */
  finish(): Unsettled;
  /** Closes all descriptors. At any time; leaves what was written. */
  close(): void;
}

/** Modification time of what no entry describes: the same in every run. */
export const EPOCH: FileTime = { seconds: 0, nanoseconds: 0 };

/** What a directory is as long as no entry describes it. */
const IMPLIED: Pick<TarEntry, 'type' | 'mode' | 'uid' | 'gid' | 'xattrs'> = {
  type: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  xattrs: undefined,
};

/** `treeDir` is an existing empty directory. With `bottom`, nothing lies below, and nothing stays unsettled. */
export function createTreeWriter(treeDir: string, options: { idBase: number; bottom: boolean }): TreeWriter {
  const { idBase, bottom } = options;
  const directories = openDirectories(treeDir);
  const { root, fdOf } = directories;
  let entries = 0;
  let sizeBytes = 0;

  // The parent of the entry before, by its path as it was written: most entries have the same.
  let knownPath: string | undefined;
  let knownParent = root;

  /** The file being written. */
  let file: { fd: number; entry: TarEntry; crc: number } | undefined;
  /** By inode. One that is free again is used again, and then stands for what it is now. */
  const sums = new Map<number, number>();
  const links = createHardLinks(directories, vacate);

  setAttributes(root, IMPLIED);

  function setAttributes(directory: Directory, entry: typeof IMPLIED): void {
    const fd = fdOf(directory);
    const path = () => pathOf(directory);
    checkLazily(fchown(fd, idBase + entry.uid, idBase + entry.gid), 'chown', path);
    checkLazily(fchmod(fd, entry.mode), 'chmod', path);
    storeXattrs(entry, idBase, path, (name, value) => {
      if (name !== DEFAULT_ACL_XATTR) return fsetxattr(fd, name, value);
      directory.defaultAcl = value;
      return 0;
    });
  }

  /** Makes a directory that is not there. In the place of a whiteout it hides what is below, attributes included. */
  function makeDirectory(parent: Directory, name: string): Directory {
    const fd = fdOf(parent);
    const status = mkdirat(fd, name, 0o700);
    const replaces = status === -errno.EEXIST;
    if (replaces) {
      vacate(parent, name);
      check(mkdirat(fd, name, 0o700), 'mkdir', showBytes(name));
    } else check(status, 'mkdir', showBytes(name));
    links.forget(parent, name);
    const directory = directories.add(parent, name);
    directory.opaque = replaces;
    directory.implied = !replaces;
    return directory;
  }

  /** The directory that `names` lead to; what is missing is made, as implied. */
  function ensureDirectory(names: readonly string[]): Directory {
    let { directory, missing } = directories.walk(names);
    for (const name of missing) {
      directory = makeDirectory(directory, name);
      setAttributes(directory, IMPLIED);
    }
    return directory;
  }

  function ensureParent(names: readonly string[], path: string): Directory {
    const parentPath = path.slice(0, path.lastIndexOf(names.at(-1)!));
    if (parentPath !== knownPath) {
      knownParent = ensureDirectory(names.slice(0, -1));
      knownPath = parentPath;
    }
    return knownParent;
  }

  /** Removes what is at the name, a whole tree if need be. */
  function vacate(parent: Directory, name: string): void {
    const fd = fdOf(parent);
    const directory = parent.children?.get(name);
    if (directory !== undefined) {
      directories.forget(directory);
      removeTreeAt(fdOf(parent), name);
      knownPath = undefined;
      return;
    }
    if (parent.whiteouts?.delete(name) !== true) knownPath = undefined;
    check(unlinkat(fd, name), 'unlink', showBytes(name));
  }

  /** Makes something new at the name with a call that fails with EEXIST while anything is there. */
  function place(parent: Directory, name: string, syscall: string, make: (fd: number) => number): number {
    let status = make(fdOf(parent));
    if (status === -errno.EEXIST) {
      vacate(parent, name);
      status = make(fdOf(parent));
    }
    links.forget(parent, name);
    return checkLazily(status, syscall, () => joinPath(parent, name));
  }

  function entry(entry: TarEntry): void {
    if (++entries > ENTRIES_MAX) throw new Refusal(`the layer has more than ${ENTRIES_MAX} entries`);
    const names = splitPath(entry.path);
    const last = names.at(-1);
    const whiteout = whiteoutOf(names);
    if (last === undefined) rootEntry(entry);
    else if (whiteout !== undefined) whiteoutEntry(names, whiteout, entry.path);
    else {
      const parent = ensureParent(names, entry.path);
      fill(parent);
      if (entry.type === 'directory') directoryEntry(parent, last, entry);
      else if (entry.type === 'file') fileEntry(parent, last, entry);
      else if (entry.type === 'hardLink') links.add(parent, last, entry.linkPath);
      else specialEntry(parent, last, entry);
    }
  }

  function fill(directory: Directory): void {
    for (let at: Directory | undefined = directory; at?.filled === false; at = at.parent) at.filled = true;
  }

  function rootEntry(entry: TarEntry): void {
    if (entry.type !== 'directory') throw new Refusal(`the root of a layer cannot be a ${entry.type}`);
    describeDirectory(root, entry);
  }

  function directoryEntry(parent: Directory, name: string, entry: TarEntry): void {
    describeDirectory(parent.children?.get(name) ?? makeDirectory(parent, name), entry);
  }

  function describeDirectory(directory: Directory, entry: TarEntry): void {
    if (directory.mtime !== undefined) clearXattrs(fdOf(directory));
    directory.defaultAcl = undefined;
    setAttributes(directory, entry);
    directory.mtime = entry.mtime;
    directory.implied = false;
    fill(directory);
  }

  /** An entry for the same directory came before. */
  function clearXattrs(fd: number): void {
    const names = listxattr(fd);
    if (typeof names === 'number') return;
    for (const name of names) removexattr(fd, name);
  }

  function fileEntry(parent: Directory, name: string, entry: TarEntry): void {
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    const fd = place(parent, name, 'create', (directory) => openat(directory, name, flags, 0o600));
    file = { fd, entry, crc: 0 };
  }

  function data(bytes: Buffer, offset: number): void {
    if (file === undefined) return; // the content of a whiteout
    check(pwriteAll(file.fd, bytes, offset), 'write', showBytes(file.entry.path));
    file.crc = crc32(bytes, file.crc);
    sizeBytes += bytes.length;
  }

  function end(): void {
    if (file === undefined) return;
    const { fd, entry, crc } = file;
    const path = () => entry.path;
    // chown() and writing clear setuid bits and capabilities, so they come after.
    if (entry.sparse) checkLazily(ftruncate(fd, entry.size), 'truncate', path);
    checkLazily(fchown(fd, idBase + entry.uid, idBase + entry.gid), 'chown', path);
    checkLazily(fchmod(fd, entry.mode), 'chmod', path);
    storeXattrs(entry, idBase, path, (name, value) => fsetxattr(fd, name, value));
    checkLazily(futimens(fd, entry.mtime), 'utimens', path);
    const inode = checkLazily(inodeOf(fd), 'stat', path);
    if (entry.sparse || entry.xattrs !== undefined) sums.delete(inode);
    else sums.set(inode, crc);
    closeFile();
  }

  function closeFile(): void {
    if (file !== undefined) close(file.fd);
    file = undefined;
  }

  function specialEntry(parent: Directory, name: string, entry: TarEntry): void {
    const { type, deviceMajor, deviceMinor } = entry;
    if (type === 'symlink') {
      if (entry.linkPath === '') throw new Refusal('a symlink without a target');
      place(parent, name, 'symlink', (fd) => symlinkat(entry.linkPath, fd, name));
    } else {
      if (type === 'characterDevice' && deviceMajor === 0 && deviceMinor === 0)
        throw new Refusal('a character device 0:0, which is a whiteout to overlayfs');
      const kind = type === 'characterDevice' ? S_IFCHR : type === 'blockDevice' ? S_IFBLK : S_IFIFO;
      place(parent, name, 'mknod', (fd) => mknodat(fd, name, kind | 0o600, deviceMajor, deviceMinor));
    }
    const fd = fdOf(parent);
    const path = () => entry.path;
    checkLazily(fchownat(fd, name, idBase + entry.uid, idBase + entry.gid), 'chown', path);
    if (type !== 'symlink') checkLazily(fchmodat(fd, name, entry.mode), 'chmod', path);
    storeXattrs(entry, idBase, path, (xattr, value) => setxattrat(fd, name, xattr, value));
    checkLazily(utimensat(fd, name, entry.mtime), 'utimens', path);
  }

  function whiteoutEntry(
    names: readonly string[],
    whiteout: NonNullable<ReturnType<typeof whiteoutOf>>,
    path: string,
  ): void {
    if (whiteout.kind === 'none' || bottom || isHidden(names)) return;
    const parent = ensureParent(names, path);
    if (whiteout.kind === 'opaque') parent.opaque = true;
    else hide(parent, whiteout.hidden);
  }

  /** True when the way to the whiteout leads through another one: there is nothing left to hide. */
  function isHidden(names: readonly string[]): boolean {
    const { directory, missing } = directories.walk(names.slice(0, -1));
    return missing.length > 0 && directory.whiteouts?.has(missing[0]!) === true;
  }

  function hide(parent: Directory, name: string): void {
    const directory = parent.children?.get(name);
    if (directory?.filled === true) {
      directory.opaque = true;
      directory.implied = false;
      return;
    }
    if (directory !== undefined) vacate(parent, name); // it was there for whiteouts alone
    const status = mknodat(fdOf(parent), name, S_IFCHR);
    if (status === -errno.EEXIST) return; // an entry of the layer, or the same whiteout
    check(status, 'mknod', showBytes(name));
    check(fchownat(fdOf(parent), name, idBase, idBase), 'chown', showBytes(name));
    parent.whiteouts ??= new Set();
    parent.whiteouts.add(name);
  }

  function finish(): Unsettled {
    const unlinked = bottom ? links.finish() : links.waiting();
    const [lost] = unlinked;
    if (bottom && lost !== undefined)
      refusing(
        () => atEntry(lost.path),
        () => {
          throw new Refusal(`a hard link to ${showBytes(lost.target)}, which is no file of the image`);
        },
      );
    const implied: string[] = [];
    const undescribed: string[] = [];
    const whiteouts: string[] = [];
    const ahead: { directory: Directory; path: string; hidden: boolean }[] = [
      { directory: root, path: '', hidden: bottom },
    ];
    for (let at = ahead.pop(); at !== undefined; at = ahead.pop()) {
      const { directory, path, hidden } = at;
      const fd = fdOf(directory);
      const below = path === '' ? '' : `${path}/`;
      // What lies below does not reach this far: there is nothing to hide, and overlayfs would show the whiteouts.
      const alone = hidden || directory.opaque;
      for (const name of directory.whiteouts ?? []) {
        if (alone) check(unlinkat(fd, name), 'unlink', showBytes(name));
        else whiteouts.push(below + name);
      }
      for (const child of directory.children?.values() ?? []) {
        if (alone && !child.filled) removeTreeAt(fd, child.name);
        else ahead.push({ directory: child, path: below + child.name, hidden: alone });
      }
      if (directory.implied && !hidden) implied.push(path);
      if (directory.mtime === undefined && !bottom) undescribed.push(path);
      if (directory.opaque && !hidden && directory !== root)
        check(fsetxattr(fd, OPAQUE_XATTR, OPAQUE_YES), 'setxattr', showBytes(path));
      const { defaultAcl } = directory;
      if (defaultAcl !== undefined)
        refusing(
          () => atEntry(path),
          () => checkXattr(fsetxattr(fd, DEFAULT_ACL_XATTR, defaultAcl), DEFAULT_ACL_XATTR, () => path),
        );
      check(futimens(fd, directory.mtime ?? EPOCH), 'utimens', showBytes(path));
    }
    return { implied, undescribed, whiteouts, links: unlinked, rootOpaque: root.opaque };
  }

  return {
    get entries() {
      return entries;
    },
    get sizeBytes() {
      return sizeBytes;
    },
    get sums() {
      return sumsOf(sums);
    },
    entry,
    data,
    end,
    finish,
    close() {
      closeFile();
      directories.close();
    },
  };
}

const OPAQUE_YES = Buffer.from('y');

/** check() for hot paths: the path's text is made only for an error. */
function checkLazily(value: number, syscall: string, path: () => string): number {
  return value >= 0 ? value : check(value, syscall, showBytes(path()));
}
