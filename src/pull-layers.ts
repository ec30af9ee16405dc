/**
 * The layers of one image, from a source into the store: downloads and extraction overlap, at most `jobs` downloads
 * and one extracting thread for each core at a time.
 *
 * Two pulls share their work: a layer that another one makes is left to it, and waited for only when everything else
 * is done. All that a pull makes is committed together, after one sync of the file system, with one exception, that
 * they never wait in a circle: before it waits for a layer, a pull commits what it has made below that layer. So of
 * all layers that are being made on top of one base, the lowest is always being worked on.
 */
import {
  type FetchOptions,
  fetchAndApply,
  type LayerEvent,
  type LayerTask,
  layerName,
  type PlannedLayer,
  treeOptions,
  treeTask,
} from './fetch-layer.ts';
import type { Lock, Waiting } from './host/lock.ts';
import { AT_ONCE, unlessBusy, withLayerJobs } from './layer-jobs.ts';
import type { Digest } from './oci/digest.ts';
import { wrap } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { BlobSource } from './source/image-source.ts';
import type { AppliedLayer } from './store/apply-layer.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { LayerStage } from './store/layers.ts';
import { settleLayer } from './store/settle-layer.ts';
import type { Store } from './store/store.ts';

export interface LayerPull {
  readonly store: Store;
  /** The store's lock, held shared. */
  readonly lock: Lock;
  readonly source: BlobSource;
  readonly jobs: number;
  /** Shared with other pulls. Default: threads of its own. */
  readonly workers?: LayerWorkers | undefined;
  readonly waiting: Waiting;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LayerEvent) => void;
}

/** A layer this pull makes itself. */
interface LayerWork extends LayerTask<AppliedLayer> {
  readonly stage: LayerStage;
  readonly applied: Promise<AppliedLayer>;
}

/** One that is whole, but not in place yet. */
interface SettledLayer extends Omit<LayerWork, 'applied'> {
  readonly applied: AppliedLayer;
  /** Digest of the list of its files. */
  readonly files: Promise<Digest>;
}

/** Afterwards every layer is in the store, durably. `layers` lowest first. */
export async function pullLayers(layers: readonly PlannedLayer[], pull: LayerPull): Promise<void> {
  const { store, waiting } = pull;
  const missing = layers.filter(({ chainID }) => !store.hasLayer(chainID));
  await withLayerJobs(missing, pull, async ({ workers, fetching, claim, watched }) => {
    const { signal } = fetching;
    /** Makes the layer; undefined when it is there, maybe after waiting for another pull. */
    const begin = async (index: number, patience: Waiting): Promise<LayerWork | undefined> => {
      const layer = layers[index]!;
      const { chainID, descriptor } = layer;
      const claimed = await claim(
        index,
        descriptor.digest,
        store.claimLayer(chainID, { ...patience, signal }),
      );
      if (claimed === undefined) return undefined;
      const task = { layer, index, ...claimed, ...treeTask(layer, index, claimed.stage, workers) };
      return { ...task, applied: watched(make(task, pull, workers, fetching)) };
    };

    const plan: (LayerWork | 'elsewhere' | undefined)[] = [];
    for (const index of layers.keys()) {
      signal.throwIfAborted();
      plan.push(await (waiting.wait === false ? begin(index, waiting) : unlessBusy(begin(index, AT_ONCE))));
    }
    let settled: SettledLayer[] = [];
    for (const [index, layer] of layers.entries()) {
      let own = plan[index];
      if (own === 'elsewhere') {
        await commit(settled, pull, signal);
        settled = [];
        own = await begin(index, waiting);
      }
      if (own === undefined) continue;
      const applied = await own.applied;
      const below = layers
        .slice(0, index)
        .map(
          ({ chainID }, i) =>
            settled.find((other) => other.index === i)?.stage.tree ?? store.layerTree(chainID),
        );
      settle(layer, own.stage.tree, below, applied);
      settled.push({ ...own, applied, files: watched(record(own, applied, workers)) });
    }
    await commit(settled, pull, signal);
  });
}

/** From what the store has of the layer in format composefs, else from its blob. */
async function make(
  task: LayerTask<AppliedLayer> & Pick<LayerWork, 'stage'>,
  { store, onEvent }: LayerPull,
  workers: LayerWorkers,
  fetching: FetchOptions,
): Promise<AppliedLayer> {
  const { layer, index, stage, restart } = task;
  if (store.hasStream(layer.diffID)) {
    onEvent({ type: 'layer-started', index, bytes: layer.descriptor.size });
    const [path, objects] = [store.streamPath(layer.diffID), store.objects];
    const options = { path, objects, ...treeOptions(stage, index) };
    const applied = await workers.unpack({ unpack: options }).catch((error) => {
      throw wrap(layerName(layer), error);
    });
    if (applied !== undefined) {
      onEvent({ type: 'layer-done', index });
      return applied;
    }
    restart();
  }
  return fetchAndApply(task, fetching);
}

/** What a layer takes from those below it. */
function settle(
  layer: PlannedLayer,
  tree: string,
  below: readonly string[],
  { unsettled }: AppliedLayer,
): void {
  try {
    settleLayer(tree, below, unsettled, FOREIGN_UID_BASE);
  } catch (error) {
    throw wrap(layerName(layer), error);
  }
}

function record(
  { stage }: LayerWork,
  { unsettled, sums }: AppliedLayer,
  workers: LayerWorkers,
): Promise<Digest> {
  // A hard link to a file below is a file that settling has made.
  const stillHold = unsettled.links.length === 0;
  return workers.record({ treeDir: stage.tree, file: stage.files, sums: stillHold ? sums : undefined });
}

async function commit(
  settled: readonly SettledLayer[],
  { store, lock }: LayerPull,
  signal: AbortSignal,
): Promise<void> {
  if (settled.length === 0) return;
  for (const { layer, stage, applied, files } of settled) {
    const { digest, mediaType, size } = layer.descriptor;
    stage.finish({
      chainID: layer.chainID,
      diffID: layer.diffID,
      blob: { digest, mediaType, size },
      sizeBytes: applied.sizeBytes,
      entries: applied.entries,
      files: await files,
    });
  }
  signal.throwIfAborted();
  for (const { blob } of settled) blob.remove(); // first, so that they are not written back for nothing
  store.sync(lock);
  for (const { stage } of settled) stage.commit();
  store.syncLayers();
}
