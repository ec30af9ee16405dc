/**
 * The threads that apply layers and record their files: started when there is work for them, at most `max`, each with one job at a time.
 *
 * The entry point lies beside this file, as source (.ts) or beside the bundle (.cjs).
 */
import { extname } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { returnFreedMemory } from '../host/malloc.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { DiffID, Digest } from '../oci/digest.ts';
import { type ErrorCode, OciError } from '../oci/errors.ts';
import type { AppliedLayer } from './apply-layer.ts';
import type { AppliedStream, StreamOptions } from './apply-stream.ts';
import type { ContentSums } from './checksum.ts';

/** The blob, while it is downloaded. */
export interface GrowingBlob {
  readonly blobPath: string;
  /** Of growingFileWriter(). */
  readonly progress: SharedArrayBuffer;
}

export interface ApplyJob extends GrowingBlob {
  readonly options: {
    readonly descriptor: Descriptor;
    readonly diffID: DiffID;
    readonly treeDir: string;
    readonly idBase: number;
    readonly bottom: boolean;
  };
}

export interface StreamJob extends GrowingBlob {
  readonly stream: StreamOptions;
}

/** For writeLayerFiles(), once the layer is settled. */
export interface RecordJob {
  readonly treeDir: string;
  readonly file: string;
  /** Of the layer when it was applied, where they still hold. */
  readonly sums?: ContentSums | undefined;
}

export type LayerJob = ApplyJob | StreamJob | RecordJob;

/** A class does not survive the way between threads, so an error travels by its parts. */
interface FailedLayer {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  readonly stack: string | undefined;
}

export type LayerAnswer =
  | { readonly applied: AppliedLayer }
  | { readonly streamed: AppliedStream }
  | { readonly recorded: Digest }
  | { readonly failed: FailedLayer };

export interface LayerWorkers {
  /** Waits for a free thread, then applies the layer. Stops when the job's growing file is aborted. */
  apply(job: ApplyJob): Promise<AppliedLayer>;
  /** The same into objects and a stream. */
  stream(job: StreamJob): Promise<AppliedStream>;
  /** The digest of the list of files. */
  record(job: RecordJob): Promise<Digest>;
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
    if (all.length === 0) {
      // For the heaps of the threads to come: they collect their garbage early. Each of the two saves 30 MB.
      setFlagsFromString('--optimize-for-size');
      returnFreedMemory();
    }
    const started = new Worker(new URL(`./layer-worker${extname(import.meta.url)}`, import.meta.url));
    all.push(started);
    return started;
  }

  function giveBack(worker: Worker): void {
    const next = waiting.shift();
    if (next === undefined) idle.push(worker);
    else next.resolve(worker);
  }

  async function run(job: LayerJob): Promise<LayerAnswer> {
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

  return {
    async apply(job) {
      const answer = (await run(job)) as Extract<LayerAnswer, { applied: unknown }>;
      return answer.applied;
    },
    async stream(job) {
      const answer = (await run(job)) as Extract<LayerAnswer, { streamed: unknown }>;
      return answer.streamed;
    },
    async record(job) {
      const answer = (await run(job)) as Extract<LayerAnswer, { recorded: unknown }>;
      return answer.recorded;
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
