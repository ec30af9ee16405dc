/**
 * The files that an image on disk consists of: those below a layout directory, or the members of an archive.
 *
 * Invariant: a path leads to a regular file of the layout or archive itself or to nothing, whatever links it has;
 * opening never blocks, and nothing is unpacked.
 */
import type { FileHandle } from 'node:fs/promises';
import type { BlobPiece, ByteRange } from '../oci/content.ts';
import { OciError, quote } from '../oci/errors.ts';

/** A stretch of an open file. */
export interface FilePart {
  readonly handle: FileHandle;
  /** Offset of the first byte in the file behind the handle. */
  readonly start: number;
  readonly size: number;
  /** Frees what open() took; the part is not to be read any more. */
  close(): Promise<void>;
}

export interface ImageFiles {
  /** `layout` or `archive`, for messages. */
  readonly kind: string;
  /** The directory or file that the user named, absolute. */
  readonly place: string;
  has(path: string): boolean;
  /** `path` is relative, as the image's documents write it. Throws BAD_IMAGE where there is no such regular file. */
  open(path: string): Promise<FilePart>;
  close(): Promise<void>;
}

const READ_BYTES = 256 * 1024;

/** The whole of a small file. Throws BAD_IMAGE where it has more than maxBytes. */
export async function readWhole(files: ImageFiles, path: string, maxBytes: number): Promise<Buffer> {
  const part = await files.open(path);
  if (part.size > maxBytes) {
    await part.close();
    throw new OciError('BAD_IMAGE', `${quote(path)} in the ${files.kind} has more than ${maxBytes} bytes`, {
      hint: 'Ask whoever made the image: no tool writes such large metadata.',
    });
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of readPart(part, 0, part.size)) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

/** The bytes of the part from `from` up to `end` or to its own end; a piece is valid until the next. Closes it afterwards. */
export async function* readPart(
  part: FilePart,
  from: number,
  end: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    const stop = Math.min(end, part.size);
    const buffer = Buffer.allocUnsafeSlow(Math.max(0, Math.min(READ_BYTES, stop - from)));
    for (let position = from; position < stop; ) {
      signal?.throwIfAborted();
      const length = Math.min(buffer.length, stop - position);
      const { bytesRead } = await part.handle.read(buffer, 0, length, part.start + position);
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await part.close();
  }
}

/** These bytes of the part; closes it afterwards. Ends early where the part does. */
export async function* readRangesOf(
  part: FilePart,
  ranges: readonly ByteRange[],
  signal?: AbortSignal,
): AsyncGenerator<BlobPiece> {
  try {
    for (const { offset, end } of ranges) {
      let at = offset;
      for await (const bytes of readPart({ ...part, close: async () => {} }, offset, end, signal)) {
        yield { offset: at, bytes };
        at += bytes.length;
      }
    }
  } finally {
    await part.close();
  }
}
