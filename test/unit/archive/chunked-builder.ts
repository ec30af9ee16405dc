/**
 * Makes layers of the formats that have a table of contents from an ordinary tar: zstd:chunked as podman writes it, and
 * eStargz as its document says (no Debian package makes one).
 */
import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { TarEntry } from '../../../src/archive/tar-entry.ts';
import { createTarParser } from '../../../src/archive/tar-parser.ts';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { type DiffID, digestOf } from '../../../src/oci/digest.ts';
import { skippableFrame } from '../../hostile/zstd-writer.ts';
import { file, tarEntry } from './tar-builder.ts';

export interface BuiltLayer {
  readonly blob: Buffer;
  readonly descriptor: Descriptor;
  /** The tar that the blob unpacks to. */
  readonly tar: Buffer;
  readonly diffID: DiffID;
  /** As parsed JSON. */
  readonly toc: { version: number; entries: Record<string, unknown>[] };
}

interface Located {
  readonly entry: TarEntry;
  /** Of the content, in the tar. */
  readonly start: number;
}

/** Entries and where their content lies. */
export function locate(tar: Buffer): Located[] {
  const found: { entry: TarEntry; start: number }[] = [];
  const parser = createTarParser({
    entry: (entry) => void found.push({ entry, start: 0 }),
    data(bytes, offset) {
      if (offset === 0) found.at(-1)!.start = bytes.byteOffset - tar.byteOffset;
    },
    end() {},
  });
  parser.push(tar);
  parser.end();
  return found;
}

const TYPES = {
  file: 'reg',
  directory: 'dir',
  hardLink: 'hardlink',
  symlink: 'symlink',
  characterDevice: 'char',
  blockDevice: 'block',
  fifo: 'fifo',
};

const text = (bytes: string) => Buffer.from(bytes, 'latin1').toString('utf8');
const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

function row(entry: TarEntry): Record<string, unknown> {
  const { mtime, xattrs } = entry;
  const time = new Date(mtime.seconds * 1000).toISOString().slice(0, 19);
  const fraction = mtime.nanoseconds === 0 ? '' : `.${String(mtime.nanoseconds).padStart(9, '0')}`;
  return {
    type: TYPES[entry.type],
    name: text(entry.path),
    ...(entry.linkPath === '' ? {} : { linkName: text(entry.linkPath) }),
    mode: entry.mode,
    ...(entry.size === 0 ? {} : { size: entry.size }),
    uid: entry.uid,
    gid: entry.gid,
    modtime: `${time}${fraction}Z`,
    ...(entry.deviceMajor + entry.deviceMinor === 0
      ? {}
      : { devMajor: entry.deviceMajor, devMinor: entry.deviceMinor }),
    ...(xattrs === undefined
      ? {}
      : {
          xattrs: Object.fromEntries(
            [...xattrs].map(([key, value]) => [text(key), value.toString('base64')]),
          ),
        }),
  };
}

/** `edit` changes the table before it is written; `chunkBytes`: larger files are cut. */
export function zstdChunked(
  tar: Buffer,
  {
    tarSplit = true,
    chunkBytes = Number.POSITIVE_INFINITY,
    edit,
  }: { tarSplit?: boolean; chunkBytes?: number; edit?: (toc: BuiltLayer['toc']) => unknown } = {},
): BuiltLayer {
  const parts: Buffer[] = [];
  let blobAt = 0;
  let tarAt = 0;
  const split: string[] = [];
  const put = (bytes: Buffer) => {
    parts.push(bytes);
    blobAt += bytes.length;
  };
  const line = (entry: object) => split.push(`${JSON.stringify({ ...entry, position: split.length })}\n`);
  const upTo = (end: number) => {
    if (end === tarAt) return;
    put(zstdCompressSync(tar.subarray(tarAt, end)));
    line({ type: 2, payload: tar.toString('base64', tarAt, end) });
    tarAt = end;
  };
  const entries = locate(tar).flatMap(({ entry, start }) => {
    if (entry.size === 0) return [row(entry)];
    upTo(start);
    const content = tar.subarray(start, start + entry.size);
    const offset = blobAt;
    const chunks: Record<string, unknown>[] = [];
    for (let at = 0; at < entry.size; at += chunkBytes) {
      const chunk = content.subarray(at, at + chunkBytes);
      chunks.push({
        offset: blobAt,
        chunkSize: chunk.length,
        ...(at === 0 ? {} : { chunkOffset: at }),
        chunkDigest: sha256(chunk),
      });
      put(zstdCompressSync(chunk));
    }
    line({ type: 1, name: text(entry.path), size: entry.size, payload: 'AAAAAAAAAAA=' });
    tarAt = start + entry.size;
    const place = { digest: sha256(content), offset, endOffset: blobAt };
    if (chunks.length === 1) return [{ ...row(entry), ...place }];
    const [first, ...more] = chunks;
    return [
      { ...row(entry), ...first, ...place },
      ...more.map((chunk) => ({ type: 'chunk', name: text(entry.path), ...chunk })),
    ];
  });
  upTo(tar.length);
  const toc = { version: 1, entries };
  edit?.(toc);
  const section = (unpacked: Buffer) => {
    const bytes = zstdCompressSync(unpacked);
    put(skippableFrame(bytes));
    return { position: `${blobAt - bytes.length}:${bytes.length}:${unpacked.length}`, digest: sha256(bytes) };
  };
  const table = section(Buffer.from(JSON.stringify(toc)));
  const annotations: Record<string, string> = {
    'io.github.containers.zstd-chunked.manifest-checksum': table.digest,
    'io.github.containers.zstd-chunked.manifest-position': `${table.position}:1`,
  };
  if (tarSplit)
    annotations['io.github.containers.zstd-chunked.tarsplit-position'] = section(
      Buffer.from(split.join('')),
    ).position;
  put(skippableFrame(Buffer.alloc(64))); // the footer, which nobody needs
  return built(Buffer.concat(parts), 'zstd', annotations, tar, toc);
}

/** `chunkBytes`: larger files are cut; `minMemberBytes`: smaller ones share a gzip member. */
export function estargz(
  tar: Buffer,
  options: {
    chunkBytes?: number;
    minMemberBytes?: number;
    withDigests?: boolean;
    edit?: (toc: BuiltLayer['toc']) => unknown;
  } = {},
): BuiltLayer {
  const { chunkBytes = 4 * 1024 * 1024, minMemberBytes = 0, withDigests = true } = options;
  const members: Buffer[] = [];
  let blobAt = 0;
  let open: Buffer[] = [];
  let openBytes = 0;
  let tarAt = 0;
  const add = (end: number) => {
    open.push(body.subarray(tarAt, end));
    openBytes += end - tarAt;
    tarAt = end;
  };
  const close = () => {
    if (openBytes === 0) return;
    members.push(gzipSync(Buffer.concat(open)));
    blobAt += members.at(-1)!.length;
    open = [];
    openBytes = 0;
  };
  const body = tar.subarray(0, tar.length - 1024);
  const entries = locate(tar).flatMap(({ entry, start }) => {
    if (entry.size === 0) return [row(entry)];
    add(start);
    const digest = sha256(body.subarray(start, start + entry.size));
    const rows: Record<string, unknown>[] = [];
    for (let at = 0; at < entry.size; at += chunkBytes) {
      if (openBytes >= minMemberBytes) close();
      const size = Math.min(chunkBytes, entry.size - at);
      const isLast = at + size === entry.size;
      rows.push({
        ...(at === 0
          ? { ...row(entry), ...(withDigests ? { digest } : {}) }
          : { type: 'chunk', name: text(entry.path) }),
        offset: blobAt,
        ...(openBytes === 0 ? {} : { innerOffset: openBytes }),
        ...(at === 0 ? {} : { chunkOffset: at }),
        ...(isLast ? {} : { chunkSize: size }),
        chunkDigest: sha256(body.subarray(start + at, start + at + size)),
      });
      add(start + at + size);
    }
    return rows;
  });
  add(body.length);
  close();
  const toc = { version: 1, entries };
  options.edit?.(toc);
  const json = Buffer.from(JSON.stringify(toc));
  const table = file('stargz.index.json', json.toString(), { mode: 0 });
  const tail = Buffer.concat([tarEntry(table), Buffer.alloc(1024)]);
  const blob = Buffer.concat([...members, gzipSync(tail), estargzFooter(blobAt)]);
  const annotations = { 'containerd.io/snapshot/stargz/toc.digest': sha256(json) };
  return built(blob, 'gzip', annotations, Buffer.concat([body, tail]), toc);
}

export function estargzFooter(offset: number): Buffer {
  const extra = Buffer.from(`SG\x16\0${offset.toString(16).padStart(16, '0')}STARGZ`, 'latin1');
  return Buffer.concat([
    Buffer.from('1f8b08040000000000ff1a00', 'hex'),
    extra,
    Buffer.from('010000ffff0000000000000000', 'hex'),
  ]);
}

function built(
  blob: Buffer,
  compression: string,
  annotations: Record<string, string>,
  tar: Buffer,
  toc: BuiltLayer['toc'],
): BuiltLayer {
  const mediaType = `application/vnd.oci.image.layer.v1.tar+${compression}`;
  const descriptor: Descriptor = { mediaType, digest: digestOf(blob), size: blob.length, annotations };
  return { blob, descriptor, tar, diffID: digestOf(tar) as DiffID, toc };
}
