/**
 * fsck of format composefs: image files by their digests, streams by theirs, and each object by its name, which is the
 * digest of its content; where the kernel guards it, by what the kernel says, too.
 */
import { closeSync, lstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { showBytes } from '../archive/byte-string.ts';
import { createVerityHash, type VerityDigest } from '../composefs/verity-digest.ts';
import { measureVerity } from '../host/syscalls.ts';
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

/** Streams and the objects they name. `checked` holds the objects that were looked at. */
export function checkStream(layout: Layout, key: StreamKey, checked: Set<string>): Damage[] {
  const damage: Damage[] = [];
  const paths = objectPaths(layout);
  try {
    for (const record of readStream(streamPath(layout, key))) {
      if (record.kind !== 'inode' || record.inode.object === undefined) continue;
      const { object } = record.inode;
      if (checked.has(object)) continue;
      checked.add(object);
      const problem = checkVerityFile(objectPath(paths, object), object);
      if (problem !== undefined) {
        const path = showBytes(record.path);
        damage.push({ kind: 'object', name: object, path, problem });
      }
    }
  } catch (error) {
    damage.push({ kind: 'stream', name: streamFileName(key), problem: problemOf(error) });
  }
  return damage;
}

const PIECE_BYTES = 1 << 20;

/** What is wrong with a file that is to have this digest. */
export function checkVerityFile(path: string, digest: VerityDigest): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'is missing';
  if (!stat.isFile()) return 'is no file';
  const fd = openSync(path, 'r');
  try {
    const verity = createVerityHash();
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let bytes = readSync(fd, piece); bytes > 0; bytes = readSync(fd, piece))
      verity.update(piece.subarray(0, bytes));
    if (verity.digest() !== digest) return 'content differs';
    const measured = measureVerity(fd);
    return measured === undefined || measured === digest ? undefined : 'the kernel guards other content';
  } catch (error) {
    return problemOf(error); // the kernel refuses to read what it finds changed
  } finally {
    closeSync(fd);
  }
}
