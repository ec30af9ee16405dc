/**
 * fsck: is everything in the store what it says it is? Layers file by file (check-layer.ts), images by the digests of
 * their documents, names by where they lead.
 *
 * Invariant: only reads, under the shared lock. Everything found is told, and one damaged thing hides no other.
 */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { listDirectory } from '../host/files.ts';
import { type ChainID, type Digest, digestHex, digestOfHex } from '../oci/digest.ts';
import { quote } from '../oci/errors.ts';
import { FOREIGN_UID_BASE } from '../oci/limits.ts';
import { checkImageFile, checkStream } from './check-composefs.ts';
import { checkLayer } from './check-layer.ts';
import { type LinkKind, linkTarget } from './image-links.ts';
import {
  type FindTree,
  type ImageDocuments,
  type ImageRecord,
  imageRecord,
  imageTreeLinks,
  linkedLayerHexes,
  listImageHexes,
  readImageDocuments,
  readImageRecord,
} from './images.ts';
import { listLayerHexes, SKELETON_DIRECTORIES } from './layers.ts';
import { formatOfFile, hexOfImageFile, imagePath, type Layout, nameOfTagFile, SKELETON } from './layout.ts';
import { problemOf } from './problem.ts';
import { type StreamKey, streamKey } from './streams.ts';

export interface Damage {
  /** `tag` and `root` are names that lead to images; `entry` is what does not belong into the store. */
  readonly kind: 'layer' | 'stream' | 'object' | 'image' | 'tag' | 'root' | 'skeleton' | 'entry';
  /** A digest's hex, a name, or a path in the store. */
  readonly name: string;
  /** Of a file in the layer. */
  readonly path?: string;
  readonly problem: string;
}

export interface CheckedStore {
  /** How many were looked at. */
  readonly layers: number;
  readonly images: number;
  readonly damage: readonly Damage[];
}

/** Of the whole store, or of these images with their layers and names. Stops between two layers. */
export async function checkStore(
  layout: Layout,
  findTree: FindTree,
  only?: readonly Digest[],
  signal?: AbortSignal,
): Promise<CheckedStore> {
  const damage: Damage[] = [];
  const images = only?.map(digestHex) ?? listImageHexes(layout);
  const layers = new Set(only === undefined ? listLayerHexes(layout) : []);
  const streams = new Set<StreamKey>();
  const trees = new Map<string, string>();
  for (const hex of images) {
    const { problems, chainIDs, streamKeys } = checkImage(layout, hex, findTree);
    damage.push(...problems.map((problem) => ({ kind: 'image' as const, name: hex, problem })));
    for (const key of streamKeys) streams.add(key);
    for (const chainID of chainIDs) {
      layers.add(digestHex(chainID));
      trees.set(digestHex(chainID), findTree(chainID));
    }
  }
  for (const hex of layers) {
    await turn();
    signal?.throwIfAborted();
    if (hexOfImageFile(`${hex}.mstack`) === undefined) {
      damage.push({ kind: 'entry', name: `layers/${hex}`, problem: 'does not belong there' });
      continue;
    }
    const directory = trees.has(hex) ? join(trees.get(hex)!, '..') : join(layout.layers, hex);
    const found = checkLayer(directory, digestOfHex(hex) as ChainID);
    damage.push(...found.damage.map((one) => ({ kind: 'layer' as const, name: hex, ...one })));
    if (found.more > 0)
      damage.push({ kind: 'layer', name: hex, problem: `and ${found.more} more of its files` });
  }
  const objects = new Map<VerityDigest, string | undefined>();
  for (const key of streams) {
    await turn();
    signal?.throwIfAborted();
    damage.push(...checkStream(layout, key, objects));
  }
  if (layers.size > 0 || listDirectory(layout.layers).length > 0) damage.push(...checkSkeleton(layout));
  const wanted = only === undefined ? undefined : new Set(images);
  damage.push(...checkLinks(layout, 'tags', wanted), ...checkLinks(layout, 'roots', wanted));
  if (only === undefined) damage.push(...checkEntries(layout));
  return { layers: layers.size + streams.size, images: images.length, damage };
}

export interface ImageCheck {
  readonly problems: readonly string[];
  /** Lowest first; as far as anything of the image tells them. */
  readonly chainIDs: readonly ChainID[];
  /** Instead, of format composefs. */
  readonly streamKeys: readonly StreamKey[];
}

export function checkImage(layout: Layout, hex: string, findTree: FindTree): ImageCheck {
  const problems: string[] = [];
  const attempt = <T>(run: () => T): T | undefined => {
    try {
      return run();
    } catch (error) {
      problems.push(withoutPrefix(problemOf(error)));
      return undefined;
    }
  };
  const directory = imagePath(layout, hex);
  const digest = digestOfHex(hex);
  const record = attempt(() => readImageRecord(layout, hex));
  const documents = attempt(() => readImageDocuments({ digest, directory }));
  if (record !== undefined && documents !== undefined && !fits(record, documents))
    problems.push('image.json does not fit the manifest and the configuration');
  const known = documents === undefined ? record : imageRecord(digest, documents, NO_FACTS);
  if (formatOfFile(directory) === 'composefs') {
    if (record !== undefined) problems.push(...checkImageFile(layout, directory, record));
    // Only our own record says what is known by its table.
    return { problems, chainIDs: [], streamKeys: (record ?? known)?.layers.map(streamKey) ?? [] };
  }
  attempt(() => {
    if (known !== undefined) checkTreeLinks(directory, imageTreeLinks(layout, known, findTree), problems);
  });
  const chainIDs =
    known?.layers.map(({ chainID }) => chainID) ??
    attempt(() => linkedLayerHexes(layout, hex).map((layer) => digestOfHex(layer) as ChainID)) ??
    [];
  return { problems, chainIDs, streamKeys: [] };
}

const NO_FACTS = { source: '', stored: '', sizeBytes: 0 };

function fits(record: ImageRecord, documents: ImageDocuments): boolean {
  const { digest, source, stored, sizeBytes } = record;
  const facts = { source, stored, sizeBytes };
  if (typeof source !== 'string' || Number.isNaN(Date.parse(stored)) || !Number.isSafeInteger(sizeBytes))
    return false;
  const { config, layers } = imageRecord(digest, documents, facts);
  // What vouches for a layer is known by nobody else.
  const known = record.layers.map(({ toc: _, ...layer }) => layer);
  return config === record.config && isDeepStrictEqual(layers, known);
}

/** systemd refuses a stack with anything else in it, but for hidden files. */
function checkTreeLinks(directory: string, expected: ReadonlyMap<string, string>, problems: string[]): void {
  const found = new Set(readdirSync(directory));
  for (const [name, target] of expected) {
    if (!found.delete(name)) problems.push(`the link ${name} is missing`);
    else if (linkAt(join(directory, name)) !== target)
      problems.push(`the link ${name} does not lead to its layer`);
  }
  found.delete('.oci');
  for (const name of found) problems.push(`${quote(name)} does not belong there`);
}

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** "the stored image 'x' is damaged: why" → "why": the report has a column for the image. */
function withoutPrefix(message: string): string {
  return message.replace(/^the stored image '[^']*' is damaged: /, '');
}

function checkSkeleton(layout: Layout): Damage[] {
  const tree = join(layout.layers, SKELETON, 'tree');
  if (lstatSync(join(layout.layers, SKELETON), { throwIfNoEntry: false }) === undefined) {
    // a layer may be there before the first image of format tree
    const trees = listImageHexes(layout).filter((hex) => formatOfFile(imagePath(layout, hex)) === 'tree');
    return trees.length === 0 ? [] : [{ kind: 'skeleton', name: SKELETON, problem: 'is missing' }];
  }
  const expected = new Map(SKELETON_DIRECTORIES);
  const damage: Damage[] = [];
  const found = (path: string, problem: string) =>
    damage.push({ kind: 'skeleton', name: SKELETON, path: quote(path), problem });
  for (const [path, mode] of expected) {
    const stat = lstatSync(join(tree, path), { throwIfNoEntry: false });
    const owned = stat?.uid === FOREIGN_UID_BASE && stat.gid === FOREIGN_UID_BASE;
    if (!stat?.isDirectory()) found(path, 'is missing');
    else if (!owned || (stat.mode & 0o7777) !== mode) found(path, 'has another mode or owner');
    else
      for (const name of readdirSync(join(tree, path)))
        if (!expected.has(join(path, name))) found(join(path, name), 'does not belong there');
  }
  return damage;
}

/** Names come, go and move meanwhile: what is looked at is one link as it was at one moment. */
export function checkLinks(layout: Layout, kind: LinkKind, wanted?: ReadonlySet<string>): Damage[] {
  return listDirectory(layout[kind]).flatMap((file): Damage[] => {
    const name = nameOfTagFile(file);
    const path = join(layout[kind], file);
    const target = linkAt(path);
    if (target === undefined && lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
    const hex = hexOfImageFile(basename(target ?? ''));
    if (wanted !== undefined && (hex === undefined || !wanted.has(hex))) return [];
    if (name === undefined)
      return [{ kind: 'entry', name: `${kind}/${file}`, problem: 'does not belong there' }];
    const what = kind === 'tags' ? 'tag' : 'root';
    if (hex === undefined || target !== linkTarget(hex, formatOfFile(file)))
      return [{ kind: what, name, problem: 'is no link to an image' }];
    if (lstatSync(imagePath(layout, hex), { throwIfNoEntry: false }) === undefined)
      return [{ kind: what, name, problem: `leads to the image ${hex.slice(0, 12)}, which is missing` }];
    return [];
  });
}

function checkEntries(layout: Layout): Damage[] {
  return listDirectory(layout.images)
    .filter((name) => hexOfImageFile(name) === undefined)
    .map((name) => ({ kind: 'entry', name: `images/${name}`, problem: 'does not belong there' }));
}
