/**
 * Images in the store: an mstack directory of links to layers, with our metadata in `.oci/`.
 *
 * Invariant: images/<hex>.mstack exists only when all its layers do; `.oci/manifest.json` has the digest that the
 * directory's name says, and the configuration the digest that the manifest says (checked on every read).
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { listDirectory, syncDirectory, syncFileSystem } from '../host/files.ts';
import { hashHex } from '../host/hash.ts';
import type { Waiting } from '../host/lock.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ChainID, chainIDs, type DiffID, type Digest, digestHex, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.ts';
import { type Manifest, parseManifestOrIndex } from '../oci/manifest.ts';
import {
  hexOfImageFile,
  imageDirectory,
  imageFileName,
  imagePath,
  type Layout,
  layerLinkName,
  SKELETON,
  type StoreFormat,
} from './layout.ts';
import { problemOf } from './problem.ts';
import { claimStage } from './stage.ts';

/** In the directory of an image: what src/image-signatures.ts keeps. */
export const SIGNATURES = '.oci/signatures';

/** image.json: what the manifest and the configuration do not say. */
export interface ImageRecord {
  readonly digest: Digest;
  /** Digest of the configuration. */
  readonly config: Digest;
  /** Where it came from, without credentials. */
  readonly source: string;
  /** When it was stored, ISO 8601. */
  readonly stored: string;
  /** Lowest first. */
  readonly layers: readonly {
    readonly chainID: ChainID;
    readonly diffID: DiffID;
    readonly digest: Digest;
    /** What vouches for the layer here instead of the diffID: its table of contents, which the manifest names. */
    readonly toc?: Digest;
  }[];
  /** Bytes of file content in all layers, not compressed. */
  readonly sizeBytes: number;
  /** Not there: 'tree'. */
  readonly format?: 'composefs';
  /** Of format composefs: the fs-verity digest of image.cfs, the same on every machine. */
  readonly imageDigest?: VerityDigest;
}

export interface StoredImage extends Omit<ImageRecord, 'format' | 'imageDigest'> {
  readonly format: StoreFormat;
  /** Exactly of format composefs: the EROFS image and its fs-verity digest; its files' content is in `objects`. */
  readonly composefs?: { readonly path: string; readonly digest: VerityDigest; readonly objects: string };
  /** Of format tree the mstack directory: what RootMStack= and systemd-nspawn --mstack take. */
  readonly directory: string;
  /** Its tags, sorted. */
  readonly names: readonly string[];
  /** The store it is in; an additional one is only read. */
  readonly store: string;
}

export interface RawDocuments {
  readonly rawManifest: Uint8Array;
  readonly rawConfig: Uint8Array;
}

export interface ImageDocuments extends RawDocuments {
  readonly manifest: Manifest;
  readonly imageConfig: ImageConfig;
}

export function hasImage(layout: Layout, digest: Digest): boolean {
  return existsSync(imageDirectory(layout, digest));
}

/** Its layers, lowest first. */
export function layersOf({
  manifest,
  imageConfig: { diffIDs },
}: Pick<ImageDocuments, 'manifest' | 'imageConfig'>): {
  readonly descriptor: Descriptor;
  readonly diffID: DiffID;
  readonly chainID: ChainID;
}[] {
  const chain = chainIDs(diffIDs);
  return manifest.layers.map((descriptor, i) => ({ descriptor, diffID: diffIDs[i]!, chainID: chain[i]! }));
}

/** The record of an image, by its documents. */
export function imageRecord(
  digest: Digest,
  { manifest, imageConfig }: Pick<ImageDocuments, 'manifest' | 'imageConfig'>,
  facts: Pick<ImageRecord, 'source' | 'stored' | 'sizeBytes'>,
): ImageRecord {
  const layers = layersOf({ manifest, imageConfig }).map(
    ({ chainID, diffID, descriptor: { digest: blob } }) => ({
      chainID,
      diffID,
      digest: blob,
    }),
  );
  return { digest, config: manifest.config.digest, ...facts, layers };
}

/** The hex digests of all images. */
export function listImageHexes(layout: Layout): string[] {
  const hexes = listDirectory(layout.images).flatMap((name) => hexOfImageFile(name) ?? []);
  return [...new Set(hexes)].sort(); // a conversion that was cut short leaves an image twice
}

/** Where a layer's tree is: in this store, or in another one that it may be used from. */
export type FindTree = (chainID: ChainID) => string;

/** Puts an image whose layers are all in place into the store, durably. Does nothing when it is there. */
export async function commitImage(
  layout: Layout,
  record: ImageRecord,
  documents: RawDocuments,
  findTree: FindTree,
  waiting: Waiting,
): Promise<void> {
  const hex = digestHex(record.digest);
  const isDone = () => hasImage(layout, record.digest);
  const what = `image ${hex.slice(0, 12)}`;
  const stage = await claimStage(layout, imageFileName(hex, 'tree'), what, isDone, waiting);
  if (stage === undefined) return;
  try {
    writeImage(stage.directory, record, documents, imageTreeLinks(layout, record, findTree));
    syncFileSystem(stage.directory);
    stage.commit(imagePath(layout, hex));
    syncDirectory(layout.images);
  } finally {
    stage.discard();
  }
}

/** The links of an image's directory, by name: the skeleton, then the layers; relative within the store. */
export function imageTreeLinks(
  layout: Layout,
  { layers }: Pick<ImageRecord, 'layers'>,
  findTree: FindTree,
): Map<string, string> {
  const links = new Map([[layerLinkName(0, SKELETON), `../../layers/${SKELETON}/tree`]]);
  layers.forEach(({ chainID }, index) => {
    const tree = findTree(chainID);
    const target = tree.startsWith(`${layout.layers}/`) ? `../../${relative(layout.root, tree)}` : tree;
    links.set(layerLinkName(index + 1, digestHex(chainID)), target);
  });
  return links;
}

/** Fills an empty directory. Nothing is synced. */
export function writeImage(
  directory: string,
  record: ImageRecord,
  { rawManifest, rawConfig }: RawDocuments,
  links: ReadonlyMap<string, string>,
): void {
  for (const [name, target] of links) symlinkSync(target, join(directory, name));
  const metadata = join(directory, '.oci');
  mkdirSync(metadata, { mode: 0o700 });
  const write = (name: string, content: string | Uint8Array) =>
    writeFileSync(join(metadata, name), content, { mode: 0o600 });
  write('manifest.json', rawManifest);
  write('config.json', rawConfig);
  write('image.json', `${JSON.stringify(record, null, 2)}\n`);
}

export function readImageRecord(layout: Layout, hex: string): ImageRecord & { directory: string } {
  const directory = imagePath(layout, hex);
  const record = readOrDamaged(directory, () => {
    const parsed = JSON.parse(readFileSync(join(directory, '.oci/image.json'), 'utf8')) as ImageRecord;
    if (digestHex(parsed.digest) !== hex || !Array.isArray(parsed.layers))
      throw new Error('image.json does not fit');
    return parsed;
  });
  return { ...record, directory };
}

/** The exact bytes and what they say; both digests are checked again. */
export function readImageDocuments(image: { digest: Digest; directory: string }): ImageDocuments {
  return readOrDamaged(image.directory, () => {
    const rawManifest = readFileSync(join(image.directory, '.oci/manifest.json'));
    verifyDigest(rawManifest, image.digest, 'manifest', hashHex);
    const manifest = parseManifestOrIndex(rawManifest);
    if (manifest.kind !== 'manifest') throw new Error('its manifest is an index');
    const rawConfig = readFileSync(join(image.directory, '.oci/config.json'));
    verifyDigest(rawConfig, manifest.config.digest, 'image configuration', hashHex);
    return { rawManifest, manifest, rawConfig, imageConfig: parseImageConfig(rawConfig) };
  });
}

function readOrDamaged<T>(directory: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const what = `the stored image ${quote(basename(directory))} is damaged`;
    throw new OciError('IO_ERROR', `${what}: ${problemOf(error)}`, {
      hint: 'Repair it: ocictl fsck --repair',
      cause: error,
    });
  }
}

/** The layers an image links to (names in layers/), also of one whose metadata is damaged. Without the skeleton. */
export function linkedLayerHexes(layout: Layout, imageHex: string): string[] {
  const directory = imagePath(layout, imageHex);
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.name.startsWith('layer@') && entry.isSymbolicLink())
    .map(({ name }) => basename(dirname(readlinkSync(join(directory, name)))))
    .filter((name) => name !== SKELETON);
}

/** The bytes of a manifest or a configuration that some image here has; undefined also where they are damaged. */
export function findDocument(layout: Layout, digest: Digest): Uint8Array | undefined {
  const read = (imageHex: string, file: string) => {
    const bytes = readFileSync(join(imagePath(layout, imageHex), '.oci', file));
    verifyDigest(bytes, digest, file);
    return bytes;
  };
  try {
    if (hasImage(layout, digest)) return read(digestHex(digest), 'manifest.json');
    const owner = listImageHexes(layout).find((hex) => readImageRecord(layout, hex).config === digest);
    return owner === undefined ? undefined : read(owner, 'config.json');
  } catch {
    return undefined; // then it is fetched
  }
}
