/**
 * CRC-32 (that of gzip and zlib, RFC 1952) by ISA-L, twenty times as fast as by node:zlib, which has to do where the
 * library is not installed.
 *
 * Invariant: a library that gives another checksum for a sample is not used.
 */
import { crc32 as zlibCrc32 } from 'node:zlib';
import { loadSystemLibrary } from './system-library.ts';

/** Of `bytes` behind data whose checksum is `crc`; 0 for none. */
export type Crc32 = (bytes: Buffer, crc: number) => number;

/** With its CRC-32, the "check" of every catalogue of such sums. */
const SAMPLE = Buffer.from('123456789');
const SAMPLE_CRC = 0xcbf43926;

/** undefined where the library is not installed. */
export function loadIsalCrc32(): Crc32 | undefined {
  const sum = loadSystemLibrary('libisal.so.2')?.func('crc32_gzip_refl', 'uint32_t', [
    'uint32_t',
    'void *',
    'uint64_t',
  ]) as ((crc: number, bytes: Buffer, length: number) => number) | undefined;
  if (sum?.(0, SAMPLE, SAMPLE.length) !== SAMPLE_CRC) return undefined;
  return (bytes, crc) => sum(crc, bytes, bytes.length);
}

let loaded: Crc32 | undefined;

export function crc32(bytes: Buffer, crc: number): number {
  loaded ??= loadIsalCrc32() ?? zlibCrc32;
  return loaded(bytes, crc);
}
