/**
 * Reads a composefs image (EROFS without compression) from its bytes: what is where in the tree, and which object has
 * a file's content. Linux: Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h.
 *
 * Invariant: the bytes may be anything. Nothing outside of them is read, whatever they say: every number is checked
 * where it is used, and a lookup takes at most as long as its directory has bytes. Throws BAD_IMAGE.
 */
import { OciError } from '../oci/errors.ts';

/** Number of an inode: where it lies, in units of 32 bytes. */
export type Nid = number;

export interface ImageInode {
  /** With the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  /** Of a device, as the kernel packs it. */
  readonly rdev: number;
}

export interface ImageReader {
  readonly root: Nid;
  inode(nid: Nid): ImageInode;
  /** The inode of `name` (a byte string) in a directory; undefined where it has none, or a whiteout. */
  child(directory: Nid, name: string): Nid | undefined;
  /** What the image itself has of a file's content or a symlink's target; undefined where an object has it. */
  inlineContent(nid: Nid): Buffer | undefined;
  /** The object with a file's content: its fs-verity digest, in hex. Undefined where the image has the content. */
  objectOf(nid: Nid): string | undefined;
}

const SUPERBLOCK = 1024;
const MAGIC = 0xe0f5e1e2;
const BLOCK_BITS = 12;
const BLOCK_BYTES = 1 << BLOCK_BITS;
const DIRENT_BYTES = 12;
const S_IFMT = 0o170000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFDIR = 0o040000;
/** Data layouts: in blocks of their own; the last block behind the inode; by chunks, of which we know only holes. */
const PLAIN = 0;
const INLINE = 2;
const CHUNKS = 4;
const TRUSTED = 4;
const METACOPY = 'overlay.metacopy';
/** struct ovl_metacopy: version 0, length 36, no flags, SHA-256. */
const METACOPY_HEAD = '00240001';

interface Place extends ImageInode {
  readonly layout: number;
  readonly xattrBytes: number;
  /** Where the xattrs begin. */
  readonly xattrs: number;
  readonly firstBlock: number;
}

export function openImage(bytes: Buffer): ImageReader {
  const at = (offset: number, length: number): number => {
    if (Number.isSafeInteger(offset) && offset >= 0 && offset + length <= bytes.length) return offset;
    throw damaged('an offset leads out of it');
  };
  const u8 = (offset: number) => bytes.readUInt8(at(offset, 1));
  const u16 = (offset: number) => bytes.readUInt16LE(at(offset, 2));
  const u32 = (offset: number) => bytes.readUInt32LE(at(offset, 4));
  const u64 = (offset: number) => u32(offset) + u32(offset + 4) * 2 ** 32;

  if (bytes.length < SUPERBLOCK + 128 || u32(SUPERBLOCK) !== MAGIC) throw damaged('it is no EROFS');
  if (u8(SUPERBLOCK + 12) !== BLOCK_BITS) throw damaged('its blocks do not have 4096 bytes');
  const root = u16(SUPERBLOCK + 14);
  const inodes = u32(SUPERBLOCK + 40) * BLOCK_BYTES;
  const sharedXattrs = u32(SUPERBLOCK + 44) * BLOCK_BYTES;

  function place(nid: Nid): Place {
    const start = inodes + nid * 32;
    const format = u16(start);
    const extended = (format & 1) === 1;
    const xattrCount = u16(start + 2);
    const common = {
      mode: u16(start + 4),
      layout: (format >> 1) & 7,
      xattrs: start + (extended ? 64 : 32),
      xattrBytes: xattrCount === 0 ? 0 : 12 + 4 * (xattrCount - 1),
      firstBlock: u32(start + 16),
      rdev: u32(start + 16),
    };
    if (!extended)
      return {
        ...common,
        size: u32(start + 8),
        uid: u16(start + 24),
        gid: u16(start + 26),
        mtime: { seconds: u64(SUPERBLOCK + 24), nanoseconds: u32(SUPERBLOCK + 32) },
      };
    return {
      ...common,
      size: u64(start + 8),
      uid: u32(start + 24),
      gid: u32(start + 28),
      mtime: { seconds: u64(start + 32), nanoseconds: u32(start + 40) },
    };
  }

  /** One block of a file, or what there is of it. */
  function block(file: Place, index: number): Buffer {
    const length = Math.min(BLOCK_BYTES, file.size - index * BLOCK_BYTES);
    const isTail = file.layout === INLINE && index === Math.ceil(file.size / BLOCK_BYTES) - 1;
    if (file.layout !== PLAIN && file.layout !== INLINE)
      throw damaged('a file is laid out in an unknown way');
    const start = isTail ? file.xattrs + file.xattrBytes : (file.firstBlock + index) * BLOCK_BYTES;
    return bytes.subarray(at(start, length), start + length);
  }

  function content(file: Place): Buffer {
    if (file.size > bytes.length) throw damaged('a file is longer than the image');
    return Buffer.concat(
      Array.from({ length: Math.ceil(file.size / BLOCK_BYTES) }, (_, index) => block(file, index)),
    );
  }

  function child(directory: Nid, name: string): Nid | undefined {
    const file = place(directory);
    if ((file.mode & S_IFMT) !== S_IFDIR || file.size > bytes.length) throw damaged('a directory is none');
    const wanted = Buffer.from(name, 'latin1');
    for (let index = 0; index * BLOCK_BYTES < file.size; index++) {
      const found = inBlock(block(file, index), wanted);
      if (found === undefined) continue;
      const { mode, rdev } = place(found);
      return (mode & S_IFMT) === S_IFCHR && rdev === 0 ? undefined : found;
    }
    return undefined;
  }

  /** The value of trusted.NAME, searched among the inode's own xattrs and those that it shares. */
  function trusted(file: Place, name: string): Buffer | undefined {
    if (file.xattrBytes === 0) return undefined;
    const end = file.xattrs + file.xattrBytes;
    const sharedCount = u8(file.xattrs + 4);
    const own = file.xattrs + 12 + 4 * sharedCount;
    for (let i = 0; i < sharedCount; i++) {
      const found = xattrAt(sharedXattrs + 4 * u32(file.xattrs + 12 + 4 * i), bytes.length, name);
      if (found.value !== undefined) return found.value;
    }
    for (let entry = own; entry + 4 <= end; ) {
      const found = xattrAt(entry, end, name);
      if (found.value !== undefined) return found.value;
      entry = found.next;
    }
    return undefined;
  }

  function xattrAt(entry: number, end: number, name: string): { value: Buffer | undefined; next: number } {
    const nameBytes = u8(entry);
    const start = entry + 4 + nameBytes;
    const valueEnd = start + u16(entry + 2);
    if (valueEnd > end) throw damaged('an extended attribute leads out of its inode');
    const matches =
      u8(entry + 1) === TRUSTED && bytes.toString('latin1', at(entry + 4, nameBytes), start) === name;
    const value = matches ? bytes.subarray(at(start, valueEnd - start), valueEnd) : undefined;
    return { value, next: (valueEnd + 3) & ~3 };
  }

  return {
    root,
    inode: place,
    child,
    inlineContent(nid) {
      const file = place(nid);
      const type = file.mode & S_IFMT;
      return type === S_IFLNK || (type === S_IFREG && file.layout !== CHUNKS) ? content(file) : undefined;
    },
    objectOf(nid) {
      const file = place(nid);
      if ((file.mode & S_IFMT) !== S_IFREG || file.layout !== CHUNKS) return undefined;
      const value = trusted(file, METACOPY)?.toString('hex') ?? '';
      if (value.length === 72 && value.startsWith(METACOPY_HEAD)) return value.slice(METACOPY_HEAD.length);
      throw damaged('a file has no object');
    },
  };
}

/** The inode of `wanted` in one block of a directory: the entries, then their names. */
function inBlock(block: Buffer, wanted: Buffer): Nid | undefined {
  const namesStart = block.length >= DIRENT_BYTES ? block.readUInt16LE(8) : 0;
  const count = namesStart / DIRENT_BYTES;
  if (!Number.isInteger(count) || count < 1 || namesStart > block.length)
    throw damaged('a directory is not one');
  for (let i = 0; i < count; i++) {
    const start = block.readUInt16LE(i * DIRENT_BYTES + 8);
    const end = i + 1 < count ? block.readUInt16LE((i + 1) * DIRENT_BYTES + 8) : block.length;
    if (start > end || end > block.length) throw damaged('a directory is not one');
    const length = wanted.length;
    const fits =
      i + 1 < count ? end - start === length : end - start === length || block[start + length] === 0;
    if (fits && start + length <= end && block.compare(wanted, 0, length, start, start + length) === 0)
      return block.readUInt32LE(i * DIRENT_BYTES) + block.readUInt32LE(i * DIRENT_BYTES + 4) * 2 ** 32;
  }
  return undefined;
}

function damaged(why: string): OciError {
  return new OciError('BAD_IMAGE', `the composefs image cannot be read: ${why}`, {
    hint: 'Repair it: ocictl fsck --repair',
  });
}
