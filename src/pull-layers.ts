/**
 * The layers of one image, from a source into the store: downloads and extraction overlap, at most `jobs` downloads
 * and one extracting thread for each core at a time.
 *
 * All or nothing: the layers are committed together, after one sync of the file system, or none is; what a failure
 * leaves are downloads to be resumed. Layers are claimed lowest first, so two pulls that share layers wait for each
 * other in one direction only.
 */
import { availableParallelism } from 'node:os';
import type { Lock, Waiting } from './host/lock.ts';
import type { BlobStream } from './oci/content.ts';
import type { Descriptor } from './oci/descriptor.ts';
import { type ChainID, type DiffID, digestHex } from './oci/digest.ts';
import { OciError, wrap } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { ImageSource } from './source/image-source.ts';
import type { AppliedLayer } from './store/apply-layer.ts';
import { growingFileWriter } from './store/growing-file.ts';
import { type LayerWorkers, openLayerWorkers } from './store/layer-worker-pool.ts';
import type { LayerStage } from './store/layers.ts';
import type { PartialBlob } from './store/partial-blob.ts';
import { settleLayer } from './store/settle-layer.ts';
import type { Store } from './store/store.ts';

export interface PlannedLayer {
  readonly descriptor: Descriptor;
  readonly diffID: DiffID;
  readonly chainID: ChainID;
}

/** `index` counts from the lowest layer, 0; `bytes` are of the blob, with those of an earlier pull. */
export type LayerEvent =
  | { readonly type: 'layer-reused'; readonly index: number }
  | { readonly type: 'layer-started'; readonly index: number; readonly bytes: number }
  | { readonly type: 'layer-progress'; readonly index: number; readonly bytes: number }
  | { readonly type: 'layer-done'; readonly index: number };

export interface LayerPull {
  readonly store: Store;
  /** The store's lock, held shared. */
  readonly lock: Lock;
  readonly source: ImageSource;
  readonly jobs: number;
  readonly waiting: Waiting;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LayerEvent) => void;
}

/** A layer this pull makes itself. */
interface LayerWork {
  readonly layer: PlannedLayer;
  readonly index: number;
  readonly stage: LayerStage;
  readonly blob: PartialBlob;
  readonly applied: Promise<AppliedLayer>;
}

/** Afterwards every layer is in the store, durably. `layers` lowest first. */
export async function pullLayers(layers: readonly PlannedLayer[], pull: LayerPull): Promise<void> {
  const failure = new AbortController();
  const signal = AbortSignal.any([pull.signal, failure.signal]);
  const workers = openLayerWorkers(Math.min(availableParallelism(), layers.length));
  const downloads = slots(pull.jobs);
  const work: LayerWork[] = [];
  using leftOvers = new DisposableStack();
  try {
    for (const [index, layer] of layers.entries()) {
      signal.throwIfAborted();
      const stage = await pull.store.claimLayer(layer.chainID, { ...pull.waiting, signal });
      if (stage === undefined) {
        pull.onEvent({ type: 'layer-reused', index });
        continue;
      }
      leftOvers.adopt(stage, () => stage.discard());
      const blob = pull.store.openPartialBlob(layer.descriptor.digest);
      leftOvers.adopt(blob, () => blob.keep());
      const applied = fetchAndApply({ layer, index, stage, blob }, { ...pull, signal }, workers, downloads);
      applied.catch((error) => failure.abort(error)); // the first failure ends the others
      work.push({ layer, index, stage, blob, applied });
    }
    await settle(work, layers, pull.store);
    signal.throwIfAborted();
    commit(work, pull.store, pull.lock);
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(work.map(({ applied }) => applied)); // no thread writes below what we now remove
    if (!isWorthResuming(signal.reason)) for (const { blob } of work) blob.remove();
    throw signal.reason;
  } finally {
    await workers.close();
  }
}

/** What a layer takes from those below it, in their order. */
async function settle(
  work: readonly LayerWork[],
  layers: readonly PlannedLayer[],
  store: Store,
): Promise<void> {
  const trees = layers.map(
    ({ chainID }, index) => work.find((own) => own.index === index)?.stage.tree ?? store.layerTree(chainID),
  );
  for (const { layer, index, stage, applied } of work) {
    const { unsettled, sizeBytes, entries } = await applied;
    try {
      settleLayer(stage.tree, trees.slice(0, index), unsettled, FOREIGN_UID_BASE);
    } catch (error) {
      throw wrap(layerName(layer), error);
    }
    const { digest, mediaType, size } = layer.descriptor;
    stage.finish({
      chainID: layer.chainID,
      diffID: layer.diffID,
      blob: { digest, mediaType, size },
      sizeBytes,
      entries,
    });
  }
}

function commit(work: readonly LayerWork[], store: Store, lock: Lock): void {
  if (work.length === 0) return;
  for (const { blob } of work) blob.remove(); // first, so that they are not written back for nothing
  store.sync(lock);
  for (const { stage } of work) stage.commit();
  store.syncLayers();
}

type LayerTask = Omit<LayerWork, 'applied'>;

async function fetchAndApply(
  task: LayerTask,
  pull: LayerPull,
  workers: LayerWorkers,
  downloads: Slots,
): Promise<AppliedLayer> {
  const { index, stage, blob } = task;
  const resumed = blob.size > 0;
  let applied: AppliedLayer;
  try {
    applied = await attempt(task, pull, workers, downloads);
  } catch (error) {
    // What an earlier pull left may be damaged (a power cut): that is no reason to give up.
    if (!resumed || !isBadData(error) || pull.signal.aborted) throw error;
    blob.truncate();
    stage.restart();
    applied = await attempt(task, pull, workers, downloads);
  }
  pull.onEvent({ type: 'layer-done', index });
  return applied;
}

/** One download of (the rest of) the blob, applied while it comes. Each side's failure ends the other. */
async function attempt(
  task: LayerTask,
  pull: LayerPull,
  workers: LayerWorkers,
  downloads: Slots,
): Promise<AppliedLayer> {
  const { layer, index, stage, blob } = task;
  const { descriptor, diffID } = layer;
  const stop = new AbortController();
  const signal = AbortSignal.any([pull.signal, stop.signal]);
  const release = await downloads.take(signal);
  try {
    if (blob.size > descriptor.size) blob.truncate();
    const stream =
      blob.size === descriptor.size
        ? undefined
        : await pull.source.openBlob(descriptor, { offset: blob.size, signal });
    if (stream !== undefined && stream.offset !== blob.size) blob.truncate();
    pull.onEvent({ type: 'layer-started', index, bytes: blob.size });

    const file = growingFileWriter(blob.size);
    const options = {
      descriptor,
      diffID,
      treeDir: stage.tree,
      idBase: FOREIGN_UID_BASE,
      bottom: index === 0,
    };
    const applied = workers.apply({ blobPath: blob.path, progress: file.progress, options });
    applied.catch((error) => stop.abort(error));
    try {
      if (stream !== undefined)
        await download(stream, descriptor, blob, signal, (bytes) => {
          file.grown(bytes);
          pull.onEvent({ type: 'layer-progress', index, bytes });
        });
      file.complete();
    } catch (error) {
      const first = signal.reason ?? error;
      file.abort();
      await applied.catch(() => {});
      throw first;
    }
    release();
    return await abortable(applied, signal, () => file.abort());
  } finally {
    release();
  }
}

async function download(
  { body }: BlobStream,
  descriptor: Descriptor,
  blob: PartialBlob,
  signal: AbortSignal,
  onGrown: (bytes: number) => void,
): Promise<void> {
  for await (const chunk of body) {
    signal.throwIfAborted();
    if (blob.size + chunk.length > descriptor.size)
      throw new OciError(
        'SIZE_MISMATCH',
        `the blob is longer than the ${descriptor.size} bytes it should have`,
        {
          hint: 'Tell whoever runs the registry: its manifest and its data do not fit.',
        },
      );
    blob.append(chunk);
    onGrown(blob.size);
  }
}

/** `promise`, with `stop` called when the signal comes; it ends in any case, so it is waited for. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal, stop: () => void): Promise<T> {
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function isBadData(error: unknown): boolean {
  return error instanceof OciError && error.exitStatus === 65;
}

/** Whether another pull may get further: not with bad data, nor on a full disk, where the space is needed. */
function isWorthResuming(error: unknown): boolean {
  return !isBadData(error) && !/\b(ENOSPC|EDQUOT)\b/.test(String(error));
}

function layerName({ descriptor }: PlannedLayer): string {
  return `layer ${digestHex(descriptor.digest).slice(0, 12)}`;
}

interface Slots {
  /** Resolves to what gives the slot back (more than once does no harm). */
  take(signal: AbortSignal): Promise<() => void>;
}

function slots(count: number): Slots {
  let free = count;
  const queue: (() => void)[] = [];
  return {
    async take(signal) {
      while (free === 0) await new Promise<void>((resolve) => queue.push(resolve));
      free--;
      let held = true;
      const release = () => {
        if (!held) return;
        held = false;
        free++;
        queue.shift()?.();
      };
      if (signal.aborted) {
        release();
        throw signal.reason;
      }
      return release;
    },
  };
}
