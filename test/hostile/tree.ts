/**
 * What a mounted image looks like, a line for each path, so that a case can say exactly what it expects:
 *
 *   path what [= first path of the same inode] [mode] [uid:gid] [@mtime] [xattr=value …]
 *
 * `what` is "content", -> target, c1:3, b8:0, p (fifo) or, for a directory, the slash after its path. What is as a plain
 * tar entry of the tests makes it is left out: mode 644 (755 for directories), owner 0:0, time 0, no xattrs; the
 * root has a line (`/`) only when it differs from that. Bytes that are not printable UTF-8 are shown as \xNN.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { close, getxattr, listxattr, O_NOFOLLOW, O_PATH, openat } from '../../src/host/syscalls.ts';

const CONTENT_SHOWN_BYTES = 60;
const CONTENT_READ_MAX_BYTES = 1024 * 1024;

export function treeLines(root: string): string[] {
  const lines: string[] = [];
  const inodes = new Map<bigint, string>();
  const visit = (path: string) => {
    const full = Buffer.from(`.${path}`, 'latin1');
    const stat = lstatSync(full, { bigint: true });
    const shown = path === '' ? '/' : showBytes(path.slice(1));
    const isDirectory = stat.isDirectory();
    const words = [isDirectory && path !== '' ? `${shown}/` : shown];
    if (stat.isSymbolicLink()) words.push('->', showBytes(readlinkSync(full, 'latin1')));
    else if (stat.isCharacterDevice()) words.push(`c${deviceNumber(stat.rdev)}`);
    else if (stat.isBlockDevice()) words.push(`b${deviceNumber(stat.rdev)}`);
    else if (stat.isFIFO()) words.push('p');
    else if (!isDirectory) words.push(showContent(full, stat.size));
    const first = inodes.get(stat.ino);
    if (first !== undefined) words.push('=', first);
    else if (!isDirectory) inodes.set(stat.ino, shown);
    const mode = Number(stat.mode) & 0o7777;
    const usual = isDirectory ? 0o755 : stat.isSymbolicLink() ? 0o777 : 0o644;
    if (mode !== usual) words.push(mode.toString(8));
    if (stat.uid !== 0n || stat.gid !== 0n) words.push(`${stat.uid}:${stat.gid}`);
    if (stat.mtimeNs !== 0n) words.push(`@${showTime(stat.mtimeNs)}`);
    if (first === undefined) words.push(...xattrs(full));
    if (path !== '' || words.length > 1) lines.push(words.join(' '));
    if (isDirectory)
      for (const name of readdirSync(full, { encoding: 'latin1' }).sort()) visit(`${path}/${name}`);
  };
  // Relative, so that paths may be as long as a path may be.
  const before = process.cwd();
  process.chdir(root);
  try {
    visit('');
  } finally {
    process.chdir(before);
  }
  return lines;
}

function showContent(path: Buffer, size: bigint): string {
  if (size > CONTENT_READ_MAX_BYTES) return `${size} bytes`;
  const content = readFileSync(path, 'latin1');
  const more = content.length > CONTENT_SHOWN_BYTES ? `… ${content.length} bytes` : '';
  return JSON.stringify(content.slice(0, CONTENT_SHOWN_BYTES)) + more;
}

/** Of Linux' 12 and 20 bits. */
function deviceNumber(device: bigint): string {
  return `${(device >> 8n) & 0xfffn}:${(device & 0xffn) | ((device >> 12n) & 0xfff00n)}`;
}

/** Seconds, with the nanoseconds that are not 0. */
function showTime(time: bigint): string {
  const seconds = time / 1_000_000_000n - (time % 1_000_000_000n < 0n ? 1n : 0n);
  const rest = time - seconds * 1_000_000_000n;
  return rest === 0n ? `${seconds}` : `${seconds}.${String(rest).padStart(9, '0')}`;
}

function xattrs(path: Buffer): string[] {
  const fd = openat(-100, path.toString('latin1'), O_PATH | O_NOFOLLOW);
  if (fd < 0) throw new Error(`open ${path}: ${fd}`);
  try {
    const names = listxattr(fd);
    if (typeof names === 'number') return [];
    return names.sort().map((name) => {
      const value = getxattr(fd, name);
      if (typeof value === 'number') throw new Error(`getxattr ${name}: ${value}`);
      const text = value.toString('latin1');
      const shown = /^[\x20-\x7e]*$/.test(text) ? JSON.stringify(text) : `0x${value.toString('hex')}`;
      return `${showBytes(name)}=${value.length > 100 ? `${value.length} bytes` : shown}`;
    });
  } finally {
    close(fd);
  }
}

export function showBytes(bytes: string): string {
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  const readable = text.includes('\ufffd') ? bytes : text;
  return readable.replace(/[\x00-\x1f\x7f-\x9f]|[\x80-\xff]/g, (c) =>
    readable === text && c > '\x9f' ? c : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
