/**
 * The part of `ocictl fsck --repair` for format composefs: layers with a damaged stream or object are fetched again into
 * staging/, and what is damaged is replaced from there, file by file.
 *
 * Invariant: what takes a damaged file's place has the digest that its name says, and is durable before.
 */
import { fetchAndApply, type LayerTask, slots } from './fetch-layer.ts';
import { withPartialBlob } from './layer-jobs.ts';
import { chainIDs, digestHex } from './oci/digest.ts';
import type { KnownImage, Sources } from './repair-images.ts';
import type { AppliedStream } from './store/apply-stream.ts';
import type { Damage } from './store/check-store.ts';
import { openLayerWorkers } from './store/layer-worker-pool.ts';
import type { StreamReplacement } from './store/repairs.ts';
import type { Store } from './store/store.ts';
import { streamFileName } from './store/streams.ts';

export interface StreamRepair {
  readonly store: Store;
  readonly images: readonly KnownImage[];
  readonly damage: readonly Damage[];
  readonly sources: Sources;
  readonly signal: AbortSignal;
  readonly onNote?: ((message: string) => void) | undefined;
}

/** Under the shared lock. What could be fetched, each layer whole in a stage; `onFailed` hears of the others. */
export async function stageStreams(
  { store, images, damage, sources, signal, onNote }: StreamRepair,
  onFailed: (stream: string, error: unknown) => void,
): Promise<StreamReplacement[]> {
  const named = (kind: Damage['kind']) =>
    new Set(damage.filter((one) => one.kind === kind).map(({ name }) => name));
  const streams = named('stream');
  const objects = named('object');
  if (streams.size + objects.size === 0) return [];
  const repairs = store.repairs();
  const staged: StreamReplacement[] = [];
  const seen = new Set<string>();
  const workers = openLayerWorkers(1);
  try {
    for (const { documents, sources: from, digest } of images) {
      if (repairs.formatOf(digest) === 'tree') continue;
      const { diffIDs } = documents.imageConfig;
      const chain = chainIDs(diffIDs);
      for (const [index, diffID] of diffIDs.entries()) {
        const key = repairs.streamKeyOf(digest, index) ?? diffID;
        const name = streamFileName(key);
        if (seen.has(name)) continue;
        seen.add(name);
        if (!streams.has(name) && !repairs.streamNames(key, objects)) continue;
        const descriptor = documents.manifest.layers[index]!;
        const layer = { descriptor, diffID, chainID: chain[index]! };
        const stage = await repairs.stageStream(key);
        const stream = { descriptor, diffID, paths: stage.noObjects, directory: stage.directory };
        try {
          await sources.ask(from, 'the layer', async (source) => {
            onNote?.(`fetching layer ${digestHex(diffID).slice(0, 12)} again from ${source.description}`);
            stage.restart();
            await withPartialBlob(store, descriptor.digest, (blob) => {
              const task: LayerTask<AppliedStream> = {
                layer,
                index,
                blob,
                restart: stage.restart,
                apply: (growing) => workers.stream({ ...growing, stream }),
              };
              return fetchAndApply(task, { source, downloads: slots(1), signal, onEvent: () => {} });
            });
          });
          staged.push(stage);
        } catch (error) {
          stage.discard();
          signal.throwIfAborted();
          onFailed(name, error);
        }
      }
    }
  } finally {
    await workers.close();
  }
  return staged;
}
