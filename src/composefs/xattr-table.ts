/**
 * xattrs as EROFS stores them: sorted in each inode; those that several inodes have are stored once and referred to
 * (EROFS on-disk format, "Extended attributes").
 */
import { Refusal } from '../archive/refusal.ts';

/** One name and value, a byte string, wherever it occurs: strings, for every file has two that no other has. */
export interface Xattr {
  readonly name: XattrName;
  readonly value: string;
  /** On the disk. */
  readonly bytes: number;
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
const HEADER_BYTES = 4;
const NAME_MAX_BYTES = 255;
const VALUE_MAX_BYTES = 65535;
const FILTER_SEED = 0x25bbe08f;
/** The count of an inode's shared ones is a byte. */
export const SHARED_MAX = 128;

/** What all xattrs of a name have in common. */
export interface XattrName {
  readonly text: string;
  /** What it begins with, and the rest. */
  readonly index: number;
  readonly rest: string;
  /** Of the filter that tells without looking that an inode lacks a name. */
  readonly filterBit: number;
  readonly values: Map<string, Xattr>;
}

export function createXattrTable() {
  const names = new Map<string, XattrName>();

  return {
    add(text: string, value: string): Xattr {
      let name = names.get(text);
      if (name === undefined) {
        name = parseName(text);
        names.set(text, name);
      }
      let xattr = name.values.get(value);
      if (xattr === undefined) {
        if (value.length > VALUE_MAX_BYTES)
          throw new Refusal(`an xattr with a value of ${value.length} bytes`);
        const bytes = (HEADER_BYTES + name.rest.length + value.length + 3) & ~3;
        xattr = { name, value, bytes, uses: 0, sharedAt: undefined };
        name.values.set(value, xattr);
      }
      xattr.uses++;
      return xattr;
    },

    /** Those with several uses, in the order of the shared area, with their places in it. */
    share(): { xattrs: readonly Xattr[]; bytes: number } {
      const xattrs = [...names.values()].flatMap(({ values }) =>
        [...values.values()].filter((x) => x.uses > 1),
      );
      xattrs.sort(
        (a, b) =>
          compare(b.name.text, a.name.text) || b.value.length - a.value.length || compare(b.value, a.value),
      );
      let bytes = 0;
      for (const xattr of xattrs) {
        xattr.sharedAt = bytes;
        bytes += xattr.bytes;
      }
      return { xattrs, bytes };
    },
  };
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function parseName(text: string): XattrName {
  if (text === '' || text.length > NAME_MAX_BYTES)
    throw new Refusal(`an xattr with a name of ${text.length} bytes`);
  const [prefix, index] = PREFIXES.find(([start]) => text.startsWith(start)) ?? ['', 0];
  const rest = text.slice(prefix.length);
  const filterBit = xxh32(Buffer.from(rest, 'latin1'), FILTER_SEED + index) & 31;
  return { text, index, rest, filterBit, values: new Map() };
}

const P1 = 2654435761;
const P2 = 2246822519;
const P3 = 3266489917;
const P4 = 668265263;
const P5 = 374761393;

/** xxHash, 32 bits (xxhash_spec.md). */
function xxh32(bytes: Buffer, seed: number): number {
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
