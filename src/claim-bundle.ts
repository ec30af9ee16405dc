/**
 * A container's name is its bundle directory: who makes the directory has the name.
 *
 * Invariant: from its making to the claim's end the directory is locked, and one that was left over is locked while it
 * is looked at and cleared away. So of two who want a name one gets it, and nobody clears away what another has begun.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { isErrno } from './host/files.ts';
import { tryLockDirectory } from './host/lock.ts';

/** What becomes of a directory that is there and that nobody holds. */
export interface LeftOver {
  /** Whether nothing of its container runs. */
  hasEnded(): boolean;
  /** Removes the directory with what belongs to it. */
  clear(): void;
}

/** Makes the directory and locks it, until disposal. Undefined where the name is taken. */
export function claimBundle(directory: string, leftOver: LeftOver): Disposable | undefined {
  mkdirSync(dirname(directory), { recursive: true, mode: 0o700 });
  if (!makeDirectory(directory) && !(clearLeftOver(directory, leftOver) && makeDirectory(directory)))
    return undefined;
  return tryLockDirectory(directory);
}

/** False where it is there. */
function makeDirectory(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

function clearLeftOver(directory: string, leftOver: LeftOver): boolean {
  using lock = tryLockDirectory(directory);
  if (lock === undefined || !leftOver.hasEnded()) return false;
  leftOver.clear();
  return true;
}
