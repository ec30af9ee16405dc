/** What is wrong with a file of the store, from the error of reading it, in a few words. */
import { basename } from 'node:path';

export function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, path } = error as NodeJS.ErrnoException;
  if (path === undefined || code === undefined) return error.message;
  return code === 'ENOENT' ? `${basename(path)} is missing` : `${basename(path)} cannot be read: ${code}`;
}
