/** The work that is done with layers: jobs that may cross the boundary of a thread, and who does them. */
import type { Descriptor } from '../oci/descriptor.ts';
import type { DiffID, Digest } from '../oci/digest.ts';
import type { AppliedLayer } from './apply-layer.ts';
import type { AppliedStream, StreamOptions } from './apply-stream.ts';
import type { ContentSums } from './checksum.ts';
import type { UnpackOptions } from './unpack-stream.ts';

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

export interface UnpackJob {
  readonly unpack: UnpackOptions;
}

export type LayerJob = ApplyJob | StreamJob | UnpackJob | RecordJob;

export type LayerDone =
  | { readonly applied: AppliedLayer }
  | { readonly streamed: AppliedStream }
  | { readonly unpacked: AppliedLayer | undefined }
  | { readonly recorded: Digest };

export interface LayerWorkers {
  /** Waits for its turn, then applies the layer. Stops when the job's growing file is aborted. */
  apply(job: ApplyJob): Promise<AppliedLayer>;
  /** The same into objects and a stream. */
  stream(job: StreamJob): Promise<AppliedStream>;
  /** As unpackStream(). */
  unpack(job: UnpackJob): Promise<AppliedLayer | undefined>;
  /** The digest of the list of files. */
  record(job: RecordJob): Promise<Digest>;
  close(): Promise<void>;
}

export function layerWorkersBy(
  run: (job: LayerJob) => Promise<LayerDone>,
  close: () => Promise<void>,
): LayerWorkers {
  return {
    apply: async (job) => ((await run(job)) as Extract<LayerDone, { applied: unknown }>).applied,
    stream: async (job) => ((await run(job)) as Extract<LayerDone, { streamed: unknown }>).streamed,
    unpack: async (job) => ((await run(job)) as Extract<LayerDone, { unpacked: unknown }>).unpacked,
    record: async (job) => ((await run(job)) as Extract<LayerDone, { recorded: unknown }>).recorded,
    close,
  };
}
