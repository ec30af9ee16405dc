/**
 * A layer that has a table of contents, made of objects: those that are here, and new ones from ranges of its blob.
 *
 * Invariant: where the tar can be made again, byte for byte, the entries are those of the tar, whose digest is the diffID;
 * what the table says about them does not count. Else they are the table's, and the layer is known by the table's digest
 * alone: nothing may take it for the layer of that diffID.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { createDecompressor } from '../archive/decompress.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import { createTarParser } from '../archive/tar-parser.ts';
import { createTarSplitParser, type TarSplitHandler } from '../archive/tar-split.ts';
import type { TocEntry, TocFormat } from '../archive/toc.ts';
import { createContentReader, type KnownChunks } from '../archive/toc-content.ts';
import { INLINE_MAX_BYTES } from '../composefs/inode.ts';
import type { VerityDigest } from '../composefs/verity-digest.ts';
import { systemCodecs } from '../host/codecs.ts';
import type { BlobPiece } from '../oci/content.ts';
import { type DiffID, type Digest, digestMismatch } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import {
  type ObjectPaths,
  type ObjectStage,
  type ObjectWriter,
  objectPath,
  type StoredContent,
} from './objects.ts';

/** Hears of a layer's entries in their order, with the content of files that have some. */
export type EntrySink = (entry: TarEntry, content: StoredContent | undefined) => void;

const READ_BYTES = 256 * 1024;

/** Makes objects of the content in `pieces`, the ranges of `wanted` but for `known`; returns it by its digest. */
export async function storeContent(
  pieces: AsyncIterable<BlobPiece>,
  wanted: readonly TocEntry[],
  known: KnownChunks,
  format: TocFormat,
  stage: ObjectStage,
): Promise<Map<TocEntry, StoredContent & { readonly digest: Digest }>> {
  const stored = new Map<TocEntry, StoredContent & { readonly digest: Digest }>();
  let writer: ObjectWriter | undefined;
  let inline: Buffer[] = [];
  const reader = createContentReader(
    wanted,
    format,
    {
      begin({ size }) {
        if (size > INLINE_MAX_BYTES) writer = stage.create({ size });
      },
      data(bytes) {
        if (writer === undefined) inline.push(Buffer.from(bytes));
        else writer.write(bytes);
      },
      end(entry, digest) {
        const content =
          writer === undefined ? { inline: Buffer.concat(inline) } : { object: writer.finish() };
        if ('inline' in content) stage.remember(content.inline);
        writer = undefined;
        inline = [];
        stored.set(entry, { ...content, digest });
      },
    },
    systemCodecs,
    known,
  );
  try {
    for await (const piece of pieces) await reader.write(piece);
    await reader.end();
  } finally {
    reader.close();
    writer?.abort();
  }
  return stored;
}

/** Reads content that is in the store, or by now in the stage, whose directory is `directory`. */
export function contentReader(paths: ObjectPaths, directory: string) {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const stageDirectory = join(directory, 'objects');
  const staged = new Set(readdirSync(stageDirectory));

  /**
   * Gives it in pieces that are valid during the call. Throws IO_ERROR where it has fewer bytes than `size`, BAD_ARCHIVE
   * where it has more: a file's size does not keep overlayfs from reading its whole object.
   */
  return (content: StoredContent, size: number, onData: (bytes: Buffer) => void): void => {
    if ('inline' in content) {
      if (content.inline.length !== size) throw otherSize();
      onData(content.inline);
      return;
    }
    const { object } = content;
    const fd = reading(object, () =>
      openSync(staged.has(object) ? `${stageDirectory}/${object}` : objectPath(paths, object), 'r'),
    );
    try {
      for (let left = size, isOver = false; !isOver; ) {
        const wanted = Math.min(left + 1, READ_BYTES); // one more, to see that it ends
        const length = reading(object, () => readSync(fd, buffer, 0, wanted, null));
        if (length > left) throw otherSize();
        if (length > 0) onData(buffer.subarray(0, length));
        left -= length;
        isOver = length < wanted;
        if (isOver && left > 0) throw damaged(object);
      }
    } finally {
      closeSync(fd);
    }
  };
}

/** The kernel refuses to open or to read what it guards and finds changed. */
function reading<T>(object: VerityDigest, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw damaged(object, error);
  }
}

export type ReadContent = ReturnType<typeof contentReader>;

/** Throws IO_ERROR for an object that is not what the index of the store takes it for. */
export function checkContent(read: ReadContent, content: StoredContent, { size, digest }: TocEntry): void {
  if (digest === undefined) return;
  const hash = createHash('sha256');
  read(content, size, (bytes) => void hash.update(bytes));
  if ('object' in content && `sha256:${hash.digest('hex')}` !== digest) throw damaged(content.object);
}

/** Gives a tar but for the content of its files: its own bytes, and where that belongs. */
export type TarSource = (handler: TarSplitHandler) => void | Promise<void>;

/** The tar that tar-split data (zstd) was made of. Throws BAD_ARCHIVE. */
export function tarOfSplit(bytes: Uint8Array, unpackedSize: number): TarSource {
  return async (handler) => {
    const split = createTarSplitParser(handler);
    let unpacked = 0;
    const decompressor = createDecompressor(
      'zstd',
      (piece) => {
        unpacked += piece.length;
        if (unpacked > unpackedSize) throw unfit();
        split.push(piece);
      },
      systemCodecs,
    );
    try {
      await decompressor.write(bytes);
      await decompressor.end();
      split.end();
    } finally {
      decompressor.close();
    }
  };
}

/**
 * The tar of a layer, byte for byte, from its source and the content of its files; gives its entries to `sink`. Throws
 * DIGEST_MISMATCH where it is not that of the diffID, BAD_ARCHIVE where source, table and tar do not fit.
 */
export async function rebuildTar(
  source: TarSource,
  files: readonly { readonly size: number; readonly content: StoredContent }[],
  read: ReadContent,
  diffID: DiffID,
  sink: EntrySink,
): Promise<void> {
  const hash = createHash('sha256');
  let next = 0;
  /** The entry whose content is to come, and whose content it is. */
  let file: TarEntry | undefined;
  let content: StoredContent | undefined;
  const parser = createTarParser({
    entry(entry) {
      if (entry.type === 'file' && entry.size > 0) file = entry;
      else sink(entry, undefined);
    },
    data() {
      if (content === undefined) throw unfit();
    },
    end() {
      if (file === undefined) return; // an empty one
      if (content === undefined) throw unfit();
      sink(file, content);
      file = undefined;
    },
  });
  const push = (bytes: Buffer) => {
    hash.update(bytes);
    parser.push(bytes);
  };
  await source({
    segment: push,
    content(size) {
      const known = files[next++];
      if (known?.size !== size || file?.size !== size || file.sparse) throw unfit();
      content = known.content;
      read(content, size, push);
      content = undefined;
      if (file !== undefined) throw unfit();
    },
  });
  parser.end();
  if (next !== files.length) throw unfit();
  const got = `sha256:${hash.digest('hex')}` as Digest;
  if (got !== diffID) throw digestMismatch('diffID of the layer, from its table of contents', got, diffID);
}

function unfit(): OciError {
  return new OciError('BAD_ARCHIVE', 'the tar-split data and the table of contents do not fit');
}

function otherSize(): OciError {
  return new OciError('BAD_ARCHIVE', 'the table of contents names content of another size than the file');
}

function damaged(object: VerityDigest, cause?: unknown): OciError {
  return new OciError('IO_ERROR', `the object ${quote(object)} is damaged`, {
    hint: 'Run: ocictl fsck --repair',
    cause,
  });
}
