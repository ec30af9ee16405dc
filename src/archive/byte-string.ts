/**
 * Names as the kernel has them: bytes without an encoding. A *byte string* is a JavaScript string in which each
 * character is one byte (latin1), so that names compare, split and serve as Map keys without loss.
 *
 * Invariant: every path, link target and xattr name in src/archive and in the layer code is a byte string; text
 * that people read is made by showBytes().
 */
import { quote } from '../oci/errors.ts';

const ASCII = /^[\x00-\x7f]*$/;

/** Ordinary text or raw bytes as a byte string. */
export function toByteString(text: string | Uint8Array): string {
  if (typeof text === 'string' && ASCII.test(text)) return text; // as nearly all is
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** A byte string for a message: read as UTF-8, quoted, control characters escaped, cut. */
export function showBytes(bytes: string): string {
  return quote(Buffer.from(bytes.slice(0, 1024), 'latin1').toString('utf8'));
}
