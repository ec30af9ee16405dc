/**
 * Makes small images as OCI layouts, for tests: tar archives byte by byte (ustar), gzip, manifest, index. Its own
 * writer, so that a test does not judge our reader by our reader.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

export interface Entry {
  readonly path: string;
  /** '0' file, '1' hard link, '2' symlink, '3' char device, '5' directory, '6' fifo. Default: a file. */
  readonly type?: '0' | '1' | '2' | '3' | '5' | '6';
  readonly content?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly link?: string;
}

export function directory(path: string, more: Partial<Entry> = {}): Entry {
  return { path, type: '5', mode: 0o755, ...more };
}

export function file(path: string, content: string | Buffer, more: Partial<Entry> = {}): Entry {
  return { path, content, ...more };
}

export function tar(entries: readonly Entry[]): Buffer {
  const pieces = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '');
    const header = Buffer.alloc(512);
    const octal = (value: number, at: number, length: number) =>
      header.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
    header.write(entry.path, 0);
    octal(entry.mode ?? 0o644, 100, 8);
    octal(entry.uid ?? 0, 108, 8);
    octal(entry.gid ?? 0, 116, 8);
    octal(content.length, 124, 12);
    octal(entry.mtime ?? 1_700_000_000, 136, 12);
    header.fill(' ', 148, 156);
    header.write(entry.type ?? '0', 156);
    header.write(entry.link ?? '', 157);
    header.write('ustar\x0000', 257, 'latin1');
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
      'latin1',
    );
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...pieces, Buffer.alloc(1024)]);
}

export function digest(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export interface BuiltImage {
  readonly manifestDigest: string;
  readonly layerDigests: readonly string[];
  readonly diffIDs: readonly string[];
}

export interface ImageOptions {
  readonly tag?: string;
  readonly config?: Record<string, unknown>;
  readonly architecture?: string;
  /** Put into the manifest and the configuration instead of the truth. */
  readonly lies?: {
    diffIDs?: readonly string[];
    layerDigests?: readonly string[];
    sizes?: readonly number[];
  };
}

/** Writes a layout of one image below `directory` and returns its digests. */
export function writeImage(
  layoutDirectory: string,
  layers: readonly (readonly Entry[] | Buffer)[],
  { tag = 'latest', config = {}, architecture = goArchitecture(), lies = {} }: ImageOptions = {},
): BuiltImage {
  const blobs = join(layoutDirectory, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (bytes: Uint8Array): string => {
    writeFileSync(join(blobs, digest(bytes).slice('sha256:'.length)), bytes);
    return digest(bytes);
  };
  const tars = layers.map((layer) => (Buffer.isBuffer(layer) ? layer : tar(layer as readonly Entry[])));
  const zipped = tars.map((bytes) => gzipSync(bytes, { level: 1 }));
  const layerDigests = zipped.map(put);
  const diffIDs = tars.map(digest);
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const rawConfig = json({
    os: 'linux',
    architecture,
    config,
    rootfs: { type: 'layers', diff_ids: lies.diffIDs ?? diffIDs },
    history: layers.map((_, i) => ({ created: '2024-01-01T00:00:00Z', created_by: `step ${i + 1}` })),
  });
  const rawManifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: put(rawConfig),
      size: rawConfig.length,
    },
    layers: zipped.map((bytes, i) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: lies.layerDigests?.[i] ?? layerDigests[i],
      size: lies.sizes?.[i] ?? bytes.length,
    })),
  });
  const manifestDigest = put(rawManifest);
  writeFileSync(join(layoutDirectory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(layoutDirectory, 'index.json'),
    json({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest: manifestDigest,
          size: rawManifest.length,
          annotations: { 'org.opencontainers.image.ref.name': tag },
        },
      ],
    }),
  );
  return { manifestDigest, layerDigests, diffIDs };
}

function goArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}
