/**
 * Mount points in a tree that a container writes to: made where they are missing, as runc makes them in a bundle's
 * rootfs.
 *
 * Invariant: nothing outside the tree is touched, whatever its symbolic links say and whoever changes it meanwhile:
 * the paths are canonical, and each step opens one real directory below the tree (openat2(2)).
 */
import {
  AT_FDCWD,
  check,
  close,
  errno,
  fchownat,
  mkdirat,
  mknodat,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  S_IFREG,
} from './syscalls.ts';

export interface MountPoints {
  root: string;
  /** Canonical absolute paths. */
  directories: readonly string[];
  files: readonly string[];
  /** Owner of what is made: where id 0 of the tree lies on disk. */
  idBase: number;
}

/** Throws an errno error naming the path. What exists stays as it is. */
export function makeMountPoints({ root, directories, files, idBase }: MountPoints): void {
  const fd = check(openat(AT_FDCWD, root, O_PATH | O_DIRECTORY | O_RDONLY), 'open', root);
  try {
    for (const path of directories) makeDirectories(fd, path, idBase);
    for (const path of files) {
      const slash = path.lastIndexOf('/');
      makeDirectories(fd, path.slice(0, slash), idBase);
      make(fd, path, idBase, (parent, name) => mknodat(parent, name, S_IFREG | 0o644));
    }
  } finally {
    close(fd);
  }
}

function makeDirectories(root: number, path: string, idBase: number): void {
  const parts = path.split('/').filter((part) => part !== '');
  for (let depth = 1; depth <= parts.length; depth++)
    make(root, `/${parts.slice(0, depth).join('/')}`, idBase, (parent, name) => mkdirat(parent, name, 0o755));
}

function make(
  root: number,
  path: string,
  idBase: number,
  create: (parent: number, name: string) => number,
): void {
  const slash = path.lastIndexOf('/');
  const directory = path.slice(1, slash) || '.';
  const name = path.slice(slash + 1);
  const flags = O_PATH | O_DIRECTORY | O_RDONLY;
  const parent = check(
    openat2(root, directory, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS),
    'openat2',
    path,
  );
  try {
    const made = create(parent, name);
    if (made === -errno.EEXIST) return;
    check(made, 'mkdirat', path);
    check(fchownat(parent, name, idBase, idBase), 'fchownat', path);
  } finally {
    close(parent);
  }
}
