/**
 * OCI layouts for the hostile suite: by default a plain, correct image; each part can be replaced by anything.
 *
 * Invariant: what a case does not replace is right (digests, sizes, media types), so that a refusal can only have
 * the reason that the case is about.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type BuiltEntry, tar } from '../unit/archive/tar-builder.ts';

// Documents are whatever a case makes of them.
// biome-ignore lint/suspicious/noExplicitAny: that is the point
export type Json = any;

/** Changes a document in place, or replaces it by another one or by raw bytes. */
export type Edit = (document: Json) => Json;

export type Parts = readonly (BuiltEntry | Buffer)[];

export interface LayerSpec {
  readonly tar: Parts | Buffer;
  /** How the blob is made of the tar. Default: gzip. */
  readonly blob?: 'none' | 'gzip' | 'zstd' | ((tar: Buffer) => Buffer);
  readonly mediaType?: string;
  readonly diffID?: string;
  /** Changes the descriptor in the manifest. */
  readonly descriptor?: Record<string, Json>;
}

export interface ImageSpec {
  /** Lowest first. Default: one layer with the file `f`. */
  readonly layers?: readonly (Parts | Buffer | LayerSpec)[];
  readonly config?: Edit;
  /** Changes the descriptor of the configuration. */
  readonly configDescriptor?: Record<string, Json>;
  readonly manifest?: Edit;
  /** Changes the descriptor of the manifest in index.json. */
  readonly manifestDescriptor?: Record<string, Json>;
  readonly index?: Edit;
  /** Last of all, with the whole layout on the disk. */
  readonly layout?: (layout: WrittenLayout) => void;
}

export interface Stored {
  readonly digest: string;
  readonly size: number;
}

export interface WrittenLayout {
  readonly directory: string;
  readonly manifest: Stored;
  readonly config: Stored;
  readonly layers: readonly Stored[];
  /** Writes a blob. */
  put(bytes: string | Uint8Array, algorithm?: 'sha256' | 'sha512'): Stored;
  /** Writes a document as a blob. */
  putJson(document: Json): Stored;
  path(digest: string): string;
}

export const OCI = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

export const TAG = 'hostile';
export const ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch;

export function hashOf(bytes: string | Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

const MAKE_BLOB = {
  none: (bytes: Buffer) => bytes,
  gzip: (bytes: Buffer) => gzipSync(bytes, { level: 1 }),
  zstd: (bytes: Buffer) => zstdCompressSync(bytes),
};

function isLayerSpec(layer: Parts | Buffer | LayerSpec): layer is LayerSpec {
  return 'tar' in layer;
}

function edited(document: Json, edit: Edit | undefined): Buffer {
  const result = edit?.(document) ?? document;
  if (Buffer.isBuffer(result)) return result;
  return Buffer.from(typeof result === 'string' ? result : JSON.stringify(result));
}

/** Writes the image below `directory`, which must not exist. */
export function writeLayout(directory: string, spec: ImageSpec): WrittenLayout {
  for (const algorithm of ['sha256', 'sha512'])
    mkdirSync(join(directory, 'blobs', algorithm), { recursive: true });
  const path = (digest: string) => join(directory, 'blobs', digest.replace(':', '/'));
  const put: WrittenLayout['put'] = (bytes, algorithm) => {
    const digest = hashOf(bytes, algorithm);
    writeFileSync(path(digest), bytes);
    return { digest, size: Buffer.byteLength(bytes) };
  };
  const putJson = (document: Json) => put(JSON.stringify(document));

  const layers = (spec.layers ?? [[{ name: 'f', data: 'x' }]]).map((layer) => {
    const { tar: content, blob = 'gzip', ...more } = isLayerSpec(layer) ? layer : { tar: layer };
    const archive = Buffer.isBuffer(content) ? content : tar(...content);
    const suffix = typeof blob === 'function' ? '+gzip' : blob === 'none' ? '' : `+${blob}`;
    const stored = put(typeof blob === 'function' ? blob(archive) : MAKE_BLOB[blob](archive));
    const descriptor = { mediaType: more.mediaType ?? OCI.layer + suffix, ...stored, ...more.descriptor };
    return { stored, descriptor, diffID: more.diffID ?? hashOf(archive) };
  });
  const config = put(
    edited(
      {
        os: 'linux',
        architecture: ARCHITECTURE,
        config: {},
        rootfs: { type: 'layers', diff_ids: layers.map(({ diffID }) => diffID) },
      },
      spec.config,
    ),
  );
  const manifest = put(
    edited(
      {
        schemaVersion: 2,
        mediaType: OCI.manifest,
        config: { mediaType: OCI.config, ...config, ...spec.configDescriptor },
        layers: layers.map(({ descriptor }) => descriptor),
      },
      spec.manifest,
    ),
  );
  const entry = {
    mediaType: OCI.manifest,
    ...manifest,
    annotations: { 'org.opencontainers.image.ref.name': TAG },
    ...spec.manifestDescriptor,
  };
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, 'index.json'), edited({ schemaVersion: 2, manifests: [entry] }, spec.index));
  const written = {
    directory,
    manifest,
    config,
    layers: layers.map(({ stored }) => stored),
    put,
    putJson,
    path,
  };
  spec.layout?.(written);
  return written;
}
