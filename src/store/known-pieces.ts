/**
 * Pieces of large files that changed a little, from what the file was in the layer that came last: those that are at the
 * same distance from its beginning or from its end, so that any number of changes of the same length, or a single one of
 * another, costs no more than what is new.
 *
 * Invariant: a piece is what its digest in the table says when it is looked for, and the file that comes of it is checked by
 * its own. Nothing is lost where nothing is found.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TocChunk, TocEntry } from '../archive/toc.ts';
import type { KnownChunks } from '../archive/toc-content.ts';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { digestOf } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import type { Layout } from './layout.ts';
import { type ObjectPaths, objectPath } from './objects.ts';
import { listStreams, readStream, streamsDirectory } from './streams.ts';

/** A file in so many more pieces costs requests: with less to be had of them it is fetched whole. */
const WORTH_BYTES = 256 * 1024;

/** What is read in search of pieces: some seconds, whatever sizes and however many files of a name a table has. */
const SEARCHED_MAX_BYTES = 16 * 1024 ** 3;

/** Which object files of these names had in the layer that came last; none where that cannot be read. */
export function earlierObjects(
  layout: Pick<Layout, 'root'>,
  paths: ReadonlySet<string>,
): Map<string, VerityDigest> {
  const found = new Map<string, VerityDigest>();
  let newest: { path: string; time: number } | undefined;
  for (const name of listStreams(layout)) {
    const path = join(streamsDirectory(layout), name);
    const time = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (time > (newest?.time ?? 0)) newest = { path, time };
  }
  if (newest === undefined) return found;
  try {
    for (const record of readStream(newest.path))
      if (record.kind === 'inode' && record.inode.object !== undefined && paths.has(record.path))
        found.set(record.path, record.inode.object);
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    return new Map(); // fsck says so
  }
  return found;
}

export interface KnownPieces {
  /** The files, those of which pieces are known in pieces. */
  readonly wanted: readonly TocEntry[];
  readonly known: KnownChunks;
}

/** `earlier`: as earlierObjects(). */
export function findKnownPieces(
  paths: ObjectPaths,
  files: readonly TocEntry[],
  earlier: (paths: ReadonlySet<string>) => ReadonlyMap<string, VerityDigest>,
  searchedMaxBytes = SEARCHED_MAX_BYTES,
): KnownPieces {
  const known = new Map<TocChunk, () => Buffer>();
  const large = files.filter(({ pieces }) => pieces !== undefined);
  if (large.length === 0) return { wanted: files, known };
  const objects = earlier(new Set(large.map(pathOf)));
  let searchLeft = searchedMaxBytes;
  const wanted = files.map((file) => {
    const object = file.pieces === undefined ? undefined : objects.get(pathOf(file));
    if (object === undefined) return file;
    searchLeft -= 2 * file.size;
    if (searchLeft < 0) return file;
    const pieces = knownOf(objectPath(paths, object), file);
    const bytes = [...pieces.keys()].reduce((sum, { offset, end }) => sum + end - offset, 0);
    if (bytes < WORTH_BYTES) return file;
    for (const [piece, read] of pieces) known.set(piece, read);
    return { ...file, chunks: file.pieces! };
  });
  return { wanted, known };
}

/** As records have it; what no record has is not found. */
function pathOf({ path }: TocEntry): string {
  return path
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .join('/');
}

function knownOf(path: string, { size: fileBytes, pieces }: TocEntry): Map<TocChunk, () => Buffer> {
  const known = new Map<TocChunk, () => Buffer>();
  const shift = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) - fileBytes;
  let at = 0;
  for (const piece of pieces!) {
    const { size, digest } = piece;
    const place = [...new Set([at, at + shift])].find(
      (from) => from >= 0 && digestOf(readAt(path, from, size)) === digest,
    );
    if (place !== undefined) known.set(piece, () => readAt(path, place, size));
    at += size;
  }
  return known;
}

/** Less where the file ends before, or cannot be read: fsck finds out. */
function readAt(path: string, at: number, bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(bytes);
  let filled = 0;
  try {
    const fd = openSync(path, 'r');
    try {
      for (let length = -1; filled < bytes && length !== 0; filled += length)
        length = readSync(fd, buffer, filled, bytes - filled, at + filled);
    } finally {
      closeSync(fd);
    }
  } catch {
    return buffer.subarray(0, 0);
  }
  return buffer.subarray(0, filled);
}
