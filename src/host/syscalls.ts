/**
 * System calls that node:fs lacks: relative to a directory's descriptor, without following links, with raw names.
 * Linux, x86_64 and aarch64; bound with koffi when the first one is used, so that a program without need pays nothing.
 *
 * Invariant: every call is synchronous and returns its result, or the negative errno; nothing here throws but
 * check(), its wrappers at the end, and a name with a NUL. Names are byte strings (src/archive/byte-string.ts). Descriptors
 * made here are close-on-exec and are closed with close() of this file: node:fs would warn about them in workers.
 */
import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { koffi } from './koffi.ts';

// Flags that differ between architectures come from node; the others are equal on both.
export const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_NONBLOCK, O_NOCTTY } =
  constants;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const O_NOATIME = 0o1000000;
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_EMPTY_PATH = 0x1000;
export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;
export const RESOLVE_IN_ROOT = 0x10;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;
export const S_IFMT = 0o170000;
export const { S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK } = constants;

/** Negative results to compare with. */
export const errno = osConstants.errno;

const SYS_openat2 = 437; // the same number on every architecture
const STATX_BASIC_STATS = 0x7ff;
const STATX_INO = 0x100;
const NAME_BYTES = 64 * 1024;

function bind() {
  const libc = koffi().load('libc.so.6');
  const call = (name: string, result: string, ...parameters: string[]): ((...values: unknown[]) => number) =>
    libc.func(name, result, parameters);
  return {
    errno: koffi().errno as () => number,
    openat: call('openat', 'int', 'int', 'void *', 'int', 'uint32_t'),
    openat2: call('syscall', 'int64_t', 'int64_t', 'int64_t', 'void *', 'void *', 'uint64_t'),
    close: call('close', 'int', 'int'),
    closeRange: call('close_range', 'int', 'uint32_t', 'uint32_t', 'int'),
    read: call('read', 'int64_t', 'int', 'void *', 'uint64_t'),
    pwrite: call('pwrite64', 'int64_t', 'int', 'void *', 'uint64_t', 'int64_t'),
    ftruncate: call('ftruncate64', 'int', 'int', 'int64_t'),
    lseek: call('lseek64', 'int64_t', 'int', 'int64_t', 'int'),
    copyFileRange: call(
      'copy_file_range',
      'int64_t',
      'int',
      'void *',
      'int',
      'void *',
      'uint64_t',
      'uint32_t',
    ),
    mkdirat: call('mkdirat', 'int', 'int', 'void *', 'uint32_t'),
    mknodat: call('mknodat', 'int', 'int', 'void *', 'uint32_t', 'uint64_t'),
    symlinkat: call('symlinkat', 'int', 'void *', 'int', 'void *'),
    readlinkat: call('readlinkat', 'int64_t', 'int', 'void *', 'void *', 'uint64_t'),
    linkat: call('linkat', 'int', 'int', 'void *', 'int', 'void *', 'int'),
    unlinkat: call('unlinkat', 'int', 'int', 'void *', 'int'),
    renameat2: call('renameat2', 'int', 'int', 'void *', 'int', 'void *', 'uint32_t'),
    statx: call('statx', 'int', 'int', 'void *', 'int', 'uint32_t', 'void *'),
    fchown: call('fchown', 'int', 'int', 'uint32_t', 'uint32_t'),
    fchownat: call('fchownat', 'int', 'int', 'void *', 'uint32_t', 'uint32_t', 'int'),
    fchmod: call('fchmod', 'int', 'int', 'uint32_t'),
    fchmodat: call('fchmodat', 'int', 'int', 'void *', 'uint32_t', 'int'),
    futimens: call('futimens', 'int', 'int', 'void *'),
    utimensat: call('utimensat', 'int', 'int', 'void *', 'void *', 'int'),
    fsetxattr: call('fsetxattr', 'int', 'int', 'void *', 'void *', 'uint64_t', 'int'),
    lsetxattr: call('lsetxattr', 'int', 'void *', 'void *', 'void *', 'uint64_t', 'int'),
    setxattr: call('setxattr', 'int', 'void *', 'void *', 'void *', 'uint64_t', 'int'),
    getxattr: call('getxattr', 'int64_t', 'void *', 'void *', 'void *', 'uint64_t'),
    listxattr: call('listxattr', 'int64_t', 'void *', 'void *', 'uint64_t'),
    getdents64: call('getdents64', 'int64_t', 'int', 'void *', 'uint64_t'),
    flistxattr: call('flistxattr', 'int64_t', 'int', 'void *', 'uint64_t'),
    removexattr: call('removexattr', 'int', 'void *', 'void *'),
    flock: call('flock', 'int', 'int', 'int'),
    syncfs: call('syncfs', 'int', 'int'),
    ioctl: call('ioctl', 'int', 'int', 'uint64_t', 'void *'),
    umask: call('umask', 'uint32_t', 'uint32_t'),
  };
}

type Libc = ReturnType<typeof bind>;
let bound: Libc | undefined;
function libc(): Libc {
  bound ??= bind();
  return bound;
}

/** The result of a call, or the negative errno. */
function result(value: number): number {
  return value >= 0 ? value : -libc().errno();
}

// Arguments are written here, one buffer per parameter, instead of being allocated for every call.
const nameA = Buffer.allocUnsafeSlow(NAME_BYTES);
const nameB = Buffer.allocUnsafeSlow(NAME_BYTES);
const nameC = Buffer.allocUnsafeSlow(NAME_BYTES);
const statBuffer = Buffer.alloc(256);
const timeBuffer = Buffer.alloc(32);
const howBuffer = Buffer.alloc(24);
const linkBuffer = Buffer.allocUnsafeSlow(4096);
const entriesBuffer = Buffer.allocUnsafeSlow(64 * 1024);

function put(buffer: Buffer, name: string): Buffer {
  if (name.length >= NAME_BYTES || name.includes('\0'))
    throw new TypeError('a name that is too long or has a NUL');
  buffer[buffer.write(name, 0, 'latin1')] = 0;
  return buffer;
}

export function openat(directory: number, name: string, flags: number, mode = 0): number {
  return result(libc().openat(directory, put(nameA, name), flags | O_CLOEXEC, mode));
}

/** openat2(2): as openat(), with RESOLVE_* flags. */
export function openat2(directory: number, name: string, flags: number, resolve: number): number {
  howBuffer.writeUInt32LE((flags | O_CLOEXEC) >>> 0, 0);
  howBuffer.writeUInt32LE(resolve, 16);
  return result(
    Number(libc().openat2(SYS_openat2, directory, put(nameA, name), howBuffer, howBuffer.length)),
  );
}

/** `argument`: the structure that the request takes, in the kernel's layout; results are written into it. */
export function ioctl(fd: number, request: number, argument: Buffer | null = null): number {
  return result(libc().ioctl(fd, request, argument));
}

export function close(fd: number): number {
  return result(libc().close(fd));
}

const CLOSE_RANGE_CLOEXEC = 4;
const FD_MAX = 0xffff_ffff;

/** Has the descriptors from `first` on stay behind when another program is executed; 0, or the negative errno. */
export function closeOnExec(first: number): number {
  return result(libc().closeRange(first, FD_MAX, CLOSE_RANGE_CLOEXEC));
}

export function read(fd: number, buffer: Buffer): number {
  return result(libc().read(fd, buffer, buffer.length));
}

/** Writes all of `bytes` at `offset`; 0, or the negative errno. */
export function pwriteAll(fd: number, bytes: Buffer, offset: number): number {
  const call = libc().pwrite;
  for (let done = 0; done < bytes.length; ) {
    const written = call(fd, done === 0 ? bytes : bytes.subarray(done), bytes.length - done, offset + done);
    if (written > 0) done += written;
    else if (written < 0 && result(-1) !== -errno.EINTR) return result(-1);
  }
  return 0;
}

export function ftruncate(fd: number, size: number): number {
  return result(libc().ftruncate(fd, size));
}

export function lseek(fd: number, offset: number, whence: number): number {
  return result(Number(libc().lseek(fd, offset, whence)));
}

/** copy_file_range(2) at the descriptors' own offsets. */
export function copyFileRange(from: number, to: number, bytes: number): number {
  return result(libc().copyFileRange(from, null, to, null, bytes, 0));
}

export function mkdirat(directory: number, name: string, mode: number): number {
  return result(libc().mkdirat(directory, put(nameA, name), mode));
}

/** `mode` carries the type (S_IFCHR, …). Numbers beyond 12 and 20 bits would wrap: the caller has checked them. */
export function mknodat(directory: number, name: string, mode: number, major = 0, minor = 0): number {
  const device = (minor & 0xff) + major * 256 + (minor >>> 8) * 2 ** 20;
  return result(libc().mknodat(directory, put(nameA, name), mode, device));
}

export function symlinkat(target: string, directory: number, name: string): number {
  return result(libc().symlinkat(put(nameB, target), directory, put(nameA, name)));
}

/** The target as a byte string, or the negative errno (-EINVAL: not a symlink). */
export function readlinkat(directory: number, name: string): string | number {
  const length = result(libc().readlinkat(directory, put(nameA, name), linkBuffer, linkBuffer.length));
  return length < 0 ? length : linkBuffer.toString('latin1', 0, length);
}

/** Offsets in struct linux_dirent64. */
const DIRENT_LENGTH = 16;
const DIRENT_NAME = 19;

/** The names in a directory that was just opened, as byte strings, in no order; or the negative errno. */
export function directoryNames(fd: number): string[] | number {
  const names: string[] = [];
  for (;;) {
    const length = result(Number(libc().getdents64(fd, entriesBuffer, entriesBuffer.length)));
    if (length < 0) return length;
    if (length === 0) return names;
    for (let at = 0; at < length; at += entriesBuffer.readUInt16LE(at + DIRENT_LENGTH)) {
      const start = at + DIRENT_NAME;
      const name = entriesBuffer.toString('latin1', start, entriesBuffer.indexOf(0, start));
      if (name !== '.' && name !== '..') names.push(name);
    }
  }
}

/** Does not follow `from` when it is a symlink. */
export function linkat(fromDirectory: number, from: string, toDirectory: number, to: string): number {
  return result(libc().linkat(fromDirectory, put(nameA, from), toDirectory, put(nameB, to), 0));
}

export function unlinkat(directory: number, name: string, flags = 0): number {
  return result(libc().unlinkat(directory, put(nameA, name), flags));
}

export function renameat2(
  fromDirectory: number,
  from: string,
  toDirectory: number,
  to: string,
  flags = 0,
): number {
  return result(libc().renameat2(fromDirectory, put(nameA, from), toDirectory, put(nameB, to), flags));
}

export interface FileTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface FileStat {
  /** With the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** On the disk, in units of 512 bytes. */
  readonly blocks: number;
  readonly links: number;
  readonly ino: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly mtime: FileTime;
}

/** Of `name` below `directory`, a final symlink not followed; of `directory` itself for ''. */
export function statAt(directory: number, name: string): FileStat | number {
  const flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
  const status = result(libc().statx(directory, put(nameA, name), flags, STATX_BASIC_STATS, statBuffer));
  if (status < 0) return status;
  return {
    links: statBuffer.readUInt32LE(16),
    uid: statBuffer.readUInt32LE(20),
    gid: statBuffer.readUInt32LE(24),
    mode: statBuffer.readUInt16LE(28),
    ino: statBuffer.readBigUInt64LE(32),
    size: statBuffer.readUInt32LE(40) + statBuffer.readUInt32LE(44) * 2 ** 32,
    blocks: statBuffer.readUInt32LE(48) + statBuffer.readUInt32LE(52) * 2 ** 32,
    mtime: {
      seconds: statBuffer.readUInt32LE(112) + statBuffer.readInt32LE(116) * 2 ** 32,
      nanoseconds: statBuffer.readUInt32LE(120),
    },
    deviceMajor: statBuffer.readUInt32LE(128),
    deviceMinor: statBuffer.readUInt32LE(132),
  };
}

/** The number of the file behind a descriptor, or the negative errno. */
export function inodeOf(fd: number): number {
  const status = result(libc().statx(fd, put(nameA, ''), AT_EMPTY_PATH, STATX_INO, statBuffer));
  return status < 0 ? status : statBuffer.readUInt32LE(32) + statBuffer.readUInt32LE(36) * 2 ** 32;
}

const NS_GET_USERNS = 0xb701;

/** The number of the user namespace that a namespace belongs to (ioctl_ns(2), NS_GET_USERNS), or the negative errno. */
export function namespaceOwner(fd: number): number {
  const owner = ioctl(fd, NS_GET_USERNS);
  if (owner < 0) return owner;
  const inode = inodeOf(owner);
  close(owner);
  return inode;
}

export function fchown(fd: number, uid: number, gid: number): number {
  return result(libc().fchown(fd, uid, gid));
}

/** Of a symlink itself; of `directory`, whatever it is, for ''. */
export function fchownat(directory: number, name: string, uid: number, gid: number): number {
  return result(libc().fchownat(directory, put(nameA, name), uid, gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
}

export function fchmod(fd: number, mode: number): number {
  return result(libc().fchmod(fd, mode));
}

/** FOLLOWS a symlink: only for names that are known to be none. */
export function fchmodat(directory: number, name: string, mode: number): number {
  return result(libc().fchmodat(directory, put(nameA, name), mode, 0));
}

/** atime and mtime alike: what is reproducible. */
function times(time: FileTime): Buffer {
  const high = Math.floor(time.seconds / 2 ** 32);
  for (const at of [0, 16]) {
    timeBuffer.writeUInt32LE(time.seconds - high * 2 ** 32, at);
    timeBuffer.writeInt32LE(high, at + 4);
    timeBuffer.writeUInt32LE(time.nanoseconds, at + 8);
  }
  return timeBuffer;
}

export function futimens(fd: number, time: FileTime): number {
  return result(libc().futimens(fd, times(time)));
}

/** Of a symlink itself. */
export function utimensat(directory: number, name: string, time: FileTime): number {
  return result(libc().utimensat(directory, put(nameA, name), times(time), AT_SYMLINK_NOFOLLOW));
}

// Xattrs of anything, also of symlinks and of O_PATH descriptors, go through /proc: the *at() calls are too new.

function procPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** The descriptor must be open for reading or writing. */
export function fsetxattr(fd: number, attribute: string, value: Buffer): number {
  return result(libc().fsetxattr(fd, put(nameB, attribute), value, value.length, 0));
}

/** Of `name` below `directory`, which may be a symlink. */
export function setxattrat(directory: number, name: string, attribute: string, value: Buffer): number {
  const path = put(nameA, `${procPath(directory)}/${name}`);
  return result(libc().lsetxattr(path, put(nameB, attribute), value, value.length, 0));
}

/** Of the file behind any descriptor, a symlink included. */
export function setxattr(fd: number, attribute: string, value: Buffer): number {
  const path = put(nameA, procPath(fd));
  return result(libc().setxattr(path, put(nameB, attribute), value, value.length, 0));
}

/** Of the file behind any descriptor. */
export function getxattr(fd: number, attribute: string): Buffer | number {
  const path = put(nameA, procPath(fd));
  const size = result(libc().getxattr(path, put(nameB, attribute), nameC, NAME_BYTES));
  return size < 0 ? size : Buffer.from(nameC.subarray(0, size));
}

/** Names of the xattrs of the file behind any descriptor. */
export function listxattr(fd: number): string[] | number {
  return xattrNames(result(libc().listxattr(put(nameA, procPath(fd)), nameC, NAME_BYTES)));
}

/** The same, faster, of a descriptor that is open for reading. */
export function flistxattr(fd: number): string[] | number {
  return xattrNames(result(libc().flistxattr(fd, nameC, NAME_BYTES)));
}

function xattrNames(size: number): string[] | number {
  return size < 0 ? size : nameC.toString('latin1', 0, size).split('\0').slice(0, -1);
}

export function removexattr(fd: number, attribute: string): number {
  return result(libc().removexattr(put(nameA, procPath(fd)), put(nameB, attribute)));
}

/** The old mask. Of the whole process. */
export function umask(mask: number): number {
  return libc().umask(mask);
}

/** A negative result as an Error with code, errno and syscall, as those of node:fs; otherwise the result itself. */
export function check(value: number, syscall: string, what: string): number {
  if (value >= 0) return value;
  throw systemCallError(value, syscall, what);
}

/** That libuv has no name for. */
const OTHER_ERRORS = new Map([[15, ['ENOTBLK', 'block device required'] as const]]);

/** `what` names the object for people (quoted by showBytes() or quote()). */
export function systemCallError(value: number, syscall: string, what: string): NodeJS.ErrnoException {
  const [code, text] = describe(value);
  return Object.assign(new Error(`${syscall} ${what}: ${code}: ${text}`), { code, errno: value, syscall });
}

/** A negative result for people: "EIO: i/o error". */
export function errnoText(value: number): string {
  return describe(value).join(': ');
}

/** Its code and what that means. */
function describe(value: number): readonly [code: string, text: string] {
  return getSystemErrorMap().get(value) ?? OTHER_ERRORS.get(-value) ?? [`E${-value}`, 'unknown error'];
}

/** False when somebody else holds the lock (with LOCK_NB). */
export function tryFlock(fd: number, operation: number): boolean {
  const status = result(libc().flock(fd, operation));
  if (status === -errno.EWOULDBLOCK) return false;
  check(status, 'flock', 'the lock');
  return true;
}

/** Writes the whole file system of `fd` to the disk. */
export function syncfs(fd: number): void {
  check(result(libc().syncfs(fd)), 'syncfs', 'the store');
}
