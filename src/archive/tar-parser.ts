/**
 * An incremental tar parser: push(bytes) → entries and their data through callbacks, synchronously and without
 * copying. Dialects: v7, ustar, star, GNU (long names, base-256, sparse) and PAX (local and global headers, xattrs,
 * sparse). POSIX.1-2024 pax; image-spec layer.md.
 *
 * Invariant: memory is bounded by the limits (one block, one extended header, one sparse map); what reaches the
 * handler is complete and within the limits. Names are byte strings and are as they were written: '..' and '/'
 * are the business of whoever resolves them. Anything else is refused as BAD_ARCHIVE, with the entry's name.
 *
 * End: two blocks of zeros, or the end of the data between two entries (also after a single block of zeros); what
 * follows the two blocks is ignored. A header after a single block of zeros is refused.
 */
import { PATH_MAX_BYTES, PAX_HEADER_MAX_BYTES } from '../oci/limits.ts';
import { type PaxRecords, parsePaxRecords } from './pax.ts';
import { atEntry, Refusal, refusing } from './refusal.ts';
import {
  addGnuExtents,
  checkSparseMap,
  createSparseMapReader,
  type SparseMap,
  type SparseMapReader,
} from './sparse.ts';
import { byteCount, readEntry, type TarEntry } from './tar-entry.ts';
import { BLOCK_BYTES, checkBlock, headerName, headerNumber, typeFlag } from './tar-header.ts';

export interface TarHandler {
  /** A header. For a file, data() and end() follow. */
  entry(entry: TarEntry): void;
  /** Content of the file at `offset`, ascending. The bytes are valid only during the call. */
  data(bytes: Buffer, offset: number): void;
  /** All content of the file was handed over. */
  end(): void;
}

export interface TarParser {
  push(chunk: Uint8Array): void;
  /** Tells that no more bytes come; throws when the archive is cut short. */
  end(): void;
  /** The archive's end was seen: what is still pushed does not count. */
  readonly ended: boolean;
}

type State = 'header' | 'meta' | 'gnuSparse' | 'paxSparse' | 'data' | 'skip' | 'padding' | 'ended';

/** What a global extended header may set for the entries after it. */
const GLOBAL_KEYS = new Set(['path', 'linkpath', 'size', 'uid', 'gid', 'mtime']);

/** Of all extended headers in front of one entry. */
export const META_MAX_BYTES = 2 * PAX_HEADER_MAX_BYTES;

/** `idMax`: the largest uid and gid, where the archive is not a layer. */
export function createTarParser(handler: TarHandler, { idMax }: { idMax?: number } = {}): TarParser {
  let state: State = 'header';
  /** Bytes of the archive before the chunk, and where the current header begins: for messages. */
  let position = 0;
  let headerPosition = 0;
  let zeroBlocks = 0;

  // A block that lies across chunks is put together here.
  const pendingBlock = Buffer.alloc(BLOCK_BYTES);
  let pendingBytes = 0;

  // Extended headers that wait for their entry, and the one being read.
  const globalValues = new Map<string, string>();
  let localRecords: PaxRecords = [];
  let longName: string | undefined;
  let longLink: string | undefined;
  let metaTotal = 0;
  let metaType = '';
  let meta: Buffer = Buffer.alloc(0);
  let metaFilled = 0;

  // The entry whose data is being read.
  let entry: TarEntry | undefined;
  let stored = 0;
  let padding = 0;
  let map: SparseMap | undefined;
  let mapReader: SparseMapReader | undefined;
  let mapIndex = 0;
  let offset = 0;
  let extentLeft = 0;

  function place(): string {
    return entry === undefined ? `tar header at byte ${headerPosition}` : atEntry(entry.path);
  }

  function header(block: Buffer, at: number): void {
    const check = checkBlock(block, at);
    if (check === 'zero') {
      if (metaTotal > 0) throw new Refusal('the archive ends after an extended header, without its entry');
      if (++zeroBlocks === 2) state = 'ended';
      return;
    }
    if (check === 'invalid') throw new Refusal('wrong checksum: this is not a tar header');
    if (zeroBlocks > 0) throw new Refusal('a header after a block of zeros, which ends an archive');
    const flag = typeFlag(block, at);
    if (!'xXgLKV'.includes(flag)) {
      beginEntry(block, at);
      return;
    }
    const name = headerName(block, at);
    refusing(
      () => atEntry(name),
      () => {
        const size = byteCount(headerNumber(block, at, 'size'));
        if (flag === 'V') skip(size);
        else beginMeta(flag, size);
      },
    );
  }

  /** Of a volume label, or what a v7 directory has for data. */
  function skip(bytes: number): void {
    stored = bytes;
    padding = paddingAfter(bytes);
    state = bytes > 0 ? 'skip' : 'header';
  }

  function beginMeta(flag: string, size: number): void {
    const max = flag === 'L' || flag === 'K' ? PATH_MAX_BYTES + 1 : PAX_HEADER_MAX_BYTES;
    if (flag !== 'g') metaTotal += BLOCK_BYTES + size;
    if (size > max || metaTotal > META_MAX_BYTES)
      throw new Refusal(
        `extended header of ${size} bytes, more than ${max} for one or ${META_MAX_BYTES} for all of an entry`,
      );
    metaType = flag;
    meta = Buffer.allocUnsafe(size);
    metaFilled = 0;
    padding = paddingAfter(size);
    state = 'meta';
    if (size === 0) endMeta();
  }

  function endMeta(): void {
    if (metaType === 'L' || metaType === 'K') {
      const nul = meta.indexOf(0);
      const name = meta.toString('latin1', 0, nul < 0 ? meta.length : nul);
      if (metaType === 'L') longName = name;
      else longLink = name;
    } else {
      const records = parsePaxRecords(meta);
      if (metaType === 'g') {
        for (const [key, value] of records) if (GLOBAL_KEYS.has(key)) globalValues.set(key, value);
      } else localRecords = records; // of two in a row the last one counts
    }
    state = padding > 0 ? 'padding' : 'header';
  }

  function beginEntry(block: Buffer, at: number): void {
    const extended = { global: globalValues, local: localRecords, longName, longLink };
    const header = readEntry(block, at, extended, idMax);
    longName = undefined;
    longLink = undefined;
    localRecords = [];
    metaTotal = 0;
    entry = header.entry;
    stored = header.stored;
    padding = paddingAfter(stored);
    map = header.map;
    if (header.mapFollows === undefined) beginData();
    else if (header.mapFollows === 'gnu') state = 'gnuSparse';
    else {
      mapReader = createSparseMapReader();
      state = 'paxSparse';
    }
  }

  /** One more block of a sparse map. */
  function mapBlock(block: Buffer, at: number): void {
    if (state === 'gnuSparse') {
      if (addGnuExtents(block, at, 'block', map!)) return;
    } else {
      if (stored < BLOCK_BYTES) throw new Refusal('sparse map longer than its data');
      stored -= BLOCK_BYTES;
      map = mapReader!.add(block, at);
      if (map === undefined) return;
    }
    beginData();
  }

  function beginData(): void {
    const current = entry!;
    if (map !== undefined) checkSparseMap(map, current.size, stored);
    handler.entry(current);
    if (current.type !== 'file') {
      entry = undefined;
      skip(stored);
      return;
    }
    mapIndex = 0;
    offset = map === undefined ? 0 : (map[0] ?? 0);
    extentLeft = map === undefined ? stored : (map[1] ?? 0);
    if (stored > 0) state = 'data';
    else endData();
  }

  /** Hands over data up to the end of the chunk, the extent or the entry; returns how much. */
  function data(chunk: Buffer, at: number): number {
    while (extentLeft === 0 && map !== undefined) {
      mapIndex += 2;
      offset = map[mapIndex]!;
      extentLeft = map[mapIndex + 1]!;
    }
    const bytes = Math.min(extentLeft, chunk.length - at);
    handler.data(chunk.subarray(at, at + bytes), offset);
    offset += bytes;
    extentLeft -= bytes;
    stored -= bytes;
    if (stored === 0) endData();
    return bytes;
  }

  function endData(): void {
    handler.end();
    entry = undefined;
    map = undefined;
    state = padding > 0 ? 'padding' : 'header';
  }

  /** Takes a whole block, or a part of one that lies across chunks; returns how much. */
  function takeBlock(chunk: Buffer, at: number): number {
    const read = state === 'header' ? header : mapBlock;
    const available = chunk.length - at;
    if (pendingBytes === 0 && available >= BLOCK_BYTES) {
      read(chunk, at);
      return BLOCK_BYTES;
    }
    const bytes = Math.min(BLOCK_BYTES - pendingBytes, available);
    chunk.copy(pendingBlock, pendingBytes, at, at + bytes);
    pendingBytes += bytes;
    if (pendingBytes === BLOCK_BYTES) {
      pendingBytes = 0;
      read(pendingBlock, 0);
    }
    return bytes;
  }

  /** Consumes some bytes of the chunk from `at`; returns how many (at least one). */
  function step(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    switch (state) {
      case 'header':
        if (pendingBytes === 0) headerPosition = position + at;
        return takeBlock(chunk, at);
      case 'gnuSparse':
      case 'paxSparse':
        return takeBlock(chunk, at);
      case 'meta': {
        const bytes = Math.min(meta.length - metaFilled, available);
        chunk.copy(meta, metaFilled, at, at + bytes);
        metaFilled += bytes;
        if (metaFilled === meta.length) endMeta();
        return bytes;
      }
      case 'data':
        return data(chunk, at);
      case 'skip': {
        const bytes = Math.min(stored, available);
        stored -= bytes;
        if (stored === 0) state = padding > 0 ? 'padding' : 'header';
        return bytes;
      }
      case 'padding': {
        const bytes = Math.min(padding, available);
        padding -= bytes;
        if (padding === 0) state = 'header';
        return bytes;
      }
      case 'ended':
        return available;
    }
  }

  return {
    push(bytes) {
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      refusing(place, () => {
        for (let at = 0; at < chunk.length; ) at += step(chunk, at);
      });
      position += chunk.length;
    },
    end() {
      // A last entry without its padding is complete all the same.
      const between = state === 'padding' || (state === 'header' && pendingBytes === 0);
      if (state === 'ended' || (between && metaTotal === 0)) return;
      refusing(place, () => {
        throw new Refusal('the archive is cut short');
      });
    },
    get ended() {
      return state === 'ended';
    },
  };
}

function paddingAfter(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
}
