/**
 * The story of a pull: find the image at its source, fetch what the store lacks, put the image in place, name it.
 *
 * Invariant: the name is written last, after everything it leads to is durable. A pull that fails or is cut off
 * leaves the store as it was, but for downloads that the next pull takes up.
 */

import type { LayerEvent, PlannedLayer } from './fetch-layer.ts';
import { findImageFor } from './find-image.ts';
import type { Lock, Waiting } from './host/lock.ts';
import type { Descriptor } from './oci/descriptor.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote, toOciError, wrap } from './oci/errors.ts';
import type { Platform } from './oci/platform.ts';
import type { ImageSource } from './source/image-source.ts';
import { openSource, type SourceOptions } from './source/open-source.ts';
import { type ResolvedImage, resolveImage } from './source/resolve-image.ts';
import { imageRecord, layersOf, type StoredImage } from './store/images.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { StoreFormat } from './store/layout.ts';
import type { Store } from './store/store.ts';

/** always: ask the source; newer: as always, but what is here will do when it does not answer; missing: only if not here. */
export type PullPolicy = 'always' | 'missing' | 'newer';

export type PullEvent =
  | LayerEvent
  | { readonly type: 'resolved'; readonly digest: Digest; readonly layers: readonly PlannedLayer[] };

export interface PullOptions {
  readonly store: Store;
  /** What the user typed. */
  readonly name: string;
  /** The name it gets in the store; default: the source's. */
  readonly localName?: string;
  readonly policy?: PullPolicy;
  /** Of an image that is not here yet. Default: tree. */
  readonly format?: StoreFormat;
  readonly platform: Platform;
  readonly source: SourceOptions;
  /** Downloads at a time. */
  readonly jobs?: number;
  /** Threads for several pulls of one process. Default: some for this pull. */
  readonly workers?: LayerWorkers;
  readonly waiting?: Waiting;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: PullEvent) => void;
}

export interface PulledImage {
  readonly image: StoredImage;
  readonly digest: Digest;
  /** The name it has in the store. */
  readonly name: string;
  /** False when the image was here already. */
  readonly stored: boolean;
}

export const JOBS_DEFAULT = 4;
const NEVER = new AbortController().signal;

export async function pullImage(options: PullOptions): Promise<PulledImage> {
  try {
    return await pull(options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw wrap(`pull ${quote(options.name)}`, error);
  }
}

/** The digest of the manifest that a pull would get at this moment. */
export async function latestDigest(
  options: Pick<PullOptions, 'store' | 'name' | 'platform' | 'source'>,
): Promise<Digest> {
  const { source, resolved } = await find(options);
  await source.close();
  return resolved.manifestDescriptor.digest;
}

async function pull(options: PullOptions): Promise<PulledImage> {
  const { store, policy = 'always', localName } = options;
  if (localName !== undefined) store.checkName(localName);
  const here = policy === 'always' ? undefined : findImageFor(options);
  if (here !== undefined && policy === 'missing') return named(options, here, localName, false);

  let found: { source: ImageSource; resolved: ResolvedImage };
  try {
    found = await untilAborted(find(options), options.signal);
  } catch (error) {
    if (here === undefined || !isUnreachable(error)) throw error;
    options.onEvent?.({
      type: 'note',
      message: `${toOciError(error).message}; using the image that is here`,
    });
    return named(options, here, localName, false);
  }
  const { source, resolved } = found;
  try {
    const name = localName ?? source.localName;
    store.checkName(name);
    const { digest } = resolved.manifestDescriptor;
    if (store.isTagged(name, digest) && !store.mayNeedSweep()) {
      const image = store.imageByDigest(digest);
      if (image !== undefined && store.isWhole(image)) return await named(options, image, name, false);
    }
    // from here on until the image has its name, so that no garbage collection comes in between
    using lock = await store.lock('shared', { ...options.waiting, signal: options.signal ?? NEVER });
    store.sweep();
    const present = store.imageByDigest(digest);
    if (present !== undefined && store.isWhole(present)) return await named(options, present, name, false);
    const wanted = present === undefined ? options : { ...options, format: present.format };
    return await named(options, await add(wanted, source, resolved, lock), name, true);
  } finally {
    await source.close();
  }
}

/** Opens the source and reads the manifest and the configuration. */
async function find(
  options: Pick<PullOptions, 'store' | 'name' | 'platform' | 'source'>,
): Promise<{ source: ImageSource; resolved: ResolvedImage }> {
  const source = await openSource(options.name, options.source);
  try {
    const local = (descriptor: Descriptor) => options.store.localDocument(descriptor.digest);
    return { source, resolved: await resolveImage(source, options.platform, local) };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Fetches what the store lacks and puts the image in place. */
async function add(
  options: PullOptions,
  source: ImageSource,
  resolved: ResolvedImage,
  lock: Lock,
): Promise<StoredImage> {
  const { store, jobs = JOBS_DEFAULT, waiting = {}, signal = NEVER, onEvent = () => {} } = options;
  const digest = resolved.manifestDescriptor.digest;
  const layers = layersOf(resolved);

  onEvent({ type: 'resolved', digest, layers });
  const pull = { store, lock, source, jobs, workers: options.workers, waiting, signal, onEvent };
  const facts = { source: source.description, stored: new Date().toISOString() };
  if (options.format === 'composefs') {
    const { pullStreams } = await import('./pull-streams.ts');
    const tables = await pullStreams(layers, pull);
    const record = imageRecord(digest, resolved, { ...facts, sizeBytes: 0 });
    const known = record.layers.map((layer, i) => ({ ...layer, ...(tables[i] && { toc: tables[i] }) }));
    return store.addComposefsImage({ ...record, layers: known }, resolved, waiting);
  }
  const { pullLayers } = await import('./pull-layers.ts'); // threads and tars: nothing that a present image needs
  await pullLayers(layers, pull);
  const sizeBytes = layers.reduce((sum, { chainID }) => sum + store.layerRecord(chainID).sizeBytes, 0);
  return store.addImage(imageRecord(digest, resolved, { ...facts, sizeBytes }), resolved, waiting);
}

/** Gives the image its name, last of all. */
async function named(
  options: PullOptions,
  image: StoredImage,
  name: string | undefined,
  stored: boolean,
): Promise<PulledImage> {
  const { store, waiting = {}, signal = NEVER } = options;
  if (name !== undefined && !store.isTagged(name, image.digest)) {
    using _lock = await store.lock('shared', { ...waiting, signal });
    await store.tag(name, image.digest, waiting);
  }
  const names =
    name === undefined || image.names.includes(name) ? image.names : [...image.names, name].sort();
  return { image: { ...image, names }, digest: image.digest, name: name ?? names[0] ?? image.digest, stored };
}

function isUnreachable(error: unknown): boolean {
  return error instanceof OciError && (error.code === 'UNAVAILABLE' || error.code === 'TEMPORARY');
}

/** Nothing is half-done while an image is looked for, so that need not end before we do. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
