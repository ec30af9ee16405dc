/**
 * Reads configuration-sized files.
 *
 * Invariant: never blocks on a fifo, never reads a device, never more than maxBytes.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { OciError, quote } from '../oci/errors.ts';

/**
 * undefined where there is no such file; empty for a link to /dev/null, by which administrators mask a file.
 * Throws CONFIG for anything else but a regular file of at most maxBytes.
 */
export function readSmallFile(path: string, maxBytes: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG') return undefined;
    throw new OciError('CONFIG', `cannot read ${quote(path)}: ${code}`, { cause: error });
  }
  try {
    const status = fstatSync(fd);
    if (status.isCharacterDevice()) return Buffer.alloc(0);
    if (!status.isFile()) throw new OciError('CONFIG', `${quote(path)} is not a regular file`);
    if (status.size > maxBytes)
      throw new OciError('CONFIG', `${quote(path)} is larger than ${maxBytes} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
