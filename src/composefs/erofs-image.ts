/**
 * A tree → the EROFS image that composefs mounts: format version 1, bit for bit what `mkcomposefs --min-version=1` makes
 * of the same files. EROFS on-disk format (Linux Documentation/filesystems/erofs.rst), overlayfs "Data-only lower layers".
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
import { toByteString } from '../archive/byte-string.ts';
import { Refusal } from '../archive/refusal.ts';
import { NAME_MAX_BYTES } from '../oci/limits.ts';
import type { Inode } from './inode.ts';
import { compare, createXattrTable, SHARED_MAX, type Xattr } from './xattr-table.ts';

/** A file of a merged tree. One node under several names is one file with hard links. */
export interface TreeNode {
  readonly inode: Inode;
  /** Of a directory; undefined for none. */
  readonly children: ReadonlyMap<string, TreeNode> | undefined;
}

const BLOCK_BYTES = 4096;
const SLOT_BYTES = 32;
const SUPER_OFFSET = 1024;
const SUPER_BYTES = 128;
const INODES_OFFSET = SUPER_OFFSET + SUPER_BYTES;
const COMPOSEFS_MAGIC = 0xd078629a;
const EROFS_MAGIC = 0xe0f5e1e2;
const FEATURES_MTIME_AND_XATTR_FILTER = 2 | 4;
const COMPACT_BYTES = 32;
const EXTENDED_BYTES = 64;
const DIRENT_BYTES = 12;
const XATTR_HEADER_BYTES = 12;
/** Layouts of data: blocks, with a tail after the inode, or only a map of holes. */
const PLAIN = 0;
const INLINE = 2;
const CHUNKS = 4;
const CHUNK_BITS_MAX = 12 + 31;
const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

export const S_IFMT = {
  fifo: 0o010000,
  characterDevice: 0o020000,
  directory: 0o040000,
  blockDevice: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;
const FILE_TYPE = { file: 1, directory: 2, characterDevice: 3, blockDevice: 4, fifo: 5, symlink: 7 } as const;

/** An inode on its way into the image. */
interface Item {
  readonly node: TreeNode;
  readonly number: number;
  readonly xattrs: Xattr[];
  /** Names sorted, with '.' and '..'. */
  entries: { name: string; item: Item }[] | undefined;
  links: number;
  compact: boolean;
  sharedXattrs: number;
  xattrBytes: number;
  tailBytes: number;
  blocks: number;
  /** Chunks of the map of holes, and log2 of their size. */
  chunks: number;
  chunkBits: number;
  padding: number;
  position: number;
}

/** Hands the image over in pieces; each is its receiver's. Throws a Refusal for what no image can hold. */
export function writeErofsImage(root: TreeNode, write: (bytes: Buffer) => void): void {
  const xattrTable = createXattrTable();
  const items = collect(root, xattrTable);
  const shared = xattrTable.share();
  let [oldest] = [items[0]!.node.inode.mtime];
  for (const { node } of items) {
    const { mtime } = node.inode;
    const older = mtime.seconds - oldest.seconds || mtime.nanoseconds - oldest.nanoseconds;
    if (older < 0) oldest = mtime;
  }

  let position = INODES_OFFSET;
  let dataBlocks = 0;
  for (const item of items) {
    measure(item, oldest);
    const aligned = roundUp(position, SLOT_BYTES);
    const extra = keepTailTogether(item, aligned);
    item.padding = aligned - position + extra;
    item.position = aligned + extra;
    position = item.position + inodeBytes(item) + item.xattrBytes + item.tailBytes;
    dataBlocks += item.blocks;
  }
  const inodesEnd = roundUp(position, SLOT_BYTES);
  const dataStart = roundUp(inodesEnd + shared.bytes, BLOCK_BYTES);

  const out = createOutput(write);
  const hasAcl = items.some(({ xattrs }) =>
    xattrs.some(({ name }) => name.text.startsWith('system.posix_acl_')),
  );
  out.u32(COMPOSEFS_MAGIC);
  out.u32(1);
  out.u32(hasAcl ? 1 : 0);
  out.u32(1);
  out.alignTo(SUPER_OFFSET);
  out.u32(EROFS_MAGIC);
  out.u32(0);
  out.u32(FEATURES_MTIME_AND_XATTR_FILTER);
  out.u8(Math.log2(BLOCK_BYTES));
  out.u8(0);
  out.u16(items[0]!.position / SLOT_BYTES);
  out.u64(items.length);
  out.u64(oldest.seconds);
  out.u32(oldest.nanoseconds);
  out.u32(dataStart / BLOCK_BYTES + dataBlocks);
  out.u32(0);
  out.u32(Math.floor(inodesEnd / BLOCK_BYTES));
  out.zeros(SUPER_BYTES - 48);

  let nextBlock = dataStart / BLOCK_BYTES;
  for (const item of items) {
    out.zeros(item.padding);
    writeInode(out, item, nextBlock);
    nextBlock += item.blocks;
    writeXattrs(out, item, inodesEnd % BLOCK_BYTES);
    writeTail(out, item);
  }
  out.alignTo(SLOT_BYTES);
  for (const xattr of shared.xattrs) writeXattr(out, xattr);
  out.alignTo(BLOCK_BYTES);
  for (const item of items) writeBlocks(out, item);
  out.end();
}

/** All inodes, breadth first. */
function collect(root: TreeNode, xattrTable: ReturnType<typeof createXattrTable>): Item[] {
  const items: Item[] = [];
  const linked = new Map<TreeNode, Item>();
  const add = (node: TreeNode, extra?: readonly [string, string]): Item => {
    const { xattrs, object } = node.inode;
    const all: (readonly [string, string])[] = extra === undefined ? [] : [extra];
    for (const [name, value] of xattrs ?? []) all.push([name, toByteString(value)]);
    if (object !== undefined) {
      all.push(['trusted.overlay.metacopy', Buffer.from(`00240001${object}`, 'hex').toString('latin1')]);
      all.push(['trusted.overlay.redirect', `/${object.slice(0, 2)}/${object.slice(2)}`]);
    }
    if (all.length > 1) all.sort(byName);
    const item: Item = {
      node,
      number: items.length,
      xattrs: all.map(([name, value]) => xattrTable.add(name, value)),
      entries: undefined,
      links: node.inode.type === 'directory' ? 2 : 1,
      compact: false,
      sharedXattrs: 0,
      xattrBytes: 0,
      tailBytes: 0,
      blocks: 0,
      chunks: 0,
      chunkBits: 0,
      padding: 0,
      position: 0,
    };
    items.push(item);
    return item;
  };

  const top = add(root, ['trusted.overlay.opaque', 'y']);
  const parents = new Map<Item, Item>([[top, top]]);
  const stub: TreeNode = { inode: { ...root.inode, ...STUB }, children: undefined };
  for (let next = 0; next < items.length; next++) {
    const item = items[next]!;
    if (item.node.inode.type !== 'directory') continue;
    const names = [...(item.node.children ?? [])];
    if (item === top)
      for (let i = 0; i < 256; i++) {
        const name = i.toString(16).padStart(2, '0');
        if (!root.children?.has(name)) names.push([name, stub]);
      }
    const entries = [
      { name: '.', item },
      { name: '..', item: parents.get(item)! },
    ];
    parents.delete(item);
    names.sort(byName);
    for (const [name, node] of names) {
      if (name.length > NAME_MAX_BYTES) throw new Refusal(`a name of ${name.length} bytes`);
      const known = linked.get(node);
      if (known !== undefined) known.links++;
      const child = known ?? add(node);
      if (node.inode.type === 'directory') {
        item.links++;
        parents.set(child, item);
      } else if (node !== stub) linked.set(node, child);
      entries.push({ name, item: child });
    }
    // only a name that begins with a byte before '.' comes before those two
    entries.sort((a, b) => compare(a.name, b.name));
    item.entries = entries;
  }
  return items;
}

/** Without destructuring, which takes longer than all else here. */
function byName(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return compare(a[0], b[0]);
}

/** What hides a directory of objects: a whiteout with the root's owner and time. */
const STUB = {
  type: 'characterDevice',
  mode: 0o644,
  size: 0,
  xattrs: undefined,
  object: undefined,
  inline: undefined,
  target: '',
  deviceMajor: 0,
  deviceMinor: 0,
} as const;

/** Decides how an inode is stored. */
function measure(item: Item, oldest: Inode['mtime']): void {
  const { inode } = item.node;
  const { type, size } = inode;
  if (item.entries !== undefined) {
    const { blocks, rest } = splitEntries(item.entries);
    // at most half a block lies with the inode
    item.blocks = blocks.length + (rest.bytes > BLOCK_BYTES / 2 ? 1 : 0);
    item.tailBytes = rest.bytes > BLOCK_BYTES / 2 ? 0 : rest.bytes;
  } else if (type === 'symlink') item.tailBytes = inode.target.length;
  else if (type === 'file' && inode.object !== undefined) {
    item.chunkBits = 12;
    while (item.chunkBits < CHUNK_BITS_MAX && 2 ** item.chunkBits < size) item.chunkBits++;
    item.chunks = Math.ceil(size / 2 ** item.chunkBits);
    item.tailBytes = 4 * item.chunks;
  } else if (type === 'file') item.tailBytes = size;

  item.compact =
    inode.mtime.seconds === oldest.seconds &&
    inode.mtime.nanoseconds === oldest.nanoseconds &&
    Math.max(item.links, inode.uid, inode.gid) <= U16_MAX &&
    dataBytes(item) <= U32_MAX;

  let inodeXattrs = 0;
  for (const { sharedAt, bytes } of item.xattrs) {
    if (sharedAt !== undefined && item.sharedXattrs < SHARED_MAX) item.sharedXattrs++;
    else inodeXattrs += bytes;
  }
  if (item.xattrs.length > 0) item.xattrBytes = XATTR_HEADER_BYTES + 4 * item.sharedXattrs + inodeXattrs;
  if ((item.xattrBytes - XATTR_HEADER_BYTES) / 4 + 1 > U16_MAX)
    throw new Refusal('too many and too long xattrs');
}

/** Bytes to leave before an inode, so that its tail does not lie across the end of a block; else it gets a block. */
function keepTailTogether(item: Item, position: number): number {
  const head = inodeBytes(item) + item.xattrBytes;
  if (item.node.inode.type === 'symlink') {
    // here the inode, too, has to be in the same block
    const total = head + item.tailBytes;
    const fits = Math.floor(position / BLOCK_BYTES) === Math.floor((position + total - 1) / BLOCK_BYTES);
    if (total >= BLOCK_BYTES) {
      item.blocks++;
      item.tailBytes = 0;
    }
    return fits ? 0 : roundUp(position, BLOCK_BYTES) - position;
  }
  const room = BLOCK_BYTES - ((position + head) % BLOCK_BYTES);
  if (room >= item.tailBytes) return 0;
  const extra = roundUp(room, SLOT_BYTES);
  if (BLOCK_BYTES - ((position + head + extra) % BLOCK_BYTES) >= item.tailBytes) return extra;
  item.blocks++;
  item.tailBytes = 0;
  return roundUp(position, BLOCK_BYTES) - position;
}

function inodeBytes({ compact }: Item): number {
  return compact ? COMPACT_BYTES : EXTENDED_BYTES;
}

/** What stat(2) shows as the size. */
function dataBytes({ node: { inode }, entries, blocks, tailBytes }: Item): number {
  if (entries !== undefined) return blocks * BLOCK_BYTES + tailBytes;
  return inode.type === 'symlink' ? inode.target.length : inode.size;
}

function deviceNumber({ deviceMajor, deviceMinor }: Inode): number {
  return ((deviceMinor & 0xff) | (deviceMajor << 8) | ((deviceMinor & ~0xff) << 12)) >>> 0;
}

function writeInode(out: Output, item: Item, block: number): void {
  const { inode } = item.node;
  const layout = item.chunks > 0 ? CHUNKS : item.tailBytes > 0 ? INLINE : PLAIN;
  const isDevice = inode.type === 'characterDevice' || inode.type === 'blockDevice';
  const where = isDevice
    ? deviceNumber(inode)
    : item.chunks > 0
      ? item.chunkBits - 12
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

type Entries = NonNullable<Item['entries']>;

/** As many entries to a block as fit. */
function splitEntries(entries: Entries): { blocks: Entries[]; rest: { entries: Entries; bytes: number } } {
  const blocks: Entries[] = [];
  let first = 0;
  let bytes = 0;
  for (let i = 0; i < entries.length; i++) {
    const length = DIRENT_BYTES + entries[i]!.name.length;
    if (bytes + length > BLOCK_BYTES) {
      blocks.push(entries.slice(first, i));
      first = i;
      bytes = 0;
    }
    bytes += length;
  }
  return { blocks, rest: { entries: entries.slice(first), bytes } };
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

type Output = ReturnType<typeof createOutput>;

const PIECE_BYTES = 1 << 20;

/** Little-endian, handed over in pieces. */
function createOutput(write: (bytes: Buffer) => void) {
  let piece = Buffer.alloc(PIECE_BYTES);
  let at = 0;
  let before = 0;
  const room = (bytes: number): number => {
    if (at + bytes > PIECE_BYTES) {
      write(piece.subarray(0, at));
      before += at;
      piece = Buffer.alloc(PIECE_BYTES);
      at = 0;
    }
    at += bytes;
    return at - bytes;
  };
  const zeros = (bytes: number): void => void room(bytes);
  return {
    zeros,
    u8: (value: number): void => {
      const to = room(1);
      piece.writeUInt8(value, to);
    },
    u16: (value: number): void => {
      const to = room(2);
      piece.writeUInt16LE(value, to);
    },
    u32: (value: number): void => {
      const to = room(4);
      piece.writeUInt32LE(value, to);
    },
    /** Of a safe integer; negative ones as two's complement. */
    u64: (value: number): void => {
      const to = room(8);
      piece.writeUInt32LE(value >>> 0, to);
      piece.writeInt32LE(Math.floor(value / 2 ** 32) | 0, to + 4);
    },
    bytes: (bytes: Buffer): void => {
      const to = room(bytes.length);
      bytes.copy(piece, to);
    },
    text: (text: string): void => {
      const to = room(text.length);
      piece.write(text, to, 'latin1');
    },
    alignTo: (bytes: number): void => zeros(roundUp(before + at, bytes) - before - at),
    end: (): void => write(piece.subarray(0, at)),
  };
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
