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
import { basename, dirname, join } from 'node:path';
import type { Waiting } from '../host/lock.ts';
import { type ChainID, type DiffID, type Digest, digestHex, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.ts';
import { type Manifest, parseManifestOrIndex } from '../oci/manifest.ts';
import {
  hexOfImageFile,
  imageDirectory,
  imageFileName,
  type Layout,
  layerLinkName,
  SKELETON,
  syncDirectory,
  syncFileSystem,
} from './layout.ts';
import { claimStage } from './stage.ts';

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
  readonly layers: readonly { readonly chainID: ChainID; readonly diffID: DiffID; readonly digest: Digest }[];
  /** Bytes of file content in all layers, not compressed. */
  readonly sizeBytes: number;
}

export interface StoredImage extends ImageRecord {
  /** The mstack directory: what RootMStack= and systemd-nspawn --mstack take. */
  readonly directory: string;
  /** Its tags, sorted. */
  readonly names: readonly string[];
}

export interface ImageDocuments {
  readonly rawManifest: Uint8Array;
  readonly manifest: Manifest;
  readonly rawConfig: Uint8Array;
  readonly imageConfig: ImageConfig;
}

export function hasImage(layout: Layout, digest: Digest): boolean {
  return existsSync(imageDirectory(layout, digest));
}

/** The hex digests of all images. */
export function listImageHexes(layout: Layout): string[] {
  return readdirSync(layout.images)
    .map(hexOfImageFile)
    .filter((hex) => hex !== undefined)
    .sort();
}

/** Puts an image whose layers are all in the store into place, durably. Does nothing when it is there. */
export async function commitImage(
  layout: Layout,
  record: ImageRecord,
  documents: { rawManifest: Uint8Array; rawConfig: Uint8Array },
  waiting: Waiting,
): Promise<void> {
  const what = `image ${digestHex(record.digest).slice(0, 12)}`;
  const isDone = () => hasImage(layout, record.digest);
  const stage = await claimStage(layout, imageFileName(record.digest), what, isDone, waiting);
  if (stage === undefined) return;
  try {
    const link = (position: number, name: string) =>
      symlinkSync(`../../layers/${name}/tree`, join(stage.directory, layerLinkName(position, name)));
    link(0, SKELETON);
    record.layers.forEach(({ chainID }, index) => {
      link(index + 1, digestHex(chainID));
    });
    const metadata = join(stage.directory, '.oci');
    mkdirSync(metadata, { mode: 0o700 });
    writeFileSync(join(metadata, 'manifest.json'), documents.rawManifest, { mode: 0o600 });
    writeFileSync(join(metadata, 'config.json'), documents.rawConfig, { mode: 0o600 });
    writeFileSync(join(metadata, 'image.json'), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
    syncFileSystem(stage.directory);
    stage.commit(imageDirectory(layout, record.digest));
    syncDirectory(layout.images);
  } finally {
    stage.discard();
  }
}

export function readImageRecord(layout: Layout, hex: string): ImageRecord & { directory: string } {
  const directory = join(layout.images, `${hex}.mstack`);
  const record = readOrDamaged(directory, () => {
    const parsed = JSON.parse(readFileSync(join(directory, '.oci/image.json'), 'utf8')) as ImageRecord;
    if (digestHex(parsed.digest) !== hex || !Array.isArray(parsed.layers))
      throw new Error('image.json does not fit');
    return parsed;
  });
  return { ...record, directory };
}

/** The exact bytes and what they say; both digests are checked again. */
export function readImageDocuments(image: ImageRecord & { directory: string }): ImageDocuments {
  return readOrDamaged(image.directory, () => {
    const rawManifest = readFileSync(join(image.directory, '.oci/manifest.json'));
    verifyDigest(rawManifest, image.digest, 'manifest');
    const manifest = parseManifestOrIndex(rawManifest);
    if (manifest.kind !== 'manifest') throw new Error('its manifest is an index');
    const rawConfig = readFileSync(join(image.directory, '.oci/config.json'));
    verifyDigest(rawConfig, manifest.config.digest, 'image configuration');
    return { rawManifest, manifest, rawConfig, imageConfig: parseImageConfig(rawConfig) };
  });
}

function readOrDamaged<T>(directory: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new OciError('IO_ERROR', `the stored image ${quote(basename(directory))} is damaged: ${why}`, {
      hint: 'Remove it with ocictl rm and pull it again.',
      cause: error,
    });
  }
}

/** The layers an image links to (names in layers/), also of one whose metadata is damaged. Without the skeleton. */
export function linkedLayerHexes(layout: Layout, imageHex: string): string[] {
  const directory = join(layout.images, `${imageHex}.mstack`);
  return readdirSync(directory)
    .filter((name) => name.startsWith('layer@'))
    .map((name) => basename(dirname(readlinkSync(join(directory, name)))))
    .filter((name) => name !== SKELETON);
}

/** The bytes of a manifest or a configuration that some image here has; undefined also where they are damaged. */
export function findDocument(layout: Layout, digest: Digest): Uint8Array | undefined {
  const read = (imageHex: string, file: string) => {
    const bytes = readFileSync(join(layout.images, `${imageHex}.mstack`, '.oci', file));
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
