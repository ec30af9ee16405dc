/**
 * The story of `ocictl fsck --repair`: damaged layers are fetched again, they alone, from where their image came from;
 * what can be made from manifest and configuration is made again.
 *
 * Fetching happens under the shared lock, so others go on working; what was fetched takes its place under the
 * exclusive one, after another look at who uses it. A crash leaves the store as it was, and work in staging/.
 */
import type { Waiting } from './host/lock.ts';
import { chainIDs, digestHex } from './oci/digest.ts';
import { type KnownImage, knowImages, openSources } from './repair-images.ts';
import { refuseWhileRunning, type StagedLayer, stageLayers } from './repair-layers.ts';
import { type Mended, type Repair, RepairOutcomes } from './repair-outcomes.ts';
import { stageStreams } from './repair-streams.ts';
import type { SourceOptions } from './source/open-source.ts';
import { UNGUARDED } from './store/check-composefs.ts';
import type { Damage } from './store/check-store.ts';
import { imageRecord } from './store/images.ts';
import type { StreamReplacement } from './store/repairs.ts';
import type { Store } from './store/store.ts';

export interface RepairOptions {
  readonly runRoot: string;
  readonly source: SourceOptions;
  readonly signal?: AbortSignal;
  /** Hears what is being fetched. */
  readonly onNote?: (message: string) => void;
}

/** Every damage, with what became of it. Throws the reason of the signal, and where the store cannot be locked. */
export async function repairStore(
  store: Store,
  damage: readonly Damage[],
  waiting: Waiting,
  options: RepairOptions,
): Promise<Mended[]> {
  if (damage.length === 0) return [];
  const { runRoot, onNote, signal = new AbortController().signal } = options;
  await using sources = openSources(options.source, signal);
  using stages = new DisposableStack();
  const outcomes = new RepairOutcomes(damage, signal);
  const repair: Repair = { store, damage, outcomes, sources, stages, runRoot, signal, onNote };
  const fetched = await fetchDamaged(repair, waiting);
  using _lock = await store.lock('exclusive', waiting);
  if (fetched.layers.length + fetched.streams.length > 0) store.repairs().sync();
  replaceStreams(repair, fetched.streams);
  const moved = await replaceLayers(repair, fetched.layers);
  await remakeImages(repair, fetched.images, moved);
  await replaceSmallThings(repair, waiting);
  await removeUnusedLayers(repair);
  quarantineTheRest(repair);
  return outcomes.all();
}

interface Fetched {
  /** Those whose documents are whole. */
  readonly images: readonly KnownImage[];
  readonly layers: readonly StagedLayer[];
  readonly streams: readonly StreamReplacement[];
}

/** What others need not wait for. */
async function fetchDamaged(repair: Repair, waiting: Waiting): Promise<Fetched> {
  const { store, damage, outcomes, sources } = repair;
  using _lock = await store.lock('shared', waiting);
  const images = await knowImages(store, sources, (hex, error) =>
    outcomes.failed({ kind: 'image', name: hex }, error),
  );
  for (const { kind, name, problem } of damage)
    if (kind === 'object' && problem === UNGUARDED)
      await outcomes.attempt({ kind, name }, () => store.repairs().guardObject(name));
  const streams = await stageStreams(repair, images);
  const layers = await stageLayers(repair, images);
  return { images, layers, streams };
}

function replaceStreams({ store, damage, outcomes }: Repair, streams: readonly StreamReplacement[]): void {
  const repairs = store.repairs();
  for (const stage of streams) stage.replace();
  if (streams.length > 0) repairs.sync();
  for (const { kind, name } of damage)
    if ((kind === 'object' || kind === 'stream') && repairs.isSound(kind, name))
      outcomes.repaired({ kind, name });
}

/** Images some of whose layers are in this store now, and were in an additional one: their links lead there. */
async function replaceLayers(
  repair: Repair,
  layers: readonly StagedLayer[],
): Promise<ReadonlySet<KnownImage>> {
  const { store, outcomes } = repair;
  const repairs = store.repairs();
  const moved = new Set<KnownImage>();
  for (const layer of layers)
    await outcomes.attempt({ kind: 'layer', name: layer.hex }, () => {
      refuseWhileRunning(repair, layer);
      if (!repairs.hasLayer(layer.chainID)) for (const image of layer.images) moved.add(image);
      layer.stage.commit();
    });
  if (layers.length > 0) repairs.syncLayers();
  for (const { stage } of layers) stage.discard(); // what the damaged ones left, now that it cannot come back
  return moved;
}

/** Those that are damaged, and those given. */
async function remakeImages(
  { store, outcomes }: Repair,
  images: readonly KnownImage[],
  moved: ReadonlySet<KnownImage>,
): Promise<void> {
  const damaged = outcomes.names('image');
  for (const image of images) {
    const name = digestHex(image.digest);
    if (damaged.has(name) || moved.has(image))
      await outcomes.attempt({ kind: 'image', name }, () => remakeImage(store, image));
  }
}

/** From its documents and layers. An image that was removed meanwhile stays away. */
async function remakeImage(store: Store, { digest, documents, stored, sources }: KnownImage): Promise<void> {
  const repairs = store.repairs();
  if (!repairs.hasImage(digest)) return;
  const recordOf = (sizeBytes: number) =>
    imageRecord(digest, documents, { source: sources[0] ?? '', stored, sizeBytes });
  if (repairs.formatOf(digest) === 'composefs') {
    const record = recordOf(0); // what is made of the streams has its own
    const layers = record.layers.map((layer, index) => ({ ...layer, ...repairs.tableOf(digest, index) }));
    return repairs.replaceComposefsImage({ ...record, layers }, documents);
  }
  const chain = chainIDs(documents.imageConfig.diffIDs);
  const sizeBytes = chain.reduce((sum, chainID) => sum + store.layerRecord(chainID).sizeBytes, 0);
  return repairs.replaceImage(recordOf(sizeBytes), documents);
}

/** What takes nothing but the store itself. */
async function replaceSmallThings({ store, outcomes }: Repair, waiting: Waiting): Promise<void> {
  const repairs = store.repairs();
  for (const name of outcomes.names('skeleton'))
    await outcomes.attempt({ kind: 'skeleton', name }, () => repairs.replaceSkeleton(waiting));
  for (const name of outcomes.names('tag'))
    await outcomes.attempt({ kind: 'tag', name }, () => repairs.removeTag(name));
}

/** Damaged ones of no image: nobody knows where they came from, and nobody misses them. */
async function removeUnusedLayers({ store, outcomes }: Repair): Promise<void> {
  const repairs = store.repairs();
  const unused = new Set(repairs.unusedLayers());
  for (const name of outcomes.names('layer')) {
    const layer = { kind: 'layer' as const, name };
    if (unused.has(name) && !outcomes.wasTried(layer))
      await outcomes.attempt(layer, () => repairs.removeLayer(name));
  }
}

/** Of streams and objects that are still damaged. */
function quarantineTheRest({ store, damage, outcomes }: Repair): void {
  const hopeless = (kind: 'stream' | 'object') =>
    new Set(
      damage
        .filter((one) => one.kind === kind && one.problem !== UNGUARDED && !outcomes.wasRepaired(one))
        .map(({ name }) => name),
    );
  store.repairs().quarantine(hopeless('stream'), hopeless('object'));
}
