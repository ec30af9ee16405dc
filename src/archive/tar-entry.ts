/**
 * One entry of a tar: its header block and the extended headers before it → what it says.
 *
 * Invariant: what comes out is within the limits; ids and device numbers are refused where they would wrap.
 */
import { CONTAINER_ID_MAX, PATH_MAX_BYTES } from '../oci/limits.ts';
import { showBytes } from './byte-string.ts';
import { type PaxRecords, parsePaxNumber, parsePaxTime, parsePaxXattr } from './pax.ts';
import { atEntry, Refusal, refusing } from './refusal.ts';
import { addGnuExtents, gnuRealSize, type PaxSparse, parsePaxSparse, type SparseMap } from './sparse.ts';
import { headerLinkName, headerName, headerNumber, type NumberField, typeFlag } from './tar-header.ts';

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
  /** 0..idMax */
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Bytes of a file's content, holes included; 0 for all else. */
  readonly size: number;
  /** True when the data may leave holes. */
  readonly sparse: boolean;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Byte-string names; undefined when there are none. */
  readonly xattrs: ReadonlyMap<string, Buffer> | undefined;
}

/** What extended headers said before the entry. */
export interface ExtendedHeaders {
  readonly global: ReadonlyMap<string, string>;
  readonly local: PaxRecords;
  /** GNU types L and K. */
  readonly longName: string | undefined;
  readonly longLink: string | undefined;
}

export interface EntryHeader {
  readonly entry: TarEntry;
  /** Bytes in the archive after the header, without padding. */
  readonly stored: number;
  /** Where the stored bytes belong; undefined for a file without holes, or when the map comes first. */
  readonly map: SparseMap | undefined;
  /** A (further) part of the map lies before the data. */
  readonly mapFollows: 'gnu' | 'pax' | undefined;
}

const TYPES: ReadonlyMap<string, TarEntryType> = new Map([
  ['\0', 'file'],
  ['0', 'file'],
  ['7', 'file'],
  ['S', 'file'],
  ['1', 'hardLink'],
  ['2', 'symlink'],
  ['3', 'characterDevice'],
  ['4', 'blockDevice'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

// Linux has 12 bits of major and 20 of minor number; makedev() would wrap beyond.
export const DEVICE_MAJOR_MAX = 0xfff;
export const DEVICE_MINOR_MAX = 0xfffff;

/** `idMax` is the largest uid and gid. Throws BAD_ARCHIVE with the entry's name. */
export function readEntry(
  block: Buffer,
  at: number,
  extended: ExtendedHeaders,
  idMax: number = CONTAINER_ID_MAX,
): EntryHeader {
  let path = extended.longName || headerName(block, at);
  return refusing(
    () => atEntry(path),
    () => {
      const { values, xattrs, sparse } = readExtended(extended);
      // An empty value or name stands for "as if there were none". A GNU long name beats a PAX path, as in the reference reader.
      if (!extended.longName) path = values.get('path') || path;
      path = sparse?.name ?? path;
      checkName(path, 'name');
      const linkPath = extended.longLink || values.get('linkpath') || headerLinkName(block, at);
      const number = (field: NumberField, key: string): number | undefined => {
        const value = values.get(key) || undefined;
        return value === undefined ? headerNumber(block, at, field) : parsePaxNumber(value);
      };

      const flag = typeFlag(block, at);
      // v7 has no type for directories.
      const type = flag === '\0' && path.endsWith('/') ? 'directory' : TYPES.get(flag);
      if (type === undefined) throw new Refusal(`entry type ${showBytes(flag)} is not supported`);
      // Only what is marked as a file has data: any other size is ignored, as the reference reader does.
      const hasData = TYPES.get(flag) === 'file';
      const stored = hasData ? byteCount(number('size', 'size')) : 0;
      const isLink = type === 'hardLink' || type === 'symlink';
      const isDevice = type === 'characterDevice' || type === 'blockDevice';
      const layout = fileLayout(block, at, type === 'file' ? flag : '', stored, sparse);
      const entry: TarEntry = {
        type,
        path,
        linkPath: isLink ? checkName(linkPath, 'link target') : '',
        mode: integer(headerNumber(block, at, 'mode'), 0o7777777, 'mode') & 0o7777,
        uid: integer(number('uid', 'uid'), idMax, 'uid'),
        gid: integer(number('gid', 'gid'), idMax, 'gid'),
        mtime: readTime(block, at, values.get('mtime') || undefined),
        size: layout.size,
        sparse: layout.map !== undefined || layout.mapFollows !== undefined,
        deviceMajor: isDevice
          ? integer(number('deviceMajor', 'SCHILY.devmajor'), DEVICE_MAJOR_MAX, 'device major number')
          : 0,
        deviceMinor: isDevice
          ? integer(number('deviceMinor', 'SCHILY.devminor'), DEVICE_MINOR_MAX, 'device minor number')
          : 0,
        xattrs,
      };
      return { entry, stored, map: layout.map, mapFollows: layout.mapFollows };
    },
  );
}

function readExtended({ global, local }: ExtendedHeaders): {
  values: ReadonlyMap<string, string>;
  xattrs: Map<string, Buffer> | undefined;
  sparse: PaxSparse | undefined;
} {
  if (local.length === 0) return { values: global, xattrs: undefined, sparse: undefined };
  const values = new Map(global);
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of local) {
    const xattr = parsePaxXattr(key, value);
    if (xattr === undefined) values.set(key, value);
    else xattrs.set(xattr.name, xattr.value);
  }
  return { values, xattrs: xattrs.size === 0 ? undefined : xattrs, sparse: parsePaxSparse(local) };
}

/** How long a file is, and where its stored bytes belong. `flag` is empty for what is no file. */
function fileLayout(
  block: Buffer,
  at: number,
  flag: string,
  stored: number,
  sparse: PaxSparse | undefined,
): { size: number } & Pick<EntryHeader, 'map' | 'mapFollows'> {
  if (flag === 'S') {
    const map: SparseMap = [];
    const more = addGnuExtents(block, at, 'header', map);
    return { size: byteCount(gnuRealSize(block, at)), map, mapFollows: more ? 'gnu' : undefined };
  }
  if (flag !== '' && sparse !== undefined)
    return {
      size: sparse.realSize,
      map: sparse.map,
      mapFollows: sparse.map === undefined ? 'pax' : undefined,
    };
  return { size: flag === '' ? 0 : stored, map: undefined, mapFollows: undefined };
}

function readTime(block: Buffer, at: number, pax: string | undefined): TarTime {
  const seconds = pax === undefined ? headerNumber(block, at, 'mtime') : undefined;
  const time = pax === undefined ? { seconds: seconds ?? Number.NaN, nanoseconds: 0 } : parsePaxTime(pax);
  if (time === undefined || !Number.isSafeInteger(time.seconds)) throw new Refusal('mtime is not a time');
  return time;
}

/** Throws a Refusal for what is no number from 0 to max. */
export function integer(value: number | undefined, max: number, what: string): number {
  if (value === undefined) throw new Refusal(`${what} is not a number`);
  if (value >= 0 && value <= max) return value;
  throw new Refusal(`${what} ${value} is not in the range 0 to ${max}`);
}

/** A size: beyond 2^53 the number would not be exact. */
export function byteCount(value: number | undefined): number {
  return integer(value, Number.MAX_SAFE_INTEGER, 'size');
}

export function checkName(value: string, what: string): string {
  if (value.includes('\0')) throw new Refusal(`NUL in its ${what}`);
  if (value.length > PATH_MAX_BYTES)
    throw new Refusal(`${what} of ${value.length} bytes, more than ${PATH_MAX_BYTES}`);
  return value;
}
