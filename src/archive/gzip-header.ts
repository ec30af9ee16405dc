/**
 * The header of a gzip member (RFC 1952, section 2.3), in whatever pieces it comes.
 *
 * Invariant: nothing is kept of the fields of any length; what zlib refuses is refused, in its words.
 */
import { crc32 } from 'node:zlib';

export interface GzipHeaderReader {
  /** How many bytes of the beginning of `chunk` belong to the header: all of them until it is complete. */
  read(chunk: Buffer): number;
  readonly complete: boolean;
  /** What is wrong with it. */
  readonly failure: string | undefined;
}

type Part = 'magic' | 'method' | 'rest' | 'extraLength' | 'extra' | 'name' | 'comment' | 'crc' | 'complete';

const MAGIC = 0x8b1f;
const DEFLATE = 8;
const FLAG_OF: Partial<Record<Part, number>> = { extraLength: 4, name: 8, comment: 16, crc: 2 };
const FLAGS_RESERVED = 0xe0;
/** The parts after the flags, as they follow each other; 'extra' belongs to 'extraLength'. */
const OPTIONAL: readonly Part[] = ['extraLength', 'name', 'comment', 'crc'];

export function createGzipHeaderReader(): GzipHeaderReader {
  let part: Part = 'magic';
  /** The bytes of a part of fixed length, little-endian, and how many of them are still to come. */
  let value = 0;
  let left = 2;
  let bits = 0;
  let flags = 0;
  let crc = 0;
  let failure: string | undefined;

  function begin(next: Part, bytes = 0): void {
    part = next;
    left = bytes;
    value = 0;
    bits = 0;
  }

  /** The next part after `last` that the flags announce. */
  function beginOptional(last?: Part): void {
    const rest = last === undefined ? OPTIONAL : OPTIONAL.slice(OPTIONAL.indexOf(last) + 1);
    const next = rest.find((name) => (flags & FLAG_OF[name]!) !== 0);
    begin(next ?? 'complete', 2);
  }

  function end(): void {
    if (part === 'magic') {
      if (value !== MAGIC) failure = 'incorrect header check';
      else begin('method', 2);
    } else if (part === 'method') {
      flags = value >> 8;
      if ((value & 0xff) !== DEFLATE) failure = 'unknown compression method';
      else if ((flags & FLAGS_RESERVED) !== 0) failure = 'unknown header flags set';
      else begin('rest', 6);
    } else if (part === 'extraLength' && value > 0) begin('extra', value);
    else if (part === 'extra') beginOptional('extraLength');
    else beginOptional(part === 'rest' ? undefined : part);
  }

  /** Takes bytes of the current part; returns how many. */
  function take(chunk: Buffer, at: number): number {
    if (part === 'name' || part === 'comment') {
      const nul = chunk.indexOf(0, at);
      const stop = nul < 0 ? chunk.length : nul + 1;
      crc = crc32(chunk.subarray(at, stop), crc);
      if (nul >= 0) end();
      return stop - at;
    }
    const bytes = Math.min(left, chunk.length - at);
    for (let i = 0; i < bytes; i++, bits += 8) if (bits < 16) value |= chunk[at + i]! << bits;
    if (part !== 'crc') crc = crc32(chunk.subarray(at, at + bytes), crc);
    left -= bytes;
    if (left > 0) return bytes;
    if (part === 'crc' && value !== (crc & 0xffff)) failure = 'header crc mismatch';
    else end();
    return bytes;
  }

  return {
    read(chunk) {
      let at = 0;
      while (at < chunk.length && part !== 'complete' && failure === undefined) at += take(chunk, at);
      return at;
    },
    get complete() {
      return part === 'complete';
    },
    get failure() {
      return failure;
    },
  };
}
