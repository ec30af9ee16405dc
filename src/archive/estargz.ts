/**
 * eStargz: a layer of gzip members, one for the content of each file. The last member but one is the table of contents, a
 * file of the tar; the last one, empty, says where that begins (stargz-snapshotter docs/estargz.md).
 *
 * Invariant: the table's digest is that of the annotation; it is the only thing that the manifest vouches for.
 */
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, parseDigest, verifyDigest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { layerCompression } from '../oci/media-type.ts';
import type { Codecs } from './codec.ts';
import { createDecompressor } from './decompress.ts';
import type { TarEntry } from './tar-entry.ts';
import { createTarParser } from './tar-parser.ts';
import { TOC_MAX_BYTES } from './toc.ts';

export const ESTARGZ_FOOTER_BYTES = 51;

const ANNOTATION = 'containerd.io/snapshot/stargz/toc.digest';
const TOC_NAME = 'stargz.index.json';
/** A gzip header with the extra field `SG`, of 22 bytes. */
const FOOTER_HEAD = Buffer.from('1f8b0804', 'hex');
const EXTRA_AT = 10;
const EXTRA_HEAD = Buffer.from([26, 0, 0x53, 0x47, 22, 0]);
/** The table's entry in the tar, beside the table itself: headers, padding and the end of the archive. */
const TAR_MAX_BYTES = TOC_MAX_BYTES + 1024 * 1024;

/** The table's digest; undefined where the layer is not of this format. Throws BAD_IMAGE. */
export function estargzTocDigest({ annotations, mediaType, size }: Descriptor): Digest | undefined {
  const text = annotations?.[ANNOTATION];
  if (text === undefined || layerCompression(mediaType) !== 'gzip' || size <= ESTARGZ_FOOTER_BYTES)
    return undefined;
  return parseDigest(text, 'digest of the table of contents');
}

/** Where in the blob the table begins. `footer`: the blob's last bytes. Throws BAD_ARCHIVE. */
export function parseEstargzFooter(footer: Buffer, blobSize: number): number {
  const extra = footer.subarray(EXTRA_AT);
  const text = extra.toString('latin1', EXTRA_HEAD.length, EXTRA_HEAD.length + 22);
  const match = /^([0-9a-f]{16})STARGZ$/.exec(text);
  const offset = Number(`0x${match?.[1] ?? 'z'}`);
  const isFooter = footer.length === ESTARGZ_FOOTER_BYTES && footer.indexOf(FOOTER_HEAD) === 0;
  if (
    !isFooter ||
    extra.indexOf(EXTRA_HEAD) !== 0 ||
    !(offset > 0 && offset < blobSize - ESTARGZ_FOOTER_BYTES)
  )
    throw new OciError('BAD_ARCHIVE', 'the layer is said to be eStargz, but does not end as such');
  return offset;
}

/** Its header in the tar, as its writers make it. Nothing vouches for the one that comes. */
const TOC_ENTRY: Omit<TarEntry, 'size'> = {
  type: 'file',
  path: TOC_NAME,
  linkPath: '',
  mode: 0,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  sparse: false,
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: undefined,
};

/** The table as it is, and as the file of the layer that it also is. */
export interface EstargzToc {
  readonly json: Buffer;
  readonly entry: TarEntry;
}

/** `member`: the blob from the table to the footer. Throws BAD_ARCHIVE, DIGEST_MISMATCH. */
export async function unpackEstargzToc(
  member: Uint8Array,
  digest: Digest,
  codecs?: Codecs,
): Promise<EstargzToc> {
  const pieces: Buffer[] = [];
  let found = false;
  const parser = createTarParser({
    entry({ path, type, size }) {
      if (found || path !== TOC_NAME || type !== 'file' || size > TOC_MAX_BYTES)
        throw new OciError(
          'BAD_ARCHIVE',
          `where its footer points to, the layer has something other than its table of contents`,
        );
      found = true;
    },
    data: (bytes) => void pieces.push(Buffer.from(bytes)),
    end() {},
  });
  let unpacked = 0;
  const decompressor = createDecompressor(
    'gzip',
    (bytes) => {
      unpacked += bytes.length;
      if (unpacked > TAR_MAX_BYTES) throw new OciError('BAD_ARCHIVE', 'the table of contents has no end');
      parser.push(bytes);
    },
    codecs,
  );
  try {
    await decompressor.write(member);
    await decompressor.end();
    parser.end();
  } finally {
    decompressor.close();
  }
  if (!found) throw new OciError('BAD_ARCHIVE', 'the layer has no table of contents');
  const json = Buffer.concat(pieces);
  verifyDigest(json, digest, 'table of contents');
  return { json, entry: { ...TOC_ENTRY, size: json.length } };
}
