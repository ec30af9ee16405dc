/**
 * A file that one thread appends to while another reads it from the start: the page cache is the buffer between
 * download and extraction, and what was downloaded stays for a resume.
 *
 * One 64-bit word in shared memory holds `bytes * 4 + state`, so that bytes and state change together and a reader
 * that sleeps on the word can miss neither.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { OciError } from '../oci/errors.ts';

const GROWING = 0n;
const COMPLETE = 1n;
const ABORTED = 2n;
const CHUNK_BYTES = 256 * 1024;
/** What may be applied while nothing else of its thread goes on: some megabytes of a tar, half a gigabyte of the worst. */
const TURN_BYTES = 16 * 1024;

export interface GrowingFileWriter {
  /** To be handed to the reader's thread. */
  readonly progress: SharedArrayBuffer;
  /** So many bytes are in the file. */
  grown(bytes: number): void;
  complete(): void;
  /** Makes the reader throw. */
  abort(): void;
}

export function growingFileWriter(bytes: number): GrowingFileWriter {
  const progress = new SharedArrayBuffer(8);
  const word = new BigInt64Array(progress);
  let available = bytes;
  const set = (state: bigint) => {
    Atomics.store(word, 0, BigInt(available) * 4n + state);
    Atomics.notify(word, 0);
  };
  set(GROWING);
  return {
    progress,
    grown(total) {
      available = total;
      set(GROWING);
    },
    complete: () => set(COMPLETE),
    abort: () => set(ABORTED),
  };
}

/**
 * Yields the file's bytes as they come. `patience`: whether waiting for them blocks the thread, or everything else has its
 * turn meanwhile and between two chunks, as the main thread needs it. A chunk is valid until the next one is asked
 * for: they share their memory.
 */
export async function* readGrowingFile(
  path: string,
  progress: SharedArrayBuffer,
  patience: 'blocking' | 'in turns' = 'blocking',
): AsyncGenerator<Uint8Array> {
  const word = new BigInt64Array(progress);
  const blocking = patience === 'blocking';
  const chunk = Buffer.allocUnsafeSlow(blocking ? CHUNK_BYTES : TURN_BYTES);
  const fd = openSync(path, 'r');
  try {
    for (let offset = 0; ; ) {
      const seen = Atomics.load(word, 0);
      const state = seen & 3n;
      const available = Number(seen >> 2n);
      if (state === ABORTED) throw new OciError('TEMPORARY', 'the download was given up');
      if (offset < available) {
        const length = readSync(fd, chunk, 0, Math.min(chunk.length, available - offset), offset);
        if (length === 0)
          throw new OciError('IO_ERROR', `the download ${path} was cut short under our hands`);
        offset += length;
        yield chunk.subarray(0, length);
        if (!blocking) await new Promise(setImmediate);
      } else if (state === COMPLETE) return;
      else if (blocking) Atomics.wait(word, 0, seen);
      else await Atomics.waitAsync(word, 0, seen).value;
    }
  } finally {
    closeSync(fd);
  }
}
