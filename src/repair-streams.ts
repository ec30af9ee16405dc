/**
 * The part of `ocictl fsck --repair` for format composefs: layers with a damaged stream or object are fetched again into
 * staging/, and what is damaged is replaced from there, file by file.
 *
 * Invariant: what takes a damaged file's place has the digest that its name says, and is durable before.
 */
import { fetchAndApply, type LayerTask, type PlannedLayer, slots } from './fetch-layer.ts';
import { withPartialBlob } from './layer-jobs.ts';
import { chainIDs, digestHex } from './oci/digest.ts';
import type { KnownImage } from './repair-images.ts';
import type { Repair } from './repair-outcomes.ts';
import type { ImageSource } from './source/image-source.ts';
import type { AppliedStream } from './store/apply-stream.ts';
import { UNGUARDED } from './store/check-composefs.ts';
import { openLayerWorkers } from './store/layer-worker-pool.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { StreamReplacement } from './store/repairs.ts';
import { type StreamKey, streamFileName } from './store/streams.ts';

/** Under the shared lock. What could be fetched, each layer whole in a stage. */
export async function stageStreams(
  repair: Repair,
  images: readonly KnownImage[],
): Promise<StreamReplacement[]> {
  const { store, outcomes, sources, stages } = repair;
  const damaged = damagedStreams(repair, images);
  if (damaged.length === 0) return [];
  const staged: StreamReplacement[] = [];
  const workers = openLayerWorkers(1);
  try {
    for (const stream of damaged) {
      const stage = stages.adopt(await store.repairs().stageStream(stream.key), (one) => one.discard());
      const thing = { kind: 'stream' as const, name: streamFileName(stream.key) };
      const isStaged = await outcomes.prepare(thing, () =>
        sources.ask(stream.from, 'the layer', (source) =>
          fetchFrom(source, { repair, stream, stage, workers }),
        ),
      );
      if (isStaged) staged.push(stage);
      else stage.discard(); // its bytes, at once
    }
  } finally {
    await workers.close();
  }
  return staged;
}

interface DamagedStream {
  readonly key: StreamKey;
  readonly layer: PlannedLayer;
  /** From the lowest layer, 0, in the image that it was found in. */
  readonly index: number;
  /** Where the layer may come from, best first. */
  readonly from: readonly string[];
}

/** Layers whose stream is damaged, or names an object that is. */
function damagedStreams({ store, damage }: Repair, images: readonly KnownImage[]): DamagedStream[] {
  // an object that is only not guarded needs no fetching
  const toFetch = damage.filter(({ problem }) => problem !== UNGUARDED);
  const named = (kind: 'stream' | 'object') =>
    new Set(toFetch.filter((one) => one.kind === kind).map(({ name }) => name));
  const [streams, objects] = [named('stream'), named('object')];
  if (streams.size + objects.size === 0) return [];
  const repairs = store.repairs();
  const found = new Map<string, DamagedStream>();
  for (const image of images.filter(({ digest }) => repairs.formatOf(digest) === 'composefs'))
    for (const [index, layer] of plannedLayers(image).entries()) {
      const key = repairs.streamKeyOf(image.digest, index) ?? layer.diffID;
      const name = streamFileName(key);
      if (found.has(name) || !(streams.has(name) || repairs.streamNames(key, objects))) continue;
      found.set(name, { key, layer, index, from: image.sources });
    }
  return [...found.values()];
}

/** Lowest first. */
function plannedLayers({ documents: { manifest, imageConfig } }: KnownImage): PlannedLayer[] {
  const chain = chainIDs(imageConfig.diffIDs);
  return imageConfig.diffIDs.map((diffID, index) => ({
    descriptor: manifest.layers[index]!,
    diffID,
    chainID: chain[index]!,
  }));
}

interface Making {
  readonly repair: Repair;
  readonly stream: DamagedStream;
  readonly stage: StreamReplacement;
  readonly workers: LayerWorkers;
}

async function fetchFrom(source: ImageSource, { repair, stream, stage, workers }: Making): Promise<void> {
  const { store, signal, onNote } = repair;
  const { layer, index } = stream;
  const { descriptor, diffID } = layer;
  onNote?.(`fetching layer ${digestHex(diffID).slice(0, 12)} again from ${source.description}`);
  stage.restart(); // of what another source gave
  const place = { descriptor, diffID, paths: stage.noObjects, directory: stage.directory };
  await withPartialBlob(store, descriptor.digest, (blob) => {
    const task: LayerTask<AppliedStream> = {
      layer,
      index,
      blob,
      restart: stage.restart,
      apply: (growing) => workers.stream({ ...growing, stream: place }),
    };
    return fetchAndApply(task, { source, downloads: slots(1), signal, onEvent: () => {} });
  });
}
