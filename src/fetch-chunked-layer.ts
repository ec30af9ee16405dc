/**
 * One layer of a composefs image by its table of contents: of its blob only the content is fetched that no object has.
 *
 * Invariant: a layer that comes with tar-split data is verified by its diffID, as if its blob had been fetched: the data
 * itself is fetched only where the tar cannot be made from the table alone (archive/tar-style.ts). One that comes without
 * is known by the digest of its table, which the manifest states, and never by the diffID (chunked-layer.ts). Bytes that
 * are not those of their digest are an error. Whatever else goes wrong is none: the blob is then fetched whole.
 */
import { decompressWhole } from './archive/decompress.ts';
import {
  ESTARGZ_FOOTER_BYTES,
  estargzTocDigest,
  parseEstargzFooter,
  unpackEstargzToc,
} from './archive/estargz.ts';
import type { TarEntry } from './archive/tar-entry.ts';
import { findStyle, writeInStyle } from './archive/tar-style.ts';
import { parseToc, TOC_COMPRESSED_MAX_BYTES, type TocEntry, type TocFormat } from './archive/toc.ts';
import { contentRanges } from './archive/toc-content.ts';
import { type Section, zstdChunkedLayer } from './archive/zstd-chunked.ts';
import { INLINE_MAX_BYTES } from './composefs/inode.ts';
import type { VerityDigest } from './composefs/verity-digest.ts';
import type { PlannedLayer } from './fetch-layer.ts';
import { systemCodecs } from './host/codecs.ts';
import type { BlobPiece, ByteRange } from './oci/content.ts';
import { type Digest, verifyDigest } from './oci/digest.ts';
import { OciError } from './oci/errors.ts';
import type { BlobSource } from './source/image-source.ts';
import {
  checkContent,
  contentReader,
  type EntrySink,
  rebuildTar,
  storeContent,
  type TarSource,
  tarOfSplit,
} from './store/chunked-layer.ts';
import { findKnownPieces } from './store/known-pieces.ts';
import { contentBySha256, type ObjectPaths, type ObjectStage, type StoredContent } from './store/objects.ts';

/** With more of it to be fetched than this share, a blob comes as fast as a whole. */
const MISSING_SHARE_MAX = 0.7;
/** Not worth a request more. */
const BLOB_MIN_BYTES = 16 * 1024;
/** A table may name the same content again and again, and each time it would be read: more is fetched as any other blob. */
const CONTENT_MAX_BYTES = 64 * 1024 ** 3;
/** As much would come in the round trip that it takes to ask again. */
const SPLIT_AT_ONCE_MAX_BYTES = 64 * 1024;
/** Headers of the directories that come before the first file with content: as a rule some hundred bytes. */
const LEAD_MAX_BYTES = 16 * 1024;
const LEAD_UNPACKED_MAX_BYTES = 1024 * 1024;
/** What is read of the end of an eStargz blob, to have its table at once: about that share of the blob. */
const ESTARGZ_TAIL_SHARE = 1 / 50;
const ESTARGZ_TAIL_MAX_BYTES = 1024 * 1024;

export interface ChunkedFetch {
  readonly layer: PlannedLayer;
  readonly source: BlobSource;
  readonly objects: ObjectPaths;
  /** Takes new objects; they lie in `objects/` below `directory`. */
  readonly stage: ObjectStage;
  readonly directory: string;
  /** Objects that are like to have much of what such files have now. */
  readonly earlier: (paths: ReadonlySet<string>) => ReadonlyMap<string, VerityDigest>;
  readonly signal: AbortSignal;
  /** So many bytes of the blob need not be fetched any more. */
  onBytes(bytes: number): void;
  note(message: string): void;
  /** Starts again with the layer's entries. */
  begin(): EntrySink;
}

/** What the layer may be known by. */
export type LayerIdentity = { readonly kind: 'diffID' } | { readonly kind: 'toc'; readonly digest: Digest };

/** What the end of the blob says. */
interface Table {
  readonly format: TocFormat;
  readonly digest: Digest;
  readonly entries: readonly TocEntry[];
  /** Its bytes are undefined as long as they may not be needed. */
  readonly tarSplit: { readonly section: Section; readonly bytes: Buffer | undefined } | undefined;
  /** The table itself, where it is also a file of the layer. */
  readonly self: { readonly entry: TarEntry; readonly content: Buffer } | undefined;
  /** That were fetched for it. */
  readonly bytes: number;
}

/** The digest of its table of contents, where nothing else would vouch for a layer that is made from it. */
export function tableIdentity({ descriptor }: PlannedLayer): Digest | undefined {
  try {
    const zstd = zstdChunkedLayer(descriptor);
    if (zstd === undefined) return estargzTocDigest(descriptor);
    return zstd.tarSplit === undefined ? zstd.toc.digest : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the layer's annotations promise a table that is worth asking for. */
export function mayBeChunked({ descriptor }: PlannedLayer, source: BlobSource): boolean {
  if (source.readRanges === undefined || descriptor.size < BLOB_MIN_BYTES) return false;
  try {
    const zstd = zstdChunkedLayer(descriptor);
    if (zstd === undefined) return estargzTocDigest(descriptor) !== undefined;
    return (zstd.tarSplit ?? zstd.toc).end - zstd.toc.offset < MISSING_SHARE_MAX * descriptor.size;
  } catch {
    return true; // what is wrong with them is said when they are used
  }
}

/** undefined: the layer's blob has to be fetched whole, as if nobody had tried. */
export async function fetchChunked(fetch: ChunkedFetch): Promise<LayerIdentity | undefined> {
  for (;;)
    try {
      return await attempt(fetch);
    } catch (error) {
      if (fetch.signal.aborted || !(error instanceof OciError)) throw error;
      if (error.code === 'DIGEST_MISMATCH') {
        if (fetch.source.distrust?.(fetch.layer.descriptor, error) !== true) throw error;
      } else if (error.code === 'INTERNAL') throw error;
      else {
        fetch.note(`${error.message}; fetching the whole layer`);
        return undefined;
      }
    }
}

async function attempt(fetch: ChunkedFetch): Promise<LayerIdentity | undefined> {
  const { layer, source, objects, stage, directory, signal } = fetch;
  const { descriptor } = layer;
  const table = await fetchTable(fetch);
  const files = table.entries.filter(({ size }) => size > 0);
  if (files.reduce((sum, { size }) => sum + size, 0) > CONTENT_MAX_BYTES)
    throw new OciError('UNSUPPORTED', 'the table of contents has more content than is put together here');
  const { here, wanted } = findContent(files, objects);
  const pieces = findKnownPieces(objects, wanted, fetch.earlier);
  const ranges = contentRanges(pieces.wanted, pieces.known);
  const missing = ranges.reduce((sum, { offset, end }) => sum + end - offset, 0);
  if (missing + table.bytes > MISSING_SHARE_MAX * descriptor.size) return undefined;

  let present = descriptor.size - missing;
  fetch.onBytes(present);
  const lead = leadOf(table);
  async function* fetching(): AsyncGenerator<BlobPiece> {
    const all = lead.length > 0 ? [{ offset: 0, end: lead.length }, ...ranges] : ranges;
    if (all.length === 0) return;
    for await (const piece of source.readRanges!(descriptor, all, signal)) {
      const { offset, bytes } = piece;
      if (offset < lead.length) {
        lead.set(bytes, offset);
        continue;
      }
      yield piece;
      present += bytes.length;
      fetch.onBytes(present);
    }
  }
  const fetched = await storeContent(fetching(), pieces.wanted, pieces.known, table.format, stage);
  const byDigest = new Map(here);
  for (const { digest, ...content } of fetched.values()) byDigest.set(digest, content);
  const contentOf = (file: TocEntry) => fetched.get(file) ?? byDigest.get(file.digest!)!;

  const read = contentReader(objects, directory);
  /** An index of objects may be wrong; nothing else says so where there is no diffID. */
  const checkObjects = () => {
    const reused = new Map(files.map((file) => [file.digest, file]));
    for (const [digest, content] of here) checkContent(read, content, reused.get(digest)!);
  };
  if (table.tarSplit === undefined) {
    const sink = fetch.begin();
    checkObjects();
    for (const entry of table.entries) sink(entry, entry.size > 0 ? contentOf(entry) : undefined);
    if (table.self !== undefined) sink(table.self.entry, storeSelf(stage, table.self.content));
    return { kind: 'toc', digest: table.digest };
  }
  const contents = files.map((file) => ({ size: file.size, content: contentOf(file) }));
  const rebuild = (tar: TarSource) => rebuildTar(tar, contents, read, layer.diffID, fetch.begin());
  if (lead.length > 0 && (await rebuildFromTable(lead, table.entries, rebuild))) return { kind: 'diffID' };
  const { section, bytes = await fetchTarSplit(fetch, section) } = table.tarSplit;
  try {
    await rebuild(tarOfSplit(bytes, section.unpackedSize));
  } catch (error) {
    if (error instanceof OciError && error.code === 'DIGEST_MISMATCH') checkObjects();
    throw error;
  }
  return { kind: 'diffID' };
}

/** What there is of the content of these files, and those whose content there is not, each content once. */
function findContent(
  files: readonly TocEntry[],
  objects: ObjectPaths,
): { here: ReadonlyMap<Digest, StoredContent>; wanted: readonly TocEntry[] } {
  const here = new Map<Digest, StoredContent>();
  const wanted: TocEntry[] = [];
  const sizes = new Map<Digest, number>();
  for (const file of files) {
    const { digest, size } = file;
    if (digest === undefined) {
      wanted.push(file);
      continue;
    }
    const known = sizes.get(digest);
    if (known !== undefined && known !== size)
      throw new OciError('BAD_ARCHIVE', 'the table of contents has the same content with two sizes');
    if (known !== undefined) continue;
    sizes.set(digest, size);
    const content = contentBySha256(objects, digest);
    if (content === undefined) wanted.push(file);
    else here.set(digest, content);
  }
  return { here, wanted };
}

/**
 * Room for what the blob has before the content of its first file, which shows who wrote the tar; none where nobody needs to
 * know, or it takes too much to find out.
 */
function leadOf({ entries, tarSplit }: Table): Buffer {
  const [first] = entries.find(({ size }) => size > 0)?.chunks ?? [];
  const end = first?.offset ?? 0;
  const isWorthIt = tarSplit !== undefined && tarSplit.bytes === undefined && end <= LEAD_MAX_BYTES;
  return Buffer.alloc(isWorthIt && !hasReplacedNames(entries) ? end : 0);
}

/** Whether the layer's tar comes out right from its table alone. */
async function rebuildFromTable(
  lead: Buffer,
  entries: readonly TocEntry[],
  rebuild: (tar: TarSource) => Promise<void>,
): Promise<boolean> {
  try {
    const style = findStyle(
      await decompressWhole('zstd', lead, LEAD_UNPACKED_MAX_BYTES, systemCodecs),
      entries,
    );
    if (style === undefined) return false;
    await rebuild((handler) => writeInStyle(entries, style, handler));
    return true;
  } catch (error) {
    if (error instanceof OciError && (error.code === 'DIGEST_MISMATCH' || error.code === 'BAD_ARCHIVE'))
      return false;
    throw error;
  }
}

function storeSelf(stage: ObjectStage, content: Buffer): StoredContent {
  if (content.length <= INLINE_MAX_BYTES) return { inline: content };
  const writer = stage.create({ size: content.length });
  writer.write(content);
  return { object: writer.finish() };
}

async function fetchTable(fetch: ChunkedFetch): Promise<Table> {
  const { descriptor } = fetch.layer;
  const zstd = zstdChunkedLayer(descriptor);
  if (zstd === undefined) return fetchEstargzTable(fetch, estargzTocDigest(descriptor)!);
  const { toc, tarSplit } = zstd;
  const withSplit = tarSplit !== undefined && tarSplit.end - tarSplit.offset <= SPLIT_AT_ONCE_MAX_BYTES;
  const [tocBytes, splitBytes] = await fetchSections(fetch, withSplit ? [toc, tarSplit] : [toc]);
  verifyDigest(tocBytes!, toc.digest, 'table of contents');
  if (withSplit) verifyTarSplit(splitBytes!, tarSplit);
  const json = await decompressWhole('zstd', tocBytes!, toc.unpackedSize, systemCodecs);
  const { entries } = parseToc(json, 'zstd:chunked', toc.offset);
  if (tarSplit === undefined) refuseReplacedNames(entries);
  return {
    format: 'zstd:chunked',
    digest: toc.digest,
    entries,
    tarSplit: tarSplit && { section: tarSplit, bytes: splitBytes },
    self: undefined,
    bytes: tocBytes!.length + (splitBytes?.length ?? 0),
  };
}

async function fetchTarSplit(fetch: ChunkedFetch, section: Section): Promise<Buffer> {
  const [bytes] = await fetchSections(fetch, [section]);
  verifyTarSplit(bytes!, section);
  return bytes!;
}

function verifyTarSplit(bytes: Buffer, { digest }: Section): void {
  if (digest !== undefined) verifyDigest(bytes, digest, 'tar-split data');
}

async function fetchEstargzTable(fetch: ChunkedFetch, digest: Digest): Promise<Table> {
  const { size } = fetch.layer.descriptor;
  const tailBytes = Math.min(Math.ceil(size * ESTARGZ_TAIL_SHARE), ESTARGZ_TAIL_MAX_BYTES);
  const tailAt = size - Math.max(tailBytes, ESTARGZ_FOOTER_BYTES);
  const [tail] = await fetchSections(fetch, [{ offset: tailAt, end: size }]);
  const footerAt = size - ESTARGZ_FOOTER_BYTES;
  const tocAt = parseEstargzFooter(tail!.subarray(footerAt - tailAt), size);
  if (footerAt - tocAt > TOC_COMPRESSED_MAX_BYTES)
    throw new OciError('UNSUPPORTED', "the layer's table of contents is larger than we read");
  const [before] = tocAt < tailAt ? await fetchSections(fetch, [{ offset: tocAt, end: tailAt }]) : [];
  const rest = tail!.subarray(Math.max(tocAt - tailAt, 0), footerAt - tailAt);
  const { json, entry } = await unpackEstargzToc(
    Buffer.concat([before ?? Buffer.alloc(0), rest]),
    digest,
    systemCodecs,
  );
  const { entries } = parseToc(json, 'eStargz', tocAt);
  refuseReplacedNames(entries);
  return {
    format: 'eStargz',
    digest,
    entries,
    tarSplit: undefined,
    self: { entry, content: json },
    bytes: tail!.length + (before?.length ?? 0),
  };
}

/** JSON has no place for names that are not UTF-8: their writers put this character for what they cannot say. */
function hasReplacedNames(entries: readonly TocEntry[]): boolean {
  return entries.some(({ path, linkPath }) => /\xef\xbf\xbd/.test(path + linkPath));
}

function refuseReplacedNames(entries: readonly TocEntry[]): void {
  if (hasReplacedNames(entries))
    throw new OciError('UNSUPPORTED', 'the layer has names that its table of contents cannot hold');
}

/** A few stretches of the blob, whole. */
async function fetchSections(fetch: ChunkedFetch, sections: readonly ByteRange[]): Promise<Buffer[]> {
  const { layer, source, signal } = fetch;
  const buffers = sections.map(({ offset, end }) => Buffer.alloc(end - offset));
  let filled = 0;
  for await (const { offset, bytes } of source.readRanges!(layer.descriptor, sections, signal)) {
    const index = sections.findIndex(({ end }) => offset < end);
    buffers[index]!.set(bytes, offset - sections[index]!.offset);
    filled += bytes.length;
  }
  if (filled !== buffers.reduce((sum, { length }) => sum + length, 0))
    throw new OciError('SIZE_MISMATCH', 'the blob ends before its table of contents');
  return buffers;
}
