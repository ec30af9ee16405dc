/**
 * A tree → the EROFS image that composefs mounts: format version 1, bit for bit what `mkcomposefs --min-version=1` makes
 * of the same files. EROFS on-disk format (Linux Documentation/filesystems/erofs.rst), overlayfs "Data-only lower layers".
 * Where everything lies is decided in erofs-layout.ts; here it is written.
 *
 *   0      composefs header: magic, versions, whether there are ACLs
 *   1024   superblock
 *   1152   inodes, breadth first, names in byte order; what follows an inode: xattrs, then its tail (the last part
 *          of a directory, a symlink's target, content of up to 64 bytes), never across the end of a block
 *          shared xattrs
 *          blocks of directories that are longer than half a block, and of symlinks that are as long as one
 *
 * Invariant: the same tree gives the same bytes. A file of several names is written where it comes first. The root hides
 * the directories of objects: they would be seen through it, as names 00 to ff.
 */
import { createOutput, type Output } from './byte-output.ts';
import {
  BLOCK_BITS,
  BLOCK_BYTES,
  DATA_LAYOUT,
  DIRENT_BYTES,
  EROFS_MAGIC,
  FILE_TYPE,
  S_IFMT,
  SLOT_BYTES,
  SUPER_BYTES,
  SUPER_OFFSET,
  XATTR_HEADER_BYTES,
} from './erofs-format.ts';
import {
  dataBytes,
  type Entries,
  type ImageLayout,
  type Item,
  layOut,
  splitEntries,
} from './erofs-layout.ts';
import type { Inode, TreeNode } from './inode.ts';
import type { Xattr } from './xattr-table.ts';

const COMPOSEFS_MAGIC = 0xd078629a;
const FEATURES_MTIME_AND_XATTR_FILTER = 2 | 4;
const U32_MAX = 0xffffffff;

/** Hands the image over in pieces; each is its receiver's. Throws a Refusal for what no image can hold. */
export function writeErofsImage(root: TreeNode, write: (bytes: Buffer) => void): void {
  const layout = layOut(root);
  const { items, inodesEnd, dataStart } = layout;
  const out = createOutput(write);
  writeComposefsHeader(out, items);
  out.alignTo(SUPER_OFFSET);
  writeSuperblock(out, layout);
  let nextBlock = dataStart / BLOCK_BYTES;
  for (const item of items) {
    out.zeros(item.padding);
    writeInode(out, item, nextBlock);
    nextBlock += item.blocks;
    writeXattrs(out, item, inodesEnd % BLOCK_BYTES);
    writeTail(out, item);
  }
  out.alignTo(SLOT_BYTES);
  for (const xattr of layout.sharedXattrs) writeXattr(out, xattr);
  out.alignTo(BLOCK_BYTES);
  for (const item of items) writeBlocks(out, item);
  out.end();
}

function writeComposefsHeader(out: Output, items: readonly Item[]): void {
  const hasAcl = items.some(({ xattrs }) =>
    xattrs.some(({ name }) => name.text.startsWith('system.posix_acl_')),
  );
  out.u32(COMPOSEFS_MAGIC);
  out.u32(1); // version
  out.u32(hasAcl ? 1 : 0); // flags
  out.u32(1); // composefs version
}

function writeSuperblock(
  out: Output,
  { items, oldest, inodesEnd, dataStart, dataBlocks }: ImageLayout,
): void {
  out.u32(EROFS_MAGIC);
  out.u32(0); // checksum
  out.u32(FEATURES_MTIME_AND_XATTR_FILTER);
  out.u8(BLOCK_BITS);
  out.u8(0); // further slots of the superblock
  out.u16(items[0]!.position / SLOT_BYTES); // the root
  out.u64(items.length);
  out.u64(oldest.seconds);
  out.u32(oldest.nanoseconds);
  out.u32(dataStart / BLOCK_BYTES + dataBlocks);
  out.u32(0); // block of the inodes
  out.u32(Math.floor(inodesEnd / BLOCK_BYTES)); // block of the shared xattrs
  out.zeros(SUPER_BYTES - 48);
}

function deviceNumber({ deviceMajor, deviceMinor }: Inode): number {
  return ((deviceMinor & 0xff) | (deviceMajor << 8) | ((deviceMinor & ~0xff) << 12)) >>> 0;
}

function writeInode(out: Output, item: Item, block: number): void {
  const { inode } = item.node;
  const layout =
    item.chunks > 0 ? DATA_LAYOUT.chunks : item.tailBytes > 0 ? DATA_LAYOUT.inline : DATA_LAYOUT.plain;
  const isDevice = inode.type === 'characterDevice' || inode.type === 'blockDevice';
  const where = isDevice
    ? deviceNumber(inode)
    : item.chunks > 0
      ? item.chunkBits - BLOCK_BITS
      : item.blocks > 0
        ? block
        : 0;
  out.u16((layout << 1) | (item.compact ? 0 : 1));
  out.u16(item.xattrBytes === 0 ? 0 : (item.xattrBytes - XATTR_HEADER_BYTES) / 4 + 1);
  out.u16(S_IFMT[inode.type] | inode.mode);
  if (item.compact) {
    out.u16(item.links);
    out.u32(dataBytes(item));
    out.u32(0);
    out.u32(where);
    out.u32(item.number);
    out.u16(inode.uid);
    out.u16(inode.gid);
    out.u32(0);
  } else {
    out.u16(0);
    out.u64(dataBytes(item));
    out.u32(where);
    out.u32(item.number);
    out.u32(inode.uid);
    out.u32(inode.gid);
    out.u64(inode.mtime.seconds);
    out.u32(inode.mtime.nanoseconds);
    out.u32(item.links);
    out.zeros(16);
  }
}

function writeXattrs(out: Output, item: Item, sharedOffset: number): void {
  if (item.xattrBytes === 0) return;
  let filter = U32_MAX;
  for (const { name } of item.xattrs) filter &= ~(1 << name.filterBit);
  out.u32(filter >>> 0);
  out.u8(item.sharedXattrs);
  out.zeros(7);
  let left = item.sharedXattrs;
  const own: Xattr[] = [];
  for (const xattr of item.xattrs) {
    if (xattr.sharedAt !== undefined && left-- > 0) out.u32((sharedOffset + xattr.sharedAt) / 4);
    else own.push(xattr);
  }
  for (const xattr of own) writeXattr(out, xattr);
}

function writeXattr(out: Output, { name: { index, rest }, value }: Xattr): void {
  out.u8(rest.length);
  out.u8(index);
  out.u16(value.length);
  out.text(rest);
  out.text(value);
  out.alignTo(4);
}

function writeTail(out: Output, { node: { inode }, entries, tailBytes, chunks }: Item): void {
  if (tailBytes === 0) return;
  if (entries !== undefined) writeEntries(out, splitEntries(entries).rest.entries);
  else if (inode.type === 'symlink') out.text(inode.target);
  else if (chunks > 0) for (let i = 0; i < chunks; i++) out.u32(U32_MAX);
  else out.bytes(inode.inline!);
}

function writeBlocks(out: Output, { node: { inode }, entries, blocks, chunks }: Item): void {
  if (blocks === 0) return;
  if (entries !== undefined) {
    const all = splitEntries(entries);
    for (const block of [...all.blocks, all.rest.entries].slice(0, blocks)) {
      writeEntries(out, block);
      out.alignTo(BLOCK_BYTES);
    }
    return;
  }
  if (inode.type === 'symlink') out.text(inode.target);
  else if (chunks > 0) for (let i = 0; i < BLOCK_BYTES / 4; i++) out.u32(U32_MAX);
  else out.bytes(inode.inline!);
  out.alignTo(BLOCK_BYTES);
}

function writeEntries(out: Output, entries: Entries): void {
  let nameAt = entries.length * DIRENT_BYTES;
  for (const { name, item } of entries) {
    out.u64(item.position / SLOT_BYTES);
    out.u16(nameAt);
    out.u8(FILE_TYPE[item.node.inode.type]);
    out.u8(0);
    nameAt += name.length;
  }
  for (const { name } of entries) out.text(name);
}
