/**
 * From a source to one image: the manifest for the platform and its configuration, both verified.
 *
 * Invariant: every byte returned matches the digest and the size of the descriptor it was reached by; the layers
 * are of types we can apply, and there is one diffID for each.
 */
import { type Descriptor, verifyContent } from '../oci/descriptor.ts';
import { OciError, quote, toOciError } from '../oci/errors.ts';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.ts';
import { chooseEntry } from '../oci/image-index.ts';
import { CONFIG_MAX_BYTES } from '../oci/limits.ts';
import { checkRunnable, type Manifest, parseManifestOrIndex } from '../oci/manifest.ts';
import { formatPlatform, type Platform, platformRank } from '../oci/platform.ts';
import type { ImageSource } from './image-source.ts';

export interface ResolvedImage {
  readonly manifestDescriptor: Descriptor;
  readonly rawManifest: Uint8Array;
  readonly manifest: Manifest;
  readonly rawConfig: Uint8Array;
  readonly imageConfig: ImageConfig;
}

/** An index may point to an index, not further. */
const INDEX_LEVELS_MAX = 2;

/** Bytes that are here already, for a manifest's or a configuration's descriptor; they are verified like any other. */
export type LocalBytes = (descriptor: Descriptor) => Uint8Array | undefined;

export async function resolveImage(
  source: ImageSource,
  platform: Platform,
  local: LocalBytes = () => undefined,
): Promise<ResolvedImage> {
  const { descriptor, bytes, manifest } = await resolveManifest(source, platform, local);
  checkRunnable(manifest);
  const rawConfig = await fetchConfig(source, manifest.config, local);
  const imageConfig = parseImageConfig(rawConfig);
  if (imageConfig.diffIDs.length !== manifest.layers.length)
    throw new OciError(
      'BAD_IMAGE',
      `the image has ${manifest.layers.length} layers but ${imageConfig.diffIDs.length} diff_ids`,
    );
  checkPlatform(imageConfig, platform, source);
  return { manifestDescriptor: descriptor, rawManifest: bytes, manifest, rawConfig, imageConfig };
}

async function resolveManifest(
  source: ImageSource,
  platform: Platform,
  local: LocalBytes,
): Promise<{ descriptor: Descriptor; bytes: Uint8Array; manifest: Manifest }> {
  const top = await source.fetchManifest();
  let bytes = top.bytes;
  let document = parseManifestOrIndex(bytes, top.mediaType);
  let descriptor: Descriptor = { mediaType: document.mediaType, digest: top.digest, size: bytes.length };
  for (let level = 1; document.kind === 'index'; level++) {
    if (level > INDEX_LEVELS_MAX)
      throw new OciError(
        'BAD_IMAGE',
        `${source.description}: image indexes are nested more than ${INDEX_LEVELS_MAX} deep`,
      );
    const entry = chooseEntry(document, platform);
    if (entry === undefined) {
      const offered = document.manifests.flatMap((m) => (m.platform ? [formatPlatform(m.platform)] : []));
      throw new OciError(
        'UNSUPPORTED',
        `${source.description} has no image for ${formatPlatform(platform)}`,
        {
          hint: 'Choose one of its platforms with --platform.',
          detail: `It has: ${quote([...new Set(offered)].join(', '))}`,
        },
      );
    }
    descriptor = entry;
    bytes = entry.data ?? local(entry) ?? (await source.fetchManifest(entry.digest)).bytes;
    verifyContent(bytes, entry, `manifest ${entry.digest}`);
    document = parseManifestOrIndex(bytes, entry.mediaType);
  }
  return { descriptor, bytes, manifest: document };
}

/** Another mirror is asked where one has wrong bytes. */
export async function fetchConfig(
  source: ImageSource,
  descriptor: Descriptor,
  local: LocalBytes = () => undefined,
): Promise<Uint8Array> {
  const what = `image configuration ${descriptor.digest}`;
  const here = descriptor.data ?? local(descriptor);
  if (here !== undefined) {
    verifyContent(here, descriptor, what);
    return here;
  }
  for (;;) {
    const bytes = await readBlob(source, descriptor, CONFIG_MAX_BYTES);
    try {
      verifyContent(bytes, descriptor, what);
      return bytes;
    } catch (error) {
      if (!source.distrust?.(descriptor, toOciError(error))) throw error;
    }
  }
}

/** An image without an index, or an index without platforms, still has to be for this machine. */
function checkPlatform(config: ImageConfig, wanted: Platform, source: ImageSource): void {
  if (config.os === '' || config.architecture === '') return;
  if (platformRank(wanted, config) !== undefined) return;
  const platform = formatPlatform(config);
  throw new OciError(
    'UNSUPPORTED',
    `${source.description} is an image for ${quote(platform)}, not ${formatPlatform(wanted)}`,
    {
      // it comes from the image, and people type what a hint says
      hint: /^[\w./-]+$/.test(platform)
        ? `To get it all the same, give --platform ${platform}; or use another tag.`
        : 'Use another tag.',
    },
  );
}

/** The whole of a small blob, not yet verified. Throws BAD_IMAGE where it claims more than maxBytes. */
async function readBlob(source: ImageSource, descriptor: Descriptor, maxBytes: number): Promise<Uint8Array> {
  if (descriptor.size > maxBytes)
    throw new OciError(
      'BAD_IMAGE',
      `blob ${descriptor.digest} has ${descriptor.size} bytes, more than the ${maxBytes} allowed`,
    );
  const { body } = await source.openBlob(descriptor);
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}
