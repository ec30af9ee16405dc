/**
 * Images of format composefs: streams of layers and the objects they name → image.cfs, with our metadata beside it.
 *
 * Invariant: images/<hex>.composefs exists only after all its streams and objects; an image is in the store in one of
 * the two formats. The same image has the same image.cfs, byte for byte, wherever it is made.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { writeErofsImage } from '../composefs/erofs-image.ts';
import type { LayerRecord, TreeNode } from '../composefs/inode.ts';
import { createLayerMerger } from '../composefs/merge-layers.ts';
import { createVerityHash, type VerityDigest } from '../composefs/verity-digest.ts';
import { syncDirectory, syncFileSystem } from '../host/files.ts';
import type { Waiting } from '../host/lock.ts';
import { enableVerity, measureVerity } from '../host/verity.ts';
import { type DiffID, type Digest, digestHex } from '../oci/digest.ts';
import { wrap } from '../oci/errors.ts';
import { STREAM_FILE } from './apply-stream.ts';
import { hasImage, type ImageRecord, type RawDocuments, writeImage } from './images.ts';
import { imageFileName, type Layout } from './layout.ts';
import { commitObjects, createGuard, hasObject, holeBytes, objectPath, objectPaths } from './objects.ts';
import { claimStage, type Stage } from './stage.ts';
import { hasStream, readStream, type StreamKey, streamKey, streamPath, streamsDirectory } from './streams.ts';

export const IMAGE_FILE = 'image.cfs';

/** A layer being made, in a directory of its own. */
export interface StreamStage {
  readonly directory: string;
  restart(): void;
  /** Its objects, then the stream itself, by its diffID or the digest of its table. Sync the file system before, and before an image is made of it. */
  commit(toc?: Digest): void;
  discard(): void;
}

/** undefined when the stream is in the store, maybe after waiting for another pull of it. */
export async function claimStream(
  layout: Layout,
  diffID: DiffID,
  waiting: Waiting,
): Promise<StreamStage | undefined> {
  const hex = digestHex(diffID);
  const isDone = () => hasStream(layout, diffID);
  const stage = await claimStage(layout, `stream-${hex}`, `layer ${hex.slice(0, 12)}`, isDone, waiting);
  return stage && streamStage(layout, diffID, stage);
}

function streamStage(layout: Layout, diffID: DiffID, stage: Stage): StreamStage {
  return {
    directory: stage.directory,
    restart: () => stage.empty(),
    commit(toc) {
      commitObjects(objectPaths(layout), stage.directory);
      mkdirSync(streamsDirectory(layout), { recursive: true, mode: 0o700 });
      renameSync(
        join(stage.directory, STREAM_FILE),
        streamPath(layout, streamKey({ diffID, ...(toc && { toc }) })),
      );
      stage.discard();
    },
    discard: () => stage.discard(),
  };
}

/** Has the kernel guard each object of the tree, also those from before it could; false where one is not. */
function guardObjects(layout: Pick<Layout, 'root'>, root: TreeNode): boolean {
  const paths = objectPaths(layout);
  const guardObject = createGuard();
  const isGuarded = (path: string) =>
    withFile(path, (fd) => measureVerity(fd) !== undefined || guardObject(fd, holeBytes(fstatSync(fd))));
  const seen = new Set<VerityDigest>();
  const ahead = [root];
  for (let node = ahead.pop(); node !== undefined; node = ahead.pop()) {
    for (const child of node.children?.values() ?? []) ahead.push(child);
    const { object } = node.inode;
    if (object === undefined || seen.has(object)) continue;
    if (!hasObject(paths, object) || !isGuarded(objectPath(paths, object))) return false;
    seen.add(object);
  }
  return true;
}

/** False where the file system or the kernel has no fs-verity. */
export function guard(path: string): boolean {
  return withFile(path, enableVerity);
}

function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes the image of such layers to a new file. Throws BAD_ARCHIVE for layers that do not fit on each other. */
function writeComposefsImage(
  layout: Pick<Layout, 'root'>,
  layers: readonly StreamKey[],
  path: string,
): { imageDigest: VerityDigest; sizeBytes: number } {
  const merger = createLayerMerger();
  let sizeBytes = 0;
  const records = function* (key: StreamKey): Generator<LayerRecord> {
    sizeBytes += (yield* readStream(streamPath(layout, key))).sizeBytes;
  };
  for (const key of layers) {
    try {
      merger.add(records(key));
    } catch (error) {
      throw wrap(`layer ${key.replace(/^\w+:/, '').slice(0, 12)}`, error);
    }
  }
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o444);
  const verity = createVerityHash();
  try {
    writeErofsImage(merger.root, (bytes) => {
      verity.update(bytes);
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    });
  } finally {
    closeSync(fd);
  }
  // last: whoever finds the image guarded relies on its objects being so (src/verified-image.ts)
  if (guardObjects(layout, merger.root)) guard(path);
  return { imageDigest: verity.digest(), sizeBytes };
}

/** Puts an image whose streams are all in place into the store, durably. Does nothing when it is there in any format. */
export async function commitComposefsImage(
  layout: Layout,
  record: ImageRecord,
  documents: RawDocuments,
  waiting: Waiting,
): Promise<void> {
  const hex = digestHex(record.digest);
  const isDone = () => hasImage(layout, record.digest);
  // of the same name as the stage of the other format
  const name = imageFileName(hex, 'tree');
  const stage = await claimStage(layout, name, `image ${hex.slice(0, 12)}`, isDone, waiting);
  if (stage === undefined) return;
  try {
    fillComposefsImage(layout, record, documents, stage.directory);
    stage.commit(join(layout.images, imageFileName(hex, 'composefs')));
    syncDirectory(layout.images);
  } finally {
    stage.discard();
  }
}

/** Makes the directory of an image, all but its place; everything is durable afterwards. */
export function fillComposefsImage(
  layout: Layout,
  record: ImageRecord,
  documents: RawDocuments,
  directory: string,
): void {
  const layers = record.layers.map(streamKey);
  const { imageDigest, sizeBytes } = writeComposefsImage(layout, layers, join(directory, IMAGE_FILE));
  writeImage(directory, { ...record, sizeBytes, format: 'composefs', imageDigest }, documents, new Map());
  syncFileSystem(directory); // also what commitObjects() renamed
}
