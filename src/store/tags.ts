/**
 * Tags: tags/<escaped name>.mstack, a link to an image. Moving a tag is one rename, so a reader sees the old image
 * or the new one; a tag is written after everything it leads to is durable.
 */
import { readdirSync, readlinkSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Digest, digestHex } from '../oci/digest.ts';
import {
  hexOfImageFile,
  imageFileName,
  type Layout,
  nameOfTagFile,
  syncDirectory,
  tagFileName,
} from './layout.ts';
import { openPrivateStage } from './stage.ts';

/** The hex digest that a name leads to. */
export function readTag(layout: Layout, name: string): string | undefined {
  try {
    return hexOfImageFile(basename(readlinkSync(join(layout.tags, tagFileName(name)))));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'EINVAL' || code === 'USAGE') return undefined;
    throw error;
  }
}

/** Points `name` to an image, durably; false when it already did. The image is in place. */
export async function writeTag(layout: Layout, name: string, digest: Digest): Promise<boolean> {
  const file = tagFileName(name);
  if (readTag(layout, name) === digestHex(digest)) return false;
  const stage = await openPrivateStage(layout, 'tag');
  try {
    const link = join(stage.directory, 'link');
    symlinkSync(`../images/${imageFileName(digest)}`, link);
    renameSync(link, join(layout.tags, file));
    syncDirectory(layout.tags);
  } finally {
    stage.discard();
  }
  return true;
}

/** Removes a name; false when there was none. */
export function removeTag(layout: Layout, name: string): boolean {
  try {
    unlinkSync(join(layout.tags, tagFileName(name)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  syncDirectory(layout.tags);
  return true;
}

/** Every tag, sorted by name: name → hex digest. */
export function listTags(layout: Layout): Map<string, string> {
  const tags = new Map<string, string>();
  for (const file of readdirSync(layout.tags)) {
    const name = nameOfTagFile(file);
    const hex = name === undefined ? undefined : readTag(layout, name);
    if (hex !== undefined) tags.set(name!, hex);
  }
  return new Map([...tags].sort(([a], [b]) => (a < b ? -1 : 1)));
}
