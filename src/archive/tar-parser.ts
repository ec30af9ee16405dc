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
import { OciError } from '../oci/errors.ts';
import { CONTAINER_ID_MAX, PATH_MAX_BYTES, PAX_HEADER_MAX_BYTES } from '../oci/limits.ts';
import { showBytes } from './byte-string.ts';
import { type PaxRecords, parsePaxNumber, parsePaxRecords, parsePaxTime, parsePaxXattr } from './pax.ts';
import {
  addGnuExtents,
  checkSparseMap,
  createSparseMapReader,
  gnuRealSize,
  type PaxSparse,
  parsePaxSparse,
  type SparseMap,
  type SparseMapReader,
} from './sparse.ts';
import {
  BLOCK_BYTES,
  checkBlock,
  headerLinkName,
  headerName,
  headerNumber,
  type NumberField,
  typeFlag,
} from './tar-header.ts';

export type TarEntryType =
  | 'file'
  | 'hardLink'
  | 'symlink'
  | 'characterDevice'
  | 'blockDevice'
  | 'directory'
  | 'fifo';

/** Seconds since 1970, rounded down, and 0..999999999 nanoseconds. */
export interface TarTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface TarEntry {
  readonly type: TarEntryType;
  /** Byte string without NUL, at most PATH_MAX_BYTES; may be absolute, contain '..' or end in '/'. */
  readonly path: string;
  /** Target of a hard link or symlink, else empty. Byte string without NUL. */
  readonly linkPath: string;
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  /** 0..CONTAINER_ID_MAX */
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Bytes of a file's content, holes included; 0 for all else. */
  readonly size: number;
  /** True when data() may leave holes. */
  readonly sparse: boolean;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Byte-string names; undefined when there are none. */
  readonly xattrs: ReadonlyMap<string, Buffer> | undefined;
}

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
}

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardLink',
  '2': 'symlink',
  '3': 'characterDevice',
  '4': 'blockDevice',
  '5': 'directory',
  '6': 'fifo',
};

/** What a global extended header may set for the entries after it. */
const GLOBAL_KEYS = new Set(['path', 'linkpath', 'size', 'uid', 'gid', 'mtime']);

function paddingAfter(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

type State = 'header' | 'meta' | 'gnuSparse' | 'paxSparse' | 'data' | 'skip' | 'padding' | 'ended';

export function createTarParser(handler: TarHandler): TarParser {
  let state: State = 'header';
  /** Bytes of the archive before the chunk, and where the current header begins: for messages. */
  let position = 0;
  let headerPosition = 0;
  let zeroBlocks = 0;

  // A block that lies across chunks is put together here.
  const pendingBlock = Buffer.alloc(BLOCK_BYTES);
  let pendingBytes = 0;

  // Extended headers that wait for their entry.
  const globalValues = new Map<string, string>();
  let localRecords: PaxRecords = [];
  let longName: string | undefined;
  let longLink: string | undefined;
  let metaType = '';
  let meta: Buffer = Buffer.alloc(0);
  let metaFilled = 0;
  let metaTotal = 0;

  // The entry whose data is being read.
  let entry: TarEntry | undefined;
  let stored = 0;
  let padding = 0;
  let offset = 0;
  let map: SparseMap | undefined;
  let mapIndex = 0;
  let extentLeft = 0;
  let mapReader: SparseMapReader | undefined;

  function fail(reason: string, name = entry?.path): never {
    const where = name === undefined ? `tar header at byte ${headerPosition}` : `entry ${showBytes(name)}`;
    throw new OciError('BAD_ARCHIVE', `${where}: ${reason}`);
  }

  /** Runs a reader that throws plain errors; their message becomes the reason. */
  function reading<T>(read: () => T, name?: string): T {
    try {
      return read();
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error), name);
    }
  }

  function integer(value: number | undefined, max: number, what: string, name: string): number {
    if (value === undefined) return fail(`${what} is not a number`, name);
    if (value >= 0 && value <= max) return value;
    return fail(`${what} ${value} is not in the range 0 to ${max}`, name);
  }

  function checkName(value: string, what: string, name: string): string {
    if (value.includes('\0')) return fail(`NUL in its ${what}`, name);
    if (value.length > PATH_MAX_BYTES)
      return fail(`${what} of ${value.length} bytes, more than ${PATH_MAX_BYTES}`, name);
    return value;
  }

  function header(block: Buffer, at: number): void {
    const check = checkBlock(block, at);
    if (check === 'zero') {
      if (metaTotal > 0) fail('the archive ends after an extended header, without its entry');
      if (++zeroBlocks === 2) state = 'ended';
      return;
    }
    if (check === 'invalid') fail('wrong checksum: this is not a tar header');
    if (zeroBlocks > 0) fail('a header after a block of zeros, which ends an archive');
    const flag = typeFlag(block, at);
    if ('xXgLK'.includes(flag)) beginMeta(block, at, flag);
    else if (flag === 'V')
      skip(integer(headerNumber(block, at, 'size'), Number.MAX_SAFE_INTEGER, 'size', headerName(block, at)));
    else beginEntry(block, at, flag);
  }

  function skip(bytes: number): void {
    stored = bytes;
    padding = paddingAfter(bytes);
    state = bytes > 0 ? 'skip' : 'header';
  }

  function beginMeta(block: Buffer, at: number, flag: string): void {
    const name = headerName(block, at);
    const size = integer(headerNumber(block, at, 'size'), Number.MAX_SAFE_INTEGER, 'size', name);
    const max = flag === 'L' || flag === 'K' ? PATH_MAX_BYTES + 1 : PAX_HEADER_MAX_BYTES;
    // The total keeps a chain of extended headers in front of one entry from growing without end.
    if (flag !== 'g') metaTotal += BLOCK_BYTES + size;
    if (size > max || metaTotal > 2 * PAX_HEADER_MAX_BYTES)
      fail(
        `extended header of ${size} bytes, more than ${max} for one or ${2 * PAX_HEADER_MAX_BYTES} for all of an entry`,
        name,
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
      const records = reading(() => parsePaxRecords(meta));
      if (metaType === 'g') {
        for (const [key, value] of records) if (GLOBAL_KEYS.has(key)) globalValues.set(key, value);
      } else localRecords = localRecords.length === 0 ? records : [...localRecords, ...records];
    }
    state = padding > 0 ? 'padding' : 'header';
  }

  function beginEntry(block: Buffer, at: number, flag: string): void {
    let path = longName ?? headerName(block, at);
    let linkPath = longLink ?? headerLinkName(block, at);
    let values: ReadonlyMap<string, string> = globalValues;
    let xattrs: Map<string, Buffer> | undefined;
    let sparse: PaxSparse | undefined;
    if (localRecords.length > 0) {
      const merged = new Map(globalValues);
      for (const [key, value] of localRecords) {
        const xattr = reading(() => parsePaxXattr(key, value), path);
        if (xattr === undefined) {
          merged.set(key, value);
          continue;
        }
        xattrs ??= new Map();
        xattrs.set(xattr.name, xattr.value);
      }
      values = merged;
      sparse = reading(() => parsePaxSparse(localRecords), path);
    }
    // An empty value stands for "as if there were none". A GNU long name beats a PAX path, as in the reference reader.
    if (longName === undefined) path = values.get('path') || path;
    if (longLink === undefined) linkPath = values.get('linkpath') || linkPath;
    path = sparse?.name ?? path;
    checkName(path, 'name', path);
    const number = (field: NumberField, key: string): number | undefined => {
      const value = values.get(key) || undefined;
      return value === undefined ? headerNumber(block, at, field) : parsePaxNumber(value);
    };

    let type = TYPES[flag];
    if (type === undefined) fail(`entry type ${showBytes(flag)} is not supported`, path);
    // Only files have data: the size of any other type is ignored, as the reference reader does.
    stored = type === 'file' ? integer(number('size', 'size'), Number.MAX_SAFE_INTEGER, 'size', path) : 0;
    padding = paddingAfter(stored);
    // v7 has no type for directories.
    if (flag === '\0' && path.endsWith('/')) type = 'directory';
    map = undefined;
    let size = type === 'file' ? stored : 0;
    let more = false;
    if (flag === 'S') {
      map = [];
      size = integer(gnuRealSize(block, at), Number.MAX_SAFE_INTEGER, 'size', path);
      const gnuMap = map;
      more = reading(() => addGnuExtents(block, at, 'header', gnuMap), path);
    } else if (sparse !== undefined && type === 'file') {
      map = sparse.map;
      size = sparse.realSize;
      mapReader = map === undefined ? createSparseMapReader() : undefined;
    }
    const device = type === 'characterDevice' || type === 'blockDevice';
    const link = type === 'hardLink' || type === 'symlink';
    const mtime = values.get('mtime') || undefined;
    entry = {
      type,
      path,
      linkPath: link ? checkName(linkPath, 'link target', path) : '',
      mode: integer(headerNumber(block, at, 'mode'), 0o7777777, 'mode', path) & 0o7777,
      uid: integer(number('uid', 'uid'), CONTAINER_ID_MAX, 'uid', path),
      gid: integer(number('gid', 'gid'), CONTAINER_ID_MAX, 'gid', path),
      mtime:
        (mtime === undefined ? wholeSeconds(headerNumber(block, at, 'mtime')) : parsePaxTime(mtime)) ??
        fail('mtime is not a time', path),
      size,
      sparse: map !== undefined || mapReader !== undefined,
      // Linux has 12 bits of major and 20 of minor number; makedev() would wrap beyond.
      deviceMajor: device
        ? integer(number('deviceMajor', 'SCHILY.devmajor'), 0xfff, 'device major number', path)
        : 0,
      deviceMinor: device
        ? integer(number('deviceMinor', 'SCHILY.devminor'), 0xfffff, 'device minor number', path)
        : 0,
      xattrs,
    };
    longName = undefined;
    longLink = undefined;
    localRecords = [];
    metaTotal = 0;
    if (more) state = 'gnuSparse';
    else if (mapReader !== undefined) state = 'paxSparse';
    else beginData();
  }

  function wholeSeconds(seconds: number | undefined): TarTime | undefined {
    return seconds !== undefined && Number.isSafeInteger(seconds) ? { seconds, nanoseconds: 0 } : undefined;
  }

  function beginData(): void {
    const current = entry!;
    if (map !== undefined) {
      const extents = map;
      reading(() => checkSparseMap(extents, current.size, stored));
    }
    handler.entry(current);
    if (current.type !== 'file') {
      entry = undefined;
      skip(stored);
      return;
    }
    offset = map === undefined ? 0 : (map[0] ?? 0);
    extentLeft = map === undefined ? stored : (map[1] ?? 0);
    mapIndex = 0;
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

  function block(block: Buffer, at: number): void {
    if (state === 'header') {
      header(block, at);
    } else if (state === 'gnuSparse') {
      const gnuMap = map!;
      if (!reading(() => addGnuExtents(block, at, 'block', gnuMap))) beginData();
    } else {
      if (stored < BLOCK_BYTES) fail('sparse map longer than its data');
      stored -= BLOCK_BYTES;
      map = reading(() => mapReader!.add(block, at));
      if (map !== undefined) {
        mapReader = undefined;
        beginData();
      }
    }
  }

  /** Consumes some bytes of the chunk from `at`; returns how many (at least one). */
  function step(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    switch (state) {
      case 'header':
      case 'gnuSparse':
      case 'paxSparse': {
        if (pendingBytes === 0 && available >= BLOCK_BYTES) {
          block(chunk, at);
          return BLOCK_BYTES;
        }
        const bytes = Math.min(BLOCK_BYTES - pendingBytes, available);
        chunk.copy(pendingBlock, pendingBytes, at, at + bytes);
        pendingBytes += bytes;
        if (pendingBytes === BLOCK_BYTES) {
          pendingBytes = 0;
          block(pendingBlock, 0);
        }
        return bytes;
      }
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
      for (let at = 0; at < chunk.length; ) {
        if (state === 'header' && pendingBytes === 0) headerPosition = position + at;
        at += step(chunk, at);
      }
      position += chunk.length;
    },
    end() {
      // A last entry without its padding is complete all the same.
      const between = state === 'padding' || (state === 'header' && pendingBytes === 0);
      if (state !== 'ended' && !(between && metaTotal === 0)) fail('the archive is cut short');
    },
  };
}
