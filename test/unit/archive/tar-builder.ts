/**
 * Builds tar archives byte by byte, also those that no tar program would make: tests say what is wrong with them.
 *
 * Invariant: pure; what the caller does not name is an ordinary ustar regular file, mode 0644, ids 0, time 0.
 */

export interface BuiltEntry {
  name?: string | Buffer;
  /** One character. */
  type?: string;
  mode?: number;
  uid?: number | Buffer;
  gid?: number | Buffer;
  /** Written into the header; defaults to the length of the data. */
  size?: number | Buffer;
  mtime?: number | Buffer;
  linkName?: string | Buffer;
  deviceMajor?: number;
  deviceMinor?: number;
  /** 'ustar\0' + '00', 'ustar  \0', or eight NULs for v7. */
  magic?: 'ustar' | 'gnu' | 'v7';
  prefix?: string;
  data?: string | Uint8Array;
  /** Records of an extended header in front of the entry. */
  pax?: Record<string, string | Uint8Array> | [string, string | Uint8Array][];
  /** Put into the header just before the checksum is computed. */
  patch?: (header: Buffer) => void;
  checksum?: 'unsigned' | 'signed' | 'wrong';
}

const MAGIC = { ustar: 'ustar\x0000', gnu: 'ustar  \0', v7: '\0\0\0\0\0\0\0\0' };

function bytes(value: string | Uint8Array): Buffer {
  return typeof value === 'string' ? Buffer.from(value) : Buffer.from(value);
}

export function padded(data: Uint8Array): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

/** A number in base-256, as GNU tar writes what does not fit octal digits. */
export function base256(value: bigint, length: number): Buffer {
  const field = Buffer.alloc(length);
  let rest = BigInt.asUintN(8 * length, value);
  for (let i = length - 1; i >= 0; i--, rest >>= 8n) field[i] = Number(rest & 0xffn);
  field[0]! |= 0x80;
  return field;
}

function putNumber(header: Buffer, at: number, length: number, value: number | Buffer): void {
  if (typeof value !== 'number') value.copy(header, at);
  else header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, length, 'latin1');
}

/** The header block alone. */
export function tarHeader(entry: BuiltEntry): Buffer {
  const header = Buffer.alloc(512);
  bytes(entry.name ?? 'file').copy(header, 0, 0, 100);
  putNumber(header, 100, 8, entry.mode ?? 0o644);
  putNumber(header, 108, 8, entry.uid ?? 0);
  putNumber(header, 116, 8, entry.gid ?? 0);
  putNumber(header, 124, 12, entry.size ?? bytes(entry.data ?? '').length);
  putNumber(header, 136, 12, entry.mtime ?? 0);
  header.write(entry.type ?? '0', 156, 1, 'latin1');
  bytes(entry.linkName ?? '').copy(header, 157, 0, 100);
  header.write(MAGIC[entry.magic ?? 'ustar'], 257, 8, 'latin1');
  if (entry.deviceMajor !== undefined) putNumber(header, 329, 8, entry.deviceMajor);
  if (entry.deviceMinor !== undefined) putNumber(header, 337, 8, entry.deviceMinor);
  if (entry.prefix !== undefined) header.write(entry.prefix, 345, 155, 'latin1');
  entry.patch?.(header);
  header.fill(32, 148, 156);
  let sum = 0;
  for (const byte of header) sum += entry.checksum === 'signed' && byte > 127 ? byte - 256 : byte;
  if (entry.checksum === 'wrong') sum++;
  header.write(`${(sum & 0o777777).toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return header;
}

/** One record: LENGTH KEY=VALUE newline, the length counting itself. */
export function paxRecord(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), bytes(value), Buffer.from('\n')]);
  let length = rest.length + 1;
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

export function paxHeader(pax: NonNullable<BuiltEntry['pax']>, type = 'x'): Buffer {
  const data = Buffer.concat(
    (Array.isArray(pax) ? pax : Object.entries(pax)).map(([key, value]) => paxRecord(key, value)),
  );
  return Buffer.concat([tarHeader({ name: 'PaxHeaders/0', type, size: data.length }), padded(data)]);
}

/** GNU's long name (L) or long link (K) in front of an entry. */
export function gnuLong(type: 'L' | 'K', name: string): Buffer {
  const data = Buffer.from(`${name}\0`);
  return Buffer.concat([
    tarHeader({ name: '././@LongLink', type, size: data.length, magic: 'gnu' }),
    padded(data),
  ]);
}

export function tarEntry(entry: BuiltEntry): Buffer {
  return Buffer.concat([
    entry.pax === undefined ? Buffer.alloc(0) : paxHeader(entry.pax),
    tarHeader(entry),
    padded(bytes(entry.data ?? '')),
  ]);
}

/** Entries (or raw bytes between them) and the end marker. */
export function tar(...parts: (BuiltEntry | Buffer)[]): Buffer {
  return Buffer.concat([
    ...parts.map((part) => (Buffer.isBuffer(part) ? part : tarEntry(part))),
    Buffer.alloc(1024),
  ]);
}

// Short forms of what most tests are made of.
export const file = (name: string, data = '', more: BuiltEntry = {}): BuiltEntry => ({ name, data, ...more });
export const directory = (name: string, mode = 0o755, more: BuiltEntry = {}): BuiltEntry => ({
  name: `${name}/`,
  type: '5',
  mode,
  ...more,
});
export const symlink = (name: string, linkName: string): BuiltEntry => ({
  name,
  type: '2',
  mode: 0o777,
  linkName,
});
export const hardLink = (name: string, linkName: string): BuiltEntry => ({ name, type: '1', linkName });
export const whiteout = (path: string): BuiltEntry => {
  const at = path.lastIndexOf('/') + 1;
  return { name: `${path.slice(0, at)}.wh.${path.slice(at)}` };
};
export const opaque = (path: string): BuiltEntry => ({
  name: path === '' ? '.wh..wh..opq' : `${path}/.wh..wh..opq`,
});
