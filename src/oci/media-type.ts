/**
 * Media types of the OCI image specification (media-types.md) and of Docker's image manifest version 2, schema 2,
 * and what each means to us.
 *
 * Invariant: a layer type is either in LAYER_TYPES, with the compression its bytes have, or it is refused.
 */

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';

/** What we ask a registry for. Schema 1 is not among them: it has no digests of uncompressed layers. */
export const MANIFEST_TYPES_ACCEPTED = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST] as const;

export type Compression = 'none' | 'gzip' | 'zstd';

interface LayerType {
  readonly compression: Compression;
  /** The layer may live outside the registry, at the descriptor's urls. */
  readonly nondistributable: boolean;
}

const LAYER_TYPES: ReadonlyMap<string, LayerType> = new Map(
  (
    [
      ['application/vnd.oci.image.layer.v1.tar', false],
      ['application/vnd.oci.image.layer.nondistributable.v1.tar', true],
      ['application/vnd.docker.image.rootfs.diff.tar', false],
      ['application/vnd.docker.image.rootfs.foreign.diff.tar', true],
    ] as const
  ).flatMap(([tar, nondistributable]) => {
    const separator = tar.includes('.docker.') ? '.' : '+';
    return [
      [tar, { compression: 'none', nondistributable }],
      [`${tar}${separator}gzip`, { compression: 'gzip', nondistributable }],
      [`${tar}${separator}zstd`, { compression: 'zstd', nondistributable }],
    ] as [string, LayerType][];
  }),
);

/** undefined for anything we cannot apply. */
export function layerCompression(mediaType: string): Compression | undefined {
  return LAYER_TYPES.get(mediaType)?.compression;
}

export function isNondistributable(mediaType: string): boolean {
  return LAYER_TYPES.get(mediaType)?.nondistributable ?? false;
}

/** What a manifest media type stands for; undefined for a type that says nothing (application/json, …). */
export function manifestKind(mediaType: string): 'manifest' | 'index' | 'schema1' | undefined {
  switch (mediaType) {
    case OCI_MANIFEST:
    case DOCKER_MANIFEST:
      return 'manifest';
    case OCI_INDEX:
    case DOCKER_LIST:
      return 'index';
    case 'application/vnd.docker.distribution.manifest.v1+json':
    case 'application/vnd.docker.distribution.manifest.v1+prettyjws':
      return 'schema1';
    default:
      return undefined;
  }
}

/** `type/subtype` of a Content-Type header: lower case, without parameters. */
export function essence(contentType: string): string {
  return contentType.split(';', 1)[0]!.trim().toLowerCase();
}
