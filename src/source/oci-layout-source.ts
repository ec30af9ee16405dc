/**
 * oci:DIR[:TAG] and oci-archive:FILE[:TAG]: an image in an OCI layout (image-spec image-layout.md), a directory or
 * a tar of one. TAG is the name of an entry of index.json, or @N for entry N from 0.
 *
 * Invariant: what is read lies in the layout (image-files.ts); manifests match the digest that led to them.
 */
import { resolve } from 'node:path';
import type { RawManifest } from '../oci/content.ts';
import { type Descriptor, readDescriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, digestOf, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { asArray, asObject, asString, parseJson } from '../oci/json.ts';
import { MANIFEST_MAX_BYTES } from '../oci/limits.ts';
import { openArchiveFiles } from './archive-files.ts';
import { chooseImage, type NamedImage, splitSpec } from './choose-image.ts';
import { openDirectoryFiles } from './directory-files.ts';
import { type ImageFiles, readPart, readRangesOf, readWhole } from './image-files.ts';
import type { ImageSource } from './image-source.ts';
import { layoutName } from './local-name.ts';

const REF_NAME = 'org.opencontainers.image.ref.name';
/** Full names, where REF_NAME is only a tag: written by containerd, and by docker save. */
const CONTAINERD_NAME = 'io.containerd.image.name';
const LAYOUT_FILE_MAX_BYTES = 4096;

/** `spec` is what follows `oci:`. */
export async function openOciLayoutSource(spec: string): Promise<ImageSource> {
  const { path, tag } = splitSpec(spec);
  const directory = resolve(path);
  return layoutSource(openDirectoryFiles(directory), 'oci:', tag);
}

/** `spec` is what follows `oci-archive:`. */
export async function openOciArchiveSource(spec: string, env: NodeJS.ProcessEnv): Promise<ImageSource> {
  const { path, tag } = splitSpec(spec);
  return layoutSource(await openArchiveFiles(resolve(path), env), 'oci-archive:', tag);
}

/** Closes the files where it throws. */
async function layoutSource(
  files: ImageFiles,
  transport: string,
  tag: string | undefined,
): Promise<ImageSource> {
  try {
    if (!files.has('oci-layout') && files.has('manifest.json'))
      throw new OciError('BAD_IMAGE', `the archive ${quote(files.place)} is not an OCI layout`, {
        hint: `It may be one of docker save: try docker-archive:${files.place}`,
      });
    await checkVersion(files);
    const rawIndex = await readWhole(files, 'index.json', MANIFEST_MAX_BYTES);
    const index = asObject(parseJson(rawIndex, MANIFEST_MAX_BYTES, 'index.json'), 'index.json');
    const entries = asArray(index['manifests'], 'index.json manifests').map((entry, i) =>
      readDescriptor(entry, `index.json entry ${i + 1}`),
    );
    const images = entries.map(namedImage);
    // Without names, index.json is itself the index of one image.
    const isOneImage =
      tag === undefined && entries.length > 1 && images.every(({ names }) => names.length === 0);
    const chosen = isOneImage ? undefined : chooseImage(images, tag, files, transport);
    return sourceOf(files, transport, chosen, rawIndex, tag);
  } catch (error) {
    await files.close();
    throw error;
  }
}

function namedImage(descriptor: Descriptor): NamedImage<Descriptor> {
  const { annotations = {} } = descriptor;
  const names = [annotations[CONTAINERD_NAME], annotations[REF_NAME]].filter((name) => name !== undefined);
  return { names: [...new Set(names)], image: descriptor };
}

function sourceOf(
  files: ImageFiles,
  transport: string,
  chosen: NamedImage<Descriptor> | undefined,
  rawIndex: Buffer,
  tag: string | undefined,
): ImageSource {
  const top = chosen?.image;
  return {
    description: `${transport}${files.place}${tag === undefined ? '' : `:${tag}`}`,
    localName: layoutName(files.place, chosen?.names ?? []),
    async fetchManifest(digest?: Digest): Promise<RawManifest> {
      const wanted = digest ?? top?.digest;
      if (wanted === undefined) return { bytes: rawIndex, mediaType: undefined, digest: digestOf(rawIndex) };
      const bytes = await readWhole(files, blobPath(wanted), MANIFEST_MAX_BYTES);
      verifyDigest(bytes, wanted, `manifest in ${quote(files.place)}`);
      // Of a child, resolveImage() compares the size: it has the descriptor.
      if (digest === undefined && top !== undefined && bytes.length !== top.size)
        throw new OciError(
          'SIZE_MISMATCH',
          `manifest ${top.digest}: got ${bytes.length} bytes, expected ${top.size}`,
          { hint: 'Copy the image again from where it came from.' },
        );
      return { bytes, mediaType: digest === undefined ? top?.mediaType : undefined, digest: wanted };
    },
    async openBlob({ digest, size }, { offset = 0, signal } = {}) {
      const part = await files.open(blobPath(digest));
      return { offset, body: readPart(part, offset, size + 1, signal) };
    },
    async *readRanges({ digest }, ranges, signal) {
      yield* readRangesOf(await files.open(blobPath(digest)), ranges, signal);
    },
    close: () => files.close(),
  };
}

async function checkVersion(files: ImageFiles): Promise<void> {
  const raw = await readWhole(files, 'oci-layout', LAYOUT_FILE_MAX_BYTES);
  const layout = asObject(parseJson(raw, LAYOUT_FILE_MAX_BYTES, 'oci-layout'), 'oci-layout');
  const version = asString(layout['imageLayoutVersion'], 'oci-layout imageLayoutVersion');
  if (!version.startsWith('1.'))
    throw new OciError('UNSUPPORTED', `the layout ${quote(files.place)} has the version ${quote(version)}`, {
      hint: 'Copy the image into a layout of version 1.0.0.',
    });
}

function blobPath(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}
