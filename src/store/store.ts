/**
 * The store as the stories see it: names, images, layers and locks over the tree that layout.ts draws.
 *
 * Concurrency: reading needs no lock. Adding happens under the shared lock, deleting under the exclusive one;
 * whoever goes on to use an image's layers holds the shared lock until its record is in the run root
 * (image-users.ts). There is no index to keep in step: the directories are the database.
 */
import { type Lock, lockFile, type Waiting } from '../host/lock.ts';
import { syncfs } from '../host/syscalls.ts';
import { type ChainID, type Digest, digestHex } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { findImageUsers, type ImageUser } from './image-users.ts';
import {
  commitImage,
  findDocument,
  hasImage,
  type ImageDocuments,
  type ImageRecord,
  listImageHexes,
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
  layerTree,
  readLayerRecord,
  skeletonTree,
} from './layers.ts';
import { type Layout, openLayout, syncDirectory, tagFileName } from './layout.ts';
import { openPartialBlob, type PartialBlob, sweepPartialBlobs } from './partial-blob.ts';
import { deleteImage } from './remove-image.ts';
import { sweepStages } from './stage.ts';
import { listTags, readTag, removeTag, writeTag } from './tags.ts';

export interface RemovedImage {
  readonly digest: Digest;
  readonly untagged: readonly string[];
  /** Whether the image itself went: false when it has other names. */
  readonly deleted: boolean;
  /** Hex names of the layers that went with it. */
  readonly deletedLayers: readonly string[];
}

export interface DamagedImage {
  readonly hex: string;
  readonly error: OciError;
}

export type Store = ReturnType<typeof storeOf>;

/**
 * Opens the store at `root`. Without `create`, a store that does not exist yet is told apart as undefined: it holds
 * no images, and reading commands make no directories.
 */
export function openStore({ root, create = false }: { root: string; create?: boolean }): Store | undefined {
  const layout = openLayout(root, create);
  return layout === undefined ? undefined : storeOf(layout);
}

function storeOf(layout: Layout) {
  function imageByHex(hex: string, tags = listTags(layout)): StoredImage {
    const names = [...tags].filter(([, tagged]) => tagged === hex).map(([name]) => name);
    return { ...readImageRecord(layout, hex), names };
  }

  /** The digest hex that a name or (abbreviated) digest stands for. */
  function findHex(candidates: readonly string[]): string | undefined {
    for (const name of candidates) {
      const hex = readTag(layout, name);
      if (hex !== undefined) return hex;
    }
    for (const name of candidates) {
      const digits = /^(?:.*@)?(?:sha(?:256|512):)?([0-9a-f]{12,128})$/.exec(name)?.[1];
      if (digits === undefined) continue;
      const found = listImageHexes(layout).filter((hex) => hex.startsWith(digits));
      if (found.length === 1) return found[0];
      if (found.length > 1)
        throw new OciError('USAGE', `${quote(name)} stands for ${found.length} images`, {
          hint: 'Write more of its digits.',
        });
    }
    return undefined;
  }

  return {
    root: layout.root,
    /** Below every image's own layers: empty mount points. */
    skeletonTree: skeletonTree(layout),

    /** The store's lock: shared to add or to start using an image, exclusive to delete. */
    lock(mode: 'shared' | 'exclusive', waiting: Waiting = {}): Promise<Lock> {
      return lockFile(layout.lock, mode, `the store ${quote(layout.root)}`, waiting);
    },

    // Names and images

    /** The image that the first of `candidates` names: a tag, a digest, or at least 12 digits of one. */
    lookup(candidates: readonly string[]): StoredImage | undefined {
      const hex = findHex(candidates);
      return hex === undefined ? undefined : imageByHex(hex);
    },

    imageByDigest(digest: Digest): StoredImage | undefined {
      return hasImage(layout, digest) ? imageByHex(digestHex(digest)) : undefined;
    },

    hasImage: (digest: Digest) => hasImage(layout, digest),

    /** Newest first. Damaged images are listed apart, so that one does not hide the others. */
    listImages(): { images: StoredImage[]; damaged: DamagedImage[] } {
      const tags = listTags(layout);
      const images: StoredImage[] = [];
      const damaged: DamagedImage[] = [];
      for (const hex of listImageHexes(layout)) {
        try {
          images.push(imageByHex(hex, tags));
        } catch (error) {
          if (!(error instanceof OciError)) throw error;
          damaged.push({ hex, error });
        }
      }
      images.sort((a, b) => (a.stored < b.stored ? 1 : -1));
      return { images, damaged };
    },

    /** Manifest and configuration, verified again. */
    readDocuments: (image: StoredImage): ImageDocuments => readImageDocuments(image),

    /** A manifest or configuration that is here already. */
    localDocument: (digest: Digest): Uint8Array | undefined => findDocument(layout, digest),

    /** The trees of the image's own layers, lowest first, without the skeleton. */
    layerTrees: (image: StoredImage): string[] =>
      image.layers.map(({ chainID }) => layerTree(layout, chainID)),

    /** Throws USAGE for a name that cannot be a tag. */
    checkName: (name: string): void => void tagFileName(name),

    /** Durable when it returns; false when the name already led there. */
    tag: (name: string, digest: Digest): Promise<boolean> => writeTag(layout, name, digest),

    /** False when there was no such name. The image stays. */
    untag: (name: string): boolean => removeTag(layout, name),

    // Adding: under the shared lock

    hasLayer: (chainID: ChainID): boolean => hasLayer(layout, chainID),
    layerRecord: (chainID: ChainID): LayerRecord => readLayerRecord(layout, chainID),
    layerTree: (chainID: ChainID): string => layerTree(layout, chainID),
    claimLayer: (chainID: ChainID, waiting: Waiting): Promise<LayerStage | undefined> =>
      claimLayer(layout, chainID, waiting),
    openPartialBlob: (digest: Digest): PartialBlob => openPartialBlob(layout, digest),
    /** Writes back everything below staging/; reports each failure of that since the lock was taken. */
    sync: (lock: Lock): void => syncfs(lock.fd),
    /** Makes committed layers durable. */
    syncLayers: (): void => syncDirectory(layout.layers),

    /** All layers are in place and durable. Returns the image with the names it has. */
    async addImage(
      record: ImageRecord,
      documents: { rawManifest: Uint8Array; rawConfig: Uint8Array },
      waiting: Waiting,
    ): Promise<StoredImage> {
      await ensureSkeleton(layout, waiting);
      await commitImage(layout, record, documents, waiting);
      return imageByHex(digestHex(record.digest));
    },

    /** Removes what crashed processes left behind. Safe at any time beside others. */
    sweep(): void {
      sweepStages(layout);
      sweepPartialBlobs(layout);
    },

    // Deleting: under the exclusive lock

    /** Containers and mounts that use the image. */
    usersOf: (image: { digest: Digest }, runRoot: string): ImageUser[] =>
      findImageUsers(runRoot, layout.root, image.digest),

    /**
     * Removes one name of an image, and the image with the layers that only it has when that was its last name.
     * A digest removes the image where at most one name is left. Throws BUSY while a container or mount uses it.
     */
    async removeImage(candidates: readonly string[], runRoot: string): Promise<RemovedImage | undefined> {
      const hex = findHex(candidates);
      if (hex === undefined) return undefined;
      const digest = `sha${hex.length === 64 ? 256 : 512}:${hex}` as Digest;
      const names = [...listTags(layout)].filter(([, tagged]) => tagged === hex).map(([name]) => name);
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
      if (deleted) refuseWhileUsed(findImageUsers(runRoot, layout.root, digest), name ?? hex.slice(0, 12));
      const untagged = name === undefined ? names : [name];
      for (const tag of untagged) removeTag(layout, tag);
      const deletedLayers = deleted ? await deleteImage(layout, hex) : [];
      return { digest, untagged, deleted, deletedLayers };
    },
  };
}

function refuseWhileUsed(users: readonly ImageUser[], name: string): void {
  const [first] = users;
  if (first === undefined) return;
  const more = users.length === 1 ? '' : ` and ${users.length - 1} more`;
  throw new OciError(
    'BUSY',
    `refusing to remove ${quote(name)}: ${first.kind} ${quote(first.name)}${more} uses it`,
    {
      hint:
        first.kind === 'mount'
          ? `Unmount it first: ocictl umount ${first.name}`
          : `Stop it first: systemctl stop ${first.name}`,
      detail: users.map(({ kind, name: user }) => `${kind} ${quote(user)}`).join('\n'),
    },
  );
}
