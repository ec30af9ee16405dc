/**
 * The decoders of node:zlib as a Decoder: they are everywhere, and work in a thread of their own while ours waits.
 *
 * Invariant: of a write() the pieces have all reached `onData` when its promise resolves.
 */
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { escapeControl, OciError } from '../oci/errors.ts';
import { cutShort, type Decoder, damaged, refuseTrailing } from './codec.ts';
import { ZSTD_WINDOW_MAX_LOG } from './zstd-frames.ts';

const PIECE_BYTES = 256 * 1024;
/** zstd.h; node's own name for it would load node:zlib, where nothing is decoded. */
const ZSTD_D_WINDOW_LOG_MAX = 100;

export function streamDecoder(compression: 'gzip' | 'zstd', onData: (bytes: Buffer) => void): Decoder {
  const stream =
    compression === 'gzip'
      ? createGunzip({ chunkSize: PIECE_BYTES })
      : createZstdDecompress({
          chunkSize: PIECE_BYTES,
          params: { [ZSTD_D_WINDOW_LOG_MAX]: ZSTD_WINDOW_MAX_LOG },
        });
  let fed = 0;
  let ended = false;
  let failure: unknown;
  /** The write() or end() that waits for the stream. */
  let waiting: { resolve: () => void; reject: (error: unknown) => void } | undefined;

  function fail(error: unknown): void {
    failure ??= error;
    stream.destroy();
    waiting?.reject(failure);
    waiting = undefined;
  }

  stream.on('data', (bytes: Buffer) => {
    if (failure !== undefined) return;
    try {
      onData(bytes);
    } catch (error) {
      fail(error);
    }
  });
  stream.on('end', () => {
    ended = true;
    waiting?.resolve();
    waiting = undefined;
  });
  stream.on('error', (error: NodeJS.ErrnoException) =>
    fail(
      error.code === 'Z_BUF_ERROR'
        ? cutShort(compression, error)
        : damaged(compression, escapeControl(error.message), error),
    ),
  );

  function wait(start: (done: () => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (failure !== undefined) {
        reject(failure);
        return;
      }
      waiting = { resolve, reject };
      start(() => {
        waiting?.resolve();
        waiting = undefined;
      });
    });
  }

  return {
    async write(chunk) {
      // The decoder ends early at the NULs after a gzip member.
      if (ended) {
        refuseTrailing(compression, chunk);
        return;
      }
      fed += chunk.length;
      await wait((done) => stream.write(chunk, done));
      if (failure !== undefined) throw failure;
      // With input left over the stream has ended, even when its 'end' event is still to come.
      if (stream.bytesWritten < fed) {
        ended = true;
        refuseTrailing(compression, chunk.subarray(chunk.length - (fed - stream.bytesWritten)));
      }
    },
    async end() {
      if (ended) return;
      await wait(() => stream.end());
      if (failure !== undefined) throw failure;
    },
    close() {
      failure ??= new OciError('INTERNAL', 'the decompressor is closed');
      stream.destroy();
    },
  };
}
