/**
 * The tars of two programs that most layers are written by: Go's archive/tar (podman, buildah, umoci and others), and GNU tar
 * with --format=posix, --numeric-owner and neither atime nor ctime. What they write follows from what a table of contents
 * says, so that the tar of such a layer is made again from its table alone.
 *
 * It is a guess: only the digest of the whole tar tells whether it is the same. Tables leave out names of users, and the
 * order of records.
 */
import { posix } from 'node:path';
import {
  type HeaderFields,
  headerBlock,
  NAME_BYTES,
  PREFIX_BYTES,
  padded,
  paxRecord,
  SIZE_MAX,
  TYPE_FLAGS,
} from './tar-block.ts';
import type { TarTime } from './tar-entry.ts';
import { BLOCK_BYTES } from './tar-header.ts';
import type { TarSplitHandler } from './tar-split.ts';
import type { TocEntry } from './toc.ts';

export interface TarStyle {
  /** The entry's header, an extended one before it where it takes one. */
  readonly header: (entry: TocEntry) => Buffer;
  /** The tar ends with zeros, at a multiple of this. */
  readonly recordBytes: number;
}

/** Blocks of zeros behind the last entry. */
const END_BYTES = 2 * BLOCK_BYTES;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

const GO: TarStyle = { header: goHeader, recordBytes: BLOCK_BYTES };
const GNU: TarStyle = { header: (entry) => gnuHeader(entry, isDevice(entry)), recordBytes: 20 * BLOCK_BYTES };
const GNU_BEFORE_1_35: TarStyle = { ...GNU, header: (entry) => gnuHeader(entry, true) };
const STYLES = [GO, GNU, GNU_BEFORE_1_35];

/** The style in which `lead`, all that the tar has before the content of its first file, comes out as it is. */
export function findStyle(lead: Buffer, entries: readonly TocEntry[]): TarStyle | undefined {
  const leading = entries.slice(0, entries.findIndex(({ size }) => size > 0) + 1);
  if (leading.length * BLOCK_BYTES > lead.length) return undefined;
  return STYLES.find(({ header }) => Buffer.concat(leading.map(header)).equals(lead));
}

/** The tar of a layer as tar-split data has it: its own bytes, and where the content of files belongs. */
export function writeInStyle(
  entries: readonly TocEntry[],
  { header, recordBytes }: TarStyle,
  { segment, content }: TarSplitHandler,
): void {
  let position = 0;
  const write = (bytes: Buffer) => {
    segment(bytes);
    position += bytes.length;
  };
  for (const entry of entries) {
    const { size } = entry;
    write(header(entry));
    if (size === 0) continue;
    content(size);
    position += size;
    write(ZEROS.subarray(0, (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES));
  }
  const end = Math.ceil((position + END_BYTES) / recordBytes) * recordBytes;
  write(Buffer.alloc(end - position));
}

/** archive/tar, writer.go: ustar where that has a place for everything, a long name cut in two included; else PAX. */
function goHeader(entry: TocEntry): Buffer {
  const { path, linkPath, deviceMajor: major, deviceMinor: minor } = entry;
  const fields = { ...fieldsOf(entry), mode: entry.headerMode, device: { major, minor } };
  const records = new Map(recordsOf(entry));
  if (isLong(path) || !isAscii(path)) records.set('path', path);
  if (isLong(linkPath) || !isAscii(linkPath)) records.set('linkpath', linkPath);
  const parts = records.size === 1 && records.has('path') ? splitPath(path) : undefined;
  if (parts !== undefined) return headerBlock({ ...fields, ...parts });
  if (records.size === 0) return headerBlock(fields);

  const [directory, base] = splitAt(path, path.lastIndexOf('/') + 1);
  const name = cut(ascii(posix.join(directory, 'PaxHeaders.0', base))).replace(/\/+$/, '');
  const plain = { ...fields, name: cut(ascii(path)), linkName: ascii(linkPath) };
  return withRecords({ name, typeFlag: 'x' }, [...records].sort(byKey), plain);
}

/** GNU tar, create.c and xheader.c: a record for what ustar cannot hold, whose header has the name and time of the file. */
function gnuHeader(entry: TocEntry, withDevice: boolean): Buffer {
  const { path, linkPath, mode, deviceMajor: major, deviceMinor: minor } = entry;
  const fields = { ...fieldsOf(entry), mode, ...(withDevice && { device: { major, minor } }) };
  const records: [string, string][] = [];
  if (isLong(linkPath)) records.push(['linkpath', linkPath]);
  if (isLong(path) || !isAscii(path)) records.push(['path', path]);
  records.push(...recordsOf(entry));
  if (records.length === 0) return headerBlock(fields);

  const name = `${posix.dirname(path)}/PaxHeaders/${posix.basename(path)}`;
  return withRecords({ name, typeFlag: 'x', mode: 0o644, mtime: entry.mtime.seconds }, records, fields);
}

function isDevice({ type }: TocEntry): boolean {
  return type === 'characterDevice' || type === 'blockDevice';
}

function fieldsOf({ type, path, linkPath, uid, gid, size, mtime }: TocEntry): HeaderFields {
  return {
    ...{ name: path, linkName: linkPath, typeFlag: TYPE_FLAGS[type] },
    ...{ uid, gid, size, mtime: mtime.seconds },
  };
}

/** What has no field, or not in it. */
function recordsOf({ size, mtime, xattrs }: TocEntry): [string, string][] {
  const records: [string, string][] = [];
  if (size > SIZE_MAX) records.push(['size', String(size)]);
  if (mtime.nanoseconds > 0 || mtime.seconds < 0 || mtime.seconds > SIZE_MAX)
    records.push(['mtime', paxTime(mtime)]);
  for (const [name, value] of xattrs ?? []) records.push([`SCHILY.xattr.${name}`, value.toString('latin1')]);
  return records;
}

/** Decimal, without zeros at its end. */
function paxTime({ seconds, nanoseconds }: TarTime): string {
  if (nanoseconds === 0) return String(seconds);
  const fraction = (digits: number) => String(digits).padStart(9, '0').replace(/0+$/, '');
  if (seconds >= 0) return `${seconds}.${fraction(nanoseconds)}`;
  return `-${-(seconds + 1)}.${fraction(1e9 - nanoseconds)}`; // a time rounds down
}

function withRecords(
  extended: HeaderFields,
  records: readonly (readonly [key: string, value: string])[],
  fields: HeaderFields,
): Buffer {
  const data = Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1');
  return Buffer.concat([headerBlock({ ...extended, size: data.length }), padded(data), headerBlock(fields)]);
}

/** Where Go cuts a name in two for a ustar header: at the last slash with which the first part fits. */
function splitPath(path: string): { prefix: string; name: string } | undefined {
  if (!isAscii(path)) return undefined;
  const last = path.length - (path.endsWith('/') ? 1 : 0);
  const end = path.length > PREFIX_BYTES + 1 ? PREFIX_BYTES + 1 : last;
  const slash = path.slice(0, end).lastIndexOf('/');
  const [prefix, name] = [path.slice(0, Math.max(slash, 0)), path.slice(slash + 1)];
  return prefix !== '' && name !== '' && name.length <= NAME_BYTES ? { prefix, name } : undefined;
}

function splitAt(text: string, at: number): [string, string] {
  return [text.slice(0, at), text.slice(at)];
}

function isLong(name: string): boolean {
  return name.length > NAME_BYTES;
}

function isAscii(bytes: string): boolean {
  return !/[\x80-\xff]/.test(bytes);
}

function ascii(bytes: string): string {
  return bytes.replace(/[\x80-\xff]/g, '');
}

/** A name that is cut never ends in a slash, or it would look like a directory. */
function cut(name: string): string {
  return isLong(name) ? name.slice(0, NAME_BYTES).replace(/\/$/, '') : name;
}

function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}
