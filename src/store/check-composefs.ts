/**
 * fsck of format composefs: image files by their digests, streams by theirs, and each object by its name, which is the
 * digest of its content. Where the file system has fs-verity the kernel has to guard image files and objects, by that
 * digest.
 */
import { closeSync, fstatSync, lstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { showBytes } from '../archive/byte-string.ts';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { lacksVerity, measureVerity } from '../host/verity.ts';
import type { Damage } from './check-store.ts';
import { objectsOfStream } from './composefs-garbage.ts';
import { IMAGE_FILE } from './composefs-images.ts';
import type { ImageRecord } from './images.ts';
import type { Layout } from './layout.ts';
import { holeBytes, objectPath, objectPaths, verityDigestOfFile } from './objects.ts';
import { problemOf } from './problem.ts';
import { readStream, type StreamKey, streamFileName, streamKey, streamPath } from './streams.ts';

/** What is wrong with image.cfs. */
export function checkImageFile(
  layout: Layout,
  directory: string,
  { imageDigest, layers }: Pick<ImageRecord, 'imageDigest' | 'layers'>,
): string[] {
  if (imageDigest === undefined) return ['image.json lacks the digest of the image'];
  const problem = checkVerityFile(join(directory, IMAGE_FILE), imageDigest);
  if (problem === undefined || (problem === UNGUARDED && hasUnguardedHoles(layout, layers))) return [];
  return [`${IMAGE_FILE} ${problem}`];
}

/** An image is guarded once all its objects are, and of those with holes a few only (createGuard() in objects.ts). */
function hasUnguardedHoles(layout: Layout, layers: ImageRecord['layers']): boolean {
  try {
    const objects = layers.flatMap((layer) => [...objectsOfStream(layout, streamFileName(streamKey(layer)))]);
    return objects.some((object) => {
      const fd = openSync(objectPath(objectPaths(layout), object as VerityDigest), 'r');
      try {
        return lacksVerity(fd) && holeBytes(fstatSync(fd)) > 0;
      } finally {
        closeSync(fd);
      }
    });
  } catch {
    return false; // what is wrong with them is told of them
  }
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

/** What is wrong with a file that is to have this digest. */
export function checkVerityFile(path: string, digest: VerityDigest): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'is missing';
  if (!stat.isFile()) return 'is no file';
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    if (verityDigestOfFile(fd, stat.size) !== digest) return 'content differs';
    const measured = measureVerity(fd);
    if (measured !== undefined && measured !== digest) return 'the kernel guards other content';
    return lacksVerity(fd) && holeBytes(stat) === 0 ? UNGUARDED : undefined;
  } catch (error) {
    // the kernel refuses to open or to read what it finds changed
    return `cannot be read: ${(error as NodeJS.ErrnoException).code ?? problemOf(error)}`;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
