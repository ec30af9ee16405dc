/**
 * A worker thread for layers, one job after the other: applies a blob while the main thread downloads it, or records
 * the files of a layer.
 * Started by layer-worker-pool.ts; ends when its port is closed.
 */
import { parentPort } from 'node:worker_threads';
import { toOciError } from '../oci/errors.ts';
import { doLayerJob } from './layer-job.ts';
import type { LayerAnswer } from './layer-worker-pool.ts';
import type { LayerJob } from './layer-workers.ts';

async function answer(job: LayerJob): Promise<LayerAnswer> {
  try {
    return await doLayerJob(job, 'blocking');
  } catch (error) {
    const { code, message, hint, detail, stack } = toOciError(error);
    return { failed: { code, message, hint, detail, stack } };
  }
}

parentPort!.on('message', async (job: LayerJob) => {
  parentPort!.postMessage(await answer(job));
});
