/**
 * A layer's blob → its entries, into a tree or elsewhere, in one pass: bytes → size and blob digest → decompress → diffID → tar → files
 * (image-spec layer.md, descriptor.md, config.md).
 *
 * Invariant: the promise resolves only when size, digest and diffID are right and every entry is written. What a
 * failure leaves behind is for the caller to delete. Nothing is synced to the disk here.
 *
 * The data is always read to its end (or to one byte too many) before a verdict: damaged data breaks the
 * archive long before its digest can be known, and then the digest is the message that helps.
 */
import { createHash } from 'node:crypto';
import { createDecompressor } from '../archive/decompress.ts';
import { createTarParser, type TarHandler } from '../archive/tar-parser.ts';
import { systemCodecs } from '../host/codecs.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type DiffID, type Digest, digestAlgorithm, digestMismatch } from '../oci/digest.ts';
import { OciError, quote, wrap } from '../oci/errors.ts';
import { layerCompression } from '../oci/media-type.ts';
import type { ContentSums } from './checksum.ts';
import { createTreeWriter, type Unsettled } from './tree-writer.ts';

export interface ApplyOptions {
  readonly descriptor: Descriptor;
  readonly diffID: DiffID;
  /** An existing empty directory. */
  readonly treeDir: string;
  /** Where container id 0 lies on the disk. */
  readonly idBase: number;
  /** No layer lies below: whiteouts are left out and nothing stays unsettled. */
  readonly bottom: boolean;
}

/** May cross a worker boundary. */
export interface AppliedLayer {
  /** For settleLayer(), once the layers below are there. */
  readonly unsettled: Unsettled;
  /** Bytes of file content written. */
  readonly sizeBytes: number;
  /** Entries of the tar. */
  readonly entries: number;
  /** For writeLayerFiles(), where settleLayer() has no links to make. */
  readonly sums: ContentSums;
}

/** What becomes of the entries. */
export interface LayerTarget<T> extends TarHandler {
  /** Called once, when everything is right. */
  finish(): T;
  /** At any time. */
  close(): void;
}

/** Into a tree. Throws as readLayer(). */
export async function applyLayer(
  blob: AsyncIterable<Uint8Array>,
  options: ApplyOptions,
): Promise<AppliedLayer> {
  const writer = createTreeWriter(options.treeDir, options);
  return readLayer(blob, options, {
    ...writer,
    finish() {
      const unsettled = writer.finish();
      return { unsettled, sizeBytes: writer.sizeBytes, entries: writer.entries, sums: writer.sums };
    },
  });
}

/** Throws OciError: BAD_ARCHIVE, DIGEST_MISMATCH, SIZE_MISMATCH, UNSUPPORTED, IO_ERROR; or what `blob` throws. */
export async function readLayer<T>(
  blob: AsyncIterable<Uint8Array>,
  { descriptor, diffID }: Pick<ApplyOptions, 'descriptor' | 'diffID'>,
  writer: LayerTarget<T>,
): Promise<T> {
  const what = `layer ${descriptor.digest}`;
  const compression = layerCompression(descriptor.mediaType);
  if (compression === undefined)
    throw new OciError(
      'UNSUPPORTED',
      `${what}: media type ${quote(descriptor.mediaType)} is not that of a layer`,
    );
  const blobHash = createHash(digestAlgorithm(descriptor.digest));
  // Of data that is not compressed the digest is the diffID.
  const same = compression === 'none' && digestAlgorithm(diffID) === digestAlgorithm(descriptor.digest);
  const diffHash = same ? undefined : createHash(digestAlgorithm(diffID));
  const parser = createTarParser(writer);
  const decompressor = createDecompressor(
    compression,
    (bytes) => {
      diffHash?.update(bytes);
      parser.push(bytes);
    },
    systemCodecs,
  );
  let failure: OciError | undefined;
  /** Runs one step; after an archive has turned out to be bad, only the blob's digest is of interest. */
  const attempt = async <T>(step: () => Promise<T>): Promise<T | undefined> => {
    if (failure !== undefined) return undefined;
    try {
      return await step();
    } catch (error) {
      failure = wrap(what, error);
      if (failure.code !== 'BAD_ARCHIVE') throw failure;
      decompressor.close();
      return undefined;
    }
  };
  try {
    let bytes = 0;
    for await (const chunk of blob) {
      bytes += chunk.length;
      if (bytes > descriptor.size) throw sizeMismatch(what, `more than ${descriptor.size}`, descriptor.size);
      blobHash.update(chunk);
      await attempt(() => decompressor.write(chunk));
    }
    if (bytes < descriptor.size) throw sizeMismatch(what, String(bytes), descriptor.size);
    const blobHex = blobHash.digest('hex');
    verify(blobHex, descriptor.digest, what);
    const result = await attempt(async () => {
      await decompressor.end();
      parser.end();
      verify(diffHash?.digest('hex') ?? blobHex, diffID, 'diffID');
      return writer.finish();
    });
    if (result === undefined) throw failure;
    return result;
  } finally {
    decompressor.close();
    writer.close();
  }
}

function verify(hex: string, expected: Digest, what: string): void {
  const got = `${digestAlgorithm(expected)}:${hex}` as Digest;
  if (got !== expected) throw digestMismatch(what, got, expected);
}

function sizeMismatch(what: string, got: string, expected: number): OciError {
  return new OciError('SIZE_MISMATCH', `${what}: got ${got} bytes, expected ${expected}`, {
    hint: 'Pull again, and tell the registry if it stays so.',
  });
}
