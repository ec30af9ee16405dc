/**
 * What fsck --repair does to a store, step by step; src/repair.ts decides and fetches.
 *
 * Invariant: what takes a damaged thing's place is whole and durable before it does, in one rename; until then the
 * damaged one stays. Everything but stageLayer() runs under the exclusive lock.
 */
import {
  cpSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { syncDirectory, syncFileSystem } from '../host/files.ts';
import type { Waiting } from '../host/lock.ts';
import { type ChainID, type Digest, digestHex } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { STREAM_FILE } from './apply-stream.ts';
import { checkVerityFile } from './check-composefs.ts';
import { checkLinks } from './check-store.ts';
import { objectsOfStream } from './composefs-garbage.ts';
import { fillComposefsImage, guard } from './composefs-images.ts';
import { moveToTrash, unusedLayers } from './garbage.ts';
import { removeLink } from './image-links.ts';
import {
  type FindTree,
  hasImage,
  type ImageRecord,
  imageTreeLinks,
  type RawDocuments,
  readImageRecord,
  SIGNATURES,
  writeImage,
} from './images.ts';
import { hasLayer, type LayerStage, openLayerReplacement, replaceSkeleton } from './layers.ts';
import { formatOfFile, imagePath, type Layout, type StoreFormat } from './layout.ts';
import { commitObjects, type ObjectPaths, objectPath, objectPaths } from './objects.ts';
import { removeTree } from './remove-tree.ts';
import { openPrivateStage } from './stage.ts';
import {
  listStreams,
  type StreamKey,
  streamFileName,
  streamKey,
  streamPath,
  streamsDirectory,
} from './streams.ts';

export interface Remains {
  readonly source: string | undefined;
  /** By the directory's time where the record does not tell. */
  readonly stored: string;
  readonly rawManifest: Uint8Array | undefined;
  readonly rawConfig: Uint8Array | undefined;
}

/** A layer of format composefs that was fetched again. */
export interface StreamReplacement {
  readonly directory: string;
  /** Where no objects are: so all are made. */
  readonly noObjects: ObjectPaths;
  restart(): void;
  /** Puts the stream in place, and what of its objects is damaged or missing. Sync before and after. */
  replace(): void;
  discard(): void;
}

export type Repairs = ReturnType<typeof repairsOf>;

export function repairsOf(layout: Layout, findTree: FindTree) {
  const read = (digest: Digest, file: string): Buffer | undefined => {
    try {
      return readFileSync(join(imagePath(layout, digestHex(digest)), '.oci', file));
    } catch {
      return undefined;
    }
  };
  const layerOf = (digest: Digest, index: number): ImageRecord['layers'][number] | undefined => {
    try {
      return readImageRecord(layout, digestHex(digest)).layers[index];
    } catch {
      return undefined;
    }
  };
  return {
    /** What is left of an image, whatever is damaged. Nothing of it is verified. */
    remains(digest: Digest): Remains {
      const stat = statSync(imagePath(layout, digestHex(digest)), { throwIfNoEntry: false });
      let record: Partial<ImageRecord> = {};
      try {
        record = { ...JSON.parse(String(read(digest, 'image.json'))) };
      } catch {
        // then it tells nothing
      }
      const { source, stored } = record;
      const isTime = typeof stored === 'string' && !Number.isNaN(Date.parse(stored));
      return {
        source: typeof source === 'string' ? source : undefined,
        stored: isTime ? stored : new Date(stat?.mtimeMs ?? 0).toISOString(),
        rawManifest: read(digest, 'manifest.json'),
        rawConfig: read(digest, 'config.json'),
      };
    },

    /** Whether the layer is in this store, and not in an additional one. */
    hasLayer: (chainID: ChainID): boolean => hasLayer(layout, chainID),
    unusedLayers: (): string[] => unusedLayers(layout),

    /** A place to make a layer anew. Its commit() puts it in place; sync() first. */
    stageLayer: (chainID: ChainID): Promise<LayerStage> => openLayerReplacement(layout, chainID),

    /** By what the image keeps a layer; undefined where its record is damaged. */
    streamKeyOf(digest: Digest, index: number): StreamKey | undefined {
      const layer = layerOf(digest, index);
      return layer && streamKey(layer);
    },

    /** The table of contents that vouches for a layer, if one does. */
    tableOf(digest: Digest, index: number): { toc?: Digest } {
      const toc = layerOf(digest, index)?.toc;
      return toc === undefined ? {} : { toc };
    },

    /** Whether the stream names one of the objects; not where it is damaged. */
    streamNames: (key: StreamKey, objects: ReadonlySet<string>): boolean =>
      namesOneOf(layout, streamFileName(key), objects),

    /** A place to make a stream anew, with all its objects. */
    async stageStream(key: StreamKey): Promise<StreamReplacement> {
      const stage = await openPrivateStage(layout, 'repair');
      const { directory } = stage;
      const none = join(directory, 'none');
      return {
        directory,
        noObjects: { objects: none, objectsBySha256: none },
        restart: () => stage.empty(),
        replace() {
          const paths = objectPaths(layout);
          for (const name of readdirSync(join(directory, 'objects'))) {
            const object = name as VerityDigest;
            const target = objectPath(paths, object);
            const stat = lstatSync(target, { throwIfNoEntry: false });
            // also those that fsck could not know of, as the stream was damaged
            if (stat === undefined || checkVerityFile(target, object) === undefined) continue;
            if (stat.isDirectory()) removeTree(target);
            renameSync(join(directory, 'objects', object), target);
          }
          commitObjects(paths, directory);
          // a layer that its table vouches for is not what a stream of its tar is
          if (!key.startsWith('toc:')) renameSync(join(directory, STREAM_FILE), streamPath(layout, key));
        },
        discard: () => stage.discard(),
      };
    },

    /** For an object that is whole, and not guarded. Under the shared lock. */
    guardObject(hex: string): void {
      if (!guard(objectPath(objectPaths(layout), hex as VerityDigest)))
        throw new OciError('UNSUPPORTED', 'the kernel does not guard it');
    },

    /** Whether a stream or an object is what its name says. */
    isSound(kind: 'stream' | 'object', hex: string): boolean {
      if (kind === 'object') {
        const object = hex as VerityDigest;
        return checkVerityFile(objectPath(objectPaths(layout), object), object) === undefined;
      }
      try {
        objectsOfStream(layout, hex);
        return true;
      } catch {
        return false;
      }
    },

    /**
     * Forgets layers whose stream is one of these or names one of these objects: so no pull takes them for whole, and the
     * next one that wants them fetches them. The objects stay where containers may have them open.
     */
    quarantine(streams: ReadonlySet<string>, objects: ReadonlySet<string>): void {
      const isHit = (name: string) =>
        streams.has(name) || (objects.size > 0 && namesOneOf(layout, name, objects));
      if (streams.size + objects.size === 0) return;
      for (const name of listStreams(layout).filter(isHit)) unlinkSync(join(streamsDirectory(layout), name));
    },

    /** The format of an image, whatever is damaged of it. */
    formatOf: (digest: Digest): StoreFormat => formatOfFile(imagePath(layout, digestHex(digest))),

    /** The image, made again from its streams; with its signatures, which are about the bytes that it will have again. */
    async replaceComposefsImage(record: ImageRecord, documents: RawDocuments): Promise<void> {
      const target = imagePath(layout, digestHex(record.digest));
      const stage = await openPrivateStage(layout, 'repair');
      try {
        fillComposefsImage(layout, record, documents, stage.directory);
        const [kept, copy] = [target, stage.directory].map((directory) => join(directory, SIGNATURES));
        if (existsSync(kept!)) cpSync(kept!, copy!, { recursive: true });
        syncFileSystem(stage.directory);
        stage.exchange(target);
        syncDirectory(layout.images);
      } finally {
        stage.discard();
      }
    },

    /** False when it was removed meanwhile. */
    hasImage: (digest: Digest): boolean => hasImage(layout, digest),

    sync: (): void => syncFileSystem(layout.root),
    syncLayers: (): void => syncDirectory(layout.layers),

    /** The image's directory, made again from its documents. */
    async replaceImage(record: ImageRecord, documents: RawDocuments): Promise<void> {
      const hex = digestHex(record.digest);
      const target = imagePath(layout, hex);
      const stage = await openPrivateStage(layout, 'repair');
      try {
        writeImage(stage.directory, record, documents, imageTreeLinks(layout, record, findTree));
        syncFileSystem(stage.directory);
        stage.exchange(target);
        syncDirectory(layout.images);
      } finally {
        stage.discard();
      }
    },

    replaceSkeleton: (waiting: Waiting): Promise<void> => replaceSkeleton(layout, waiting),

    /** A layer that no image has. */
    removeLayer: (hex: string): void => moveToTrash(layout, join(layout.layers, hex)),

    /** A damaged name; one that was written anew meanwhile stays. */
    removeTag(name: string): void {
      if (checkLinks(layout, 'tags').some((damage) => damage.name === name)) removeLink(layout, 'tags', name);
    },
  };
}

function namesOneOf(layout: Layout, stream: string, objects: ReadonlySet<string>): boolean {
  try {
    return [...objectsOfStream(layout, stream)].some((object) => objects.has(object));
  } catch {
    return false;
  }
}
