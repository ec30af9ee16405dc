/**
 * Layers in the store: one directory per chainID, so that layers are shared exactly by images that agree on
 * everything below them (a layer's stored form depends on that: implied directories, links into lower layers).
 *
 * Invariant: layers/<hex> exists only complete and durable; its owners are FOREIGN_UID_BASE + id.
 */
import { chmodSync, existsSync, lchownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory, syncDirectory, syncFileSystem } from '../host/files.ts';
import type { Waiting } from '../host/lock.ts';
import { type ChainID, type DiffID, type Digest, digestHex } from '../oci/digest.ts';
import { FOREIGN_UID_BASE } from '../oci/limits.ts';
import { type Layout, layerDirectory, SKELETON } from './layout.ts';
import { claimStage, openPrivateStage, type Stage } from './stage.ts';

/** layer.json */
export interface LayerRecord {
  readonly chainID: ChainID;
  readonly diffID: DiffID;
  /** The blob it was made from, as the manifest named it. */
  readonly blob: { readonly digest: Digest; readonly mediaType: string; readonly size: number };
  /** Bytes of file content, not compressed. */
  readonly sizeBytes: number;
  readonly entries: number;
  /** Digest of the list of files beside the tree; see layer-files.ts. */
  readonly files: Digest;
}

/** A layer being made; `tree` is where applyLayer() writes. */
export interface LayerStage {
  readonly tree: string;
  /** Where the list of its files goes. */
  readonly files: string;
  /** Empties the tree, to apply the layer again. */
  restart(): void;
  /** Writes layer.json. Then sync the file system, and only then commit(). */
  finish(record: LayerRecord): void;
  commit(): void;
  discard(): void;
}

export function hasLayer(layout: Layout, chainID: ChainID): boolean {
  return existsSync(layerDirectory(layout, chainID));
}

export function layerTree(layout: Layout, chainID: ChainID): string {
  return join(layerDirectory(layout, chainID), 'tree');
}

export function readLayerRecord(layout: Layout, chainID: ChainID): LayerRecord {
  return parseLayerRecord(readFileSync(join(layerDirectory(layout, chainID), 'layer.json'), 'utf8'));
}

/** Throws an Error that says what is wrong. */
export function parseLayerRecord(text: string): LayerRecord {
  const record = JSON.parse(text) as LayerRecord;
  const { chainID, diffID, blob, files, sizeBytes } = record;
  if (
    ![chainID, diffID, blob?.digest, files].every((digest) => typeof digest === 'string') ||
    !Number.isSafeInteger(sizeBytes)
  )
    throw new Error('layer.json lacks what it should have');
  return record;
}

/** undefined when the layer is in the store, maybe after waiting for another pull of it. */
export async function claimLayer(
  layout: Layout,
  chainID: ChainID,
  waiting: Waiting,
): Promise<LayerStage | undefined> {
  const hex = digestHex(chainID);
  const isDone = () => hasLayer(layout, chainID);
  const stage = await claimStage(layout, hex, `layer ${hex.slice(0, 12)}`, isDone, waiting);
  return stage === undefined
    ? undefined
    : layerStage(stage, () => stage.commit(layerDirectory(layout, chainID)));
}

/** To make a layer again. Its commit() takes the place of the damaged one, if there is one, under the exclusive lock. */
export async function openLayerReplacement(layout: Layout, chainID: ChainID): Promise<LayerStage> {
  const stage = await openPrivateStage(layout, 'repair');
  const target = layerDirectory(layout, chainID);
  return layerStage(stage, () => (hasLayer(layout, chainID) ? stage.exchange(target) : stage.commit(target)));
}

function layerStage(stage: Stage, commit: () => void): LayerStage {
  let tree: string;
  try {
    tree = makeTree(stage);
  } catch (error) {
    stage.discard();
    throw error;
  }
  return {
    tree,
    files: join(stage.directory, 'files'),
    restart() {
      stage.empty();
      makeTree(stage);
    },
    finish(record) {
      writeFileSync(join(stage.directory, 'layer.json'), `${JSON.stringify(record, null, 2)}\n`, {
        mode: 0o600,
      });
    },
    commit,
    discard: () => stage.discard(),
  };
}

/** The root of a tree; a layer that says nothing about it leaves it as it is here. */
function makeTree(stage: Stage): string {
  const tree = join(stage.directory, 'tree');
  makeDirectory(tree, 0o755);
  return tree;
}

function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { mode: 0o700 });
  lchownSync(path, FOREIGN_UID_BASE, FOREIGN_UID_BASE);
  chmodSync(path, mode);
}

const MOUNT_POINTS: readonly (readonly [path: string, mode: number])[] = [
  ['dev', 0o755],
  ['proc', 0o555],
  ['run', 0o755],
  ['sys', 0o555],
  ['tmp', 0o1777],
  ['var', 0o755],
  ['var/tmp', 0o1777],
];

/** What the skeleton is to be: path and mode, the top first. */
export const SKELETON_DIRECTORIES: readonly (readonly [path: string, mode: number])[] = [
  ['', 0o755],
  ...MOUNT_POINTS,
];

/** The mount points that systemd needs where the image is read-only and has none. Idempotent. */
export async function ensureSkeleton(layout: Layout, waiting: Waiting): Promise<void> {
  const target = skeletonDirectory(layout);
  const stage = await claimStage(layout, SKELETON, 'the skeleton layer', () => existsSync(target), waiting);
  if (stage === undefined) return;
  try {
    makeSkeleton(stage);
    stage.commit(target);
    syncDirectory(layout.layers);
  } finally {
    stage.discard();
  }
}

/** Under the exclusive lock. */
export async function replaceSkeleton(layout: Layout, waiting: Waiting): Promise<void> {
  const target = skeletonDirectory(layout);
  if (!existsSync(target)) return ensureSkeleton(layout, waiting);
  const stage = await openPrivateStage(layout, 'repair');
  try {
    makeSkeleton(stage);
    stage.exchange(target);
    syncDirectory(layout.layers);
  } finally {
    stage.discard();
  }
}

function skeletonDirectory(layout: Layout): string {
  return join(layout.layers, SKELETON);
}

function makeSkeleton(stage: Stage): void {
  const tree = makeTree(stage);
  for (const [path, mode] of MOUNT_POINTS) makeDirectory(join(tree, path), mode);
  syncFileSystem(stage.directory);
}

/** The hex names of all layers, without the skeleton. */
export function listLayerHexes(layout: Layout): string[] {
  return listDirectory(layout.layers).filter((name) => name !== SKELETON);
}
