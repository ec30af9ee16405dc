/**
 * Where the frames of a zstd stream end (RFC 8878, sections 3.1.1 and 3.1.2). The decoder of node:zlib ends after one frame
 * when more data lies behind it in the same buffer; cut at frame ends, it decodes them all.
 *
 * Invariant: never buffers; refuses what is no frame, and windows above the limit before a decoder allocates them.
 */
import { OciError } from '../oci/errors.ts';

/** RFC 8878 asks decoders for 8 MiB; the reference command-line tool takes 128 MiB unasked. */
export const ZSTD_WINDOW_MAX_LOG = 27;
/** A frame costs about 20 µs, whatever little is in it. Layers with a frame for every file stay far below. */
const FRAMES_MAX = 1_000_000;

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

export interface ZstdFrameWalker {
  /** How many bytes of `chunk` from `at` on lie before the next end of a frame, at least one, at most all. */
  next(chunk: Buffer, at: number): number;
}

export function createZstdFrameWalker(): ZstdFrameWalker {
  let part: 'magic' | 'skipSize' | 'descriptor' | 'header' | 'blockHeader' | 'body' = 'magic';
  /** The bytes of the part being collected; a frame header has at most 14. */
  const field = Buffer.alloc(16);
  let filled = 0;
  let wanted = 4;
  /** Bytes left of the body: a block's content, a checksum, or what is skipped. */
  let left = 0;
  let lastBlock = false;
  let checksum = false;
  let skipping = false;
  let frames = 0;

  function collect(name: typeof part, bytes: number): void {
    part = name;
    filled = 0;
    wanted = bytes;
  }

  function endOfFrame(): void {
    collect('magic', 4);
    skipping = false;
  }

  function body(bytes: number): void {
    part = 'body';
    left = bytes;
    if (left === 0) endOfBody();
  }

  function endOfBody(): void {
    if (skipping) endOfFrame();
    else if (!lastBlock) collect('blockHeader', 3);
    else if (checksum) {
      checksum = false;
      body(4);
    } else endOfFrame();
  }

  function endOfField(): void {
    if (part === 'magic') {
      if (++frames > FRAMES_MAX) throw new OciError('BAD_ARCHIVE', `zstd: more than ${FRAMES_MAX} frames`);
      const magic = field.readUInt32LE(0);
      if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
        skipping = true;
        collect('skipSize', 4);
      } else if (magic === FRAME_MAGIC) collect('descriptor', 1);
      else throw new OciError('BAD_ARCHIVE', 'zstd: data after the last frame that is not a frame');
    } else if (part === 'skipSize') {
      body(field.readUInt32LE(0));
    } else if (part === 'descriptor') {
      const descriptor = field[0]!;
      const single = (descriptor & 0x20) !== 0;
      const sizeBytes = CONTENT_SIZE_BYTES[descriptor >> 6]! || (single ? 1 : 0);
      checksum = (descriptor & 4) !== 0;
      // The descriptor stays in front: the header's fields follow it.
      part = 'header';
      wanted = 1 + (single ? 0 : 1) + DICTIONARY_ID_BYTES[descriptor & 3]! + sizeBytes;
      if (filled === wanted) endOfField();
    } else if (part === 'header') {
      checkWindow();
      collect('blockHeader', 3);
    } else {
      const header = field.readUIntLE(0, 3);
      const type = (header >> 1) & 3;
      if (type === BLOCK_RESERVED) throw new OciError('BAD_ARCHIVE', 'zstd: block of a reserved type');
      lastBlock = (header & 1) !== 0;
      body(type === BLOCK_RLE ? 1 : header >> 3);
    }
  }

  function checkWindow(): void {
    const descriptor = field[0]!;
    let windowBytes: number;
    if ((descriptor & 0x20) === 0) {
      const exponent = field[1]! >> 3;
      const mantissa = field[1]! & 7;
      windowBytes = 2 ** (10 + exponent) * (1 + mantissa / 8);
    } else {
      // A single segment: the window is the whole content.
      const at = 1 + DICTIONARY_ID_BYTES[descriptor & 3]!;
      const bytes = wanted - at;
      windowBytes = bytes === 8 ? Number(field.readBigUInt64LE(at)) : field.readUIntLE(at, bytes);
    }
    const max = 2 ** ZSTD_WINDOW_MAX_LOG;
    if (windowBytes > max)
      throw new OciError(
        'BAD_ARCHIVE',
        `zstd: a frame needs a window of ${windowBytes} bytes, more than ${max}`,
        {
          hint: 'Ask whoever made the image to compress it without --long and --ultra.',
        },
      );
  }

  return {
    next(chunk, start) {
      let at = start;
      do {
        if (part === 'body') {
          const bytes = Math.min(left, chunk.length - at);
          at += bytes;
          left -= bytes;
          if (left === 0) endOfBody();
        } else {
          field[filled++] = chunk[at++]!;
          if (filled === wanted) endOfField();
        }
      } while (at < chunk.length && !(part === 'magic' && filled === 0));
      return at - start;
    },
  };
}
