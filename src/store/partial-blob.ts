/**
 * A blob while it is downloaded: staging/blobs/<digest hex>.partial, kept when a pull is cut off and taken up by the
 * next one. Its content is unverified until a layer was applied from it.
 *
 * Invariant: one writer at a time, by a lock on the file. Where another pull holds the lock, or something unusable lies
 * there, we download into a file of our own, without resuming: waiting here could be waiting in a circle.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { listDirectory } from '../host/files.ts';
import { leadsTo, tryLock } from '../host/lock.ts';
import { type Digest, digestHex } from '../oci/digest.ts';
import type { Layout } from './layout.ts';
import { removeAny } from './remove-tree.ts';

export interface PartialBlob {
  readonly path: string;
  /** Bytes in the file. */
  readonly size: number;
  append(chunk: Uint8Array): void;
  /** Starts again from nothing. */
  truncate(): void;
  /** Closes the file and keeps it to be resumed (unless it is one that nobody could find again). */
  keep(): void;
  /** Removes the file. keep() and remove() do nothing on a closed blob. */
  remove(): void;
}

/** Left-over downloads are given up after a day. */
export const RESUMABLE_FOR_MS = 24 * 3600 * 1000;

export function openPartialBlob(layout: Layout, digest: Digest): PartialBlob {
  const shared = join(layout.blobs, `${digestHex(digest)}.partial`);
  try {
    if (lstatSync(shared, { throwIfNoEntry: false })?.isFile() === false) removeAny(shared);
    const fd = openLocked(shared);
    if (fd !== undefined) return partialBlob(shared, fd, true);
  } catch {
    // What lies there is of no use to us. If the trouble is a larger one, the next lines meet it, too.
  }
  for (;;) {
    const own = join(layout.blobs, `${digestHex(digest)}.${randomBytes(6).toString('hex')}.partial`);
    const ownFd = openLocked(own);
    if (ownFd !== undefined) return partialBlob(own, ownFd, false);
  }
}

/** undefined when another process or layer holds the file's lock. */
function openLocked(path: string, create = constants.O_CREAT): number | undefined {
  for (;;) {
    const fd = openSync(path, constants.O_RDWR | create | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
    if (!tryLock(fd, 'exclusive')) {
      closeSync(fd);
      return undefined;
    }
    if (leadsTo(path, fd)) return fd;
    closeSync(fd); // removed between open and lock: open the new one
  }
}

function partialBlob(path: string, fd: number, resumable: boolean): PartialBlob {
  let size = fstatSync(fd).size;
  let open = true;
  const close = (unlink: boolean) => {
    if (!open) return;
    open = false;
    if (unlink) unlinkSync(path);
    closeSync(fd);
  };
  return {
    path,
    get size() {
      return size;
    },
    append(chunk) {
      for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
      size += chunk.length;
    },
    truncate() {
      ftruncateSync(fd, 0);
      size = 0;
    },
    keep: () => close(!resumable || size === 0),
    remove: () => close(true),
  };
}

/**
 * Calls `visit` for each left-over download that nobody can or should resume: not one in use, nor one of the last
 * `resumableMs` (a time in the future is no better than one too old).
 */
export function visitLeftOverBlobs(layout: Layout, resumableMs: number, visit: (path: string) => void): void {
  for (const name of listDirectory(layout.blobs)) {
    const path = join(layout.blobs, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    const resumable =
      stat.isFile() && /^[0-9a-f]+\.partial$/.test(name) && Math.abs(Date.now() - stat.mtimeMs) < resumableMs;
    if (resumable) continue;
    let fd: number | undefined;
    try {
      if (stat.isFile()) {
        fd = openLocked(path, 0);
        if (fd === undefined) continue; // in use
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      // it cannot be opened, so nobody uses it
    }
    try {
      visit(path);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
}
