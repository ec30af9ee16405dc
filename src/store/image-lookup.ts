/**
 * Finding images and layers by what people and documents call them, in our store and in the additional ones after it.
 *
 * Invariant: only reads. Of one name in several stores ours counts, then that of the first.
 */
import { join } from 'node:path';
import { type ChainID, type Digest, digestOfHex } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { IMAGE_FILE } from './composefs-images.ts';
import { listLinks, readLink } from './image-links.ts';
import { findDocument, hasImage, listImageHexes, readImageRecord, type StoredImage } from './images.ts';
import { hasLayer, layerTree } from './layers.ts';
import type { Layout } from './layout.ts';
import { objectPaths } from './objects.ts';

/** One whose record cannot be read. */
export interface DamagedImage {
  readonly digest: Digest;
  readonly names: readonly string[];
  readonly error: OciError;
}

/** `others`: the additional stores, in their order. */
export function lookupIn(layout: Layout, others: readonly Layout[]) {
  const all = [layout, ...others];
  /** The first store that has it. */
  const homeOfImage = (digest: Digest) => all.find((store) => hasImage(store, digest));
  const homeOfLayer = (chainID: ChainID) => all.find((store) => hasLayer(store, chainID));
  /** Of a layer; where it would be in our store when no store has it. */
  const treeOf = (chainID: ChainID) => layerTree(homeOfLayer(chainID) ?? layout, chainID);

  /** Every name with its image's hex. */
  function allTags(): Map<string, string> {
    return new Map(all.toReversed().flatMap((store) => [...listLinks(store, 'tags')]));
  }

  /** Throws where its record is damaged. */
  function imageByHex(hex: string, tags: ReadonlyMap<string, string> = allTags()): StoredImage {
    const home = homeOfImage(digestOfHex(hex)) ?? layout;
    const { format = 'tree', imageDigest, ...record } = readImageRecord(home, hex);
    const image: StoredImage = { ...record, format, names: namesIn(tags, hex), store: home.root };
    if (imageDigest === undefined) return image;
    const path = join(record.directory, IMAGE_FILE);
    return { ...image, composefs: { path, digest: imageDigest, objects: objectPaths(home).objects } };
  }

  /** The digest hex of the image that a name leads to. */
  function hexOfTag(name: string, stores: readonly Layout[] = all): string | undefined {
    for (const store of stores) {
      const hex = readLink(store, 'tags', name);
      if (hex !== undefined) return hex;
    }
    return undefined;
  }

  /** The digest hex that a name or (abbreviated) digest stands for, in the first store that has it. */
  function findHex(candidates: readonly string[], stores: readonly Layout[] = all): string | undefined {
    for (const name of candidates) {
      const hex = hexOfTag(name, stores);
      if (hex !== undefined) return hex;
    }
    for (const name of candidates) {
      const digits = /^(?:.*@)?(?:sha(?:256|512):)?([0-9a-f]{12,128})$/.exec(name)?.[1];
      if (digits === undefined) continue;
      const hexes = new Set(stores.flatMap(listImageHexes));
      const found = [...hexes].filter((hex) => hex.startsWith(digits));
      if (found.length === 1) return found[0];
      if (found.length > 1)
        throw new OciError('USAGE', `${quote(name)} stands for ${found.length} images`, {
          hint: 'Write more of its digits.',
        });
    }
    return undefined;
  }

  /** Throws DENIED for what only an additional store has. */
  function refuseReadOnly(candidates: readonly string[], verb: string): void {
    const store = others.find((other) => findHex(candidates, [other]) !== undefined);
    if (store === undefined) return;
    throw new OciError(
      'DENIED',
      `refusing to ${verb} ${quote(candidates[0] ?? '')}: it is in the additional store ${quote(store.root)}, which is only read`,
      { hint: `Do it there: ocictl --root ${store.root} …` },
    );
  }

  /** Newest first; each image once. */
  function listImages(): { images: StoredImage[]; damaged: DamagedImage[] } {
    const tags = allTags();
    const images: StoredImage[] = [];
    const damaged: DamagedImage[] = [];
    for (const hex of new Set(all.flatMap(listImageHexes))) {
      try {
        images.push(imageByHex(hex, tags));
      } catch (error) {
        if (!(error instanceof OciError)) throw error;
        damaged.push({ digest: digestOfHex(hex), names: namesIn(tags, hex), error });
      }
    }
    images.sort((a, b) => (a.stored < b.stored ? 1 : -1));
    return { images, damaged };
  }

  /** A manifest or configuration that is here already. */
  function localDocument(digest: Digest): Uint8Array | undefined {
    for (const store of all) {
      const bytes = findDocument(store, digest);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }

  return {
    homeOfImage,
    homeOfLayer,
    treeOf,
    imageByHex,
    hexOfTag,
    findHex,
    refuseReadOnly,
    listImages,
    localDocument,
  };
}

/** The names of an image, sorted. */
export function namesIn(tags: ReadonlyMap<string, string>, hex: string): string[] {
  return [...tags]
    .filter(([, tagged]) => tagged === hex)
    .map(([name]) => name)
    .sort();
}
