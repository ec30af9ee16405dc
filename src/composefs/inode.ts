/** What a file of the merged tree is: the words that records, merging and the image writer share. */
import type { TarTime } from '../archive/tar-entry.ts';
import type { VerityDigest } from './verity-digest.ts';

/** Larger content is an object; as composefs has it. */
export const INLINE_MAX_BYTES = 64;

export type InodeType = 'file' | 'directory' | 'symlink' | 'characterDevice' | 'blockDevice' | 'fifo';

export interface Inode {
  readonly type: InodeType;
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  /** The container's own, 0..CONTAINER_ID_MAX. */
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Bytes of a file's content, holes included; 0 for all else. */
  readonly size: number;
  /** Of a file of more than INLINE_MAX_BYTES. */
  readonly object: VerityDigest | undefined;
  /** The content of a file of 1 to INLINE_MAX_BYTES. */
  readonly inline: Buffer | undefined;
  /** Target of a symlink, a byte string; else empty. */
  readonly target: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Byte-string names, as an application sees them; undefined for none. */
  readonly xattrs: ReadonlyMap<string, Buffer> | undefined;
}

/** One entry of a layer as the store keeps it: what is decided about it without the layers below. */
export type LayerRecord =
  | { readonly kind: 'inode'; readonly path: string; readonly inode: Inode }
  | { readonly kind: 'hardLink'; readonly path: string; readonly target: string }
  /** Hides what the layers below have at the path. */
  | { readonly kind: 'whiteout'; readonly path: string }
  /** Hides what the layers below have in the directory. */
  | { readonly kind: 'opaque'; readonly path: string };

/** A file of a merged tree. One node under several names is one file with hard links. */
export interface TreeNode {
  readonly inode: Inode;
  /** Of a directory; undefined for none. */
  readonly children: ReadonlyMap<string, TreeNode> | undefined;
}
