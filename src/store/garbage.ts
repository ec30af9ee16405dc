/**
 * What is in a store for nothing: images that have had no name for longer than the grace time and that nothing uses,
 * layers of no image, and what crashes left in staging/ and writable/, and of conversions.
 *
 * Deleting runs under the exclusive lock. Order: images, then layers; each leaves by a rename into staging/, durably,
 * before it is taken apart, so a crash leaves a layer too many but never an image that lacks one.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, renameSync, statSync, utimesSync } from 'node:fs';
import { basename, join } from 'node:path';
import { listDirectory, syncDirectory } from '../host/files.ts';
import { type Digest, digestOfHex } from '../oci/digest.ts';
import { toOciError } from '../oci/errors.ts';
import { composefsGarbage, removeComposefsGarbage } from './composefs-garbage.ts';
import { diskUsage } from './disk-usage.ts';
import { listLinks } from './image-links.ts';
import { linkedLayerHexes, listImageHexes } from './images.ts';
import { listLayerHexes } from './layers.ts';
import { formatOfFile, imageFileName, imagePath, type Layout } from './layout.ts';
import { visitLeftOverBlobs } from './partial-blob.ts';
import { removeAny } from './remove-tree.ts';
import { visitLeftOverStages } from './stage.ts';

export interface Garbage {
  readonly kind: 'image' | 'layer' | 'objects' | 'staging' | 'download' | 'writable' | 'container' | 'mount';
  /** A digest's hex, or the name of a directory or file. */
  readonly name: string;
  /** On the disk. */
  readonly bytes: number;
  /** Why it is still there. */
  readonly error?: string;
}

export interface GarbageOptions {
  /** How long an image stays without a name, and a download to be resumed. */
  readonly graceMs: number;
  /** Only tells what would go. */
  readonly dryRun: boolean;
  readonly isUsed: (image: Digest) => boolean;
  /** Whether nothing of a container of that name runs; false when nobody can tell. */
  readonly isGone: (container: string) => boolean;
}

export function collectGarbage(layout: Layout, options: GarbageOptions): Garbage[] {
  const { graceMs, dryRun, isUsed, isGone } = options;
  const garbage: Garbage[] = [];
  const take = (kind: Garbage['kind'], path: string, remove: (path: string) => void = removeAny) => {
    const item = { kind, name: basename(path).replace(/\.(mstack|composefs)$/, ''), bytes: diskUsage(path) };
    try {
      if (!dryRun) remove(path);
      garbage.push(item);
    } catch (error) {
      garbage.push({ ...item, error: toOciError(error).message });
    }
  };
  const trash = (path: string) => moveToTrash(layout, path);

  visitLeftOverStages(layout, (path) => take('staging', path));
  visitLeftOverBlobs(layout, graceMs, (path) => take('download', path));
  for (const name of listDirectory(layout.writable))
    if (isGone(name)) take('writable', join(layout.writable, name));

  for (const path of listImageHexes(layout).flatMap((hex) => superseded(layout, hex)))
    take('image', path, trash);
  const unnamed = unnamedImages(layout).filter(
    (hex) => !isUsed(digestOfHex(hex)) && isOld(layout, hex, graceMs, dryRun),
  );
  for (const hex of unnamed) take('image', imagePath(layout, hex), trash);
  const unused = unusedLayers(layout, new Set(unnamed));
  for (const hex of unused) take('layer', join(layout.layers, hex), trash);
  const { streams, objects, bytes } = composefsGarbage(layout, new Set(unnamed));
  if (streams.length + objects.length > 0) {
    if (!dryRun) removeComposefsGarbage(layout, { streams, objects, bytes });
    garbage.push({ kind: 'objects', name: `${objects.length} of ${streams.length} layers`, bytes });
  }
  return garbage;
}

/** Deletes the image directory, then every layer that no image has; the hex names of those layers. */
export function deleteImage(layout: Layout, imageHex: string): string[] {
  const image = imagePath(layout, imageHex);
  const isComposefs = formatOfFile(image) === 'composefs';
  for (const path of [...superseded(layout, imageHex), image])
    if (existsSync(path)) moveToTrash(layout, path);
  if (isComposefs) {
    const gone = composefsGarbage(layout);
    removeComposefsGarbage(layout, gone);
    return [...gone.streams];
  }
  const unused = unusedLayers(layout);
  for (const hex of unused) moveToTrash(layout, join(layout.layers, hex));
  return unused;
}

/** Of an image in both formats the composefs one counts: the other is what a conversion left that was cut short. */
function superseded(layout: Layout, hex: string): string[] {
  const tree = join(layout.images, imageFileName(hex, 'tree'));
  return existsSync(tree) && imagePath(layout, hex) !== tree ? [tree] : [];
}

/** Layers that no image links to, but for images in `without`. */
export function unusedLayers(layout: Layout, without: ReadonlySet<string> = new Set()): string[] {
  const images = listImageHexes(layout).filter((hex) => !without.has(hex));
  const used = new Set(images.flatMap((hex) => linkedLayerHexes(layout, hex)));
  return listLayerHexes(layout).filter((hex) => !used.has(hex));
}

function unnamedImages(layout: Layout): string[] {
  const named = new Set([...listLinks(layout, 'tags').values(), ...listLinks(layout, 'roots').values()]);
  return listImageHexes(layout).filter((hex) => !named.has(hex));
}

/** By the time when it was stored or lost its last name. A clock that was wrong then starts the time anew. */
function isOld(layout: Layout, hex: string, graceMs: number, dryRun: boolean): boolean {
  const path = imagePath(layout, hex);
  const age = Date.now() - statSync(path).mtimeMs;
  if (age < -CLOCK_TOLERANCE_MS && !dryRun) utimesSync(path, new Date(), new Date());
  return age >= graceMs || graceMs === 0;
}

const CLOCK_TOLERANCE_MS = 60_000;

/** Leaves its place durably, then goes. */
export function moveToTrash(layout: Layout, path: string): void {
  // A rename only: a full disk has no room for a new directory.
  const trash = join(layout.staging, `trash-${randomBytes(8).toString('hex')}`);
  renameSync(path, trash);
  syncDirectory(join(path, '..'));
  removeAny(trash);
}
