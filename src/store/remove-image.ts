/**
 * Deleting from a store: images without a tag, and layers that no image links to.
 *
 * Runs under the exclusive lock. Order: the tag, then the image, then its layers; each step is a rename into
 * staging/, so a crash leaves a layer too many but never an image that lacks one.
 */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { linkedLayerHexes, listImageHexes } from './images.ts';
import { listLayerHexes } from './layers.ts';
import { type Layout, syncDirectory } from './layout.ts';
import { openPrivateStage } from './stage.ts';

/** Deletes the image directory, then every layer that no image links to; the hex names of those layers. */
export async function deleteImage(layout: Layout, imageHex: string): Promise<string[]> {
  const image = join(layout.images, `${imageHex}.mstack`);
  if (existsSync(image)) await moveToTrash(layout, [image], layout.images);
  return deleteUnusedLayers(layout);
}

export async function deleteUnusedLayers(layout: Layout): Promise<string[]> {
  const used = new Set(listImageHexes(layout).flatMap((hex) => linkedLayerHexes(layout, hex)));
  const unused = listLayerHexes(layout).filter((hex) => !used.has(hex));
  await moveToTrash(
    layout,
    unused.map((hex) => join(layout.layers, hex)),
    layout.layers,
  );
  return unused;
}

/** All of them leave `parent` durably before the first is taken apart, so none is ever seen half. */
async function moveToTrash(layout: Layout, paths: readonly string[], parent: string): Promise<void> {
  if (paths.length === 0) return;
  const trash = await openPrivateStage(layout, 'trash');
  try {
    paths.forEach((path, index) => {
      renameSync(path, join(trash.directory, String(index)));
    });
    syncDirectory(parent);
  } finally {
    trash.discard();
  }
}
