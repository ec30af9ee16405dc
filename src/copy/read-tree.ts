/**
 * A file or directory tree → entries and their data.
 *
 * Invariants
 * - Each step opens one name of an open directory and never follows a link. It is looked at before it is opened for
 *   reading, by a descriptor that cannot become another file: no fifo, device or socket is ever opened.
 * - Files of the kernel (procfs, sysfs, …) are not read, wherever they are mounted. Other mounts are entered.
 * - Holes stay holes and hard links stay links, so what is copied is not larger than what is there.
 */
import { fstatSync, statfsSync } from 'node:fs';
import { showBytes } from '../archive/byte-string.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import type { TarHandler } from '../archive/tar-parser.ts';
import {
  AT_FDCWD,
  check,
  close,
  directoryNames,
  errno,
  type FileStat,
  lseek,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  read,
  readlinkat,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SEEK_DATA,
  SEEK_HOLE,
  statAt,
} from '../host/syscalls.ts';
import { OciError } from '../oci/errors.ts';
import { PATH_MAX_BYTES } from '../oci/limits.ts';

const ENTRIES_MAX = 4_000_000;
const CHUNK_BYTES = 1024 * 1024;

/** statfs(2): proc, sysfs, cgroup2, debugfs, tracefs, securityfs, bpf, mqueue, configfs, binfmt_misc, efivarfs. */
const KERNEL_FILE_SYSTEMS = new Set([
  ...[0x9fa0, 0x62656572, 0x63677270, 0x64626720, 0x74726163, 0x73636673, 0xcafe4a11, 0x19800202],
  ...[0x62656570, 0x42494e4d, 0xde5e81e4],
]);

export interface ReadResult {
  /** Devices, fifos, sockets, and files of the kernel. */
  leftOut: number;
}

/**
 * Hands over what `fd` (O_PATH, stays open) is, as `name`, and all that is below it. `name` '': only what is below.
 * `ids`: the ids of entries, from those of the host.
 */
export function readTree(
  fd: number,
  name: string,
  ids: (stat: FileStat) => { uid: number; gid: number },
  handler: TarHandler,
): ReadResult {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const seen = new Map<string, string>();
  let entries = 0;
  let leftOut = 0;

  function visit(fd: number, path: string): void {
    const stat = statOf(fd, path);
    if (path.length > PATH_MAX_BYTES || ++entries > ENTRIES_MAX)
      throw new OciError('BAD_ARCHIVE', `too deep or too many files at ${showBytes(path.slice(0, 256))}`, {
        hint: 'Copy a part of the tree.',
      });
    const entry = (type: TarEntry['type'], rest: Partial<TarEntry> = {}) =>
      handler.entry({
        ...{ type, path, linkPath: '', mode: stat.mode & 0o7777, ...ids(stat), mtime: stat.mtime, size: 0 },
        ...{ sparse: false, deviceMajor: 0, deviceMinor: 0, xattrs: undefined },
        ...rest,
      });
    const type = stat.mode & S_IFMT;
    if (type === S_IFDIR) {
      if (path !== '') entry('directory');
      below(fd, path);
    } else if (type === S_IFLNK) {
      const target = readlinkat(fd, '');
      if (typeof target === 'string') entry('symlink', { linkPath: target });
    } else if (type === S_IFREG) {
      const first = stat.links > 1 ? firstName(fd, path) : undefined;
      if (first !== undefined) entry('hardLink', { linkPath: first });
      else
        withReadable(fd, path, (readable) => {
          entry('file', { size: stat.size });
          content(readable, stat.size, path);
          handler.end();
        });
    } else leftOut++;
  }

  /** Another name of the same file that was handed over already. */
  function firstName(fd: number, path: string): string | undefined {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    const key = `${dev}:${ino}`;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, path);
    return first;
  }

  function below(fd: number, path: string): void {
    const directory = check(openat(fd, '.', O_RDONLY | O_DIRECTORY), 'open', showBytes(path));
    let names: string[] | number;
    try {
      names = directoryNames(directory);
    } finally {
      close(directory);
    }
    if (typeof names === 'number') throw check(names, 'getdents64', showBytes(path));
    for (const name of names.sort()) {
      const child = openChild(fd, name);
      if (child === -errno.ENOENT) continue; // removed meanwhile
      const childPath = path === '' ? name : `${path}/${name}`;
      check(child, 'open', showBytes(childPath));
      try {
        if (isOfKernel(child)) leftOut++;
        else visit(child, childPath);
      } finally {
        close(child);
      }
    }
  }

  /** Data between holes; what a file lost meanwhile is zeros, what it won is left out. */
  function content(fd: number, size: number, path: string): void {
    for (let at = 0; at < size; ) {
      const data = lseek(fd, at, SEEK_DATA);
      if (data === -errno.ENXIO || data >= size) return;
      const start = data < 0 ? at : data;
      const hole = data < 0 ? size : Math.min(lseek(fd, start, SEEK_HOLE), size);
      check(lseek(fd, start, SEEK_SET), 'lseek', showBytes(path));
      for (at = start; at < hole; ) {
        const bytes = check(
          read(fd, buffer.subarray(0, Math.min(CHUNK_BYTES, hole - at))),
          'read',
          showBytes(path),
        );
        if (bytes === 0) return;
        handler.data(buffer.subarray(0, bytes), at);
        at += bytes;
      }
      if (hole <= start) return; // cut off meanwhile
    }
  }

  if (isOfKernel(fd))
    throw new OciError('UNSUPPORTED', `${showBytes(name)} is the kernel's: it has no size to copy`, {
      hint: 'Read it in the container: ocictl exec UNIT cat FILE.',
    });
  visit(fd, name);
  return { leftOut };
}

const SEEK_SET = 0;

function openChild(directory: number, name: string): number {
  return openat2(directory, name, O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

/** Asked of every file: any of them may be a mount. */
function isOfKernel(fd: number): boolean {
  return KERNEL_FILE_SYSTEMS.has(statfsSync(`/proc/self/fd/${fd}`).type);
}

function statOf(fd: number, path: string): FileStat {
  const stat = statAt(fd, '');
  if (typeof stat === 'number') throw check(stat, 'stat', showBytes(path));
  return stat;
}

/** The same file, known to be a regular one, for reading. */
function withReadable(fd: number, path: string, work: (fd: number) => void): void {
  const readable = openat(AT_FDCWD, `/proc/self/fd/${fd}`, O_RDONLY | O_NONBLOCK);
  check(readable, 'open', showBytes(path));
  try {
    work(readable);
  } finally {
    close(readable);
  }
}
