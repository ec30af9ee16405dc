/**
 * xattrs as EROFS stores them: sorted in each inode; those that several inodes have are stored once and referred to
 * (EROFS on-disk format, "Extended attributes").
 */
import { toByteString } from '../archive/byte-string.ts';
import { Refusal } from '../archive/refusal.ts';

/** One name and value, wherever it occurs. */
export interface Xattr {
  readonly name: string;
  readonly value: Buffer;
  /** As it is on the disk. */
  readonly stored: Buffer;
  /** Of the filter that tells without looking that an inode lacks a name. */
  readonly filterBit: number;
  uses: number;
  /** In the shared area; undefined when it stays in its only inode. */
  sharedAt: number | undefined;
}

/** Prefixes have a number instead. */
const PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ['user.', 1],
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['trusted.', 4],
  ['security.', 6],
];
const NAME_MAX_BYTES = 255;
const VALUE_MAX_BYTES = 65535;
const FILTER_SEED = 0x25bbe08f;
/** The count of an inode's shared ones is a byte. */
export const SHARED_MAX = 128;

export function createXattrTable() {
  const known = new Map<string, Map<string, Xattr>>();
  const filterBits = new Map<string, number>();

  return {
    add(name: string, value: Buffer): Xattr {
      let values = known.get(name);
      if (values === undefined) {
        values = new Map();
        known.set(name, values);
      }
      const key = toByteString(value);
      let xattr = values.get(key);
      if (xattr === undefined) {
        let filterBit = filterBits.get(name);
        if (filterBit === undefined) {
          const [index, rest] = split(name);
          filterBit = xxh32(Buffer.from(rest, 'latin1'), FILTER_SEED + index) & 31;
          filterBits.set(name, filterBit);
        }
        xattr = { name, value, stored: store(name, value), filterBit, uses: 0, sharedAt: undefined };
        values.set(key, xattr);
      }
      xattr.uses++;
      return xattr;
    },

    /** Those with several uses, in the order of the shared area, with their places in it. */
    share(): { xattrs: readonly Xattr[]; bytes: number } {
      const xattrs = [...known.values()].flatMap((values) => [...values.values()].filter((x) => x.uses > 1));
      xattrs.sort(
        (a, b) =>
          compare(b.name, a.name) || b.value.length - a.value.length || Buffer.compare(b.value, a.value),
      );
      let bytes = 0;
      for (const xattr of xattrs) {
        xattr.sharedAt = bytes;
        bytes += xattr.stored.length;
      }
      return { xattrs, bytes };
    },
  };
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function split(name: string): [index: number, rest: string] {
  for (const [prefix, index] of PREFIXES)
    if (name.startsWith(prefix)) return [index, name.slice(prefix.length)];
  return [0, name];
}

function store(name: string, value: Buffer): Buffer {
  if (name === '' || name.length > NAME_MAX_BYTES || value.length > VALUE_MAX_BYTES)
    throw new Refusal(`an xattr with a name of ${name.length} and a value of ${value.length} bytes`);
  const [index, rest] = split(name);
  const stored = Buffer.alloc((4 + rest.length + value.length + 3) & ~3);
  stored[0] = rest.length;
  stored[1] = index;
  stored.writeUInt16LE(value.length, 2);
  stored.write(rest, 4, 'latin1');
  value.copy(stored, 4 + rest.length);
  return stored;
}

const P1 = 2654435761;
const P2 = 2246822519;
const P3 = 3266489917;
const P4 = 668265263;
const P5 = 374761393;

/** xxHash, 32 bits (xxhash_spec.md). */
export function xxh32(bytes: Buffer, seed: number): number {
  const rotate = (x: number, by: number) => (x << by) | (x >>> (32 - by));
  let at = 0;
  let sum: number;
  if (bytes.length >= 16) {
    const lanes = [seed + P1 + P2, seed + P2, seed, seed - P1].map((lane) => lane | 0);
    for (; at + 16 <= bytes.length; at += 16)
      for (let i = 0; i < 4; i++)
        lanes[i] = Math.imul(rotate((lanes[i]! + Math.imul(bytes.readInt32LE(at + 4 * i), P2)) | 0, 13), P1);
    sum = rotate(lanes[0]!, 1) + rotate(lanes[1]!, 7) + rotate(lanes[2]!, 12) + rotate(lanes[3]!, 18);
  } else sum = seed + P5;
  let hash = (sum + bytes.length) | 0;
  for (; at + 4 <= bytes.length; at += 4)
    hash = Math.imul(rotate((hash + Math.imul(bytes.readInt32LE(at), P3)) | 0, 17), P4);
  for (; at < bytes.length; at++) hash = Math.imul(rotate((hash + Math.imul(bytes[at]!, P5)) | 0, 11), P1);
  hash = Math.imul(hash ^ (hash >>> 15), P2);
  hash = Math.imul(hash ^ (hash >>> 13), P3);
  return (hash ^ (hash >>> 16)) >>> 0;
}
