/**
 * One layer of a composefs image, into a stage of its own: by its table of contents where that may save a good part of the
 * download, else whole.
 */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type ChunkedFetch, fetchChunked, mayBeChunked } from './fetch-chunked-layer.ts';
import { type FetchOptions, fetchAndApply, type LayerTask, layerName } from './fetch-layer.ts';
import { type AppliedStream, STREAM_FILE } from './store/apply-stream.ts';
import type { StreamStage } from './store/composefs-images.ts';
import { type ObjectPaths, openObjectStage } from './store/objects.ts';
import { createStreamWriter, NO_CONTENT } from './store/stream-writer.ts';
import { createStreamFile } from './store/streams.ts';

export async function fetchStream(
  task: LayerTask<AppliedStream>,
  stage: StreamStage,
  objects: ObjectPaths,
  earlier: ChunkedFetch['earlier'],
  options: FetchOptions,
): Promise<AppliedStream> {
  const { layer, index, blob } = task;
  // A download that was begun is gone on with; a store without objects needs all of them.
  if (blob.size === 0 && mayBeChunked(layer, options.source) && existsSync(objects.objectsBySha256)) {
    const applied = await fetchByTable(task, stage.directory, objects, earlier, options);
    if (applied !== undefined) {
      options.onEvent({ type: 'layer-done', index });
      return applied;
    }
    stage.restart();
  }
  return fetchAndApply(task, options);
}

async function fetchByTable(
  { layer, index }: LayerTask<AppliedStream>,
  directory: string,
  paths: ObjectPaths,
  earlier: ChunkedFetch['earlier'],
  options: FetchOptions,
): Promise<AppliedStream | undefined> {
  const { source, downloads, signal, onEvent } = options;
  const path = join(directory, STREAM_FILE);
  const objects = openObjectStage(paths, directory);
  let stream: ReturnType<typeof createStreamFile> | undefined;
  let writer = createStreamWriter(objects, () => {});
  const release = await downloads.take(signal);
  try {
    let started = false;
    const identity = await fetchChunked({
      layer,
      source,
      objects: paths,
      stage: objects,
      directory,
      earlier,
      signal,
      onBytes(bytes) {
        onEvent({ type: started ? 'layer-progress' : 'layer-started', index, bytes });
        started = true;
      },
      note: (message) => onEvent({ type: 'note', message: `${layerName(layer)}: ${message}` }),
      begin() {
        stream?.close();
        rmSync(path, { force: true });
        stream = createStreamFile(path);
        writer = createStreamWriter(objects, stream.add);
        return (entry, content) => writer.entry(entry, content ?? NO_CONTENT);
      },
    });
    if (identity === undefined) return undefined;
    const { sizeBytes, entries } = writer;
    const known = identity.kind === 'toc' ? { toc: identity.digest } : {};
    stream!.finish({ ...(known.toc ? known : { diffID: layer.diffID }), sizeBytes, entries });
    return { sizeBytes, entries, newBytes: objects.newBytes, ...known };
  } finally {
    release();
    stream?.close();
    objects.close();
  }
}
