/**
 * Saying no to an archive: the one who finds the fault knows the reason, the one who called knows the place.
 *
 * Invariant: a Refusal never leaves src/archive and the layer code as it is; refusing() makes it BAD_ARCHIVE.
 */
import { OciError } from '../oci/errors.ts';
import { showBytes } from './byte-string.ts';

/** The reason, without the place. */
export class Refusal extends Error {}

/** Runs `read`; what it refuses becomes a BAD_ARCHIVE at the place. All other errors pass. */
export function refusing<T>(place: () => string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Refusal) throw new OciError('BAD_ARCHIVE', `${place()}: ${error.message}`);
    throw error;
  }
}

/** The place that users know: an entry, by its path. */
export function atEntry(path: string): string {
  return `entry ${showBytes(path)}`;
}
