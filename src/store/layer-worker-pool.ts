/**
 * The threads that apply layers: started when there is work for them, at most `max`, each with one layer at a time.
 *
 * The entry point lies beside this file, as source (.ts) or beside the bundle (.mjs).
 */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Descriptor } from '../oci/descriptor.ts';
import type { DiffID } from '../oci/digest.ts';
import { type ErrorCode, OciError } from '../oci/errors.ts';
import type { AppliedLayer } from './apply-layer.ts';

export interface LayerJob {
  readonly blobPath: string;
  /** Of growingFileWriter(). */
  readonly progress: SharedArrayBuffer;
  readonly options: {
    readonly descriptor: Descriptor;
    readonly diffID: DiffID;
    readonly treeDir: string;
    readonly idBase: number;
    readonly bottom: boolean;
  };
}

/** A class does not survive the way between threads, so an error travels by its parts. */
interface FailedLayer {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  readonly stack: string | undefined;
}

export type LayerAnswer = { readonly applied: AppliedLayer } | { readonly failed: FailedLayer };

export interface LayerWorkers {
  /** Waits for a free thread, then applies the layer. Stops when the job's growing file is aborted. */
  apply(job: LayerJob): Promise<AppliedLayer>;
  close(): Promise<void>;
}

export function openLayerWorkers(max: number): LayerWorkers {
  const idle: Worker[] = [];
  const all: Worker[] = [];
  const waiting: { resolve: (worker: Worker) => void; reject: (error: unknown) => void }[] = [];

  function takeWorker(): Worker | Promise<Worker> {
    const worker = idle.pop();
    if (worker !== undefined) return worker;
    if (all.length >= max) return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    const started = new Worker(new URL(`./layer-worker${extname(import.meta.url)}`, import.meta.url));
    all.push(started);
    return started;
  }

  function giveBack(worker: Worker): void {
    const next = waiting.shift();
    if (next === undefined) idle.push(worker);
    else next.resolve(worker);
  }

  return {
    async apply(job) {
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
      if ('applied' in answer) return answer.applied;
      throw revive(answer.failed);
    },
    async close() {
      await Promise.all(all.map((worker) => worker.terminate()));
    },
  };
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
