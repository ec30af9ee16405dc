/**
 * PAX extended headers: records "LENGTH KEY=VALUE\n" (POSIX.1-2024 pax, "pax Extended Header"), with the xattr keys of
 * star (SCHILY.xattr.NAME, raw) and libarchive (LIBARCHIVE.xattr.NAME, name percent-encoded, value base64).
 *
 * Invariant: keys and values are byte strings, taken whole; a record that does not follow the grammar is refused.
 */
import { XATTR_VALUE_MAX_BYTES } from '../oci/limits.ts';
import { Refusal } from './refusal.ts';
import type { TarTime } from './tar-entry.ts';

/** Records in their order: GNU sparse 0.0 repeats keys. */
export type PaxRecords = [key: string, value: string][];

const LENGTH_MAX_DIGITS = 10;

/** Throws a Refusal. */
export function parsePaxRecords(data: Buffer): PaxRecords {
  const records: PaxRecords = [];
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(32, at);
    const digits = space < 0 || space - at > LENGTH_MAX_DIGITS ? '' : data.toString('latin1', at, space);
    if (!/^[0-9]+$/.test(digits)) throw new Refusal('PAX record without a length');
    const end = at + Number(digits);
    if (end > data.length || end < space + 3 || data[end - 1] !== 10)
      throw new Refusal('PAX record whose length is wrong');
    const equals = data.indexOf(61, space + 1);
    if (equals <= space + 1 || equals >= end - 1) throw new Refusal('PAX record without KEY=VALUE');
    const key = data.toString('latin1', space + 1, equals);
    if (key.includes('\0')) throw new Refusal('NUL in the key of a PAX record');
    records.push([key, data.toString('latin1', equals + 1, end - 1)]);
    at = end;
  }
  return records;
}

/** Decimal, possibly negative. Undefined when it is not a number; from 2^53 inexact: the caller limits it. */
export function parsePaxNumber(value: string): number | undefined {
  return /^-?[0-9]{1,40}$/.test(value) ? Number(value) : undefined;
}

/** Seconds since 1970 with a fraction, rounded down to nanoseconds, or undefined when it is not a time. */
export function parsePaxTime(value: string): TarTime | undefined {
  const match = /^(-?)([0-9]{1,16})(?:\.([0-9]*))?$/.exec(value);
  if (!match) return undefined;
  const [, sign, whole = '', fraction = ''] = match;
  const seconds = Number(whole);
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (!Number.isSafeInteger(seconds)) return undefined;
  if (sign === '') return { seconds, nanoseconds };
  const down = nanoseconds + (/[1-9]/.test(fraction.slice(9)) ? 1 : 0);
  if (down === 0) return { seconds: 0 - seconds, nanoseconds: 0 };
  return { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - down };
}

/** The xattr that a record describes, if it describes one. Throws a Refusal when it is malformed. */
export function parsePaxXattr(key: string, value: string): { name: string; value: Buffer } | undefined {
  let name: string;
  let bytes: Buffer;
  if (key.startsWith('SCHILY.xattr.')) {
    name = key.slice('SCHILY.xattr.'.length);
    bytes = Buffer.from(value, 'latin1');
  } else if (key.startsWith('LIBARCHIVE.xattr.')) {
    name = key
      .slice('LIBARCHIVE.xattr.'.length)
      .replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw new Refusal('xattr value that is not base64');
    bytes = Buffer.from(value, 'base64');
  } else return undefined;
  checkXattr(name, bytes);
  return { name, value: bytes };
}

/** Throws a Refusal for what no file can have. */
export function checkXattr(name: string, value: Uint8Array): void {
  if (name === '' || name.endsWith('.') || name.length > 255 || name.includes('\0'))
    throw new Refusal('xattr name that is not valid');
  if (value.length > XATTR_VALUE_MAX_BYTES)
    throw new Refusal(`xattr of ${value.length} bytes, more than ${XATTR_VALUE_MAX_BYTES}`);
}
