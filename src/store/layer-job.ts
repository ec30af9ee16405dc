/** What is done with a layer, in a thread of its own (layer-worker.ts) or in the main thread. */
import { toOciError } from '../oci/errors.ts';
import { applyLayer } from './apply-layer.ts';
import { applyStream } from './apply-stream.ts';
import { readGrowingFile } from './growing-file.ts';
import { writeLayerFiles } from './layer-files.ts';
import { type LayerDone, type LayerJob, type LayerWorkers, layerWorkersBy } from './layer-workers.ts';
import { unpackStream } from './unpack-stream.ts';

export async function doLayerJob(job: LayerJob, patience: 'blocking' | 'in turns'): Promise<LayerDone> {
  if ('file' in job) return { recorded: writeLayerFiles(job.treeDir, job.file, job.sums) };
  if ('unpack' in job) return { unpacked: unpackStream(job.unpack) };
  const blob = readGrowingFile(job.blobPath, job.progress, patience);
  if ('stream' in job) return { streamed: await applyStream(blob, job.stream) };
  return { applied: await applyLayer(blob, job.options) };
}

/** For so little that a thread would take longer to start. */
export function layerWorkersHere(): LayerWorkers {
  const run = async (job: LayerJob): Promise<LayerDone> => {
    try {
      return await doLayerJob(job, 'in turns');
    } catch (error) {
      throw toOciError(error);
    }
  };
  return layerWorkersBy(run, async () => {});
}
