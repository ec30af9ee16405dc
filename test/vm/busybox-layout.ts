/** An image with nothing but a static busybox, as an OCI layout: small enough for an emulated machine. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import type { TarEntry } from '../../src/archive/tar-entry.ts';
import { createTarWriter } from '../../src/archive/tar-writer.ts';

const APPLETS = [
  'sh',
  'awk',
  'cat',
  'echo',
  'grep',
  'head',
  'id',
  'mkfifo',
  'sleep',
  'stat',
  'touch',
  'true',
  'wc',
];

/** `busybox`: the program. `files`: what the image has in data/, by name. */
export function writeBusyboxLayout(
  directory: string,
  busybox: string,
  files: Readonly<Record<string, Buffer>> = {},
): void {
  const blobs = join(directory, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const blob = (mediaType: string, bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (mediaType: string, value: object) => blob(mediaType, Buffer.from(JSON.stringify(value)));

  const layer = blob('application/vnd.oci.image.layer.v1.tar', layerTar(readFileSync(busybox), files));
  const config = json('application/vnd.oci.image.config.v1+json', {
    architecture: arch() === 'x64' ? 'amd64' : arch(),
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = json(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] });
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}

function layerTar(busybox: Buffer, files: Readonly<Record<string, Buffer>>): Buffer {
  const chunks: Buffer[] = [];
  const tar = createTarWriter((bytes) => void chunks.push(Buffer.from(bytes)));
  const entry = (type: TarEntry['type'], path: string, rest: Partial<TarEntry> = {}) =>
    tar.entry({
      ...{ type, path, linkPath: '', mode: 0o755, uid: 0, gid: 0, size: 0, sparse: false },
      ...{ mtime: { seconds: 0, nanoseconds: 0 }, deviceMajor: 0, deviceMinor: 0, xattrs: undefined },
      ...rest,
    });
  const file = (path: string, content: Buffer) => {
    entry('file', path, { size: content.length });
    tar.data(content, 0);
    tar.end();
  };
  entry('directory', 'bin');
  file('bin/busybox', busybox);
  entry('directory', 'data');
  for (const [name, content] of Object.entries(files)) file(`data/${name}`, content);
  for (const name of APPLETS) entry('symlink', `bin/${name}`, { linkPath: 'busybox' });
  tar.finish();
  return Buffer.concat(chunks);
}
