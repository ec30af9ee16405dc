/**
 * The story of `ocictl fsck --repair`: damaged layers are fetched again, they alone, from where their image came from;
 * what can be made from manifest and configuration is made again.
 *
 * Fetching happens under the shared lock, so others go on working; what was fetched takes its place under the
 * exclusive one, after another look at who uses it. A crash leaves the store as it was, and work in staging/.
 */
import { fetchAndApply, slots, treeTask } from './fetch-layer.ts';
import type { Waiting } from './host/lock.ts';
import { withPartialBlob } from './layer-jobs.ts';
import { type ChainID, chainIDs, digestHex } from './oci/digest.ts';
import { OciError, quote, toOciError } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import { type KnownImage, knowImage, openSources, type Sources } from './repair-images.ts';
import { stageStreams } from './repair-streams.ts';
import type { ImageSource } from './source/image-source.ts';
import type { SourceOptions } from './source/open-source.ts';
import { UNGUARDED } from './store/check-composefs.ts';
import type { Damage } from './store/check-store.ts';
import { imageRecord } from './store/images.ts';
import { openLayerWorkers } from './store/layer-worker-pool.ts';
import type { LayerWorkers } from './store/layer-workers.ts';
import type { LayerStage } from './store/layers.ts';
import type { StreamReplacement } from './store/repairs.ts';
import { settleLayer } from './store/settle-layer.ts';
import type { Store } from './store/store.ts';

export interface RepairOptions {
  readonly runRoot: string;
  readonly source: SourceOptions;
  readonly signal?: AbortSignal;
  /** Hears what is being fetched. */
  readonly onNote?: (message: string) => void;
}

/** A damage, and what became of it. */
export interface Mended extends Damage {
  readonly repaired: boolean;
  /** Why not. */
  readonly reason?: string;
}

type Thing = Pick<Damage, 'kind' | 'name'>;

export async function repairStore(
  store: Store,
  damage: readonly Damage[],
  waiting: Waiting,
  options: RepairOptions,
): Promise<Mended[]> {
  if (damage.length === 0) return [];
  const signal = options.signal ?? new AbortController().signal;
  /** Of each damaged thing: '' when it is repaired. */
  const outcome = new Map<string, string>();
  const key = ({ kind, name }: Thing) => `${kind} ${name}`;
  const attempt = async (thing: Thing, run: () => Promise<void> | void): Promise<void> => {
    try {
      await run();
      outcome.set(key(thing), '');
    } catch (error) {
      signal.throwIfAborted();
      outcome.set(key(thing), toOciError(error).message);
    }
  };
  const names = (kind: Damage['kind']) => [
    ...new Set(damage.filter((one) => one.kind === kind).map(({ name }) => name)),
  ];

  await using sources = openSources(options.source, signal);
  using stages = new DisposableStack();
  const staged: StagedLayer[] = [];
  const stagedStreams: StreamReplacement[] = [];
  let images: KnownImage[];
  {
    using _lock = await store.lock('shared', waiting);
    images = await knowImages(store, sources, (hex, error) =>
      outcome.set(key({ kind: 'image', name: hex }), error),
    );
    for (const { kind, name, problem } of damage)
      if (kind === 'object' && problem === UNGUARDED)
        await attempt({ kind, name }, () => store.repairs().guardObject(name));
    const toFetch = damage.filter(({ problem }) => problem !== UNGUARDED);
    const streams = await stageStreams(
      { ...options, store, images, damage: toFetch, sources, signal },
      (name, error) => {
        const thing = { kind: 'stream' as const, name };
        outcome.set(key(thing), toOciError(error).message);
      },
    );
    for (const stage of streams) stagedStreams.push(stages.adopt(stage, (one) => one.discard()));
    const workers = openLayerWorkers(1);
    try {
      const damaged = new Set(names('layer'));
      for (const layer of damagedLayers(images, damaged))
        await attempt({ kind: 'layer', name: layer.hex }, async () => {
          refuseWhileRunning(store, layer, options.runRoot);
          const stage = stages.adopt(await store.repairs().stageLayer(layer.chainID), (one) => one.discard());
          await makeAgain({ store, layer, damaged, staged, stage, sources, workers, signal, options });
          staged.push({ ...layer, stage });
        });
    } finally {
      await workers.close();
    }
  }

  using _lock = await store.lock('exclusive', waiting);
  const repairs = store.repairs();
  if (staged.length + stagedStreams.length > 0) repairs.sync();
  for (const stage of stagedStreams) stage.replace();
  if (stagedStreams.length > 0) repairs.sync();
  for (const { kind, name } of damage)
    if ((kind === 'object' || kind === 'stream') && repairs.isSound(kind, name))
      outcome.set(key({ kind, name }), '');
  const relink = new Set(names('image'));
  for (const layer of staged)
    await attempt({ kind: 'layer', name: layer.hex }, () => {
      refuseWhileRunning(store, layer, options.runRoot);
      if (!repairs.hasLayer(layer.chainID))
        for (const { digest } of layer.images) relink.add(digestHex(digest)); // it was in an additional store
      layer.stage.commit();
    });
  if (staged.length > 0) repairs.syncLayers();
  for (const { stage } of staged) stage.discard(); // what the damaged ones left, now that it cannot come back
  for (const { digest, documents, stored, sources: from } of images)
    if (relink.has(digestHex(digest)))
      await attempt({ kind: 'image', name: digestHex(digest) }, async () => {
        if (!repairs.hasImage(digest)) return;
        if (repairs.formatOf(digest) === 'composefs') {
          const record = imageRecord(digest, documents, { source: from[0] ?? '', stored, sizeBytes: 0 });
          const layers = record.layers.map((layer, i) => ({ ...layer, ...repairs.tableOf(digest, i) }));
          await repairs.replaceComposefsImage({ ...record, layers }, documents);
          return;
        }
        const chain = chainIDs(documents.imageConfig.diffIDs);
        const sizeBytes = chain.reduce((sum, chainID) => sum + store.layerRecord(chainID).sizeBytes, 0);
        const record = imageRecord(digest, documents, { source: from[0] ?? '', stored, sizeBytes });
        await repairs.replaceImage(record, documents);
      });
  for (const name of names('skeleton'))
    await attempt({ kind: 'skeleton', name }, () => repairs.replaceSkeleton(waiting));
  for (const name of names('tag')) await attempt({ kind: 'tag', name }, () => repairs.removeTag(name));
  const unused = new Set(repairs.unusedLayers());
  for (const name of names('layer'))
    if (!outcome.has(key({ kind: 'layer', name })) && unused.has(name))
      await attempt({ kind: 'layer', name }, () => repairs.removeLayer(name));

  const hopeless = (kind: Damage['kind']) =>
    new Set(
      damage
        .filter((one) => one.kind === kind && one.problem !== UNGUARDED && outcome.get(key(one)) !== '')
        .map(({ name }) => name),
    );
  repairs.quarantine(hopeless('stream'), hopeless('object'));

  return damage.map((one) => {
    const reason = outcome.get(key(one)) ?? BY_HAND[one.kind];
    return reason === '' ? { ...one, repaired: true } : { ...one, repaired: false, reason };
  });
}

const BY_HAND: Record<Damage['kind'], string> = {
  layer: 'its image is damaged, too',
  stream: 'its image is damaged, too',
  object: 'its layer cannot be had again; the next pull of its image fetches it',
  image: 'its documents cannot be had again',
  tag: 'remove it by hand',
  root: 'install the service again',
  skeleton: 'remove it by hand',
  entry: 'remove it by hand',
};

/** Every image whose documents are whole, here or at its source. */
async function knowImages(
  store: Store,
  sources: Sources,
  onDamaged: (hex: string, error: string) => void,
): Promise<KnownImage[]> {
  const { images, damaged } = store.listImages();
  const own = images.filter((image) => image.store === store.root);
  const known: KnownImage[] = [];
  for (const { digest, names } of [...own, ...damaged]) {
    try {
      known.push(await knowImage(store, digest, names, sources));
    } catch (error) {
      onDamaged(digestHex(digest), toOciError(error).message);
    }
  }
  return known;
}

interface DamagedLayer {
  readonly hex: string;
  readonly chainID: ChainID;
  /** From the lowest layer, 0, in every image that has it. */
  readonly index: number;
  /** At least one. */
  readonly images: readonly KnownImage[];
}

interface StagedLayer extends DamagedLayer {
  readonly stage: LayerStage;
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

function refuseWhileRunning(store: Store, { images }: DamagedLayer, runRoot: string): void {
  for (const { digest } of images)
    for (const { kind, name } of store.usersOf({ digest }, runRoot))
      if (kind !== 'service') throw new OciError('BUSY', `${kind} ${quote(name)} uses it`);
}

interface Making {
  readonly store: Store;
  readonly layer: DamagedLayer;
  /** Hexes of all damaged layers, and those of them that were made again so far. */
  readonly damaged: ReadonlySet<string>;
  readonly staged: readonly StagedLayer[];
  readonly stage: LayerStage;
  readonly sources: Sources;
  readonly workers: LayerWorkers;
  readonly signal: AbortSignal;
  readonly options: RepairOptions;
}

/** The whole layer, in its stage. */
async function makeAgain(making: Making): Promise<void> {
  const { store, layer, damaged, staged, sources } = making;
  const { documents } = layer.images[0]!;
  const below = chainIDs(documents.imageConfig.diffIDs).slice(0, layer.index);
  const trees = below.map((chainID) => {
    const hex = digestHex(chainID);
    const again = staged.find((one) => one.hex === hex);
    if (again === undefined && damaged.has(hex))
      throw new OciError('IO_ERROR', `the layer ${hex.slice(0, 12)} below it is still damaged`);
    return again?.stage.tree ?? store.layerTree(chainID);
  });
  const from = layer.images.flatMap((image) => image.sources);
  await sources.ask(from, 'the layer', (source) => fetchFrom(source, making, trees));
}

async function fetchFrom(source: ImageSource, making: Making, trees: readonly string[]): Promise<void> {
  const { store, layer, stage, workers, signal, options } = making;
  const { index, chainID, images } = layer;
  const { manifest, imageConfig } = images[0]!.documents;
  const descriptor = manifest.layers[index]!;
  const diffID = imageConfig.diffIDs[index]!;
  options.onNote?.(`fetching layer ${layer.hex.slice(0, 12)} again from ${source.description}`);
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
