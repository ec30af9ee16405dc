/**
 * zstd:chunked: a layer of zstd frames, one for the content of each file, and behind them, in skippable frames, a table of
 * contents and what tar-split kept of the tar. The layer's annotations say where both lie (containers/storage,
 * docs/containers-storage-zstd-chunked.md). The footer says it, too, but without the digest that makes it worth a look.
 */
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { layerCompression } from '../oci/media-type.ts';
import { TAR_SPLIT_COMPRESSED_MAX_BYTES, TAR_SPLIT_MAX_BYTES } from './tar-split.ts';
import { TOC_COMPRESSED_MAX_BYTES, TOC_MAX_BYTES } from './toc.ts';

/** A stretch of the blob that is a zstd stream by itself. */
export interface Section {
  readonly offset: number;
  readonly end: number;
  readonly unpackedSize: number;
  /** Of the bytes as they are in the blob. */
  readonly digest: Digest | undefined;
}

export interface ZstdChunkedLayer {
  readonly toc: Section & { readonly digest: Digest };
  readonly tarSplit: Section | undefined;
}

const PREFIX = 'io.github.containers.zstd-chunked.';
const TOC_KIND = '1';

/** undefined where the layer is not of this format. Throws BAD_IMAGE where its annotations make no sense. */
export function zstdChunkedLayer(descriptor: Descriptor): ZstdChunkedLayer | undefined {
  const { annotations = {}, mediaType, size } = descriptor;
  const checksum = annotations[`${PREFIX}manifest-checksum`];
  const position = annotations[`${PREFIX}manifest-position`];
  if (checksum === undefined || position === undefined || layerCompression(mediaType) !== 'zstd')
    return undefined;
  const digest = parseDigest(checksum, 'digest of the table of contents');
  const [, place, kind] = /^(.*):(\d+)$/.exec(position) ?? [];
  if (kind !== TOC_KIND) throw refused(position);
  const toc = { ...section(place!, TOC_COMPRESSED_MAX_BYTES, TOC_MAX_BYTES, size), digest };
  const tarSplit = annotations[`${PREFIX}tarsplit-position`];
  if (tarSplit === undefined) return { toc, tarSplit: undefined };
  const split = section(tarSplit, TAR_SPLIT_COMPRESSED_MAX_BYTES, TAR_SPLIT_MAX_BYTES, size);
  if (split.offset < toc.end) throw refused(tarSplit);
  const checksumOfSplit = annotations[`${PREFIX}tarsplit-checksum`];
  const splitDigest =
    checksumOfSplit === undefined ? undefined : parseDigest(checksumOfSplit, 'digest of tar-split data');
  return { toc, tarSplit: { ...split, digest: splitDigest } };
}

/** `OFFSET:LENGTH:UNPACKED LENGTH` */
function section(
  text: string,
  maxBytes: number,
  unpackedMaxBytes: number,
  blobSize: number,
): Omit<Section, 'digest'> {
  const match = /^(\d{1,15}):(\d{1,15}):(\d{1,15})$/.exec(text);
  const [offset, length, unpackedSize] = (match?.slice(1) ?? []).map(Number) as [number, number, number];
  if (match === null || length === 0 || offset + length > blobSize) throw refused(text);
  if (length > maxBytes || unpackedSize > unpackedMaxBytes)
    throw new OciError(
      'UNSUPPORTED',
      `the layer's table of contents is larger than we read (${quote(text)})`,
    );
  return { offset, end: offset + length, unpackedSize };
}

function refused(text: string): OciError {
  return new OciError('BAD_IMAGE', `the layer's annotations place its table of contents at ${quote(text)}`);
}
