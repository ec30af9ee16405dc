/**
 * An image of the store in the other format, in the place of the one it has. Under the exclusive lock.
 *
 * Invariant: there is an image at every moment. A crash in between leaves it in both formats, of which composefs counts,
 * or names that are links to the old one: gc removes the one that does not count, and has the names follow.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { syncDirectory, syncFileSystem } from '../host/files.ts';
import { type Digest, digestHex } from '../oci/digest.ts';
import { composefsGarbage, removeComposefsGarbage } from './composefs-garbage.ts';
import { fillComposefsImage } from './composefs-images.ts';
import { moveToTrash, unusedLayers } from './garbage.ts';
import { settleNames } from './image-links.ts';
import {
  type FindTree,
  type ImageDocuments,
  imageRecord,
  imageTreeLinks,
  type StoredImage,
  writeImage,
} from './images.ts';
import { ensureSkeleton } from './layers.ts';
import { imageFileName, type Layout, type StoreFormat } from './layout.ts';
import { openPrivateStage } from './stage.ts';

/** `image` is in `layout`, and its layers in the new format are all in place; `tables`: of pullStreams(). */
export async function replaceFormat(
  layout: Layout,
  findTree: FindTree,
  image: StoredImage,
  to: StoreFormat,
  documents: ImageDocuments,
  tables: readonly (Digest | undefined)[],
): Promise<void> {
  const { digest, source, stored, sizeBytes, format } = image;
  const hex = digestHex(digest);
  const known = imageRecord(digest, documents, { source, stored, sizeBytes });
  const layers = known.layers.map((layer, i) => ({ ...layer, ...(tables[i] && { toc: tables[i] }) }));
  const record = { ...known, layers };
  const place = (of: StoreFormat) => join(layout.images, imageFileName(hex, of));
  const stage = await openPrivateStage(layout, 'convert');
  try {
    if (to === 'composefs') fillComposefsImage(layout, record, documents, stage.directory);
    else {
      await ensureSkeleton(layout, {});
      writeImage(stage.directory, record, documents, imageTreeLinks(layout, record, findTree));
      syncFileSystem(stage.directory);
    }
    if (existsSync(place(to))) moveToTrash(layout, place(to)); // of a crash
    stage.commit(place(to));
    syncDirectory(layout.images);
    moveToTrash(layout, place(format));
  } finally {
    stage.discard();
  }
  await settleNames(layout);
  for (const unused of unusedLayers(layout)) moveToTrash(layout, join(layout.layers, unused));
  removeComposefsGarbage(layout, composefsGarbage(layout));
}
