/**
 * A layer's blob → new objects and a stream, in a directory of its own in staging/ (objects.ts, streams.ts).
 * The composefs counterpart of applyLayer().
 */
import { join } from 'node:path';
import type { Descriptor } from '../oci/descriptor.ts';
import type { DiffID, Digest } from '../oci/digest.ts';
import { readLayer } from './apply-layer.ts';
import { type ObjectPaths, openObjectStage } from './objects.ts';
import { createStreamWriter } from './stream-writer.ts';
import { createStreamFile } from './streams.ts';

export interface StreamOptions {
  readonly descriptor: Descriptor;
  readonly diffID: DiffID;
  readonly paths: ObjectPaths;
  /** An existing empty directory. */
  readonly directory: string;
}

/** May cross a worker boundary. */
export interface AppliedStream {
  readonly sizeBytes: number;
  readonly entries: number;
  /** Of objects that the store did not have. */
  readonly newBytes: number;
  /** Digest of the table of contents, where that alone vouches for the layer. */
  readonly toc?: Digest;
}

/** In the directory of applyStream(). */
export const STREAM_FILE = 'stream';

/** Throws as readLayer(). */
export async function applyStream(
  blob: AsyncIterable<Uint8Array>,
  options: StreamOptions,
): Promise<AppliedStream> {
  const { diffID, paths, directory } = options;
  const objects = openObjectStage(paths, directory);
  const stream = createStreamFile(join(directory, STREAM_FILE));
  const writer = createStreamWriter(objects, stream.add);
  return readLayer(blob, options, {
    entry: writer.entry,
    data: writer.data,
    end: writer.end,
    finish() {
      const { sizeBytes, entries } = writer;
      stream.finish({ diffID, sizeBytes, entries });
      return { sizeBytes, entries, newBytes: objects.newBytes };
    },
    close() {
      writer.close();
      stream.close();
      objects.close();
    },
  });
}
