/**
 * Names of images: tags/<escaped name>.mstack (.composefs) and roots/<escaped name>.mstack, links to an image. A tag is a name for
 * people; a root keeps an image though it has no tag, for an installed service of that name.
 *
 * Moving a name is one rename, so a reader sees the old image or the new one; it is written after everything it leads
 * to is durable. An image that loses a name gets a new modification time: since then it may be garbage.
 */
import {
  existsSync,
  lstatSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { isErrno, listDirectory, syncDirectory } from '../host/files.ts';
import { type Digest, digestHex, digestOfHex } from '../oci/digest.ts';
import {
  formatOfFile,
  hexOfImageFile,
  imageFileName,
  imagePath,
  type Layout,
  nameOfTagFile,
  type StoreFormat,
  tagFileName,
} from './layout.ts';
import { openPrivateStage } from './stage.ts';

export type LinkKind = 'tags' | 'roots';

/** The hex digest that a name leads to. */
export function readLink(layout: Layout, kind: LinkKind, name: string): string | undefined {
  return readFile(layout, kind, name, 'composefs') ?? readFile(layout, kind, name, 'tree');
}

function readFile(layout: Layout, kind: LinkKind, name: string, format: StoreFormat): string | undefined {
  try {
    return hexOfImageFile(basename(readlinkSync(join(layout[kind], tagFileName(name, format)))));
  } catch (error) {
    // USAGE: of a name that no file can have
    if (isErrno(error, 'ENOENT', 'EINVAL', 'USAGE')) return undefined;
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
  const hex = digestHex(digest);
  const format = formatOfFile(imagePath(layout, hex));
  const other = tagFileName(name, format === 'tree' ? 'composefs' : 'tree');
  const before = readLink(layout, kind, name);
  if (readFile(layout, kind, name, format) === hex && !isThere(layout, kind, other)) return false;
  const stage = await openPrivateStage(layout, 'tag');
  try {
    const link = join(stage.directory, 'link');
    symlinkSync(linkTarget(hex, format), link);
    renameSync(link, join(layout[kind], tagFileName(name, format)));
    // Of two links the composefs one counts, so each order of these two steps is one step to a reader.
    if (isThere(layout, kind, other)) unlinkSync(join(layout[kind], other));
    syncDirectory(layout[kind]);
  } finally {
    stage.discard();
  }
  if (before !== undefined && before !== hex) startGrace(layout, before);
  return true;
}

/** Has every name be a link to its image in the format that it has, where a conversion was cut short. Under the exclusive lock. */
export async function settleNames(layout: Layout): Promise<void> {
  for (const kind of ['tags', 'roots'] as const)
    for (const [name, hex] of listLinks(layout, kind))
      if (existsSync(imagePath(layout, hex))) await writeLink(layout, kind, name, digestOfHex(hex));
}

function isThere(layout: Layout, kind: LinkKind, file: string): boolean {
  return lstatSync(join(layout[kind], file), { throwIfNoEntry: false }) !== undefined;
}

/** Removes a name; false when there was none. */
export function removeLink(layout: Layout, kind: LinkKind, name: string): boolean {
  const before = readLink(layout, kind, name);
  const files = (['tree', 'composefs'] as const)
    .map((format) => tagFileName(name, format))
    .filter((file) => isThere(layout, kind, file));
  if (files.length === 0) return false;
  for (const file of files) unlinkSync(join(layout[kind], file));
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
export function linkTarget(hex: string, format: StoreFormat): string {
  return `../images/${imageFileName(hex, format)}`;
}

/** The image had a name until now; see garbage.ts. */
function startGrace(layout: Layout, hex: string): void {
  const now = new Date();
  try {
    utimesSync(imagePath(layout, hex), now, now);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
