/**
 * The part of `ocictl fsck --repair` for layers that are trees: each is fetched again into staging/, lowest first, since
 * a layer may take from those below it.
 *
 * Invariant: a layer that a container or a mount has as its lower directory is not replaced.
 */
import { fetchAndApply, slots, treeTask } from './fetch-layer.ts';
import { withPartialBlob } from './layer-jobs.ts';
import { type ChainID, chainIDs, digestHex } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { KnownImage } from './repair-images.ts';
import type { Repair } from './repair-outcomes.ts';
import type { ImageSource } from './source/image-source.ts';
import { openLayerWorkers } from './store/layer-worker-pool.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { LayerStage } from './store/layers.ts';
import { settleLayer } from './store/settle-layer.ts';

interface DamagedLayer {
  readonly hex: string;
  readonly chainID: ChainID;
  /** From the lowest layer, 0, in every image that has it. */
  readonly index: number;
  /** At least one. */
  readonly images: readonly KnownImage[];
}

export interface StagedLayer extends DamagedLayer {
  /** The whole layer. */
  readonly stage: LayerStage;
}

/** Under the shared lock. Those that could be had again, lowest first. */
export async function stageLayers(repair: Repair, images: readonly KnownImage[]): Promise<StagedLayer[]> {
  const { store, outcomes, stages } = repair;
  const damaged = outcomes.names('layer');
  if (damaged.size === 0) return [];
  const staged: StagedLayer[] = [];
  const workers = openLayerWorkers(1);
  try {
    for (const layer of damagedLayers(images, damaged))
      await outcomes.prepare({ kind: 'layer', name: layer.hex }, async () => {
        refuseWhileRunning(repair, layer);
        const stage = stages.adopt(await store.repairs().stageLayer(layer.chainID), (one) => one.discard());
        const trees = treesBelow(repair, layer, damaged, staged);
        const from = layer.images.flatMap((image) => image.sources);
        await repair.sources.ask(from, 'the layer', (source) =>
          fetchFrom(source, { repair, layer, stage, trees, workers }),
        );
        staged.push({ ...layer, stage });
      });
  } finally {
    await workers.close();
  }
  return staged;
}

/** Throws BUSY. */
export function refuseWhileRunning({ store, runRoot }: Repair, { images }: DamagedLayer): void {
  for (const { digest } of images)
    for (const { kind, name } of store.usersOf({ digest }, runRoot))
      if (kind !== 'service') throw new OciError('BUSY', `${kind} ${quote(name)} uses it`);
}

/** Lowest first. */
function damagedLayers(images: readonly KnownImage[], damaged: ReadonlySet<string>): DamagedLayer[] {
  const found = new Map<string, DamagedLayer>();
  for (const image of images)
    for (const [index, chainID] of chainIDs(image.documents.imageConfig.diffIDs).entries()) {
      const hex = digestHex(chainID);
      if (!damaged.has(hex)) continue;
      const before = found.get(hex)?.images ?? [];
      found.set(hex, { hex, chainID, index, images: [...before, image] });
    }
  return [...found.values()].sort((a, b) => a.index - b.index);
}

/** The trees of the layers below, lowest first; of damaged ones those that were made again. */
function treesBelow(
  { store }: Repair,
  { images, index }: DamagedLayer,
  damaged: ReadonlySet<string>,
  staged: readonly StagedLayer[],
): string[] {
  const below = chainIDs(images[0]!.documents.imageConfig.diffIDs).slice(0, index);
  return below.map((chainID) => {
    const hex = digestHex(chainID);
    const again = staged.find((one) => one.hex === hex);
    if (again === undefined && damaged.has(hex))
      throw new OciError('IO_ERROR', `the layer ${hex.slice(0, 12)} below it is still damaged`);
    return again?.stage.tree ?? store.layerTree(chainID);
  });
}

interface Making {
  readonly repair: Repair;
  readonly layer: DamagedLayer;
  readonly stage: LayerStage;
  /** Of the layers below, lowest first. */
  readonly trees: readonly string[];
  readonly workers: LayerWorkers;
}

async function fetchFrom(
  source: ImageSource,
  { repair, layer, stage, trees, workers }: Making,
): Promise<void> {
  const { store, signal, onNote } = repair;
  const { index, chainID, images } = layer;
  const { manifest, imageConfig } = images[0]!.documents;
  const descriptor = manifest.layers[index]!;
  const diffID = imageConfig.diffIDs[index]!;
  onNote?.(`fetching layer ${layer.hex.slice(0, 12)} again from ${source.description}`);
  stage.restart(); // of what another source gave
  await withPartialBlob(store, descriptor.digest, async (blob) => {
    const wanted = { descriptor, diffID, chainID };
    const task = { layer: wanted, index, blob, ...treeTask(wanted, index, stage, workers) };
    const fetching = { source, downloads: slots(1), signal, onEvent: () => {} };
    const { unsettled, sizeBytes, entries } = await fetchAndApply(task, fetching);
    settleLayer(stage.tree, trees, unsettled, FOREIGN_UID_BASE);
    const files = await workers.record({ treeDir: stage.tree, file: stage.files });
    const { digest, mediaType, size } = descriptor;
    stage.finish({ chainID, diffID, blob: { digest, mediaType, size }, sizeBytes, entries, files });
  });
}
