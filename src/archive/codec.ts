/**
 * A decoder of the system (ISA-L, libzstd) as a Decoder: synchronous, with one output buffer for its whole life.
 *
 * Invariant: takes and refuses what stream-decoder.ts does (the same tests run against both), and differs at most in
 * the reason it gives for damage. What may follow a gzip member is decided here: another one, or NULs up to the end.
 */
import { OciError } from '../oci/errors.ts';
import { createGzipHeaderReader } from './gzip-header.ts';

/** What decompress.ts drives: chunks in, pieces out to the `onData` it was made with. */
export interface Decoder {
  /** Chunks of zstd never reach across the end of a frame. One call at a time. */
  write(chunk: Buffer): void | Promise<void>;
  end(): void | Promise<void>;
  close(): void;
}

/** One step of a decoder: until the output is full, the input is used up, or a member or frame ends. A member of gzip
 * is decoded from behind its header on, to its last byte. */
export interface CodecStep {
  /** Bytes of the input that are done with. */
  readonly taken: number;
  /** Valid until the next step. */
  readonly output: Buffer;
  /** More output may come without more input. */
  readonly full: boolean;
  /** The end of a member or frame, all of its output given and its checksum right. */
  readonly ended: boolean;
  /** What is wrong with the input. */
  readonly failure: string | undefined;
}

/** What src/host has for gzip and zstd where the library is installed. It keeps no hold of an input between steps. */
export interface Codec {
  decode(input: Buffer): CodecStep;
  /** Frees the decoder; once, and nothing may be called after it. */
  close(): void;
}

/** For each compression a way to a decoder; undefined where the system has none. */
export interface Codecs {
  readonly gzip: () => Codec | undefined;
  readonly zstd: () => Codec | undefined;
}

export function codecDecoder(
  compression: 'gzip' | 'zstd',
  codec: Codec,
  onData: (bytes: Buffer) => void,
): Decoder {
  /** After a member or frame, or inside one (an empty stream is one cut short), or among the NULs at the end. */
  let state: 'inside' | 'between' | 'ended' = 'inside';
  let header = compression === 'gzip' ? createGzipHeaderReader() : undefined;
  let open = true;

  /** One member or frame at most; returns what is left of the chunk. */
  function feed(chunk: Buffer): Buffer {
    let rest = chunk;
    if (header?.complete === false) {
      rest = rest.subarray(header.read(rest));
      if (header.failure !== undefined) throw damaged(compression, header.failure);
    }
    for (let full = false; full || rest.length > 0; ) {
      const step = codec.decode(rest);
      if (step.failure !== undefined) throw damaged(compression, step.failure);
      if (step.output.length > 0) onData(step.output);
      rest = rest.subarray(step.taken);
      if (step.ended) {
        state = 'between';
        return rest;
      }
      full = step.full;
    }
    return rest;
  }

  return {
    write(chunk) {
      if (!open) throw new OciError('INTERNAL', 'the decompressor is closed');
      for (let rest = chunk; rest.length > 0; ) {
        if (state === 'between' && compression === 'gzip') {
          if (rest[0] === 0) state = 'ended';
          else header = createGzipHeaderReader();
        }
        if (state === 'ended') return refuseTrailing(compression, rest);
        state = 'inside';
        rest = feed(rest);
      }
    },
    end() {
      if (state === 'inside') throw cutShort(compression);
    },
    close() {
      if (open) codec.close();
      open = false;
    },
  };
}

/** After the last gzip member only NULs may come. */
export function refuseTrailing(compression: string, rest: Buffer): void {
  if (rest.some((byte) => byte !== 0))
    throw new OciError('BAD_ARCHIVE', `${compression}: data after the end of the compressed stream`);
}

export function cutShort(compression: string, cause?: unknown): OciError {
  return new OciError('BAD_ARCHIVE', `${compression}: the stream is cut short`, { cause });
}

export function damaged(compression: string, reason: string, cause?: unknown): OciError {
  return new OciError('BAD_ARCHIVE', `${compression}: the stream is damaged (${reason})`, { cause });
}
