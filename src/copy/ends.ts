/**
 * The two ends of a copy: how a path that the user typed is opened on either.
 *
 * Invariant (security): in a container every step, symbolic links included, is resolved by the kernel below the
 * container's root (openat2(2), RESOLVE_IN_ROOT), whatever the container changes meanwhile. On the host the path that
 * was typed is the user's, links and all; what lies below it is opened without following any.
 */
import {
  AT_FDCWD,
  errno,
  O_DIRECTORY,
  O_PATH,
  openat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
} from '../host/syscalls.ts';

/** Paths are byte strings; results are new descriptors or negative errnos. */
export interface End {
  /** A path as it was typed. */
  open(path: string, flags: number): number;
  /** The directory `below`, a relative path, of the directory `path`, which `fd` has open. */
  directoryBelow(path: string, fd: number, below: string): number;
}

export const hostEnd: End = {
  open: (path, flags) => openat(AT_FDCWD, path, flags),
  directoryBelow: (_path, fd, below) =>
    openat2(
      fd,
      below || '.',
      O_PATH | O_DIRECTORY,
      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    ),
};

/** How often the kernel may say that a rename came between. */
const TRIES = 100;

/** `root`: a descriptor of the container's root directory. */
export function containerEnd(root: number): End {
  function open(path: string, flags: number): number {
    let fd = -errno.EAGAIN;
    for (let tries = 0; fd === -errno.EAGAIN && tries < TRIES; tries++)
      fd = openat2(root, path || '.', flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    return fd;
  }
  // by the whole path: a link that leads upwards means the container's root, not the directory
  return { open, directoryBelow: (path, _fd, below) => open(`${path}/${below}`, O_PATH | O_DIRECTORY) };
}
