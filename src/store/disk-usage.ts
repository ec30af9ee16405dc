/**
 * Bytes on the disk, as du(1) counts them: the blocks of every inode, once however many names it has.
 *
 * What a file system shares below that (reflinks, compression) is counted as the file system tells it.
 */
import { lstatSync } from 'node:fs';
import { isErrno } from '../host/files.ts';
import { walkTree } from './walk-tree.ts';

export const BLOCK_BYTES = 512;

export interface UsageCounter {
  /** Bytes of the file or tree at `path` that were not counted before; 0 where there is nothing. */
  add(path: string): number;
}

/** Inodes with several names count for the path that is added first. All paths are on one file system. */
export function usageCounter(): UsageCounter {
  const counted = new Set<bigint>();
  return {
    add(path) {
      const top = lstatSync(path, { throwIfNoEntry: false });
      if (top === undefined) return 0;
      if (!top.isDirectory()) return top.blocks * BLOCK_BYTES;
      let blocks = 0;
      try {
        walkTree(path, {
          entry(_path, stat, _directory, _name, fd) {
            if (fd < 0 && stat.links > 1) {
              if (counted.has(stat.ino)) return;
              counted.add(stat.ino);
            }
            blocks += stat.blocks;
          },
          unreadable() {}, // it has no size that we could know
        });
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw error; // it has just gone
      }
      return blocks * BLOCK_BYTES;
    },
  };
}

export function diskUsage(path: string): number {
  return usageCounter().add(path);
}
