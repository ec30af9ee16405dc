/** Content as it comes from anywhere: not yet trusted, to be verified by whoever asked for it. */
import type { Digest } from './digest.ts';

/** The exact bytes of a manifest or an index, as the source has them. */
export interface RawManifest {
  readonly bytes: Uint8Array;
  /** What the source says it is (Content-Type, or the descriptor's mediaType); the document itself decides. */
  readonly mediaType: string | undefined;
  /** Digest of the bytes, computed by us. */
  readonly digest: Digest;
}

export interface BlobStream {
  /** Byte offset of the first chunk: the one asked for, or 0 where the source cannot seek. */
  readonly offset: number;
  /** A piece is valid until the next one is asked for: its memory is used again. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** A stretch of a blob; `end` is the first byte behind it. */
export interface ByteRange {
  readonly offset: number;
  readonly end: number;
}

/** A piece of a blob; valid until the next one is asked for. */
export interface BlobPiece {
  /** Of its first byte in the blob. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}
