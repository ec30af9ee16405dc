/**
 * A header block and the records of an extended header, as bytes (POSIX.1-2024 pax, "ustar Interchange Format" and "pax
 * Extended Header").
 */
import type { TarEntryType } from './tar-entry.ts';
import { BLOCK_BYTES } from './tar-header.ts';

/** Byte strings and numbers; what is left out is empty or zero. */
export interface HeaderFields {
  readonly name: string;
  readonly typeFlag: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly mtime?: number;
  readonly linkName?: string;
  readonly prefix?: string;
  /** Without them their fields have no digits at all. */
  readonly device?: { readonly major: number; readonly minor: number };
}

export const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardLink: '1',
  symlink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
};

export const NAME_BYTES = 100;
export const PREFIX_BYTES = 155;
export const SIZE_MAX = 0o77777777777;

/** Names are cut to their fields. A number that does not fit is 0: its record says it. */
export function headerBlock(fields: HeaderFields): Buffer {
  const { name, typeFlag, mode = 0, uid = 0, gid = 0, size = 0, mtime = 0, device } = fields;
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number) => {
    const fits = value >= 0 && value < 8 ** digits ? value : 0;
    block.write(fits.toString(8).padStart(digits, '0'), at, 'latin1');
  };
  block.write(name, 0, NAME_BYTES, 'latin1');
  octal(mode, 100, 7);
  octal(uid, 108, 7);
  octal(gid, 116, 7);
  octal(size, 124, 11);
  octal(mtime, 136, 11);
  block.write(`${' '.repeat(8)}${typeFlag}`, 148, 'latin1');
  block.write(fields.linkName ?? '', 157, NAME_BYTES, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  if (device !== undefined) {
    octal(device.major, 329, 7);
    octal(device.minor, 337, 7);
  }
  block.write(fields.prefix ?? '', 345, PREFIX_BYTES, 'latin1');
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += block[i]!;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** `LENGTH KEY=VALUE\n`; the length counts its own digits. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

/** Filled up with zeros to whole blocks. */
export function padded(bytes: Buffer): Buffer {
  const block = Buffer.alloc(Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES);
  bytes.copy(block);
  return block;
}
