/**
 * A tree → the inodes of its image, and where each of them and its data lies.
 *
 * Invariant: breadth first, names in byte order; what follows an inode never lies across the end of a block.
 */
import { toByteString } from '../archive/byte-string.ts';
import { Refusal } from '../archive/refusal.ts';
import { NAME_MAX_BYTES } from '../oci/limits.ts';
import {
  BLOCK_BITS,
  BLOCK_BYTES,
  COMPACT_BYTES,
  DIRENT_BYTES,
  EXTENDED_BYTES,
  METACOPY_HEAD,
  roundUp,
  SLOT_BYTES,
  SUPER_BYTES,
  SUPER_OFFSET,
  XATTR_HEADER_BYTES,
} from './erofs-format.ts';
import type { Inode, TreeNode } from './inode.ts';
import { compare, createXattrTable, SHARED_MAX, type Xattr } from './xattr-table.ts';

const INODES_OFFSET = SUPER_OFFSET + SUPER_BYTES;
const CHUNK_BITS_MAX = BLOCK_BITS + 31;
const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

/** An inode on its way into the image. */
export interface Item {
  readonly node: TreeNode;
  readonly number: number;
  readonly xattrs: Xattr[];
  /** Names sorted, with '.' and '..'. */
  entries: { name: string; item: Item }[] | undefined;
  links: number;
  /** In the short form: with 16-bit ids and links, a 32-bit size and the image's oldest time. */
  compact: boolean;
  /** How many of its xattrs are stored behind the inodes. */
  sharedXattrs: number;
  /** Behind the inode: xattrs, then the tail of its data. */
  xattrBytes: number;
  tailBytes: number;
  /** Blocks of its own. */
  blocks: number;
  /** Chunks of the map of holes, and log2 of their size. */
  chunks: number;
  chunkBits: number;
  /** Zeros before the inode, and where it begins. */
  padding: number;
  position: number;
}

export interface ImageLayout {
  /** Breadth first: the root is the first. */
  readonly items: readonly Item[];
  /** Those that are stored once, behind the inodes. */
  readonly sharedXattrs: readonly Xattr[];
  /** Of all files; compact inodes have it. */
  readonly oldest: Inode['mtime'];
  readonly inodesEnd: number;
  /** Where the blocks begin that are not behind an inode, and how many those are. */
  readonly dataStart: number;
  readonly dataBlocks: number;
}

/** Throws a Refusal for what no image can hold. */
export function layOut(root: TreeNode): ImageLayout {
  const xattrTable = createXattrTable();
  const items = collect(root, xattrTable);
  const shared = xattrTable.share();
  const oldest = oldestOf(items);
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
  return { items, sharedXattrs: shared.xattrs, oldest, inodesEnd, dataStart, dataBlocks };
}

function oldestOf(items: readonly Item[]): Inode['mtime'] {
  let oldest = items[0]!.node.inode.mtime;
  for (const { node } of items) {
    const { mtime } = node.inode;
    const older = mtime.seconds - oldest.seconds || mtime.nanoseconds - oldest.nanoseconds;
    if (older < 0) oldest = mtime;
  }
  return oldest;
}

type XattrTable = ReturnType<typeof createXattrTable>;

/** All inodes, breadth first. */
function collect(root: TreeNode, xattrTable: XattrTable): Item[] {
  const items: Item[] = [];
  const linked = new Map<TreeNode, Item>();
  const add = (node: TreeNode, extra?: NameAndValue): Item => {
    const item = newItem(node, items.length, xattrsOf(node.inode, xattrTable, extra));
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
    if (item === top) for (const name of hiddenNames(root)) names.push([name, stub]);
    names.sort(byName);
    const entries = [
      { name: '.', item },
      { name: '..', item: parents.get(item)! },
    ];
    parents.delete(item);
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

/** Of the directories of objects, but those that the image has a file of. */
function hiddenNames(root: TreeNode): string[] {
  return Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0')).filter(
    (name) => !root.children?.has(name),
  );
}

type NameAndValue = readonly [name: string, value: string];

/** Its own, those that lead overlayfs to its object, and `extra`. */
function xattrsOf(
  { xattrs, object }: Inode,
  xattrTable: XattrTable,
  extra: NameAndValue | undefined,
): Xattr[] {
  const all: NameAndValue[] = extra === undefined ? [] : [extra];
  for (const [name, value] of xattrs ?? []) all.push([name, toByteString(value)]);
  if (object !== undefined) {
    const metacopy = Buffer.from(METACOPY_HEAD + object, 'hex').toString('latin1');
    all.push(['trusted.overlay.metacopy', metacopy]);
    all.push(['trusted.overlay.redirect', `/${object.slice(0, 2)}/${object.slice(2)}`]);
  }
  if (all.length > 1) all.sort(byName);
  return all.map(([name, value]) => xattrTable.add(name, value));
}

function newItem(node: TreeNode, number: number, xattrs: Xattr[]): Item {
  return {
    node,
    number,
    xattrs,
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
    item.chunkBits = BLOCK_BITS;
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
export function dataBytes({ node: { inode }, entries, blocks, tailBytes }: Item): number {
  if (entries !== undefined) return blocks * BLOCK_BYTES + tailBytes;
  return inode.type === 'symlink' ? inode.target.length : inode.size;
}

export type Entries = NonNullable<Item['entries']>;

/** As many entries to a block as fit. */
export function splitEntries(entries: Entries): {
  blocks: Entries[];
  rest: { entries: Entries; bytes: number };
} {
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
