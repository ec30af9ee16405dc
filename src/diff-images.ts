/**
 * The story of `ocictl diff`: which files one image has and the other has not, or has otherwise. Two images of format
 * composefs are compared by what their layers say; others are mounted, and every file is read.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Waiting } from './host/lock.ts';
import { mountImage, unmountImage } from './mount-image.ts';
import { OciError, quote } from './oci/errors.ts';
import type { ImageEntry } from './store/image-entries.ts';
import type { StoredImage } from './store/images.ts';
import { describeFiles, escapePath } from './store/layer-files.ts';
import type { Store } from './store/store.ts';

export interface ImageDifference {
  readonly kind: 'added' | 'changed' | 'removed';
  /** From the image's root; bytes that are no UTF-8 are replaced. */
  readonly path: string;
  /** Of what changed. */
  readonly what?: 'content' | 'attributes';
}

/** Sorted by path. */
export async function diffImages(
  store: Store,
  before: StoredImage,
  after: StoredImage,
  runRoot: string,
  waiting: Waiting,
): Promise<ImageDifference[]> {
  using _lock = await store.lock('shared', waiting);
  if (before.format === 'composefs' && after.format === 'composefs')
    return compare(store.composefsEntries(before), store.composefsEntries(after));
  return compare(await mounted(store, before, runRoot), await mounted(store, after, runRoot));
}

function compare(
  before: ReadonlyMap<string, ImageEntry>,
  after: ReadonlyMap<string, ImageEntry>,
): ImageDifference[] {
  const differences: ImageDifference[] = [];
  for (const [path, entry] of after) {
    const old = before.get(path);
    if (old === undefined) differences.push({ kind: 'added', path: shown(path) });
    else if (old.content !== entry.content)
      differences.push({ kind: 'changed', path: shown(path), what: 'content' });
    else if (old.attributes !== entry.attributes)
      differences.push({ kind: 'changed', path: shown(path), what: 'attributes' });
  }
  for (const path of before.keys())
    if (!after.has(path)) differences.push({ kind: 'removed', path: shown(path) });
  return differences.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function shown(path: string): string {
  return `/${Buffer.from(path, 'latin1').toString('utf8')}`;
}

/** With a run root of its own, so that a mount of the user's stays as it is. */
async function mounted(store: Store, image: StoredImage, runRoot: string): Promise<Map<string, ImageEntry>> {
  mkdirSync(runRoot, { recursive: true, mode: 0o755 });
  const place = mkdtempSync(join(runRoot, 'diff-'));
  try {
    const tree = await mountImage(store, image, place);
    try {
      return readTree(tree);
    } finally {
      await unmountImage(store, image, place);
    }
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function readTree(tree: string): Map<string, ImageEntry> {
  const entries = new Map<string, ImageEntry>();
  const links: [path: string, first: string][] = [];
  describeFiles(
    tree,
    (line, path) => {
      const [attributes, uid, gid, mtime, size, crc32, xattrs, , target] = line.split(' ');
      if (attributes === 'h') links.push([path, target!]);
      else
        entries.set(path, {
          content: [attributes![0], size, crc32, target].join(' '),
          attributes: [attributes, uid, gid, mtime, xattrs].join(' '),
        });
    },
    (path) => {
      throw new OciError('IO_ERROR', `cannot read ${quote(path)} of the image`, {
        hint: 'Look for damage: ocictl fsck',
      });
    },
  );
  const escaped = new Map([...entries.keys()].map((path) => [escapePath(path), path]));
  for (const [path, first] of links) {
    const known = entries.get(escaped.get(first) ?? first);
    if (known !== undefined) entries.set(path, known);
  }
  return entries;
}
