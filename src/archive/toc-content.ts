/**
 * Pieces of a blob → the content of those files that are wanted of its table of contents.
 *
 * Invariant: a file's end() comes only when its content was complete and had the digests of the table. One decoder does
 * them all; it gives at most what the ranges hold, and of a file no more than its size.
 */
import { createHash, type Hash } from 'node:crypto';
import type { BlobPiece, ByteRange } from '../oci/content.ts';
import { type Digest, digestMismatch } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { showBytes } from './byte-string.ts';
import type { Codecs } from './codec.ts';
import { createDecompressor } from './decompress.ts';
import type { TocChunk, TocEntry, TocFormat } from './toc.ts';

export interface ContentHandler {
  begin(entry: TocEntry): void;
  /** Valid during the call. */
  data(bytes: Buffer): void;
  /** `digest`: that of the content. */
  end(entry: TocEntry, digest: Digest): void;
}

export interface ContentReader {
  /** The bytes of contentRanges(), in their order. One call at a time. */
  write(piece: BlobPiece): Promise<void>;
  /** Throws where a file is not complete. */
  end(): Promise<void>;
  close(): void;
}

/** Reads a chunk that need not be fetched. */
export type KnownChunks = ReadonlyMap<TocChunk, () => Buffer>;

interface Slice {
  readonly entry: TocEntry;
  readonly chunk: TocChunk;
}

/** A compressed stretch, and whose content is in it, one after the other; `before`: what is known and comes before it. */
interface Member extends ByteRange {
  readonly before: readonly Slice[];
  readonly slices: Slice[];
}

/** What has to be fetched for these files, which are in the table's order: ascending and apart. */
export function contentRanges(wanted: readonly TocEntry[], known: KnownChunks = new Map()): ByteRange[] {
  return membersOf(wanted, known).members.map(({ offset, end }) => ({ offset, end }));
}

function membersOf(wanted: readonly TocEntry[], known: KnownChunks): { members: Member[]; last: Slice[] } {
  const members: Member[] = [];
  let before: Slice[] = [];
  for (const entry of wanted)
    for (const chunk of entry.chunks) {
      const { offset, end } = chunk;
      if (known.has(chunk)) {
        before.push({ entry, chunk });
        continue;
      }
      if (members.at(-1)?.offset !== offset) {
        members.push({ offset, end, before, slices: [] });
        before = [];
      }
      members.at(-1)!.slices.push({ entry, chunk });
    }
  return { members, last: before };
}

/** Throws BAD_ARCHIVE, DIGEST_MISMATCH; what the handler throws comes out, too. */
export function createContentReader(
  wanted: readonly TocEntry[],
  format: TocFormat,
  handler: ContentHandler,
  codecs?: Codecs,
  known: KnownChunks = new Map(),
): ContentReader {
  const { members, last } = membersOf(wanted, known);
  let index = 0;
  /** How many members have had what comes before them. */
  let begun = 0;
  let position = members[0]?.offset ?? 0;
  /** Of the member: bytes unpacked, and which of its slices is next. */
  let unpacked = 0;
  let next = 0;
  let file: { entry: TocEntry; bytes: number; hash: Hash } | undefined;
  let chunkHash: Hash | undefined;

  function take(bytes: Buffer): void {
    const { slices } = members[index]!;
    for (let rest = bytes; rest.length > 0; ) {
      const slice = slices[next];
      // Behind a file's content, a member of eStargz goes on with headers of the tar.
      if (slice === undefined && format === 'eStargz') return;
      if (slice === undefined) throw wrong(slices.at(-1)!.entry, 'longer');
      const { innerOffset, size } = slice.chunk;
      const before = Math.min(Math.max(innerOffset - unpacked, 0), rest.length);
      const content = rest.subarray(before, before + innerOffset + size - unpacked - before);
      unpacked += before + content.length;
      rest = rest.subarray(before + content.length);
      if (content.length > 0) deliver(slice.entry, slice.chunk, content);
      if (unpacked === innerOffset + size) {
        endOfChunk(slice.entry, slice.chunk);
        next++;
      }
    }
  }

  function deliver(entry: TocEntry, chunk: TocChunk, bytes: Buffer): void {
    if (file === undefined) {
      file = { entry, bytes: 0, hash: createHash('sha256') };
      handler.begin(entry);
    }
    if (chunk.digest !== undefined) {
      chunkHash ??= createHash('sha256');
      chunkHash.update(bytes);
    }
    file.hash.update(bytes);
    file.bytes += bytes.length;
    handler.data(bytes);
  }

  function endOfChunk(entry: TocEntry, chunk: TocChunk): void {
    verify(entry, chunkHash, chunk.digest);
    chunkHash = undefined;
    if (file?.bytes !== entry.size) return;
    const digest = verify(entry, file.hash, entry.digest);
    file = undefined;
    handler.end(entry, digest);
  }

  /** What is known and comes before the next bytes. */
  function takeKnown(): void {
    if (begun > index) return;
    begun = index + 1;
    for (const { entry, chunk } of members[index]?.before ?? last) {
      deliver(entry, chunk, known.get(chunk)!());
      endOfChunk(entry, chunk);
    }
  }

  function endOfMember(): void {
    const { slices } = members[index]!;
    if (next < slices.length) throw wrong(slices[next]!.entry, 'shorter');
    index++;
    position = members[index]?.offset ?? position;
    unpacked = 0;
    next = 0;
  }

  const decompressor = createDecompressor(format === 'eStargz' ? 'gzip' : 'zstd', take, codecs);
  return {
    async write({ offset, bytes }) {
      for (let at = 0; at < bytes.length; ) {
        const member = members[index];
        if (member === undefined || offset + at !== position)
          throw new OciError('INTERNAL', `byte ${offset + at} of a blob was not asked for`);
        takeKnown();
        const part = bytes.subarray(at, at + member.end - position);
        await decompressor.write(part);
        at += part.length;
        position += part.length;
        if (position === member.end) endOfMember();
      }
    },
    async end() {
      if (index < members.length) throw wrong(members[index]!.slices[next]!.entry, 'shorter');
      takeKnown();
      if (members.length > 0) await decompressor.end();
    },
    close: () => decompressor.close(),
  };
}

function verify(entry: TocEntry, hash: Hash | undefined, expected: Digest | undefined): Digest {
  const got = `sha256:${hash?.digest('hex')}` as Digest;
  if (expected !== undefined && got !== expected)
    throw digestMismatch(`content of ${showBytes(entry.path)}`, got, expected);
  return got;
}

function wrong({ path }: TocEntry, how: 'longer' | 'shorter'): OciError {
  return new OciError(
    'BAD_ARCHIVE',
    `content of ${showBytes(path)} is ${how} than the table of contents says`,
  );
}
