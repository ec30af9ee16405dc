/**
 * The file `files` beside a layer's tree: what the tree has to be, a line for each file, so that damage can be found
 * later and told by its path.
 *
 *   <type><mode> <uid> <gid> <mtime> <size> <crc32> <xattrs> <path> <target>
 *   d755 0 0 1700000000.000000000 - - - etc -
 *   f4755 0 0 1700000000.000000000 2 8cdc1683 - bin/su -
 *   l777 0 0 1700000000.000000000 - - - bin/sh su
 *   c0 0 0 0.000000000 0:0 - - old/gone -                  a whiteout; size is the device's number
 *   h - - - - - - bin/su-too bin/su                        another name of the file bin/su
 *
 * Types are those of find(1); ids are the container's; xattrs is a digest of those that layers can have (the host's
 * security labels are no part of a layer); bytes that are not plain are %XX. The order is that of walk-tree.ts.
 *
 * Invariant: written after the layer is settled and before it is committed; layer.json has the digest of the file.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { showBytes } from '../archive/byte-string.ts';
import {
  close,
  errno,
  type FileStat,
  flistxattr,
  getxattr,
  listxattr,
  O_NOATIME,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  openat,
  readlinkat,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  systemCallError,
} from '../host/syscalls.ts';
import type { Digest } from '../oci/digest.ts';
import { FOREIGN_UID_BASE } from '../oci/limits.ts';
import { type ContentSums, contentCrc32, sumsByInode } from './checksum.ts';
import { walkTree } from './walk-tree.ts';

/** A line as its fields. */
export interface FileLine {
  readonly attributes: string;
  readonly uid: string;
  readonly gid: string;
  readonly mtime: string;
  readonly size: string;
  readonly crc32: string;
  readonly xattrs: string;
  /** Escaped, as all of them are. */
  readonly path: string;
  readonly target: string;
}

/**
 * Calls `line` for each file of the tree, `unreadable` for what cannot be read, with the path and the negative errno.
 * `sums`: of files without xattrs, by inode.
 */
export function describeFiles(
  treeDir: string,
  line: (text: string, path: string) => void,
  unreadable: (path: string, status: number) => void,
  sums?: ReadonlyMap<number, number>,
): void {
  /** Files with several names: the first one, by inode. */
  const first = new Map<bigint, string>();
  walkTree(treeDir, {
    entry(path, stat, directory, name, fd) {
      const isDirectory = fd >= 0;
      if (stat.links > 1 && !isDirectory) {
        const known = first.get(stat.ino);
        if (known !== undefined) {
          line(`h - - - - - - ${escapePath(path)} ${escapePath(known)}`, path);
          return;
        }
        first.set(stat.ino, path);
      }
      const text = describe(path, stat, directory, name, fd, sums?.get(Number(stat.ino)));
      if (typeof text === 'string') line(text, path);
      else unreadable(path, text);
    },
    unreadable,
  });
}

const TYPES = new Map([
  [S_IFREG, 'f'],
  [S_IFDIR, 'd'],
  [S_IFLNK, 'l'],
  [S_IFCHR, 'c'],
  [S_IFBLK, 'b'],
  [S_IFIFO, 'p'],
]);

/** The line, or a negative errno. */
function describe(
  path: string,
  stat: FileStat,
  directory: number,
  name: string,
  directoryFd: number,
  knownCrc: number | undefined,
): string | number {
  const kind = stat.mode & S_IFMT;
  let size = '-';
  let crc = '-';
  let target = '-';
  let xattrs: string | number;
  if (kind === S_IFREG && knownCrc !== undefined) {
    size = String(stat.size);
    crc = crcText(knownCrc);
    xattrs = '-';
  } else if (kind === S_IFREG) {
    const fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NOATIME);
    if (fd < 0) return fd;
    try {
      const sum = contentCrc32(fd, stat);
      if (sum < 0) return sum;
      crc = crcText(sum);
      xattrs = xattrsDigest(fd, flistxattr(fd));
    } finally {
      close(fd);
    }
    size = String(stat.size);
  } else if (directoryFd >= 0) {
    xattrs = xattrsDigest(directoryFd, flistxattr(directoryFd));
  } else {
    if (kind === S_IFLNK) {
      const link = readlinkat(directory, name);
      if (typeof link === 'number') return link;
      target = escapePath(link);
    } else if (kind === S_IFCHR || kind === S_IFBLK) size = `${stat.deviceMajor}:${stat.deviceMinor}`;
    const fd = openat(directory, name, O_PATH | O_NOFOLLOW);
    if (fd < 0) return fd;
    try {
      xattrs = xattrsDigest(fd, listxattr(fd));
    } finally {
      close(fd);
    }
  }
  if (typeof xattrs === 'number') return xattrs;
  const { seconds, nanoseconds } = stat.mtime;
  return `${TYPES.get(kind) ?? '?'}${(stat.mode & 0o7777).toString(8)} ${stat.uid - FOREIGN_UID_BASE} ${
    stat.gid - FOREIGN_UID_BASE
  } ${seconds}.${String(nanoseconds).padStart(9, '0')} ${size} ${crc} ${xattrs} ${escapePath(path)} ${target}`;
}

function crcText(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}

/** Those that a layer can have; see src/archive/layer-xattrs.ts. */
const LAYER_XATTR = /^(user\.|trusted\.|security\.capability$|system\.posix_acl_(access|default)$)/;

function xattrsDigest(fd: number, names: string[] | number): string | number {
  if (typeof names === 'number') return names === -errno.EOPNOTSUPP ? '-' : names;
  if (names.length === 0) return '-';
  const own = names.filter((name) => LAYER_XATTR.test(name)).sort();
  if (own.length === 0) return '-';
  const hash = createHash('sha256');
  for (const name of own) {
    const value = getxattr(fd, name);
    if (typeof value === 'number') return value;
    hash.update(`${name}\0${value.length}\0`, 'latin1').update(value);
  }
  return hash.digest('hex').slice(0, 32);
}

const NOT_PLAIN = /[^!-$&-~]/;
const NOT_PLAIN_EACH = /[^!-$&-~]/g;

/** '.' for the top. */
export function escapePath(path: string): string {
  if (path === '') return '.';
  if (!NOT_PLAIN.test(path)) return path;
  return path.replace(NOT_PLAIN_EACH, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** The byte string again. */
export function unescapePath(path: string): string {
  if (path === '.') return '';
  return path.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

export function parseFileLine(text: string): FileLine | undefined {
  const fields = text.split(' ');
  if (fields.length !== 9) return undefined;
  const [attributes, uid, gid, mtime, size, crc32, xattrs, path, target] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return { attributes, uid, gid, mtime, size, crc32, xattrs, path, target };
}

const WRITE_BYTES = 256 * 1024;

/**
 * Writes the record of a tree to `file`, which must not exist; returns its digest. Nothing is synced. Files of which
 * there are `sums` are not read again.
 */
export function writeLayerFiles(treeDir: string, file: string, sums?: ContentSums): Digest {
  const hash = createHash('sha256');
  const fd = openSync(file, 'wx', 0o600);
  try {
    let pending = '';
    const flush = () => {
      const bytes = Buffer.from(pending, 'latin1');
      hash.update(bytes);
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      pending = '';
    };
    describeFiles(
      treeDir,
      (text) => {
        pending += `${text}\n`;
        if (pending.length >= WRITE_BYTES) flush();
      },
      (path, status) => {
        throw systemCallError(status, 'read', showBytes(path));
      },
      sums && sumsByInode(sums),
    );
    flush();
    return `sha256:${hash.digest('hex')}` as Digest;
  } finally {
    closeSync(fd);
  }
}

/** The lines of a record, one after the other. */
export function* readLines(file: string): Generator<string> {
  const fd = openSync(file, 'r');
  try {
    const chunk = Buffer.allocUnsafeSlow(WRITE_BYTES);
    let rest = '';
    for (;;) {
      const length = readSync(fd, chunk);
      if (length === 0) break;
      const lines = (rest + chunk.toString('latin1', 0, length)).split('\n');
      rest = lines.pop()!;
      yield* lines;
    }
    if (rest !== '') yield rest;
  } finally {
    closeSync(fd);
  }
}
