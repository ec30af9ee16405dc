/**
 * All that a machine wrote to a disk, in order, and the disk as it was at any moment of that: what a power cut then would
 * have left. QEMU's driver blklogwrites keeps the log, in the format of the kernel's dm-log-writes.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

const SECTOR_BYTES = 512;
const MAGIC = 0x6a736677736872n;
const FLUSH = 1n;
const DISCARD = 4n;

export interface LoggedWrite {
  /** On the disk, and in the log. */
  readonly offset: number;
  readonly at: number;
  readonly bytes: number;
  /** What was written before is on the disk from here on, whatever it keeps in memory. */
  readonly isFlush: boolean;
}

export function readWriteLog(path: string): LoggedWrite[] {
  const fd = openSync(path, 'r');
  try {
    const sector = Buffer.alloc(SECTOR_BYTES);
    const read = (at: number) => readSync(fd, sector, 0, SECTOR_BYTES, at) === SECTOR_BYTES;
    if (!read(0) || sector.readBigUInt64LE(0) !== MAGIC || sector.readUInt32LE(24) !== SECTOR_BYTES)
      throw new Error(`${path} is no log of writes`);
    const writes: LoggedWrite[] = [];
    const count = Number(sector.readBigUInt64LE(16));
    for (let at = SECTOR_BYTES; writes.length < count && read(at); ) {
      const flags = sector.readBigUInt64LE(16);
      const bytes = (flags & DISCARD) === 0n ? Number(sector.readBigUInt64LE(8)) * SECTOR_BYTES : 0;
      at += SECTOR_BYTES;
      const offset = Number(sector.readBigUInt64LE(0)) * SECTOR_BYTES;
      writes.push({ offset, at, bytes, isFlush: (flags & FLUSH) !== 0n });
      at += bytes;
    }
    return writes;
  } finally {
    closeSync(fd);
  }
}

/** What the write wrote. */
export function loggedBytes(path: string, { at, bytes }: LoggedWrite): Buffer {
  const fd = openSync(path, 'r');
  try {
    const data = Buffer.alloc(bytes);
    readSync(fd, data, 0, bytes, at);
    return data;
  } finally {
    closeSync(fd);
  }
}

/** Writes again to a copy of the disk as it was before. */
export function replayWrites(log: string, writes: readonly LoggedWrite[], disk: string): void {
  const fd = openSync(disk, 'r+');
  try {
    for (const write of writes)
      if (write.bytes > 0) writeSync(fd, loggedBytes(log, write), 0, write.bytes, write.offset);
  } finally {
    closeSync(fd);
  }
}
