/**
 * Compressed bytes → plain bytes, for the compressions of image-spec layer.md: none, gzip (RFC 1952), zstd (RFC 8878).
 *
 * Invariant: bounded memory whatever the input (pieces of 256 KiB; zstd windows up to 128 MiB); every member and frame
 * is decoded; a stream that is cut short or of another compression is refused as BAD_ARCHIVE. After the last gzip
 * member NULs are tolerated, as gzip(1) does; anything else there is refused, as the reference reader does.
 */
import { OciError } from '../oci/errors.ts';
import type { Compression } from '../oci/media-type.ts';
import { type Codecs, codecDecoder, type Decoder } from './codec.ts';
import { streamDecoder } from './stream-decoder.ts';
import { createZstdFrameWalker } from './zstd-frames.ts';

export interface Decompressor {
  /** Resolves when the chunk is decoded and `onData` has seen the result. One call at a time. */
  write(chunk: Uint8Array): Promise<void>;
  /** Tells that no more comes; rejects when the stream is cut short. */
  end(): Promise<void>;
  /** Frees the decoder; at any time, also more than once. */
  close(): void;
}

const MAGICS: readonly [name: string, bytes: readonly number[]][] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lz4', [0x04, 0x22, 0x4d, 0x18]],
];
/** Enough of the beginning to tell the compressions apart. */
const MAGIC_BYTES = 5;

/** What the first bytes of a blob look like: a compression, or undefined for anything else. */
export function sniffCompression(head: Uint8Array): string | undefined {
  const skippableZstd =
    head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18 && (head[0]! & 0xf0) === 0x50;
  if (skippableZstd) return 'zstd';
  return MAGICS.find(([, magic]) => magic.every((byte, i) => head[i] === byte))?.[0];
}

/**
 * `onData` gets pieces that are valid only during the call; what it throws comes out of write() or end(). `codecs` are
 * faster decoders than those of node:zlib, if the system has them (src/host/codecs.ts).
 */
export function createDecompressor(
  compression: Compression,
  onData: (bytes: Buffer) => void,
  codecs?: Codecs,
): Decompressor {
  const decoder = compression === 'none' ? undefined : createDecoder(compression, onData, codecs);
  let head: Buffer | undefined = Buffer.alloc(0);

  async function write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) return;
    if (decoder === undefined) onData(chunk);
    else await decoder.write(chunk);
  }

  /** Passes on what was kept of the beginning, after a look at it. */
  async function writeHead(bytes: Buffer): Promise<void> {
    head = undefined;
    const found = sniffCompression(bytes);
    if ((found ?? 'none') !== compression && bytes.length > 0)
      throw new OciError(
        'BAD_ARCHIVE',
        compression === 'none'
          ? `the layer is said to be not compressed, but is ${found}`
          : `the layer is said to be ${compression}, but is ${found ?? 'something else'}`,
        { hint: 'Ask whoever made the image to correct the media type in its manifest.' },
      );
    await write(bytes);
  }

  return {
    async write(bytes) {
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (head === undefined) return write(chunk);
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
      if (head.length >= MAGIC_BYTES) await writeHead(head);
      else head = Buffer.from(head);
    },
    async end() {
      if (head !== undefined) await writeHead(head);
      await decoder?.end();
    },
    close() {
      decoder?.close();
    },
  };
}

/** All of a small stream; refused where it is longer than it should be. */
export async function decompressWhole(
  compression: Compression,
  bytes: Uint8Array,
  size: number,
  codecs?: Codecs,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  const decompressor = createDecompressor(
    compression,
    (piece) => {
      length += piece.length;
      if (length > size)
        throw new OciError('BAD_ARCHIVE', `${compression}: the stream has more than ${size} bytes`);
      pieces.push(Buffer.from(piece));
    },
    codecs,
  );
  try {
    await decompressor.write(bytes);
    await decompressor.end();
  } finally {
    decompressor.close();
  }
  return Buffer.concat(pieces);
}

/** By the library of the system where it is installed, by node:zlib otherwise. */
function createDecoder(
  compression: 'gzip' | 'zstd',
  onData: (bytes: Buffer) => void,
  codecs: Codecs | undefined,
): Decoder {
  const codec = codecs?.[compression]();
  const decoder =
    codec === undefined ? streamDecoder(compression, onData) : codecDecoder(compression, codec, onData);
  if (compression === 'gzip') return decoder;
  const frames = createZstdFrameWalker();
  return {
    ...decoder,
    async write(chunk) {
      for (let at = 0; at < chunk.length; ) {
        const bytes = frames.next(chunk, at);
        await decoder.write(chunk.subarray(at, at + bytes));
        at += bytes;
      }
    },
  };
}
