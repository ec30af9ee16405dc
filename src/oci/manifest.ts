/**
 * Image manifests (image-spec manifest.md; Docker image manifest version 2, schema 2), and telling a manifest from
 * an index.
 *
 * Invariant: a document is one or the other. One that carries the fields of both, or whose mediaType, Content-Type
 * or descriptor disagree with its fields, is refused: two clients would see two different images in it.
 */
import { type Descriptor, readDescriptor } from './descriptor.ts';
import { OciError, quote } from './errors.ts';
import { type ImageIndex, readImageIndex } from './image-index.ts';
import { asArray, asObject, asString, asStringMap, type JsonObject, optional, parseJson } from './json.ts';
import { LAYERS_MAX, MANIFEST_MAX_BYTES } from './limits.ts';
import {
  DOCKER_CONFIG,
  essence,
  layerCompression,
  manifestKind,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_MANIFEST,
} from './media-type.ts';

export interface Manifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly artifactType?: string;
  readonly subject?: Descriptor;
}

/** `declared` is what the sender or the parent's descriptor called the document, if anything. */
export function parseManifestOrIndex(raw: Uint8Array, declared?: string): Manifest | ImageIndex {
  const document = asObject(parseJson(raw, MANIFEST_MAX_BYTES, 'manifest'), 'manifest');
  const own = optional(document['mediaType'], asString, 'manifest mediaType');
  const said = declared === undefined ? undefined : essence(declared);
  if (document['schemaVersion'] === 1 || [own, said].some((type) => type && manifestKind(type) === 'schema1'))
    throw new OciError(
      'UNSUPPORTED',
      'the image has a Docker schema 1 manifest, a format withdrawn in 2019',
      {
        hint: 'Push the image again with a current tool, or use another tag.',
      },
    );
  if (document['schemaVersion'] !== 2) throw new OciError('BAD_IMAGE', 'manifest schemaVersion is not 2');

  const isIndex = present(document['manifests']);
  const isManifest = present(document['config']) || present(document['layers']);
  if (isIndex && isManifest)
    throw new OciError('BAD_IMAGE', 'the document is both an image manifest and an image index', {
      hint: 'Do not use this image: it shows different content to different programs.',
    });
  if (!isIndex && !isManifest)
    throw new OciError('BAD_IMAGE', 'the document is neither an image manifest nor an image index');
  const kind = isIndex ? 'index' : 'manifest';
  if (own !== undefined && manifestKind(own) !== kind)
    throw new OciError(
      'BAD_IMAGE',
      `the mediaType ${quote(own)} does not fit the fields of an image ${kind}`,
    );
  const saidKind = said === undefined ? undefined : manifestKind(said);
  if (saidKind !== undefined && (saidKind !== kind || (own !== undefined && own !== said)))
    throw new OciError(
      'BAD_IMAGE',
      `the ${kind} of type ${quote(own ?? kind)} was announced as ${quote(said!)}`,
    );
  const mediaType = own ?? (saidKind === undefined ? undefined : said);
  return isIndex
    ? readImageIndex(document, mediaType ?? OCI_INDEX)
    : readManifest(document, mediaType ?? OCI_MANIFEST);
}

function present(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function readManifest(document: JsonObject, mediaType: string): Manifest {
  const layers = optional(document['layers'], asArray, 'manifest layers') ?? [];
  if (layers.length > LAYERS_MAX)
    throw new OciError(
      'BAD_IMAGE',
      `the manifest has ${layers.length} layers, more than the ${LAYERS_MAX} allowed`,
    );
  const artifactType = optional(document['artifactType'], asString, 'manifest artifactType');
  const subject = optional(document['subject'], readDescriptor, 'manifest subject');
  return {
    kind: 'manifest',
    mediaType,
    config: readDescriptor(document['config'], 'manifest config'),
    layers: layers.map((layer, i) => readDescriptor(layer, `manifest layer ${i + 1}`)),
    annotations: optional(document['annotations'], asStringMap, 'manifest annotations') ?? {},
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(subject === undefined ? {} : { subject }),
  };
}

/** Throws UNSUPPORTED unless the manifest is a container image whose layers we can all apply. */
export function checkRunnable(manifest: Manifest): void {
  const { config, layers } = manifest;
  if (config.mediaType !== OCI_CONFIG && config.mediaType !== DOCKER_CONFIG)
    throw new OciError(
      'UNSUPPORTED',
      `not a container image: its configuration has the type ${quote(manifest.artifactType ?? config.mediaType)}`,
      { hint: 'Name a container image: this is another kind of artifact.' },
    );
  layers.forEach((layer, i) => {
    if (layerCompression(layer.mediaType) !== undefined) return;
    const encrypted = layer.mediaType.endsWith('+encrypted');
    throw new OciError(
      'UNSUPPORTED',
      `layer ${i + 1} is ${encrypted ? 'encrypted' : 'of an unknown type'}: ${quote(layer.mediaType)}`,
      { hint: 'Use an image whose layers are tar, tar+gzip or tar+zstd.' },
    );
  });
}
