/**
 * Which streams and objects images of format composefs are made of, and what nobody needs.
 *
 * Invariant: where an image does not tell its layers, or a stream its objects, nothing is garbage: fsck first.
 */
import { readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { listDirectory } from '../host/files.ts';
import type { Digest } from '../oci/digest.ts';
import { diskUsage } from './disk-usage.ts';
import { listImageHexes, readImageRecord } from './images.ts';
import { formatOfFile, imagePath, type Layout } from './layout.ts';
import { contentBySha256, objectPath, objectPaths } from './objects.ts';
import { listStreams, readStream, streamFileName, streamKey, streamsDirectory } from './streams.ts';

/** The hex digits of every object in objects/. */
export function* listObjects(layout: Layout): Generator<string> {
  const { objects } = objectPaths(layout);
  for (const first of listDirectory(objects))
    for (const rest of listDirectory(join(objects, first))) yield first + rest;
}

/** Hex digests of the images of format composefs, with the names of their layers' streams. Throws where one is damaged. */
export function composefsImages(layout: Layout): Map<string, string[]> {
  const images = new Map<string, string[]>();
  for (const hex of listImageHexes(layout)) {
    if (formatOfFile(imagePath(layout, hex)) !== 'composefs') continue;
    images.set(
      hex,
      readImageRecord(layout, hex).layers.map((layer) => streamFileName(streamKey(layer))),
    );
  }
  return images;
}

/** The objects that a stream names. Throws where it is damaged. */
export function objectsOfStream(layout: Layout, hex: string): Set<string> {
  const objects = new Set<string>();
  for (const record of readStream(join(streamsDirectory(layout), hex)))
    if (record.kind === 'inode' && record.inode.object !== undefined) objects.add(record.inode.object);
  return objects;
}

export interface ComposefsGarbage {
  readonly streams: readonly string[];
  readonly objects: readonly string[];
  readonly bytes: number;
}

/** What no image needs, but for images in `without`. */
export function composefsGarbage(layout: Layout, without: ReadonlySet<string> = new Set()): ComposefsGarbage {
  const streams = listStreams(layout);
  const present = [...listObjects(layout)];
  if (streams.length === 0 && present.length === 0) return { streams: [], objects: [], bytes: 0 };
  const needed = new Set<string>();
  try {
    for (const [hex, names] of composefsImages(layout))
      if (!without.has(hex)) for (const name of names) needed.add(name);
    const marked = new Set<string>();
    for (const hex of needed) for (const object of objectsOfStream(layout, hex)) marked.add(object);
    const unused = streams.filter((hex) => !needed.has(hex));
    const objects = present.filter((hex) => !marked.has(hex));
    const paths = objectPaths(layout);
    const bytes = [
      ...unused.map((hex) => join(streamsDirectory(layout), hex)),
      ...objects.map((hex) => objectPath(paths, hex as VerityDigest)),
    ].reduce((sum, path) => sum + diskUsage(path), 0);
    return { streams: unused, objects, bytes };
  } catch {
    return { streams: [], objects: [], bytes: 0 };
  }
}

/** What names a thing goes before the thing, so that whatever a crash leaves is still garbage. Under the exclusive lock. */
export function removeComposefsGarbage(layout: Layout, { streams, objects }: ComposefsGarbage): void {
  const paths = objectPaths(layout);
  for (const hex of streams) unlinkSync(join(streamsDirectory(layout), hex));
  if (objects.length === 0) return;
  const gone = new Set(objects);
  for (const first of listDirectory(paths.objectsBySha256))
    for (const rest of readdirSync(join(paths.objectsBySha256, first))) {
      const content = contentBySha256(paths, `sha256:${first}${rest}` as Digest);
      // what is small is fetched again with the next layer that has it, sooner than it is looked for in all streams
      if (content === undefined || 'inline' in content || gone.has(content.object))
        unlinkSync(join(paths.objectsBySha256, first, rest));
    }
  for (const hex of objects) unlinkSync(objectPath(paths, hex as VerityDigest));
}
