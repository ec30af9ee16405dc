/**
 * One layer, from a source into staging/: the main thread downloads while a worker applies what is here.
 *
 * Invariant: when the promise resolves, size, digest and diffID were right and the layer is whole but for what
 * the layers below add. A failure leaves the download as it is, for the caller to keep or to remove.
 */
import type { BlobStream } from './oci/content.ts';
import type { Descriptor } from './oci/descriptor.ts';
import { type ChainID, type DiffID, digestHex } from './oci/digest.ts';
import { OciError } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { BlobSource } from './source/image-source.ts';
import type { AppliedLayer } from './store/apply-layer.ts';
import { growingFileWriter } from './store/growing-file.ts';
import type { GrowingBlob, LayerWorkers } from './store/layer-workers.ts';
import type { LayerStage } from './store/layers.ts';
import type { PartialBlob } from './store/partial-blob.ts';

export interface PlannedLayer {
  readonly descriptor: Descriptor;
  readonly diffID: DiffID;
  readonly chainID: ChainID;
}

/** `index` counts from the lowest layer, 0; `bytes` are of the blob, with those of an earlier pull. */
export type LayerEvent =
  | { readonly type: 'layer-reused'; readonly index: number }
  | { readonly type: 'layer-started'; readonly index: number; readonly bytes: number }
  | { readonly type: 'layer-progress'; readonly index: number; readonly bytes: number }
  | { readonly type: 'layer-done'; readonly index: number }
  | { readonly type: 'note'; readonly message: string };

export interface LayerTask<T> {
  readonly layer: PlannedLayer;
  readonly index: number;
  readonly blob: PartialBlob;
  /** Hands the blob to a worker. */
  readonly apply: (blob: GrowingBlob) => Promise<T>;
  /** Removes what that left, to apply the layer again. */
  readonly restart: () => void;
}

export interface FetchOptions {
  readonly source: BlobSource;
  readonly downloads: Slots;
  readonly signal: AbortSignal;
  readonly onEvent: (event: LayerEvent) => void;
}

export async function fetchAndApply<T extends object>(task: LayerTask<T>, options: FetchOptions): Promise<T> {
  const { index, layer, blob } = task;
  let resumed = blob.size > 0;
  let applied: T | undefined;
  while (applied === undefined) {
    try {
      applied = await attempt(task, options);
    } catch (error) {
      if (options.signal.aborted) throw error;
      // What an earlier pull left may be damaged (a power cut) or unreadable: that is no reason to give up.
      if (!(resumed && (isBadData(error) || isUnreadable(error))) && !isElsewhere(error)) throw error;
      resumed = false;
      blob.truncate();
      task.restart();
    }
  }
  options.onEvent({ type: 'layer-done', index });
  return applied;

  /** A mirror that gives wrong bytes is passed over. */
  function isElsewhere(error: unknown): boolean {
    return isWrongBlob(error) && options.source.distrust?.(layer.descriptor, error) === true;
  }
}

/** One download of (the rest of) the blob, applied while it comes. Each side's failure ends the other. */
async function attempt<T>(task: LayerTask<T>, options: FetchOptions): Promise<T> {
  const { layer, index, blob } = task;
  const { descriptor } = layer;
  const { source, downloads, onEvent } = options;
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const release = await downloads.take(signal);
  try {
    if (blob.size > descriptor.size) blob.truncate();
    const stream =
      blob.size === descriptor.size
        ? undefined
        : await source.openBlob(descriptor, { offset: blob.size, signal });
    if (stream !== undefined && stream.offset !== blob.size) blob.truncate();
    onEvent({ type: 'layer-started', index, bytes: blob.size });

    const file = growingFileWriter(blob.size);
    const applied = task.apply({ blobPath: blob.path, progress: file.progress });
    applied.catch((error) => stop.abort(error));
    try {
      if (stream !== undefined)
        await download(stream, descriptor, blob, signal, (bytes) => {
          file.grown(bytes);
          onEvent({ type: 'layer-progress', index, bytes });
        });
      file.complete();
    } catch (error) {
      const first = signal.reason ?? error;
      file.abort();
      await applied.catch(() => {});
      throw first;
    }
    release();
    return await abortable(applied, signal, () => file.abort());
  } finally {
    release();
  }
}

async function download(
  { body }: BlobStream,
  descriptor: Descriptor,
  blob: PartialBlob,
  signal: AbortSignal,
  onGrown: (bytes: number) => void,
): Promise<void> {
  for await (const chunk of body) {
    signal.throwIfAborted();
    if (blob.size + chunk.length > descriptor.size)
      throw new OciError(
        'SIZE_MISMATCH',
        `the blob is longer than the ${descriptor.size} bytes it should have`,
        {
          hint: 'Tell whoever runs the registry: its manifest and its data do not fit.',
        },
      );
    blob.append(chunk);
    onGrown(blob.size);
  }
}

/** `promise`, with `stop` called when the signal comes; it ends in any case, so it is waited for. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal, stop: () => void): Promise<T> {
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function isBadData(error: unknown): boolean {
  return error instanceof OciError && error.exitStatus === 65;
}

/** Bytes that the manifest does not mean; not the right bytes of a bad layer. */
function isWrongBlob(error: unknown): error is OciError {
  if (!(error instanceof OciError)) return false;
  return (
    error.code === 'SIZE_MISMATCH' || (error.code === 'DIGEST_MISMATCH' && !/\bdiffID\b/.test(error.message))
  );
}

function isUnreadable(error: unknown): boolean {
  return error instanceof OciError && error.code === 'IO_ERROR' && !isDiskFull(error);
}

/** Whether another pull may get further: not with bad data, nor on a full disk, where the space is needed. */
export function isWorthResuming(error: unknown): boolean {
  return !isBadData(error) && !isDiskFull(error);
}

function isDiskFull(error: unknown): boolean {
  return /\b(ENOSPC|EDQUOT)\b/.test(String(error));
}

export function layerName({ descriptor }: PlannedLayer): string {
  return `layer ${digestHex(descriptor.digest).slice(0, 12)}`;
}

/** At most so many at a time. */
export interface Slots {
  /** Resolves to what gives the slot back (more than once does no harm). */
  take(signal: AbortSignal): Promise<() => void>;
}

export function slots(count: number): Slots {
  let free = count;
  const queue: (() => void)[] = [];
  return {
    async take(signal) {
      while (free === 0) await new Promise<void>((resolve) => queue.push(resolve));
      free--;
      let held = true;
      const release = () => {
        if (!held) return;
        held = false;
        free++;
        queue.shift()?.();
      };
      if (signal.aborted) {
        release();
        throw signal.reason;
      }
      return release;
    },
  };
}

export function treeOptions(stage: LayerStage, index: number) {
  return { treeDir: stage.tree, idBase: FOREIGN_UID_BASE, bottom: index === 0 };
}

/** How a layer's blob becomes a tree. */
export function treeTask(
  { descriptor, diffID }: PlannedLayer,
  index: number,
  stage: LayerStage,
  workers: LayerWorkers,
): Pick<LayerTask<AppliedLayer>, 'apply' | 'restart'> {
  const options = { descriptor, diffID, ...treeOptions(stage, index) };
  return { apply: (blob) => workers.apply({ ...blob, options }), restart: () => stage.restart() };
}
