/** zstd frames byte by byte (RFC 8878), also those that no compressor would make: blocks are raw or RLE. */

export interface Frame {
  /** Exponent and mantissa of the window; undefined for a single segment. */
  readonly window?: readonly [exponent: number, mantissa: number];
  /** Written as 8 bytes; required for a single segment. */
  readonly contentSize?: bigint;
  readonly dictionaryID?: number;
  /** Says that a checksum follows, and writes this one. */
  readonly checksum?: number;
  readonly blocks?: readonly (
    | Uint8Array
    | { readonly rle: number; readonly count: number }
    | { readonly type: number }
  )[];
}

export function zstdFrame(frame: Frame): Buffer {
  const { window, contentSize, dictionaryID, checksum, blocks = [] } = frame;
  const descriptor =
    (contentSize === undefined ? 0 : 3 << 6) |
    (window === undefined ? 0x20 : 0) |
    (checksum === undefined ? 0 : 4) |
    (dictionaryID === undefined ? 0 : 3);
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const size = Buffer.alloc(contentSize === undefined ? 0 : 8);
  if (contentSize !== undefined) size.writeBigUInt64LE(contentSize);
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor]),
    Buffer.from(window === undefined ? [] : [(window[0] << 3) | window[1]]),
    dictionaryID === undefined ? Buffer.alloc(0) : u32(dictionaryID),
    size,
    ...blocks.map((block, i) => blockOf(block, i === blocks.length - 1)),
    checksum === undefined ? Buffer.alloc(0) : u32(checksum),
  ]);
}

function blockOf(block: NonNullable<Frame['blocks']>[number], last: boolean): Buffer {
  const header = (type: number, bytes: number) => {
    const value = Buffer.alloc(3);
    value.writeUIntLE((bytes << 3) | (type << 1) | (last ? 1 : 0), 0, 3);
    return value;
  };
  if (block instanceof Uint8Array) return Buffer.concat([header(0, block.length), block]);
  if ('rle' in block) return Buffer.concat([header(1, block.count), Buffer.from([block.rle])]);
  return header(block.type, 0);
}

/** Content in raw blocks, none larger than the format allows. */
export function rawBlocks(content: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  for (let at = 0; at < content.length; at += 65536) blocks.push(content.subarray(at, at + 65536));
  return blocks;
}

export function skippableFrame(content: Uint8Array, magic = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50 + magic, 0);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}
