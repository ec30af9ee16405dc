/**
 * The 512-byte header of a tar entry: field offsets, numbers, text and the checksum, of the v7, ustar, star, GNU
 * and PAX dialects (POSIX.1-2024 pax "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
 *
 * Invariant: a number is exact or refused; nothing is wrapped, cut or guessed.
 */

export const BLOCK_BYTES = 512;

/** Offset and length of each header field that is read. */
const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  linkName: [157, 100],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
} as const;

export type NumberField = Exclude<keyof typeof FIELD, 'name' | 'linkName'>;

const TYPE_FLAG = 156;
const MAGIC = 257;
const PREFIX = 345;
const PREFIX_BYTES = 155;
/** star keeps atime and ctime in the last 24 bytes of what ustar calls the prefix, and says so at the end. */
const STAR_PREFIX_BYTES = 131;
const STAR_TRAILER = 508;

export function typeFlag(block: Buffer, at: number): string {
  return String.fromCharCode(block[at + TYPE_FLAG]!);
}

/** 'zero' for a block of NULs, 'valid' when the stored sum is that of the bytes, added unsigned or signed. */
export function checkBlock(block: Buffer, at: number): 'zero' | 'valid' | 'invalid' {
  const [sumAt, sumBytes] = FIELD.checksum;
  let unsigned = 0;
  let highBytes = 0;
  for (let i = at; i < at + BLOCK_BYTES; i++) {
    const byte = block[i]!;
    unsigned += byte;
    highBytes += byte >> 7;
  }
  if (unsigned === 0) return 'zero';
  // The checksum itself counts as eight spaces.
  for (let i = at + sumAt; i < at + sumAt + sumBytes; i++) {
    unsigned += 32 - block[i]!;
    highBytes -= block[i]! >> 7;
  }
  const stored = parseOctal(block, at + sumAt, sumBytes);
  return stored === unsigned || stored === unsigned - 256 * highBytes ? 'valid' : 'invalid';
}

/** The bytes of a field up to its first NUL. */
function text(block: Buffer, at: number, length: number): string {
  let end = at;
  while (end < at + length && block[end] !== 0) end++;
  return block.toString('latin1', at, end);
}

export function headerName(block: Buffer, at: number): string {
  const name = text(block, at + FIELD.name[0], FIELD.name[1]);
  // Only POSIX ("ustar\0") and star have a prefix; GNU ("ustar  \0") keeps times and a sparse map there.
  if (block.toString('latin1', at + MAGIC, at + MAGIC + 6) !== 'ustar\0') return name;
  const star = block.toString('latin1', at + STAR_TRAILER, at + BLOCK_BYTES) === 'tar\0';
  const prefix = text(block, at + PREFIX, star ? STAR_PREFIX_BYTES : PREFIX_BYTES);
  return prefix === '' ? name : `${prefix}/${name}`;
}

export function headerLinkName(block: Buffer, at: number): string {
  return text(block, at + FIELD.linkName[0], FIELD.linkName[1]);
}

/** A numeric field, or undefined when it is not a number. Values from 2^53 are inexact: the caller limits them. */
export function headerNumber(block: Buffer, at: number, field: NumberField): number | undefined {
  const [offset, length] = FIELD[field];
  return parseNumber(block, at + offset, length);
}

/** Octal digits, or base-256 (two's complement, big-endian) when the first bit is set. */
export function parseNumber(block: Buffer, at: number, length: number): number | undefined {
  const first = block[at]!;
  if ((first & 0x80) === 0) return parseOctal(block, at, length);
  const flip = (first & 0x40) === 0 ? 0 : 0xff;
  let value = (first & 0x7f) ^ (flip & 0x7f);
  for (let i = at + 1; i < at + length; i++) value = value * 256 + (block[i]! ^ flip);
  return flip === 0 ? value : -value - 1;
}

/** Spaces, octal digits, then a space, a NUL or the end of the field. An empty field is 0. */
function parseOctal(block: Buffer, at: number, length: number): number | undefined {
  const end = at + length;
  let i = at;
  while (i < end && block[i] === 32) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - 48;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  return i === end || block[i] === 0 || block[i] === 32 ? value : undefined;
}
