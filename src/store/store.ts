/**
 * The store as the stories see it: names, images, layers and locks over the tree that layout.ts draws.
 *
 * Concurrency: reading needs no lock. Adding happens under the shared lock, deleting under the exclusive one;
 * whoever goes on to use an image's layers holds the shared lock until its record is in the run root
 * (image-users.ts). There is no index to keep in step: the directories are the database.
 *
 * Additional stores are looked at where ours has no such name, image or layer. They are only read, locks included;
 * ours may link to layers there, so whoever looks after them must not delete what we use.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { listDirectory, syncDirectory } from '../host/files.ts';
import { type Lock, type LockMode, lockFile, lockPresentFile, type Waiting } from '../host/lock.ts';
import { syncfs } from '../host/syscalls.ts';
import { type ChainID, type DiffID, type Digest, digestHex, digestOfHex } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { type CheckedStore, checkStore } from './check-store.ts';
import { claimStream, commitComposefsImage, type StreamStage } from './composefs-images.ts';
import { collectGarbage, deleteImage, type Garbage, type GarbageOptions } from './garbage.ts';
import { composefsEntries, type ImageEntry } from './image-entries.ts';
import { listLinks, removeLink, settleNames, writeLink } from './image-links.ts';
import { lookupIn, namesIn } from './image-lookup.ts';
import { findImageUsers, type ImageUser, refuseWhileUsed, type UseRecord, useRecord } from './image-users.ts';
import {
  commitImage,
  hasImage,
  type ImageDocuments,
  type ImageRecord,
  type RawDocuments,
  readImageDocuments,
  readImageRecord,
  type StoredImage,
} from './images.ts';
import {
  claimLayer,
  ensureSkeleton,
  hasLayer,
  type LayerRecord,
  type LayerStage,
  readLayerRecord,
} from './layers.ts';
import {
  formatOfFile,
  imagePath,
  type Layout,
  layoutBelow,
  openLayout,
  type StoreFormat,
  tagFileName,
} from './layout.ts';
import { objectPaths } from './objects.ts';
import { openPartialBlob, type PartialBlob, RESUMABLE_FOR_MS, visitLeftOverBlobs } from './partial-blob.ts';
import { removeAny } from './remove-tree.ts';
import { type Repairs, repairsOf } from './repairs.ts';
import { replaceFormat } from './replace-format.ts';
import { visitLeftOverStages } from './stage.ts';
import { type StoreUsage, storeUsage } from './store-usage.ts';
import { hasStream, type StreamKey, streamKey, streamPath } from './streams.ts';

export interface RemovedImage {
  readonly digest: Digest;
  readonly untagged: readonly string[];
  /** Whether the image itself went: false when it has other names. */
  readonly deleted: boolean;
  /** Hex names of the layers that went with it. */
  readonly deletedLayers: readonly string[];
}

export type Store = ReturnType<typeof storeOf>;

export interface StoreOptions {
  readonly root: string;
  /** Makes the store when it is not there. */
  readonly create?: boolean;
  /** Other stores to look in, in this order. Those that are not there are left out. */
  readonly additional?: readonly string[];
}

/**
 * Opens the store at `root`. Without `create`, where neither it nor an additional one exists yet: undefined. There
 * are no images then, and reading commands make no directories.
 */
export function openStore({ root, create = false, additional = [] }: StoreOptions): Store | undefined {
  const own = openLayout(root, create);
  const others = additional
    .flatMap((directory) => openLayout(directory, false) ?? [])
    .filter((other) => other.root !== own?.root);
  if (own === undefined && others.length === 0) return undefined;
  return storeOf(own ?? layoutBelow(resolve(root)), others);
}

function storeOf(layout: Layout, others: readonly Layout[]) {
  const lookup = lookupIn(layout, others);
  const { homeOfImage, homeOfLayer, treeOf, imageByHex, findHex, refuseReadOnly } = lookup;

  function usersOf(digest: Digest, runRoot: string): ImageUser[] {
    const roots = [...listLinks(layout, 'roots')].filter(([, hex]) => hex === digestHex(digest));
    const services = new Set(roots.map(([name]) => name.replace(/@\d+(\+\d+)?$/, '')));
    return [
      ...findImageUsers(runRoot, layout.root, digest),
      ...[...services].map((name) => ({ kind: 'service' as const, name })),
    ];
  }

  return {
    root: layout.root,

    /**
     * The store's lock: shared to add or to start using an image, exclusive to delete. The shared one is on the
     * additional stores, too.
     */
    lock: (mode: LockMode, waiting: Waiting = {}): Promise<Lock> => lockStores(layout, others, mode, waiting),

    // Names and images

    /** The image that the first of `candidates` names: a tag, a digest, or at least 12 digits of one. */
    lookup(candidates: readonly string[]): StoredImage | undefined {
      const hex = findHex(candidates);
      return hex === undefined ? undefined : imageByHex(hex);
    },

    imageByDigest(digest: Digest): StoredImage | undefined {
      return homeOfImage(digest) === undefined ? undefined : imageByHex(digestHex(digest));
    },

    hasImage: (digest: Digest): boolean => homeOfImage(digest) !== undefined,

    /** Newest first. Damaged images are listed apart, so that one does not hide the others. */
    listImages: lookup.listImages,

    /** Manifest and configuration, verified again. */
    readDocuments: (image: StoredImage): ImageDocuments => readImageDocuments(image),

    /** Whether each layer of the image is here: fsck --repair forgets those that are damaged beyond it. */
    isWhole: (image: StoredImage): boolean =>
      image.store !== layout.root ||
      image.layers.every((layer) =>
        image.format === 'composefs'
          ? hasStream(layout, streamKey(layer))
          : homeOfLayer(layer.chainID) !== undefined,
      ),

    /** A manifest or configuration that is here already. */
    localDocument: lookup.localDocument,

    /** The trees of the image's own layers, lowest first, without the skeleton. */
    layerTrees: (image: StoredImage): string[] => image.layers.map(({ chainID }) => treeOf(chainID)),

    /** Throws USAGE for a name that cannot be a tag. */
    checkName: (name: string): void => void tagFileName(name),

    /** Whether the name leads to the image, here or in an additional store. */
    isTagged: (name: string, digest: Digest): boolean => lookup.hexOfTag(name) === digestHex(digest),

    /** Durable when it returns; false when the name already led there. Under the shared lock. */
    async tag(name: string, digest: Digest, waiting: Waiting = {}): Promise<boolean> {
      if (lookup.hexOfTag(name) === digestHex(digest)) return false;
      const home = homeOfImage(digest);
      if (home === undefined)
        throw new OciError('TEMPORARY', `the image of ${quote(name)} was removed meanwhile`, {
          hint: 'Pull it again.',
        });
      if (home !== layout) {
        // a name leads to an image of its own store, and that one to layers of any
        const image = readImageRecord(home, digestHex(digest));
        if (image.format === 'composefs')
          throw new OciError(
            'UNSUPPORTED',
            `the image of ${quote(name)} is of format composefs and in the additional store ${quote(home.root)}`,
            { hint: `Give it the name there: ocictl --root ${home.root} tag …` },
          );
        const { directory: _, ...record } = image;
        await ensureSkeleton(layout, waiting);
        await commitImage(layout, record, readImageDocuments(image), treeOf, waiting);
      }
      return writeLink(layout, 'tags', name, digest);
    },

    /** False when there was no such name. The image stays. */
    untag(name: string): boolean {
      if (removeLink(layout, 'tags', name)) return true;
      refuseReadOnly([name], 'untag');
      return false;
    },

    /** Keeps the image for a version of an installed service, `NAME@VERSION` or `NAME@VERSION+N`, whatever becomes of its tags. Under the shared lock. */
    addRoot: (name: string, digest: Digest): Promise<boolean> => writeLink(layout, 'roots', name, digest),
    removeRoot: (name: string): boolean => removeLink(layout, 'roots', name),
    roots: (): string[] => [...listLinks(layout, 'roots').keys()],

    // Adding: under the shared lock

    hasLayer: (chainID: ChainID): boolean => homeOfLayer(chainID) !== undefined,
    layerRecord: (chainID: ChainID): LayerRecord => readLayerRecord(homeOfLayer(chainID) ?? layout, chainID),
    layerTree: treeOf,
    /** undefined when the layer is here or in an additional store. */
    claimLayer: async (chainID: ChainID, waiting: Waiting): Promise<LayerStage | undefined> =>
      homeOfLayer(chainID) === undefined ? claimLayer(layout, chainID, waiting) : undefined,
    openPartialBlob: (digest: Digest): PartialBlob => openPartialBlob(layout, digest),
    /** Writes back everything below staging/; reports each failure of that since the lock was taken. */
    sync: (lock: Lock): void => syncfs(lock.fd),
    /** Makes committed layers durable. */
    syncLayers: (): void => syncDirectory(layout.layers),

    /** All layers are in place and durable. Returns the image with the names it has. */
    async addImage(record: ImageRecord, documents: RawDocuments, waiting: Waiting): Promise<StoredImage> {
      await ensureSkeleton(layout, waiting);
      await commitImage(layout, record, documents, treeOf, waiting);
      return imageByHex(digestHex(record.digest));
    },

    /** Whether sweep() may find something. Costs next to nothing. */
    mayNeedSweep: (): boolean =>
      listDirectory(layout.staging).length > 1 || listDirectory(layout.blobs).length > 0,

    /** Removes what crashed processes left behind, where it can be. Safe at any time beside others. */
    sweep(): void {
      const remove = (path: string) => {
        try {
          removeAny(path);
        } catch {
          // in nobody's way; ocictl gc tells about it
        }
      };
      visitLeftOverStages(layout, remove);
      visitLeftOverBlobs(layout, RESUMABLE_FOR_MS, remove);
    },

    // Format composefs: under the shared lock

    /** Where new objects find those that are here. */
    objects: objectPaths(layout),
    hasStream: (key: StreamKey): boolean => hasStream(layout, key),
    streamPath: (key: StreamKey): string => streamPath(layout, key),
    /** undefined when the layer is here as a stream. */
    claimStream: (diffID: DiffID, waiting: Waiting): Promise<StreamStage | undefined> =>
      claimStream(layout, diffID, waiting),
    /** All streams are in place. Returns the image with the names it has. */
    async addComposefsImage(
      record: ImageRecord,
      documents: RawDocuments,
      waiting: Waiting,
    ): Promise<StoredImage> {
      await commitComposefsImage(layout, record, documents, waiting);
      return imageByHex(digestHex(record.digest));
    },

    /** The image in the other format, in its place; see replace-format.ts. Under the exclusive lock. */
    replaceFormat: (
      image: StoredImage,
      to: StoreFormat,
      documents: ImageDocuments,
      tables: readonly (Digest | undefined)[],
    ): Promise<void> => replaceFormat(layout, treeOf, image, to, documents, tables),

    /** Of an image of format composefs: its files, by path. */
    composefsEntries: (image: StoredImage): Map<string, ImageEntry> =>
      composefsEntries({ ...layout, root: image.store }, image.layers.map(streamKey)),

    // Using

    /** Containers, mounts and services that use the image. */
    usersOf: (image: { digest: Digest }, runRoot: string): ImageUser[] => usersOf(image.digest, runRoot),

    /** What to write into the run root before the image is used, under the shared lock. */
    useRecord(...digests: [Digest, ...Digest[]]): UseRecord {
      const ours = digests.every(
        (digest) =>
          hasImage(layout, digest) &&
          (formatOfFile(imagePath(layout, digestHex(digest))) === 'composefs' ||
            readImageRecord(layout, digestHex(digest)).layers.every(({ chainID }) =>
              hasLayer(layout, chainID),
            )),
      );
      return useRecord(digests, ours ? layout.root : undefined);
    },

    // Looking after it

    /** Bytes on the disk, of `images` and of the whole store. */
    usage: (images?: readonly Digest[]): StoreUsage => storeUsage(layout, images),

    /** Under the shared lock. Only reads. */
    check: (images?: readonly Digest[], signal?: AbortSignal): Promise<CheckedStore> =>
      checkStore(layout, treeOf, images, signal),

    /** What mends it. */
    repairs: (): Repairs => repairsOf(layout, treeOf),

    // Deleting: under the exclusive lock

    /** Names follow their images into the other format, where a conversion was cut short before that. */
    settleNames: (): Promise<void> => settleNames(layout),

    /** Also under the shared lock for a dry run. `runRoot` tells which images are used. */
    collectGarbage: (runRoot: string, options: Omit<GarbageOptions, 'isUsed'>): Garbage[] =>
      collectGarbage(layout, {
        ...options,
        isUsed: (digest) => usersOf(digest, runRoot).length > 0,
      }),

    /**
     * Removes one name of an image, and the image with the layers that only it has when that was its last name.
     * A digest removes the image where at most one name is left. Throws BUSY while something uses it.
     */
    async removeImage(candidates: readonly string[], runRoot: string): Promise<RemovedImage | undefined> {
      const hex = findHex(candidates, [layout]);
      if (hex === undefined) {
        refuseReadOnly(candidates, 'remove');
        return undefined;
      }
      const digest = digestOfHex(hex);
      const names = namesIn(listLinks(layout, 'tags'), hex);
      const name = candidates.find((candidate) => names.includes(candidate));
      if (name === undefined && names.length > 1)
        throw new OciError(
          'USAGE',
          `image ${hex.slice(0, 12)} has ${names.length} names: ${names.map(quote).join(', ')}`,
          {
            hint: 'Remove it by each of its names.',
          },
        );
      const deleted = names.length <= 1;
      if (deleted) refuseWhileUsed(usersOf(digest, runRoot), name ?? hex.slice(0, 12));
      const untagged = name === undefined ? names : [name];
      for (const tag of untagged) removeLink(layout, 'tags', tag);
      const deletedLayers = deleted ? deleteImage(layout, hex) : [];
      return { digest, untagged, deleted, deletedLayers };
    },
  };
}

async function lockStores(
  { root, lock }: Layout,
  others: readonly Layout[],
  mode: LockMode,
  waiting: Waiting,
): Promise<Lock> {
  const what = (directory: string) => `the store ${quote(directory)}`;
  const locks: Lock[] = [];
  const release = () => {
    for (const held of locks) held.release();
  };
  try {
    if (existsSync(root)) locks.push(await lockFile(lock, mode, what(root), waiting));
    for (const other of mode === 'shared' ? others : []) {
      const held = await lockPresentFile(other.lock, mode, what(other.root), waiting);
      if (held !== undefined) locks.push(held);
    }
  } catch (error) {
    release();
    throw error;
  }
  return { fd: locks[0]?.fd ?? -1, release, [Symbol.dispose]: release };
}
