/**
 * Names of images: tags/<escaped name>.mstack and roots/<escaped name>.mstack, links to an image. A tag is a name for
 * people; a root keeps an image though it has no tag, for an installed service of that name.
 *
 * Moving a name is one rename, so a reader sees the old image or the new one; it is written after everything it leads
 * to is durable. An image that loses a name gets a new modification time: since then it may be garbage.
 */
import { readlinkSync, renameSync, symlinkSync, unlinkSync, utimesSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Digest, digestHex } from '../oci/digest.ts';
import {
  hexOfImageFile,
  imageFileName,
  imagePath,
  type Layout,
  listDirectory,
  nameOfTagFile,
  syncDirectory,
  tagFileName,
} from './layout.ts';
import { openPrivateStage } from './stage.ts';

export type LinkKind = 'tags' | 'roots';

/** The hex digest that a name leads to. */
export function readLink(layout: Layout, kind: LinkKind, name: string): string | undefined {
  try {
    return hexOfImageFile(basename(readlinkSync(join(layout[kind], tagFileName(name)))));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'EINVAL' || code === 'USAGE') return undefined;
    throw error;
  }
}

/** Points `name` to an image, durably; false when it already did. The image is in place. */
export async function writeLink(
  layout: Layout,
  kind: LinkKind,
  name: string,
  digest: Digest,
): Promise<boolean> {
  const file = tagFileName(name);
  const before = readLink(layout, kind, name);
  if (before === digestHex(digest)) return false;
  const stage = await openPrivateStage(layout, 'tag');
  try {
    const link = join(stage.directory, 'link');
    symlinkSync(linkTarget(digestHex(digest)), link);
    renameSync(link, join(layout[kind], file));
    syncDirectory(layout[kind]);
  } finally {
    stage.discard();
  }
  if (before !== undefined) startGrace(layout, before);
  return true;
}

/** Removes a name; false when there was none. */
export function removeLink(layout: Layout, kind: LinkKind, name: string): boolean {
  const before = readLink(layout, kind, name);
  try {
    unlinkSync(join(layout[kind], tagFileName(name)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  syncDirectory(layout[kind]);
  if (before !== undefined) startGrace(layout, before);
  return true;
}

/** Every name, sorted: name → hex digest. */
export function listLinks(layout: Layout, kind: LinkKind): Map<string, string> {
  const links = new Map<string, string>();
  for (const file of listDirectory(layout[kind]).sort()) {
    const name = nameOfTagFile(file);
    const hex = name === undefined ? undefined : readLink(layout, kind, name);
    if (hex !== undefined) links.set(name!, hex);
  }
  return new Map([...links].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What the link of an image contains, in tags/ and in roots/. */
export function linkTarget(hex: string): string {
  return `../images/${imageFileName(hex)}`;
}

/** The image had a name until now; see garbage.ts. */
export function startGrace(layout: Layout, hex: string): void {
  const now = new Date();
  try {
    utimesSync(imagePath(layout, hex), now, now);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
