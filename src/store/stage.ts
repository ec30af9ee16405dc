/**
 * Work in progress: a directory below staging/ that one process owns by a lock on the directory itself.
 *
 * Its name says what it will become (`<chainID hex>`, `<digest hex>.mstack`), so the same lock also makes two pulls
 * of one layer share the work: the second waits, then finds the layer in place. A crash leaves an unlocked
 * directory, which the next claim or sweep removes. commit() is the rename out of staging/.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { toByteString } from '../archive/byte-string.ts';
import { isErrno, listDirectory } from '../host/files.ts';
import { type Lock, leadsTo, lockDirectory, tryLock, type Waiting } from '../host/lock.ts';
import { AT_FDCWD, check, RENAME_EXCHANGE, renameat2 } from '../host/syscalls.ts';
import { quote } from '../oci/errors.ts';
import type { Layout } from './layout.ts';
import { removeAny, removeTree } from './remove-tree.ts';

export interface Stage {
  readonly directory: string;
  /** Removes everything in it. */
  empty(): void;
  /** Moves the directory to `target`, for good, and ends the claim. The caller syncs before and after. */
  commit(target: string): void;
  /** The same where `target` exists: what was there is in the stage afterwards, to be discarded. */
  exchange(target: string): void;
  /** Removes the directory and ends the claim; does nothing after commit(). */
  discard(): void;
}

/**
 * An empty directory staging/`name` of our own; undefined when `isDone()`, maybe after waiting for its owner.
 * `what` is for the message: "layer 0123456789ab".
 */
export async function claimStage(
  layout: Layout,
  name: string,
  what: string,
  isDone: () => boolean,
  waiting: Waiting,
): Promise<Stage | undefined> {
  if (isDone()) return undefined;
  const stage = await openStage(layout, name, what, waiting);
  if (!isDone()) return stage;
  stage.discard();
  return undefined;
}

/**
 * A stage that nobody else can want, so that nobody waits for it: what is to replace something waits for the exclusive
 * lock with its stage in hand, and who waited for that stage could hold the shared one.
 */
export function openPrivateStage(layout: Layout, kind: string): Promise<Stage> {
  return openStage(layout, `${kind}-${randomBytes(8).toString('hex')}`, kind, {});
}

async function openStage(layout: Layout, name: string, what: string, waiting: Waiting): Promise<Stage> {
  const directory = join(layout.staging, name);
  const lock: Lock = await lockDirectory(directory, what, waiting);
  let claimed = true;
  const stage: Stage = {
    directory,
    empty() {
      for (const entry of readdirSync(directory)) removeAny(join(directory, entry));
    },
    commit(target) {
      renameSync(directory, target);
      claimed = false;
      lock.release();
    },
    exchange(target) {
      const [from, to] = [toByteString(directory), toByteString(target)];
      check(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE), 'rename', quote(target));
    },
    discard() {
      if (!claimed) return;
      claimed = false;
      try {
        removeTree(directory);
      } finally {
        lock.release();
      }
    },
  };
  try {
    stage.empty(); // of what a crash left
    return stage;
  } catch (error) {
    lock.release();
    throw error;
  }
}

/**
 * Calls `visit` for each path that a crashed process left in staging/, but not for downloads to be resumed. While it
 * runs nobody else can take the path up; work of others is never visited.
 */
export function visitLeftOverStages(layout: Layout, visit: (path: string) => void): void {
  for (const name of listDirectory(layout.staging)) {
    const path = join(layout.staging, name);
    if (path === layout.blobs) continue;
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) visit(path); // no directory, so no stage
      continue;
    }
    try {
      if (tryLock(fd, 'exclusive') && leadsTo(path, fd)) visit(path);
    } finally {
      closeSync(fd);
    }
  }
}
