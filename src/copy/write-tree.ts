/**
 * Entries and their data → files below a directory that is there already.
 *
 * Invariants
 * - No file that was there is written to, and none is followed: each is made anew beside its place, and renamed into
 *   it when it is whole. Directories that are there stay as they are.
 * - Directories are looked up by the end (ends.ts), each time anew; nothing is made in one whose owner the container
 *   does not know: those are the host's, and only mounted there.
 */
import { randomBytes } from 'node:crypto';
import { showBytes } from '../archive/byte-string.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import type { TarHandler } from '../archive/tar-parser.ts';
import {
  check,
  close,
  directoryNames,
  errno,
  type FileTime,
  fchmod,
  fchmodat,
  fchown,
  fchownat,
  ftruncate,
  futimens,
  linkat,
  mkdirat,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  openat,
  openat2,
  pwriteAll,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  readlinkat,
  renameat2,
  statAt,
  symlinkat,
  unlinkat,
  utimensat,
} from '../host/syscalls.ts';
import { OciError } from '../oci/errors.ts';

export interface Target {
  /** A new descriptor of a directory below the target by its relative path, or the negative errno. */
  directory(path: string): number;
  /** Ids of the host for what an entry becomes. Throws where it has none. */
  owner(entry: TarEntry): { uid: number; gid: number };
  /** Whether something may be made in a directory of this owner. */
  mayWriteIn(uid: number): boolean;
  /** Permission bits that are kept. */
  modeMask: number;
}

export interface TreeWriter extends TarHandler {
  /** Devices and fifos: the container makes its own. */
  readonly leftOut: number;
  /** Gives directories their times. */
  finish(): void;
  /** At any time; removes what is half written. */
  close(): void;
}

interface Parent {
  path: string;
  fd: number;
}

export function createTreeWriter(target: Target): TreeWriter {
  let parent: Parent | undefined;
  let file: { fd: number; entry: TarEntry; temporary: string; in: Parent; name: string } | undefined;
  let leftOut = 0;
  const directories: { path: string; mtime: FileTime }[] = [];

  function isTheContainers(fd: number): boolean {
    const stat = statAt(fd, '');
    return typeof stat !== 'number' && target.mayWriteIn(stat.uid);
  }

  function parentOf(path: string): Parent {
    if (parent?.path === path) return parent;
    if (parent !== undefined) close(parent.fd);
    parent = undefined;
    const fd = check(target.directory(path), 'open', showBytes(path || '.'));
    if (!isTheContainers(fd)) {
      close(fd);
      throw new OciError('DENIED', `directory ${showBytes(path || '.')} belongs to nobody in the container`, {
        hint: 'Copy to its source on the host instead.',
      });
    }
    parent = { path, fd };
    return parent;
  }

  function makeDirectory(directory: Parent, name: string, path: string, entry: TarEntry): void {
    const { uid, gid } = target.owner(entry);
    const made = mkdirat(directory.fd, name, 0o700);
    if (made === -errno.EEXIST) return; // what is no directory fails at the first name below it
    check(made, 'mkdir', showBytes(path));
    const fd = check(openOwn(directory.fd, name), 'open', showBytes(path));
    try {
      if (!isEmptyDirectory(fd)) throw exchanged(path);
      check(fchownat(fd, '', uid, gid), 'chown', showBytes(path));
      check(fchmodat(fd, '.', entry.mode & target.modeMask), 'chmod', showBytes(path));
    } finally {
      close(fd);
    }
    directories.push({ path, mtime: entry.mtime });
  }

  /** Makes a file under a name that nobody has, then gives it its own. */
  function replace(directory: Parent, name: string, path: string, make: (temporary: string) => void): void {
    const temporary = temporaryName();
    make(temporary);
    rename(directory, temporary, name, path);
  }

  function rename(directory: Parent, temporary: string, name: string, path: string): void {
    const renamed = renameat2(directory.fd, temporary, directory.fd, name);
    if (renamed < 0) unlinkat(directory.fd, temporary);
    check(renamed, 'write', showBytes(path));
  }

  function makeLink(directory: Parent, name: string, path: string, entry: TarEntry): void {
    const { uid, gid } = target.owner(entry);
    replace(directory, name, path, (temporary) => {
      check(symlinkat(entry.linkPath, directory.fd, temporary), 'symlink', showBytes(path));
      const fd = check(openOwn(directory.fd, temporary), 'open', showBytes(path));
      try {
        if (typeof readlinkat(fd, '') === 'number') throw exchanged(path);
        check(fchownat(fd, '', uid, gid), 'chown', showBytes(path));
      } finally {
        close(fd);
      }
      utimensat(directory.fd, temporary, entry.mtime);
    });
  }

  function makeHardLink(name: string, path: string, entry: TarEntry): void {
    const names = splitPath(entry.linkPath);
    const from = names.pop();
    if (from === undefined) throw badPath(entry.linkPath);
    const source = check(target.directory(names.join('/')), 'open', showBytes(entry.linkPath));
    try {
      const directory = parentOf(dirnameOf(path));
      replace(directory, name, path, (temporary) =>
        check(linkat(source, from, directory.fd, temporary), 'link', showBytes(path)),
      );
    } finally {
      close(source);
    }
  }

  function beginFile(directory: Parent, name: string, path: string, entry: TarEntry): void {
    const temporary = temporaryName();
    const fd = openat(directory.fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    check(fd, 'create', showBytes(path));
    file = { fd, entry, temporary, in: directory, name };
    const { uid, gid } = target.owner(entry);
    check(fchown(fd, uid, gid), 'chown', showBytes(path));
    check(fchmod(fd, entry.mode & target.modeMask), 'chmod', showBytes(path));
  }

  return {
    get leftOut() {
      return leftOut;
    },
    entry(entry) {
      const names = splitPath(entry.path);
      const name = names.at(-1);
      const path = names.join('/');
      if (name === undefined) return; // the directory that is there
      const directory = parentOf(dirnameOf(path));
      if (entry.type === 'directory') makeDirectory(directory, name, path, entry);
      else if (entry.type === 'file') beginFile(directory, name, path, entry);
      else if (entry.type === 'symlink') makeLink(directory, name, path, entry);
      else if (entry.type === 'hardLink') makeHardLink(name, path, entry);
      else leftOut++;
    },
    data(bytes, offset) {
      check(pwriteAll(file!.fd, bytes, offset), 'write', showBytes(file!.entry.path));
    },
    end() {
      const { fd, entry, temporary, in: directory, name } = file!;
      check(ftruncate(fd, entry.size), 'truncate', showBytes(entry.path));
      check(futimens(fd, entry.mtime), 'utimens', showBytes(entry.path));
      rename(directory, temporary, name, entry.path);
      close(fd);
      file = undefined;
    },
    finish() {
      for (const { path, mtime } of directories.reverse()) {
        const fd = target.directory(path);
        if (fd < 0) continue; // removed meanwhile
        if (isTheContainers(fd)) utimensat(fd, '.', mtime); // or a link now, to one that it is only shown
        close(fd);
      }
    },
    close() {
      if (file !== undefined) {
        unlinkat(file.in.fd, file.temporary);
        close(file.fd);
        file = undefined;
      }
      if (parent !== undefined) close(parent.fd);
      parent = undefined;
    },
  };
}

/**
 * What was just made, unless the container put something else in its place. Then giving that away could give it what
 * it may not have: so no link is followed, no mount entered, and callers see that it is as good as new.
 */
function openOwn(directory: number, name: string): number {
  return openat2(
    directory,
    name,
    O_PATH | O_NOFOLLOW,
    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
  );
}

function isEmptyDirectory(fd: number): boolean {
  const readable = openat(fd, '.', O_RDONLY | O_DIRECTORY);
  if (readable < 0) return false;
  const names = directoryNames(readable);
  close(readable);
  return typeof names !== 'number' && names.length === 0;
}

function exchanged(path: string): OciError {
  return new OciError('DENIED', `${showBytes(path)} was exchanged while it was written`, {
    hint: 'Pause the container with ocictl pause, and try it again.',
  });
}

/** Names of a path below the target. */
function splitPath(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw badPath(path);
  return names;
}

function badPath(path: string): OciError {
  return new OciError('BAD_ARCHIVE', `entry ${showBytes(path)} leads out of the directory`, {
    hint: 'Make the archive without .. in its names.',
  });
}

function dirnameOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

function temporaryName(): string {
  return `.ocictl-${randomBytes(9).toString('base64url')}`;
}
