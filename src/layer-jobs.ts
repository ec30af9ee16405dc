/**
 * What the layers of one pull have in common while they are made: threads, downloads, and that the first failure ends
 * the others. Whatever was not committed is cleared away in the end; a download that a next pull can take up stays.
 */
import { availableParallelism } from 'node:os';
import { type FetchOptions, isWorthResuming, type PlannedLayer, slots } from './fetch-layer.ts';
import type { Waiting } from './host/lock.ts';
import type { Digest } from './oci/digest.ts';
import { OciError } from './oci/errors.ts';
import type { LayerPull } from './pull-layers.ts';
import { layerWorkersHere } from './store/layer-job.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { PartialBlob } from './store/partial-blob.ts';
import type { Store } from './store/store.ts';

export interface LayerJobs {
  readonly workers: LayerWorkers;
  /** Its signal is aborted by the first failure, too. */
  readonly fetching: FetchOptions;
  /** What `claim` gives, with the blob that it is made from; undefined where the layer is here already. */
  claim<S extends { discard(): void }>(
    index: number,
    blob: Digest,
    claim: Promise<S | undefined>,
  ): Promise<{ stage: S; blob: PartialBlob } | undefined>;
  /** A promise whose failure ends the others. */
  watched<T>(promise: Promise<T>): Promise<T>;
}

/** Compressed; takes as long as it takes to start a thread. */
const SMALL_BYTES = 4 * 1024 * 1024;

/** `layers`: what may be there to do. Throws the first failure, when nothing that it started runs any more. */
export async function withLayerJobs<T>(
  layers: readonly PlannedLayer[],
  pull: LayerPull,
  work: (jobs: LayerJobs) => Promise<T>,
): Promise<T> {
  const failure = new AbortController();
  const signal = AbortSignal.any([pull.signal, failure.signal]);
  const bytes = layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  const openWorkers = async () => {
    if (bytes <= SMALL_BYTES) return layerWorkersHere();
    const { openLayerWorkers } = await import('./store/layer-worker-pool.ts');
    return openLayerWorkers(Math.min(availableParallelism(), layers.length));
  };
  const workers = pull.workers ?? (await openWorkers());
  const running: Promise<unknown>[] = [];
  const blobs: PartialBlob[] = [];
  using leftOvers = new DisposableStack();
  try {
    return await work({
      workers,
      fetching: { ...pull, downloads: slots(pull.jobs), signal },
      async claim(index, digest, claim) {
        const stage = await claim;
        if (stage === undefined) {
          pull.onEvent({ type: 'layer-reused', index });
          return undefined;
        }
        leftOvers.adopt(stage, () => stage.discard());
        const blob = pull.store.openPartialBlob(digest);
        leftOvers.adopt(blob, () => blob.keep());
        blobs.push(blob);
        return { stage, blob };
      },
      watched(promise) {
        promise.catch((error) => failure.abort(error));
        running.push(promise);
        return promise;
      },
    });
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(running); // no thread writes below what we now remove
    if (!isWorthResuming(signal.reason)) for (const blob of blobs) blob.remove();
    throw signal.reason;
  } finally {
    if (workers !== pull.workers) await workers.close();
  }
}

export const AT_ONCE: Waiting = { wait: false };

export async function unlessBusy<T>(promise: Promise<T>): Promise<T | 'elsewhere'> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof OciError && error.code === 'BUSY') return 'elsewhere';
    throw error;
  }
}

/** One download by itself, gone when `work` is done with it. */
export async function withPartialBlob<T>(
  store: Store,
  digest: Digest,
  work: (blob: PartialBlob) => Promise<T>,
): Promise<T> {
  const blob = store.openPartialBlob(digest);
  try {
    const done = await work(blob);
    blob.remove();
    return done;
  } catch (error) {
    if (!isWorthResuming(error)) blob.remove();
    throw error;
  } finally {
    blob.keep();
  }
}
