/**
 * What fsck --repair does to a store, step by step; src/repair.ts decides and fetches.
 *
 * Invariant: what takes a damaged thing's place is whole and durable before it does, in one rename; until then the
 * damaged one stays. Everything but stageLayer() runs under the exclusive lock.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Waiting } from '../host/lock.ts';
import { type ChainID, type Digest, digestHex } from '../oci/digest.ts';
import { moveToTrash, unusedLayers } from './garbage.ts';
import { removeLink } from './image-links.ts';
import { type FindTree, type ImageRecord, imageTreeLinks, type RawDocuments, writeImage } from './images.ts';
import { claimLayerReplacement, hasLayer, type LayerStage, replaceSkeleton } from './layers.ts';
import { imagePath, type Layout, syncDirectory, syncFileSystem } from './layout.ts';
import { claimReplacement } from './stage.ts';

export interface Remains {
  readonly source: string | undefined;
  /** By the directory's time where the record does not tell. */
  readonly stored: string;
  readonly rawManifest: Uint8Array | undefined;
  readonly rawConfig: Uint8Array | undefined;
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
    stageLayer: (chainID: ChainID, waiting: Waiting): Promise<LayerStage> =>
      claimLayerReplacement(layout, chainID, waiting),

    sync: (): void => syncFileSystem(layout.root),
    syncLayers: (): void => syncDirectory(layout.layers),

    /** The image's directory, made again from its documents. */
    async replaceImage(record: ImageRecord, documents: RawDocuments, waiting: Waiting): Promise<void> {
      const hex = digestHex(record.digest);
      const target = imagePath(layout, hex);
      const stage = await claimReplacement(layout, hex, `image ${hex.slice(0, 12)}`, waiting);
      try {
        writeImage(stage.directory, record, documents, imageTreeLinks(layout, record, findTree));
        syncFileSystem(stage.directory);
        if (existsSync(target)) stage.exchange(target);
        else stage.commit(target);
        syncDirectory(layout.images);
      } finally {
        stage.discard();
      }
    },

    replaceSkeleton: (waiting: Waiting): Promise<void> => replaceSkeleton(layout, waiting),

    /** A layer that no image has. */
    removeLayer: (hex: string): void => moveToTrash(layout, join(layout.layers, hex)),

    removeTag: (name: string): void => void removeLink(layout, 'tags', name),
  };
}
