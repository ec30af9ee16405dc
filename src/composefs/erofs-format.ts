/**
 * Numbers of the EROFS on-disk format (Linux fs/erofs/erofs_fs.h), for who writes images and who reads them. Sizes and
 * offsets are in bytes.
 */
export const BLOCK_BITS = 12;
export const BLOCK_BYTES = 1 << BLOCK_BITS;
/** Inodes lie at multiples of it; an inode's number is where it lies in these units. */
export const SLOT_BYTES = 32;
export const SUPER_OFFSET = 1024;
export const SUPER_BYTES = 128;
export const EROFS_MAGIC = 0xe0f5e1e2;
export const COMPACT_BYTES = 32;
export const EXTENDED_BYTES = 64;
export const DIRENT_BYTES = 12;
export const XATTR_HEADER_BYTES = 12;

/** How an inode's data lies: in blocks of its own; the last block behind the inode; by chunks, here only holes. */
export const DATA_LAYOUT = { plain: 0, inline: 2, chunks: 4 } as const;

/** File types in an inode's mode. */
export const S_IFMT = {
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;
/** The same in a directory's entry. */
export const FILE_TYPE = {
  file: 1,
  directory: 2,
  characterDevice: 3,
  blockDevice: 4,
  fifo: 5,
  symlink: 7,
} as const;

/** struct ovl_metacopy before the digest, in hex: version 0, length 36, no flags, SHA-256. */
export const METACOPY_HEAD = '00240001';

export function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
