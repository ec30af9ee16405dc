/**
 * The story of `ocictl convert`: an image of the store in the other format, under the same names. Trees are made of the
 * streams and objects that are here; the other way layers come from the source that the image came from, since a stored tree
 * has lost what a layer's tar said.
 *
 * Invariant: the image in its old format stays until the one in the new format is whole and durable in staging/; it
 * is replaced in one rename, under the exclusive lock, and not while anything uses it.
 */

import type { PlannedLayer } from './fetch-layer.ts';
import type { Waiting } from './host/lock.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import { JOBS_DEFAULT } from './pull.ts';
import { lazyBlobSource } from './source/image-source.ts';
import { openSource, type SourceOptions } from './source/open-source.ts';
import { refuseWhileUsed } from './store/image-users.ts';
import { layersOf, type StoredImage } from './store/images.ts';
import type { StoreFormat } from './store/layout.ts';
import type { Store } from './store/store.ts';
import { streamKey } from './store/streams.ts';

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
  const { store, image, to, waiting } = options;
  if (image.format === to) return false;
  if (image.store !== store.root)
    throw new OciError(
      'DENIED',
      `the image is in the additional store ${quote(image.store)}, which is only read`,
      {
        hint: `Do it there: ocictl --root ${image.store} convert --to ${to} …`,
      },
    );
  for (;;) {
    const tables = await fetchLayers(options);
    using _lock = await store.lock('exclusive', waiting);
    // others had the store between the two locks: its image may be another, its new layers gone again
    const now = store.imageByDigest(image.digest);
    if (now?.format === to) return false;
    refuseUnlessThere(options, now);
    const documents = store.readDocuments(now);
    const layers = layersOf(documents);
    const isHere = (layer: PlannedLayer, index: number) =>
      to === 'tree'
        ? store.hasLayer(layer.chainID)
        : store.hasStream(streamKey({ ...layer, ...(tables[index] && { toc: tables[index] }) }));
    if (!layers.every(isHere)) continue;
    await store.replaceFormat(now, to, documents, tables);
    return true;
  }
}

/** Into the store, whose next garbage collection may take them again. Returns what pullStreams() does. */
async function fetchLayers(options: ConvertOptions): Promise<readonly (Digest | undefined)[]> {
  const { store, image, to, waiting, signal } = options;
  using lock = await store.lock('shared', waiting);
  const now = store.imageByDigest(image.digest);
  refuseUnlessThere(options, now);
  const layers = layersOf(store.readDocuments(now));
  const source =
    to === 'composefs'
      ? await openSource(now.source, options.source)
      : lazyBlobSource(() => openSource(now.source, options.source));
  try {
    const pull = { store, lock, source, jobs: JOBS_DEFAULT, waiting, signal, onEvent: () => {} };
    if (to === 'composefs') return await (await import('./pull-streams.ts')).pullStreams(layers, pull);
    await (await import('./pull-layers.ts')).pullLayers(layers, pull);
    return [];
  } finally {
    await source.close();
  }
}

function refuseUnlessThere(
  { store, image, runRoot }: ConvertOptions,
  now: StoredImage | undefined,
): asserts now is StoredImage {
  const what = image.names[0] ?? image.digest;
  if (now?.store !== store.root)
    throw new OciError('TEMPORARY', `the image ${quote(what)} was removed meanwhile`, {
      hint: 'Pull it again.',
    });
  refuseWhileUsed(store.usersOf(image, runRoot), what, 'convert');
}
