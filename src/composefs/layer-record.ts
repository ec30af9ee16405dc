/**
 * Records of a layer as text, a line each: what a layer's tar says, decided as far as it can be without the layers below.
 *
 *   I type path mode uid gid seconds nanoseconds size object inline target major minor [xattr=base64]…
 *   L path target        a hard link
 *   W path               hides what the layers below have there
 *   O path               hides what the layers below have in the directory
 *
 * Fields are separated by a space; bytes that are not plain are %XX, an empty field is `-`. A path has no '..'.
 */
import type { Inode, InodeType, LayerRecord } from './inode.ts';
import type { VerityDigest } from './verity-digest.ts';

const TYPES: readonly (readonly [letter: string, type: InodeType])[] = [
  ['f', 'file'],
  ['d', 'directory'],
  ['l', 'symlink'],
  ['c', 'characterDevice'],
  ['b', 'blockDevice'],
  ['p', 'fifo'],
];
const LETTER_OF = new Map(TYPES.map(([letter, type]) => [type, letter]));
const TYPE_OF = new Map(TYPES);

export function formatRecord(record: LayerRecord): string {
  const path = field(record.path);
  if (record.kind === 'hardLink') return `L ${path} ${field(record.target)}\n`;
  if (record.kind !== 'inode') return `${record.kind === 'whiteout' ? 'W' : 'O'} ${path}\n`;
  const { inode } = record;
  let line = `I ${LETTER_OF.get(inode.type)} ${path} ${inode.mode.toString(8)} ${inode.uid} ${inode.gid} ${inode.mtime.seconds} ${inode.mtime.nanoseconds} ${inode.size} ${inode.object ?? '-'} ${inode.inline?.toString('base64') ?? '-'} ${field(inode.target)} ${inode.deviceMajor} ${inode.deviceMinor}`;
  for (const [name, value] of inode.xattrs ?? []) line += ` ${field(name)}=${value.toString('base64')}`;
  return `${line}\n`;
}

/** Of a line without its end. Throws an Error for what formatRecord() never wrote. */
export function parseRecord(line: string): LayerRecord {
  const fields = line.split(' ');
  const [kind] = fields;
  if (kind === 'L' && fields.length === 3)
    return { kind: 'hardLink', path: text(fields[1]!), target: text(fields[2]!) };
  if ((kind === 'W' || kind === 'O') && fields.length === 2)
    return { kind: kind === 'W' ? 'whiteout' : 'opaque', path: text(fields[1]!) };
  const type = TYPE_OF.get(fields[1] ?? '');
  if (kind !== 'I' || type === undefined || fields.length < 14) throw new Error('a record that is none');
  const [mode, uid, gid, seconds, nanoseconds, size] = fields.slice(3, 9);
  const [object, inline, target, deviceMajor, deviceMinor] = fields.slice(9, 14);
  if (object !== '-' && !/^[0-9a-f]{64}$/.test(object!)) throw new Error('an object without a digest');
  const inode: Inode = {
    type,
    mode: Number.parseInt(mode!, 8),
    uid: integer(uid!),
    gid: integer(gid!),
    mtime: { seconds: integer(seconds!), nanoseconds: integer(nanoseconds!) },
    size: integer(size!),
    object: object === '-' ? undefined : (object as VerityDigest),
    inline: inline === '-' ? undefined : Buffer.from(inline!, 'base64'),
    target: text(target!),
    deviceMajor: integer(deviceMajor!),
    deviceMinor: integer(deviceMinor!),
    xattrs: fields.length === 14 ? undefined : new Map(fields.slice(14).map(xattr)),
  };
  return { kind: 'inode', path: text(fields[2]!), inode };
}

function xattr(pair: string): [string, Buffer] {
  const at = pair.indexOf('=');
  return [text(pair.slice(0, at)), Buffer.from(pair.slice(at + 1), 'base64')];
}

function integer(digits: string): number {
  const value = Number(digits);
  if (!Number.isSafeInteger(value)) throw new Error('a number that is none');
  return value;
}

const NOT_PLAIN = /[\x00-\x20%=\x7f-\xff]/g;

function field(bytes: string): string {
  if (bytes === '') return '-';
  if (bytes === '-') return '%2d';
  return bytes.replace(NOT_PLAIN, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function text(encoded: string): string {
  if (encoded === '-') return '';
  if (!encoded.includes('%')) return encoded;
  return encoded.replace(/%([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
