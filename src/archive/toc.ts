/**
 * Tables of contents: what zstd:chunked and eStargz say about the files in a layer's blob, and where the content of each
 * lies. Both write the same JSON, with small differences (containers/storage zstd:chunked; stargz-snapshotter
 * docs/estargz.md, "TOC").
 *
 * Invariant: entries are within the limits of tar entries (tar-entry.ts); the ranges of their content lie in the blob before
 * `dataEnd`, ascend and do not overlap. Names are those of the JSON, which has no place for bytes that are not UTF-8.
 */
import { type Digest, parseDigest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { asArray, asBase64, asObject, asString, type JsonObject, parseJson } from '../oci/json.ts';
import { CONTAINER_ID_MAX } from '../oci/limits.ts';
import { toByteString } from './byte-string.ts';
import { checkXattr } from './pax.ts';
import { atEntry, Refusal, refusing } from './refusal.ts';
import {
  checkName,
  DEVICE_MAJOR_MAX,
  DEVICE_MINOR_MAX,
  integer,
  type TarEntry,
  type TarEntryType,
  type TarTime,
} from './tar-entry.ts';

/** About 100,000 files; an image with more is fetched whole. */
export const TOC_MAX_BYTES = 32 * 1024 * 1024;
/** Compressed, it is about a fifth of that. */
export const TOC_COMPRESSED_MAX_BYTES = 16 * 1024 * 1024;
/** What lies in smaller files is not worth a search for pieces of it. */
const PIECES_MIN_BYTES = 1024 * 1024;
/** About ten times what the largest ones have; each is read as a whole. */
const PIECE_MAX_BYTES = 16 * 1024 * 1024;

/** A piece of a file's content in the blob. */
export interface TocChunk {
  /** Of the compressed bytes in the blob; `end` is the first byte behind them. */
  readonly offset: number;
  readonly end: number;
  /** Where the content begins in what they unpack to. */
  readonly innerOffset: number;
  /** Bytes of content. */
  readonly size: number;
  readonly digest: Digest | undefined;
}

export interface TocEntry extends TarEntry {
  /** The mode as a tar's header has it, maybe with bits for the type. */
  readonly headerMode: number;
  /** Of the content; undefined where there is none, or eStargz leaves it out. */
  readonly digest: Digest | undefined;
  /** Of a file that is not empty: together its whole content, in order. */
  readonly chunks: readonly TocChunk[];
  /** The same in pieces that have digests of their own, of a large file of zstd:chunked. */
  readonly pieces?: readonly TocChunk[];
}

export interface Toc {
  readonly entries: readonly TocEntry[];
  /** Of the uncompressed tar-split data, where the table states it. */
  readonly tarSplitDigest: Digest | undefined;
}

export type TocFormat = 'zstd:chunked' | 'eStargz';

const TYPES: ReadonlyMap<string, TarEntryType> = new Map([
  ['reg', 'file'],
  ['dir', 'directory'],
  ['hardlink', 'hardLink'],
  ['symlink', 'symlink'],
  ['char', 'characterDevice'],
  ['block', 'blockDevice'],
  ['fifo', 'fifo'],
]);

/** `dataEnd`: where in the blob the data of files ends. Throws BAD_ARCHIVE. */
export function parseToc(json: Uint8Array, format: TocFormat, dataEnd: number): Toc {
  const document = asObject(
    parseJson(json, TOC_MAX_BYTES, 'table of contents', 'BAD_ARCHIVE'),
    'table of contents',
  );
  if (document['version'] !== 1)
    throw new OciError('BAD_ARCHIVE', 'the table of contents is not of version 1');
  const rows = asArray(document['entries'], 'entries of the table of contents').map((row) =>
    asObject(row, 'entry of the table of contents'),
  );
  const place = createPlacer(format, dataEnd, rows);
  const entries: TocEntry[] = [];
  rows.forEach((row, index) => {
    const path = toByteString(asString(row['name'], 'name in the table of contents'));
    refusing(
      () => `table of contents: ${atEntry(path)}`,
      () => {
        if (row['type'] === 'chunk') {
          if (path !== entries.at(-1)?.path) throw new Refusal('chunk without its file before it');
          return;
        }
        const entry = readEntry(row, path);
        const chunks = entry.size > 0 ? place(entry, index) : [];
        const digest = present(row['digest']) && entry.size > 0 ? readDigest(row['digest']) : undefined;
        const pieces =
          format === 'zstd:chunked' && entry.size >= PIECES_MIN_BYTES
            ? piecesOf(rows, index, entry.size, chunks[0]!)
            : undefined;
        entries.push({ ...entry, digest, chunks, ...(pieces && { pieces }) });
      },
    );
  });
  const tarSplit = document['tarSplitDigest'];
  return { entries, tarSplitDigest: present(tarSplit) ? parseDigest(tarSplit, 'tarSplitDigest') : undefined };
}

/** What a tar header would say. */
function readEntry(row: JsonObject, path: string): TarEntry & Pick<TocEntry, 'headerMode'> {
  const type = TYPES.get(asString(row['type'], 'type'));
  if (type === undefined) throw new Refusal(`type ${JSON.stringify(row['type']).slice(0, 40)} is not known`);
  const isLink = type === 'hardLink' || type === 'symlink';
  const isDevice = type === 'characterDevice' || type === 'blockDevice';
  const count = (key: string, max: number) => integer(numberIn(row, key), max, key);
  const headerMode = count('mode', 0o7777777);
  return {
    headerMode,
    type,
    path: checkName(path, 'name'),
    linkPath: isLink ? checkName(toByteString(asString(row['linkName'], 'linkName')), 'link target') : '',
    mode: headerMode & 0o7777,
    uid: count('uid', CONTAINER_ID_MAX),
    gid: count('gid', CONTAINER_ID_MAX),
    mtime: readTime(row['modtime']),
    size: type === 'file' ? count('size', Number.MAX_SAFE_INTEGER) : 0,
    sparse: false,
    deviceMajor: isDevice ? count('devMajor', DEVICE_MAJOR_MAX) : 0,
    deviceMinor: isDevice ? count('devMinor', DEVICE_MINOR_MAX) : 0,
    xattrs: readXattrs(row['xattrs']),
  };
}

/** Finds where the content of files lies, which is asked for in the order of the table. */
function createPlacer(format: TocFormat, dataEnd: number, rows: readonly JsonObject[]) {
  /** Where the bytes of the last chunk begin and end: the next one must not lie before them. */
  let last = { offset: -1, end: 0, innerEnd: 0 };

  function add(chunk: TocChunk): TocChunk {
    const { offset, end, innerOffset, size } = chunk;
    // Small files may share their compressed bytes, one after the other.
    const shares = format === 'eStargz' && offset === last.offset && innerOffset >= last.innerEnd;
    if ((!shares && offset < last.end) || end <= offset || end > dataEnd)
      throw new Refusal(`content at ${offset} to ${end}, behind ${last.end} of ${dataEnd}`);
    last = { offset, end, innerEnd: innerOffset + size };
    return chunk;
  }

  function zstdChunked(entry: TarEntry, index: number): TocChunk[] {
    // The chunks behind it (of data or zeros) are parts of this range.
    const row = rows[index]!;
    if (!present(row['digest'])) throw new Refusal('content without a digest');
    const [offset, end] = [position(row, 'offset'), position(row, 'endOffset')];
    return [add({ offset, end, innerOffset: 0, size: entry.size, digest: undefined })];
  }

  // eStargz does not say where a chunk ends: where the next begins.
  const starts = format === 'eStargz' ? startsOf(rows, dataEnd) : [];
  let next = 0;

  function estargz(entry: TarEntry, index: number): TocChunk[] {
    const chunks: TocChunk[] = [];
    for (let at = 0; at < entry.size; at += chunks.at(-1)!.size) {
      const row = rows[index + chunks.length];
      if (row === undefined || (chunks.length > 0 && row['type'] !== 'chunk'))
        throw new Refusal('chunks that are less than the file');
      const size = position(row, 'chunkSize') || entry.size - at;
      if (position(row, 'chunkOffset') !== at || size > entry.size - at)
        throw new Refusal('chunks that do not follow each other');
      const offset = position(row, 'offset');
      while (next < starts.length && starts[next]! <= offset) next++;
      const innerOffset = position(row, 'innerOffset');
      const digest = present(row['chunkDigest']) ? readDigest(row['chunkDigest']) : undefined;
      chunks.push(add({ offset, end: starts[next] ?? dataEnd, innerOffset, size, digest }));
    }
    if (!present(rows[index]!['digest']) && chunks.some(({ digest }) => digest === undefined))
      throw new Refusal('content without a digest');
    return chunks;
  }

  return format === 'eStargz' ? estargz : zstdChunked;
}

/** undefined where the table does not have them, or not one behind the other: the range of the file is there in any case. */
function piecesOf(
  rows: readonly JsonObject[],
  index: number,
  fileBytes: number,
  { offset: first, end: fileEnd }: TocChunk,
): TocChunk[] | undefined {
  const pieces: TocChunk[] = [];
  let offset = first;
  for (let at = 0, next = index; at < fileBytes; next++) {
    const row = rows[next]!;
    const following = rows[next + 1]?.['type'] === 'chunk' ? rows[next + 1] : undefined;
    const size = position(row, 'chunkSize') || fileBytes - at;
    const end = following === undefined ? fileEnd : position(following, 'offset');
    const fits =
      position(row, 'chunkOffset') === at &&
      size <= Math.min(fileBytes - at, PIECE_MAX_BYTES) &&
      (following === undefined) === (at + size === fileBytes) &&
      offset < end &&
      end <= fileEnd;
    if (!fits || !present(row['chunkDigest'])) return undefined;
    pieces.push({ offset, end, innerOffset: 0, size, digest: readDigest(row['chunkDigest']) });
    offset = end;
    at += size;
  }
  return pieces.length > 1 ? pieces : undefined;
}

function startsOf(rows: readonly JsonObject[], dataEnd: number): number[] {
  const offsets = rows.flatMap(({ type, offset }) =>
    (type === 'reg' || type === 'chunk') && typeof offset === 'number' && offset > 0 ? [offset] : [],
  );
  return [...new Set([...offsets, dataEnd])].sort((a, b) => a - b);
}

function present(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '';
}

function readDigest(value: unknown): Digest {
  const digest = parseDigest(value, 'digest');
  if (!digest.startsWith('sha256:')) throw new Refusal('digest that is not sha256');
  return digest;
}

/** An absent number is 0, as Go programs leave it out. */
function numberIn(row: JsonObject, key: string): number | undefined {
  const value = row[key] ?? 0;
  return typeof value === 'number' && Number.isInteger(value) ? value : undefined;
}

function position(row: JsonObject, key: string): number {
  return integer(numberIn(row, key), Number.MAX_SAFE_INTEGER, key);
}

/** RFC 3339 with nanoseconds. Nothing, and the zero time of Go, stand for 1970. */
function readTime(value: unknown): TarTime {
  if (!present(value)) return { seconds: 0, nanoseconds: 0 };
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(
    asString(value, 'modtime'),
  );
  const milliseconds = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(milliseconds)) throw new Refusal('modtime is not a time');
  if (match![1] === '0001-01-01T00:00:00') return { seconds: 0, nanoseconds: 0 };
  return { seconds: milliseconds / 1000, nanoseconds: Number((match![2] ?? '').padEnd(9, '0')) };
}

function readXattrs(value: unknown): Map<string, Buffer> | undefined {
  if (!present(value)) return undefined;
  const xattrs = new Map<string, Buffer>();
  for (const [key, text] of Object.entries(asObject(value, 'xattrs'))) {
    const name = toByteString(key);
    const bytes = Buffer.from(text === null ? [] : asBase64(text, 'xattr'));
    checkXattr(name, bytes);
    xattrs.set(name, bytes);
  }
  return xattrs.size === 0 ? undefined : xattrs;
}
