/**
 * Reads a composefs image (EROFS without compression) from its bytes: what is where in the tree, and which object has
 * a file's content. Linux: Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h.
 *
 * Invariant: the bytes may be anything. Nothing outside of them is read, whatever they say: every number is checked
 * where it is used, and a lookup takes at most as long as its directory has bytes. Throws BAD_IMAGE.
 */
import { OciError } from '../oci/errors.ts';
import {
  BLOCK_BITS,
  BLOCK_BYTES,
  COMPACT_BYTES,
  DATA_LAYOUT,
  DIRENT_BYTES,
  EROFS_MAGIC,
  EXTENDED_BYTES,
  METACOPY_HEAD,
  S_IFMT,
  SLOT_BYTES,
  SUPER_BYTES,
  SUPER_OFFSET,
  XATTR_HEADER_BYTES,
} from './erofs-format.ts';

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

const TYPE_BITS = 0o170000;
/** The index of the prefix `trusted.`. */
const TRUSTED = 4;
const METACOPY = 'overlay.metacopy';

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

  if (bytes.length < SUPER_OFFSET + SUPER_BYTES || u32(SUPER_OFFSET) !== EROFS_MAGIC)
    throw damaged('it is no EROFS');
  if (u8(SUPER_OFFSET + 12) !== BLOCK_BITS) throw damaged('its blocks do not have 4096 bytes');
  const root = u16(SUPER_OFFSET + 14);
  const inodes = u32(SUPER_OFFSET + 40) * BLOCK_BYTES;
  const sharedXattrs = u32(SUPER_OFFSET + 44) * BLOCK_BYTES;

  function place(nid: Nid): Place {
    const start = inodes + nid * SLOT_BYTES;
    const format = u16(start);
    const extended = (format & 1) === 1;
    const xattrCount = u16(start + 2);
    const common = {
      mode: u16(start + 4),
      layout: (format >> 1) & 7,
      xattrs: start + (extended ? EXTENDED_BYTES : COMPACT_BYTES),
      xattrBytes: xattrCount === 0 ? 0 : XATTR_HEADER_BYTES + 4 * (xattrCount - 1),
      firstBlock: u32(start + 16),
      rdev: u32(start + 16),
    };
    if (!extended)
      return {
        ...common,
        size: u32(start + 8),
        uid: u16(start + 24),
        gid: u16(start + 26),
        mtime: { seconds: u64(SUPER_OFFSET + 24), nanoseconds: u32(SUPER_OFFSET + 32) },
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
    const isTail = file.layout === DATA_LAYOUT.inline && index === Math.ceil(file.size / BLOCK_BYTES) - 1;
    if (file.layout !== DATA_LAYOUT.plain && file.layout !== DATA_LAYOUT.inline)
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
    if ((file.mode & TYPE_BITS) !== S_IFMT.directory || file.size > bytes.length)
      throw damaged('a directory is none');
    const wanted = Buffer.from(name, 'latin1');
    for (let index = 0; index * BLOCK_BYTES < file.size; index++) {
      const found = inBlock(block(file, index), wanted);
      if (found === undefined) continue;
      const { mode, rdev } = place(found);
      return (mode & TYPE_BITS) === S_IFMT.characterDevice && rdev === 0 ? undefined : found;
    }
    return undefined;
  }

  /** The value of trusted.NAME, searched among the inode's own xattrs and those that it shares. */
  function trusted(file: Place, name: string): Buffer | undefined {
    if (file.xattrBytes === 0) return undefined;
    const end = file.xattrs + file.xattrBytes;
    const sharedCount = u8(file.xattrs + 4);
    const own = file.xattrs + XATTR_HEADER_BYTES + 4 * sharedCount;
    for (let i = 0; i < sharedCount; i++) {
      const found = xattrAt(
        sharedXattrs + 4 * u32(file.xattrs + XATTR_HEADER_BYTES + 4 * i),
        bytes.length,
        name,
      );
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
      const type = file.mode & TYPE_BITS;
      return type === S_IFMT.symlink || (type === S_IFMT.file && file.layout !== DATA_LAYOUT.chunks)
        ? content(file)
        : undefined;
    },
    objectOf(nid) {
      const file = place(nid);
      if ((file.mode & TYPE_BITS) !== S_IFMT.file || file.layout !== DATA_LAYOUT.chunks) return undefined;
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
