/**
 * The layers of one image of format composefs, from a source into the store: as pull-layers.ts, but that a layer does not
 * depend on those below. So nothing waits in a circle: what another pull makes is waited for when all of ours is in
 * place.
 */
import { availableParallelism } from 'node:os';
import { tableIdentity } from './fetch-chunked-layer.ts';
import {
  type FetchOptions,
  isWorthResuming,
  type LayerTask,
  type PlannedLayer,
  slots,
} from './fetch-layer.ts';
import { fetchStream } from './fetch-stream.ts';
import type { Waiting } from './host/lock.ts';
import type { DiffID, Digest } from './oci/digest.ts';
import { OciError } from './oci/errors.ts';
import type { LayerPull } from './pull-layers.ts';
import type { AppliedStream } from './store/apply-stream.ts';
import type { StreamStage } from './store/composefs-images.ts';
import { openLayerWorkers } from './store/layer-worker-pool.ts';
import { streamKey } from './store/streams.ts';

/** A layer this pull makes itself. */
interface Begun {
  readonly stage: StreamStage;
  readonly diffID: DiffID;
  readonly applied: Promise<AppliedStream>;
}

/**
 * Afterwards the store has every layer as a stream, with its objects; durable after the next sync. Returns for each layer the
 * digest of its table of contents where that, and not the diffID, is what it is known by.
 */
export async function pullStreams(
  layers: readonly PlannedLayer[],
  pull: LayerPull,
): Promise<(Digest | undefined)[]> {
  const { store, lock, waiting } = pull;
  const failure = new AbortController();
  const signal = AbortSignal.any([pull.signal, failure.signal]);
  // the same layer may be there twice
  const wanted = [...new Map(layers.map((layer, index) => [layer.diffID, index]))].map(([, index]) => index);
  const tables = new Map<DiffID, Digest>();
  const missing = wanted.filter((index) => {
    const { diffID } = layers[index]!;
    if (store.hasStream(diffID)) return false;
    const toc = tableIdentity(layers[index]!);
    if (toc === undefined || !store.hasStream(streamKey({ diffID, toc }))) return true;
    tables.set(diffID, toc);
    return false;
  });
  const result = () => layers.map(({ diffID }) => tables.get(diffID));
  for (const index of layers.keys())
    if (!missing.includes(index)) pull.onEvent({ type: 'layer-reused', index });
  if (missing.length === 0) return result();

  const workers = pull.workers ?? openLayerWorkers(Math.min(availableParallelism(), missing.length));
  const fetching: FetchOptions = { ...pull, downloads: slots(pull.jobs), signal };
  const tasks: LayerTask<AppliedStream>[] = [];
  const running: Promise<unknown>[] = [];
  using leftOvers = new DisposableStack();

  const begin = async (index: number, patience: Waiting): Promise<Begun | undefined> => {
    const layer = layers[index]!;
    const stage = await store.claimStream(layer.diffID, { ...patience, signal });
    if (stage === undefined) {
      pull.onEvent({ type: 'layer-reused', index });
      return undefined;
    }
    leftOvers.adopt(stage, () => stage.discard());
    const blob = store.openPartialBlob(layer.descriptor.digest);
    leftOvers.adopt(blob, () => blob.keep());
    const { descriptor, diffID } = layer;
    const stream = { descriptor, diffID, paths: store.objects, directory: stage.directory };
    const task: LayerTask<AppliedStream> = {
      layer,
      index,
      blob,
      apply: (growing) => workers.stream({ ...growing, stream }),
      restart: stage.restart,
    };
    tasks.push(task);
    const applied = fetchStream(task, stage, store.objects, fetching);
    applied.catch((error) => failure.abort(error)); // the first failure ends the others
    running.push(applied);
    return { stage, diffID, applied };
  };
  const finish = async (begun: readonly Begun[]) => {
    await Promise.all(running);
    signal.throwIfAborted();
    if (begun.length === 0) return;
    for (const { blob } of tasks) blob.remove(); // first, so that they are not written back for nothing
    store.sync(lock);
    for (const { stage, diffID, applied } of begun) {
      const { toc } = await applied;
      if (toc !== undefined) tables.set(diffID, toc);
      stage.commit(toc);
    }
  };

  try {
    const stages: Begun[] = [];
    const elsewhere: number[] = [];
    for (const index of missing) {
      signal.throwIfAborted();
      try {
        const stage = await begin(index, waiting.wait === false ? waiting : { wait: false });
        if (stage !== undefined) stages.push(stage);
      } catch (error) {
        if (waiting.wait === false || !(error instanceof OciError && error.code === 'BUSY')) throw error;
        elsewhere.push(index);
      }
    }
    await finish(stages);
    for (const index of elsewhere) {
      const stage = await begin(index, waiting);
      await finish(stage === undefined ? [] : [stage]);
    }
    return result();
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(running); // no thread writes below what we now remove
    if (!isWorthResuming(signal.reason)) for (const { blob } of tasks) blob.remove();
    throw signal.reason;
  } finally {
    if (workers !== pull.workers) await workers.close();
  }
}
