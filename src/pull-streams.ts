/**
 * The layers of one image of format composefs, from a source into the store: as pull-layers.ts, but that a layer does not
 * depend on those below. So nothing waits in a circle: what another pull makes is waited for when all of ours is in
 * place.
 */
import { tableIdentity } from './fetch-chunked-layer.ts';
import type { LayerTask, PlannedLayer } from './fetch-layer.ts';
import { fetchStream } from './fetch-stream.ts';
import type { Waiting } from './host/lock.ts';
import { AT_ONCE, unlessBusy, withLayerJobs } from './layer-jobs.ts';
import type { DiffID, Digest } from './oci/digest.ts';
import type { LayerPull } from './pull-layers.ts';
import type { AppliedStream } from './store/apply-stream.ts';
import type { StreamStage } from './store/composefs-images.ts';
import { earlierObjects } from './store/known-pieces.ts';
import type { PartialBlob } from './store/partial-blob.ts';
import { streamKey } from './store/streams.ts';

/** A layer this pull makes itself. */
interface Begun {
  readonly stage: StreamStage;
  readonly blob: PartialBlob;
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

  const work = missing.map((index) => layers[index]!);
  return withLayerJobs(work, pull, async ({ workers, fetching, claim, watched }) => {
    const { signal } = fetching;
    const earlier = (paths: ReadonlySet<string>) => earlierObjects(store, paths);
    const begin = async (index: number, patience: Waiting): Promise<Begun | undefined> => {
      const layer = layers[index]!;
      const { descriptor, diffID } = layer;
      const claimed = await claim(
        index,
        descriptor.digest,
        store.claimStream(diffID, { ...patience, signal }),
      );
      if (claimed === undefined) return undefined;
      const { stage, blob } = claimed;
      const stream = { descriptor, diffID, paths: store.objects, directory: stage.directory };
      const task: LayerTask<AppliedStream> = {
        layer,
        index,
        blob,
        apply: (growing) => workers.stream({ ...growing, stream }),
        restart: stage.restart,
      };
      return {
        stage,
        blob,
        diffID,
        applied: watched(fetchStream(task, stage, store.objects, earlier, fetching)),
      };
    };
    const finish = async (begun: readonly Begun[]) => {
      const all = await Promise.all(begun.map(async (one) => ({ ...one, ...(await one.applied) })));
      signal.throwIfAborted();
      if (all.length === 0) return;
      for (const { blob } of all) blob.remove(); // first, so that they are not written back for nothing
      store.sync(lock);
      for (const { stage, diffID, toc } of all) {
        if (toc !== undefined) tables.set(diffID, toc);
        stage.commit(toc);
      }
    };

    const begun: Begun[] = [];
    const elsewhere: number[] = [];
    for (const index of missing) {
      signal.throwIfAborted();
      const one = await (waiting.wait === false ? begin(index, waiting) : unlessBusy(begin(index, AT_ONCE)));
      if (one === 'elsewhere') elsewhere.push(index);
      else if (one !== undefined) begun.push(one);
    }
    await finish(begun);
    for (const index of elsewhere) {
      const one = await begin(index, waiting);
      await finish(one === undefined ? [] : [one]);
    }
    return result();
  });
}
