/**
 * The story of `ocictl convert`: an image of the store in the other format, under the same names. Its layers come from the
 * source it came from: a stored tree has lost what a layer's tar said, and what was fetched is verified again.
 *
 * Invariant: the image in its old format stays until the one in the new format is whole and durable in staging/; it
 * is replaced in one rename, under the exclusive lock, and not while anything uses it.
 */

import type { Waiting } from './host/lock.ts';
import { chainIDs, type Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import { openSource, type SourceOptions } from './source/open-source.ts';
import { refuseWhileUsed } from './store/image-users.ts';
import type { StoredImage } from './store/images.ts';
import type { StoreFormat } from './store/layout.ts';
import type { Store } from './store/store.ts';

export interface ConvertOptions {
  readonly store: Store;
  readonly image: StoredImage;
  readonly to: StoreFormat;
  readonly runRoot: string;
  readonly source: SourceOptions;
  readonly waiting: Waiting;
  readonly signal: AbortSignal;
}

/** False when it has that format already. */
export async function convertImage(options: ConvertOptions): Promise<boolean> {
  const { store, image, to, waiting, signal, runRoot } = options;
  if (image.format === to) return false;
  if (image.store !== store.root)
    throw new OciError(
      'DENIED',
      `the image is in the additional store ${quote(image.store)}, which is only read`,
      {
        hint: `Do it there: ocictl --root ${image.store} convert --to ${to} …`,
      },
    );
  const what = image.names[0] ?? image.digest;
  refuseWhileUsed(store.usersOf(image, runRoot), what);
  const documents = store.readDocuments(image);
  const { manifest, imageConfig } = documents;
  const chain = chainIDs(imageConfig.diffIDs);
  const layers = manifest.layers.map((descriptor, i) => ({
    descriptor,
    diffID: imageConfig.diffIDs[i]!,
    chainID: chain[i]!,
  }));
  let tables: (Digest | undefined)[] = [];
  {
    using lock = await store.lock('shared', waiting);
    const source = await openSource(image.source, options.source);
    try {
      const pull = { store, lock, source, jobs: 4, waiting, signal, onEvent: () => {} };
      if (to === 'composefs') tables = await (await import('./pull-streams.ts')).pullStreams(layers, pull);
      else await (await import('./pull-layers.ts')).pullLayers(layers, pull);
    } finally {
      await source.close();
    }
  }
  using _lock = await store.lock('exclusive', waiting);
  refuseWhileUsed(store.usersOf(image, runRoot), what);
  await store.replaceFormat(image, to, documents, tables, waiting);
  return true;
}
