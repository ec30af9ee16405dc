/**
 * The threads that apply layers and record their files: started when there is work for them, at most `max`, each with one job at a time.
 *
 * The entry point lies beside this file, as source (.ts) or beside the bundle (.cjs).
 */
import { extname } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { returnFreedMemory } from '../host/malloc.ts';
import { type ErrorCode, OciError } from '../oci/errors.ts';
import { type LayerDone, type LayerJob, type LayerWorkers, layerWorkersBy } from './layer-workers.ts';

/** A class does not survive the way between threads, so an error travels by its parts. */
interface FailedLayer {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  readonly stack: string | undefined;
}

export type LayerAnswer = LayerDone | { readonly failed: FailedLayer };

/** Of a thread. Little in a layer is needed for long; by default this part of the heap grows to several times as much. */
const YOUNG_GENERATION_MB = 3;

export function openLayerWorkers(max: number): LayerWorkers {
  const idle: Worker[] = [];
  const all: Worker[] = [];
  let stopReturning = () => {};
  const waiting: { resolve: (worker: Worker) => void; reject: (error: unknown) => void }[] = [];

  function takeWorker(): Worker | Promise<Worker> {
    const worker = idle.pop();
    if (worker !== undefined) return worker;
    if (all.length >= max) return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    if (all.length === 0) {
      // For the heaps of the threads to come: they collect their garbage early. Each of the two saves 30 MB or more.
      setFlagsFromString('--optimize-for-size');
      stopReturning = returnFreedMemory();
    }
    const started = new Worker(new URL(`./layer-worker${extname(import.meta.url)}`, import.meta.url), {
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    all.push(started);
    return started;
  }

  function giveBack(worker: Worker): void {
    const next = waiting.shift();
    if (next === undefined) idle.push(worker);
    else next.resolve(worker);
  }

  async function run(job: LayerJob): Promise<LayerDone> {
    const worker = await takeWorker();
    let answer: LayerAnswer;
    try {
      answer = await ask(worker, job);
    } catch (error) {
      // The thread itself broke, so the pull will fail: nobody needs to wait for its turn.
      for (const { reject } of waiting.splice(0)) reject(error);
      throw error;
    }
    giveBack(worker);
    if ('failed' in answer) throw revive(answer.failed);
    return answer;
  }

  return layerWorkersBy(run, async () => {
    stopReturning();
    await Promise.all(all.map((worker) => worker.terminate()));
  });
}

function ask(worker: Worker, job: LayerJob): Promise<LayerAnswer> {
  return new Promise((resolve, reject) => {
    const onMessage = (answer: LayerAnswer) => settle(() => resolve(answer));
    const onError = (error: unknown) => settle(() => reject(error));
    const onExit = () =>
      settle(() => reject(new OciError('INTERNAL', 'a thread that applies layers has ended')));
    const settle = (done: () => void) => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      done();
    };
    worker.once('message', onMessage).once('error', onError).once('exit', onExit);
    worker.postMessage(job);
  });
}

function revive({ code, message, hint, detail, stack }: FailedLayer): OciError {
  const error = new OciError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(detail === undefined ? {} : { detail }),
  });
  if (stack !== undefined) error.stack = stack;
  return error;
}
