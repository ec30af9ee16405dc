/**
 * Makes layer trees out of tars and shows what overlayfs makes of them. Needs root; all below one temporary directory.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import type { DiffID, Digest } from '../../../src/oci/digest.ts';
import { OciError } from '../../../src/oci/errors.ts';
import type { Compression } from '../../../src/oci/media-type.ts';
import { type AppliedLayer, applyLayer } from '../../../src/store/apply-layer.ts';
import { settleLayer } from '../../../src/store/settle-layer.ts';
import { type BuiltEntry, tar } from '../archive/tar-builder.ts';

export const ID_BASE = 2147352576;

// Not in a tmpfs: the trees need user xattrs and device nodes.
export const scratch = mkdtempSync('/var/tmp/ocictl-layers-');
const mounted: string[] = [];
after(() => {
  for (const target of mounted) execFileSync('umount', [target]);
  rmSync(scratch, { recursive: true });
});

let counter = 0;
export function newDirectory(): string {
  const path = join(scratch, String(counter++));
  mkdirSync(path, { mode: 0o700 });
  return path;
}

export function digest(data: Uint8Array): DiffID {
  return `sha256:${createHash('sha256').update(data).digest('hex')}` as Digest as DiffID;
}

const COMPRESS: Record<Compression, (data: Buffer) => Buffer> = {
  none: (data) => data,
  gzip: (data) => gzipSync(data),
  zstd: (data) => zstdCompressSync(data),
};

async function* pieces(data: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += length) yield data.subarray(at, at + length);
}

export interface LayerOptions {
  compression?: Compression;
  bottom?: boolean;
  idBase?: number;
  descriptor?: Partial<Descriptor>;
  diffID?: DiffID;
  treeDir?: string;
  blob?: Buffer;
  pieceBytes?: number;
}

export async function apply(
  archive: Buffer,
  options: LayerOptions = {},
): Promise<AppliedLayer & { tree: string }> {
  const compression = options.compression ?? 'none';
  const blob = options.blob ?? COMPRESS[compression](archive);
  const tree = options.treeDir ?? newDirectory();
  const suffix = compression === 'none' ? '' : `+${compression}`;
  const applied = await applyLayer(pieces(blob, options.pieceBytes ?? 65536), {
    descriptor: {
      mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
      digest: digest(blob),
      size: blob.length,
      ...options.descriptor,
    },
    diffID: options.diffID ?? digest(archive),
    treeDir: tree,
    idBase: options.idBase ?? ID_BASE,
    bottom: options.bottom ?? false,
  });
  return { ...applied, tree };
}

/** Applies and settles layers, lowest first; returns their trees. */
export async function stack(...layers: ((BuiltEntry | Buffer)[] | Buffer)[]): Promise<string[]> {
  const trees: string[] = [];
  for (const layer of layers) {
    const archive = Buffer.isBuffer(layer) ? layer : tar(...layer);
    const { tree, unsettled } = await apply(archive, { bottom: trees.length === 0 });
    // As it crosses from a worker.
    settleLayer(tree, trees, structuredClone(unsettled), ID_BASE);
    trees.push(tree);
  }
  return trees;
}

/** Mounts the trees (lowest first) as systemd would, read-only. */
export function mountOverlay(trees: readonly string[]): string {
  const target = newDirectory();
  const empty = newDirectory(); // an overlay without upper directory needs two lower ones
  const lower = [...trees].reverse();
  execFileSync('mount', [
    '-t',
    'overlay',
    'overlay',
    '-o',
    `userxattr,lowerdir=${[...lower, empty].join(':')}`,
    target,
  ]);
  mounted.push(target);
  return target;
}

/**
 * A line per path, sorted: `path type mode uid:gid content`, ids as the container sees them; directories and symlinks have a
 * '/' or a target behind them. `link` names the first path of the same inode.
 */
export function listing(root: string, options: { times?: boolean; attributes?: boolean } = {}): string[] {
  const lines: string[] = [];
  const inodes = new Map<bigint, string>();
  const visit = (path: string) => {
    const bytes = Buffer.from(path, 'latin1');
    const full = Buffer.concat([Buffer.from(root), bytes]);
    const stat = lstatSync(full, { bigint: true });
    const shown = path === '' ? '/' : bytes.toString('utf8').slice(1);
    const id = (value: bigint) => (value >= ID_BASE ? Number(value) - ID_BASE : `host ${value}`);
    let line = shown;
    if (stat.isDirectory()) line += path === '' ? '' : '/';
    else if (stat.isSymbolicLink()) line += ` -> ${readlinkSync(full)}`;
    else if (stat.isCharacterDevice()) line += ` c${stat.rdev >> 8n}:${stat.rdev & 255n}`;
    else if (stat.isBlockDevice()) line += ` b${stat.rdev >> 8n}:${stat.rdev & 255n}`;
    else if (stat.isFIFO()) line += ' p';
    else line += ` ${JSON.stringify(readFileSync(full, 'latin1').slice(0, 40))}`;
    const first = inodes.get(stat.ino);
    if (first !== undefined) line += ` = ${first}`;
    else if (!stat.isDirectory()) inodes.set(stat.ino, shown);
    if (options.attributes ?? false)
      line += ` ${(Number(stat.mode) & 0o7777).toString(8)} ${id(stat.uid)}:${id(stat.gid)}`;
    if (options.times ?? false) line += ` @${Number(stat.mtimeNs / 1000000n) / 1000}`;
    lines.push(line);
    if (!stat.isDirectory()) return;
    const names = readdirSync(full, { encoding: 'latin1' }).sort();
    for (const name of names) visit(`${path}/${name}`);
  };
  visit('');
  return lines;
}

/** What a container sees of layers, given as tar entries, lowest first. */
export async function merged(
  layers: ((BuiltEntry | Buffer)[] | Buffer)[],
  options: Parameters<typeof listing>[1] = {},
): Promise<string[]> {
  return listing(mountOverlay(await stack(...layers)), options).slice(1);
}

export async function rejects(
  promise: Promise<unknown>,
  code: string,
  message: string | RegExp,
): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert(error instanceof OciError, String(error));
    const text = error.message.replace(/^layer sha256:[0-9a-f]{64}: /, '');
    assert.equal(error.code, code, text);
    if (typeof message === 'string') assert.equal(text, message);
    else assert.match(text, message);
    return true;
  });
}
