/**
 * Sparse files in tar: old GNU (type S, map in the header and in blocks after it) and PAX 0.0, 0.1 (map in the
 * extended header) and 1.0 (map before the data). GNU tar manual, "Storing Sparse Files".
 *
 * Invariant: a map that comes out of here is ascending, without overlap, inside the file's size, and its lengths
 * add up to the stored bytes.
 */
import type { PaxRecords } from './pax.ts';
import { Refusal } from './refusal.ts';
import { BLOCK_BYTES, parseNumber } from './tar-header.ts';

/** Offsets and lengths of the data in a file, alternating. */
export type SparseMap = number[];

const SPARSE_EXTENTS_MAX = 1024 * 1024;

const GNU_HEADER_MAP = 386;
const GNU_HEADER_EXTENTS = 4;
const GNU_HEADER_EXTENDED = 482;
const GNU_HEADER_REAL_SIZE = 483;
const GNU_BLOCK_EXTENTS = 21;
const GNU_BLOCK_EXTENDED = 504;

export function gnuRealSize(header: Buffer, at: number): number | undefined {
  return parseNumber(header, at + GNU_HEADER_REAL_SIZE, 12);
}

/** Adds the extents of a type S header or of a block after it to `map`; true when another block follows. */
export function addGnuExtents(block: Buffer, at: number, kind: 'header' | 'block', map: SparseMap): boolean {
  const header = kind === 'header';
  const count = header ? GNU_HEADER_EXTENTS : GNU_BLOCK_EXTENTS;
  let field = at + (header ? GNU_HEADER_MAP : 0);
  for (let i = 0; i < count && block[field] !== 0; i++, field += 24)
    addExtent(map, parseNumber(block, field, 12), parseNumber(block, field + 12, 12));
  return block[at + (header ? GNU_HEADER_EXTENDED : GNU_BLOCK_EXTENDED)] !== 0;
}

function addExtent(map: SparseMap, offset: number | undefined, length: number | undefined): void {
  if (offset === undefined || length === undefined)
    throw new Refusal('sparse map that is not made of numbers');
  if (map.length >= 2 * SPARSE_EXTENTS_MAX)
    throw new Refusal(`sparse map of more than ${SPARSE_EXTENTS_MAX} extents`);
  map.push(offset, length);
}

export interface PaxSparse {
  readonly realSize: number;
  readonly name: string | undefined;
  /** Undefined when the map lies before the data (1.0). */
  readonly map: SparseMap | undefined;
}

/** What PAX records say about sparseness; undefined when they say nothing. Throws a Refusal. */
export function parsePaxSparse(records: PaxRecords): PaxSparse | undefined {
  const last = new Map<string, string>();
  const repeated: SparseMap = [];
  for (const [key, value] of records) {
    if (!key.startsWith('GNU.sparse.')) continue;
    last.set(key.slice('GNU.sparse.'.length), value);
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') repeated.push(decimal(value));
  }
  if (last.size === 0) return undefined;
  const version = last.has('major')
    ? `${last.get('major')}.${last.get('minor') ?? '0'}`
    : last.has('map')
      ? '0.1'
      : '0.0';
  const realSize = decimal(last.get(version === '1.0' ? 'realsize' : 'size') ?? last.get('realsize') ?? '');
  const name = last.get('name');
  if (version === '1.0') return { realSize, name, map: undefined };
  if (version !== '0.0' && version !== '0.1')
    throw new Refusal('sparse format of a version that is not known');
  const text = last.get('map');
  const map = text === undefined ? repeated : text === '' ? [] : text.split(',').map(decimal);
  if (map.length % 2 !== 0 || (last.has('numblocks') && decimal(last.get('numblocks')!) !== map.length / 2))
    throw new Refusal('sparse map of another length than announced');
  return { realSize, name, map };
}

function decimal(text: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Refusal('sparse map that is not made of numbers');
  return value;
}

/** Reads a 1.0 map: decimal numbers, one a line (the count, then offset and length of each), padded to whole blocks. */
export interface SparseMapReader {
  /** Takes one block; the finished map, or undefined when another block is needed. */
  add(block: Buffer, at: number): SparseMap | undefined;
}

export function createSparseMapReader(): SparseMapReader {
  const map: SparseMap = [];
  let wanted = -1;
  let digits = '';
  return {
    add(block, at) {
      for (let i = at; i < at + BLOCK_BYTES; i++) {
        const byte = block[i]!;
        if (byte !== 10) {
          digits += String.fromCharCode(byte);
          if (digits.length > 16) throw new Refusal('sparse map that is not made of numbers');
          continue;
        }
        const value = decimal(digits);
        digits = '';
        if (wanted < 0) {
          if (value > SPARSE_EXTENTS_MAX)
            throw new Refusal(`sparse map of more than ${SPARSE_EXTENTS_MAX} extents`);
          wanted = 2 * value;
        } else map.push(value);
        if (map.length === wanted) return map;
      }
      return undefined;
    },
  };
}

/** Throws a Refusal unless the map keeps the invariant above. */
export function checkSparseMap(map: SparseMap, realSize: number, storedBytes: number): void {
  let end = 0;
  let sum = 0;
  for (let i = 0; i < map.length; i += 2) {
    const offset = map[i]!;
    const length = map[i + 1]!;
    if (!(offset >= end && length >= 0 && offset + length <= realSize))
      throw new Refusal('sparse map whose extents overlap or leave the file');
    end = offset + length;
    sum += length;
  }
  if (sum !== storedBytes) throw new Refusal(`sparse map of ${sum} bytes for ${storedBytes} bytes of data`);
}
