/**
 * fsck of format composefs: image files by their digests, streams by theirs, and each object by its name, which is the
 * digest of its content; where the kernel guards it, by what the kernel says, too.
 */
import { closeSync, lstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { showBytes } from '../archive/byte-string.ts';
import { createVerityHash, type VerityDigest } from '../composefs/verity-digest.ts';
import { lacksVerity, measureVerity } from '../host/syscalls.ts';
import type { Damage } from './check-store.ts';
import { IMAGE_FILE } from './composefs-images.ts';
import type { ImageRecord } from './images.ts';
import type { Layout } from './layout.ts';
import { objectPath, objectPaths } from './objects.ts';
import { problemOf } from './problem.ts';
import { readStream, type StreamKey, streamFileName, streamPath } from './streams.ts';

/** What is wrong with image.cfs. */
export function checkImageFile(
  directory: string,
  { imageDigest }: Pick<ImageRecord, 'imageDigest'>,
): string[] {
  if (imageDigest === undefined) return ['image.json lacks the digest of the image'];
  const problem = checkVerityFile(join(directory, IMAGE_FILE), imageDigest);
  return problem === undefined ? [] : [`${IMAGE_FILE} ${problem}`];
}

/** A stream and the objects it names. `checked`: what is wrong with those that were looked at. */
export function checkStream(
  layout: Layout,
  key: StreamKey,
  checked: Map<VerityDigest, string | undefined>,
): Damage[] {
  const damage: Damage[] = [];
  const paths = objectPaths(layout);
  try {
    for (const record of readStream(streamPath(layout, key))) {
      if (record.kind !== 'inode' || record.inode.object === undefined) continue;
      const { object } = record.inode;
      const problem = checked.has(object)
        ? checked.get(object)
        : checkVerityFile(objectPath(paths, object), object);
      checked.set(object, problem);
      if (problem !== undefined)
        damage.push({ kind: 'object', name: object, path: showBytes(record.path), problem });
    }
  } catch (error) {
    damage.push({ kind: 'stream', name: streamFileName(key), problem: problemOf(error) });
  }
  return damage;
}

/** Of a file that is whole: all that is to be done is to have the kernel guard it. */
export const UNGUARDED = 'has no fs-verity';
const PIECE_BYTES = 1 << 20;

/** What is wrong with a file that is to have this digest. */
export function checkVerityFile(path: string, digest: VerityDigest): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'is missing';
  if (!stat.isFile()) return 'is no file';
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const verity = createVerityHash();
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let bytes = readSync(fd, piece); bytes > 0; bytes = readSync(fd, piece))
      verity.update(piece.subarray(0, bytes));
    if (verity.digest() !== digest) return 'content differs';
    const measured = measureVerity(fd);
    if (measured !== undefined && measured !== digest) return 'the kernel guards other content';
    return lacksVerity(fd) ? UNGUARDED : undefined;
  } catch (error) {
    return problemOf(error); // the kernel refuses to open or to read what it finds changed
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
