/**
 * docker-archive:FILE[:REF]: an image in an archive of docker save or podman save (manifest.json beside
 * configurations and layers; with the OCI layout that newer versions put into it, too). REF is one of its RepoTags,
 * or @N for image N from 0.
 *
 * Such an archive has no image manifest, so one is made: it depends on the archive's bytes only. The digest of the
 * configuration is the image's id; a plain layer's digest is its diffID, as the configuration says it, and is
 * verified like any other when the layer is applied.
 */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { sniffCompression } from '../archive/decompress.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type DiffID, type Digest, digestOf, parseDigest, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import { asArray, asObject, asString, asStrings, optional, parseJson } from '../oci/json.ts';
import { CONFIG_MAX_BYTES, LAYERS_MAX, MANIFEST_MAX_BYTES } from '../oci/limits.ts';
import { OCI_CONFIG, OCI_MANIFEST } from '../oci/media-type.ts';
import { openArchiveFiles } from './archive-files.ts';
import { chooseImage, type NamedImage, splitSpec } from './choose-image.ts';
import { type ImageFiles, readPart, readWhole } from './image-files.ts';
import type { ImageSource } from './image-source.ts';
import { fullName, placeName } from './local-name.ts';

/** An entry of manifest.json: paths in the archive. */
interface SavedImage {
  readonly config: string;
  readonly layers: readonly string[];
}

interface FoundBlob {
  readonly descriptor: Descriptor;
  readonly path: string;
}

const TRANSPORT = 'docker-archive:';
const HEAD_BYTES = 8;

/** `spec` is what follows `docker-archive:`. */
export async function openDockerArchiveSource(spec: string, env: NodeJS.ProcessEnv): Promise<ImageSource> {
  const { path, tag } = splitSpec(spec);
  const files = await openArchiveFiles(resolve(path), env);
  try {
    const chosen = chooseImage(await readImages(files), tag, files, TRANSPORT);
    const config = await findConfig(files, chosen.image);
    const layers = await findLayers(files, chosen.image, config.diffIDs);
    return sourceOf(files, tag, chosen.names, config, layers);
  } catch (error) {
    await files.close();
    throw error;
  }
}

function sourceOf(
  files: ImageFiles,
  tag: string | undefined,
  names: readonly string[],
  config: FoundBlob,
  layers: readonly FoundBlob[],
): ImageSource {
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: config.descriptor,
      layers: layers.map(({ descriptor }) => descriptor),
    }),
  );
  const digest = digestOf(manifest);
  const paths = new Map([config, ...layers].map(({ descriptor, path }) => [descriptor.digest, path]));
  const path = (wanted: Digest): string => {
    const found = paths.get(wanted);
    if (found !== undefined) return found;
    throw new OciError('BAD_IMAGE', `the image in ${quote(files.place)} has no blob ${wanted}`, {
      hint: 'Save the image again, with a current tool.',
    });
  };
  return {
    description: `${TRANSPORT}${files.place}${tag === undefined ? '' : `:${tag}`}`,
    localName: names.map(fullName).find((name) => name !== undefined) ?? placeName(files.place),
    async fetchManifest(wanted) {
      const bytes =
        wanted === undefined || wanted === digest
          ? manifest
          : await readWhole(files, path(wanted), MANIFEST_MAX_BYTES);
      return { bytes, mediaType: OCI_MANIFEST, digest: wanted ?? digest };
    },
    async openBlob(descriptor, { offset = 0, signal } = {}) {
      const part = await files.open(path(descriptor.digest));
      return { offset, body: readPart(part, offset, descriptor.size + 1, signal) };
    },
    close: () => files.close(),
  };
}

async function readImages(files: ImageFiles): Promise<NamedImage<SavedImage>[]> {
  if (!files.has('manifest.json')) throw noManifest(files);
  const raw = await readWhole(files, 'manifest.json', MANIFEST_MAX_BYTES);
  const what = 'manifest.json';
  return asArray(parseJson(raw, MANIFEST_MAX_BYTES, what), what).map((entry, i) => {
    const object = asObject(entry, `${what} image ${i + 1}`);
    const layers = optional(object['Layers'], asStrings, `${what} Layers`) ?? [];
    if (layers.length > LAYERS_MAX)
      throw badArchive(`image ${i + 1} has ${layers.length} layers, more than the ${LAYERS_MAX} allowed`);
    return {
      names: optional(object['RepoTags'], asStrings, `${what} RepoTags`) ?? [],
      image: { config: asString(object['Config'], `${what} Config`), layers },
    };
  });
}

function noManifest(files: ImageFiles): OciError {
  const place = quote(files.place);
  if (files.has('index.json'))
    return new OciError('BAD_IMAGE', `the archive ${place} has no manifest.json, but is an OCI layout`, {
      hint: `Name it as one: oci-archive:${files.place}`,
    });
  if (files.has('repositories'))
    return new OciError('UNSUPPORTED', `the archive ${place} is of a docker older than 1.10`, {
      hint: 'Load it into a current docker and save it again.',
    });
  return new OciError(
    'BAD_IMAGE',
    `the archive ${place} has no manifest.json: docker save did not write it`,
    {
      hint: 'A file of docker export has no image in it, only files: use docker save.',
    },
  );
}

async function findConfig(
  files: ImageFiles,
  { config: path, layers }: SavedImage,
): Promise<FoundBlob & { diffIDs: readonly DiffID[] }> {
  const raw = await readWhole(files, path, CONFIG_MAX_BYTES);
  // Whoever names the configuration by its digest means it.
  const named = /(?:^|[/:])([0-9a-f]{64})(?:\.json)?$/.exec(path)?.[1];
  if (named !== undefined) verifyDigest(raw, parseDigest(`sha256:${named}`), `configuration ${quote(path)}`);
  const { diffIDs } = parseImageConfig(raw);
  if (diffIDs.length !== layers.length)
    throw badArchive(
      `manifest.json has ${layers.length} layers, the configuration ${diffIDs.length} diff_ids`,
    );
  return {
    path,
    descriptor: { mediaType: OCI_CONFIG, digest: digestOf(raw), size: raw.length },
    diffIDs,
  };
}

async function findLayers(
  files: ImageFiles,
  { layers }: SavedImage,
  diffIDs: readonly DiffID[],
): Promise<FoundBlob[]> {
  const found: FoundBlob[] = [];
  for (const [i, path] of layers.entries()) found.push(await findLayer(files, path, diffIDs[i]!));
  return found;
}

async function findLayer(files: ImageFiles, path: string, diffID: DiffID): Promise<FoundBlob> {
  const part = await files.open(path);
  const head = Buffer.alloc(HEAD_BYTES);
  const { bytesRead } = await part.handle.read(head, 0, Math.min(HEAD_BYTES, part.size), part.start);
  const compression = sniffCompression(head.subarray(0, bytesRead));
  if (compression !== undefined && compression !== 'gzip' && compression !== 'zstd')
    throw new OciError('UNSUPPORTED', `the layer ${quote(path)} is compressed by ${compression}`, {
      hint: 'Save the image again, with layers that are not compressed or compressed by gzip or zstd.',
    });
  const suffix = compression === undefined ? '' : `+${compression}`;
  // Beside an OCI layout, layers are its blobs. Any other compressed layer has no digest until we read it.
  const named = /^(?:\.\/)?blobs\/sha256\/([0-9a-f]{64})$/.exec(path)?.[1];
  let digest: Digest = diffID;
  if (named !== undefined) digest = parseDigest(`sha256:${named}`);
  else if (compression !== undefined) {
    const hash = createHash('sha256');
    for await (const piece of readPart(part, 0, part.size)) hash.update(piece);
    digest = parseDigest(`sha256:${hash.digest('hex')}`);
  }
  const mediaType = `application/vnd.oci.image.layer.v1.tar${suffix}`;
  return { path, descriptor: { mediaType, digest, size: part.size } };
}

function badArchive(message: string): OciError {
  return new OciError('BAD_IMAGE', message, { hint: 'Save the image again, with a current tool.' });
}
