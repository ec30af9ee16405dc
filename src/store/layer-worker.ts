/**
 * A worker thread for layers, one job after the other: applies a blob while the main thread downloads it, or records
 * the files of a layer.
 * Started by layer-worker-pool.ts; ends when its port is closed.
 */
import { parentPort } from 'node:worker_threads';
import { toOciError } from '../oci/errors.ts';
import { applyLayer } from './apply-layer.ts';
import { applyStream } from './apply-stream.ts';
import { readGrowingFile } from './growing-file.ts';
import { writeLayerFiles } from './layer-files.ts';
import type { LayerAnswer, LayerJob } from './layer-worker-pool.ts';

async function answer(job: LayerJob): Promise<LayerAnswer> {
  try {
    if ('file' in job) return { recorded: writeLayerFiles(job.treeDir, job.file, job.sums) };
    const blob = readGrowingFile(job.blobPath, job.progress);
    if ('stream' in job) return { streamed: await applyStream(blob, job.stream) };
    return { applied: await applyLayer(blob, job.options) };
  } catch (error) {
    const { code, message, hint, detail, stack } = toOciError(error);
    return { failed: { code, message, hint, detail, stack } };
  }
}

parentPort!.on('message', async (job: LayerJob) => {
  parentPort!.postMessage(await answer(job));
});
