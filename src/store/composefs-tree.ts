/**
 * A composefs image as a MergedTree: looked at without mounting it, from the bytes of its EROFS and the store's objects.
 *
 * Invariants
 * - Symlinks are resolved inside the image; nothing outside the bytes and the objects is ever opened.
 * - A whole file is only given out once its content has the digest by which the image calls it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { showBytes, toByteString } from '../archive/byte-string.ts';
import { SYMLINKS_MAX } from '../archive/layer-path.ts';
import { type Nid, openImage } from '../composefs/image-reader.ts';
import { verityDigestOf } from '../composefs/verity-digest.ts';
import { AT_FDCWD, check, close, O_NOFOLLOW, O_RDONLY, openat, read } from '../host/syscalls.ts';
import { OciError } from '../oci/errors.ts';
import { CONTAINER_ID_MAX, FOREIGN_UID_BASE, PATH_MAX_BYTES } from '../oci/limits.ts';
import { kindOf, type MergedTree } from './merged-tree.ts';

/** `bytes`: of image.cfs. Ids come out as those of a layer's tree do, in the foreign range. Throws BAD_IMAGE. */
export function openComposefsTree(bytes: Buffer, objects: string): MergedTree {
  const image = openImage(bytes);
  const kind = (nid: Nid) => kindOf(image.inode(nid).mode);

  /** Where `path` leads, or undefined. */
  function walk(path: string | Buffer, followLast: boolean): Nid | undefined {
    const way = [image.root];
    const ahead = partsOf(toByteString(path)).reverse();
    let links = 0;
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      const here = way.at(-1)!;
      if (kind(here) !== 'directory') return undefined;
      if (name === '..') {
        if (way.length > 1) way.pop();
        continue;
      }
      const next = image.child(here, name);
      if (next === undefined) return undefined;
      if (kind(next) !== 'symlink' || (ahead.length === 0 && !followLast)) {
        way.push(next);
        continue;
      }
      const target = image.inlineContent(next)!.toString('latin1');
      if (++links > SYMLINKS_MAX || target.length > PATH_MAX_BYTES) return undefined;
      if (target.startsWith('/')) way.length = 1;
      ahead.push(...partsOf(target).reverse());
    }
    return way.at(-1);
  }

  function file(path: string | Buffer): Nid | undefined {
    const nid = walk(path, true);
    return nid !== undefined && kind(nid) === 'file' ? nid : undefined;
  }

  const damagedObject = (path: string | Buffer, why: string, cause?: unknown) =>
    new OciError('IO_ERROR', `the object of ${showBytes(toByteString(path))} is damaged: ${why}`, {
      hint: 'Repair it: ocictl fsck --repair',
      cause,
    });

  /** Opens the object, and says whose it is where that fails. */
  function withObject<T>(path: string | Buffer, hex: string, use: (file: string) => T): T {
    try {
      return use(join(objects, hex.slice(0, 2), hex.slice(2)));
    } catch (error) {
      throw damagedObject(path, String((error as NodeJS.ErrnoException).code ?? 'cannot be read'), error);
    }
  }

  return {
    lookup(path, { followLast = true } = {}) {
      const nid = walk(path, followLast);
      if (nid === undefined) return undefined;
      const { mode, uid, gid, size, mtime } = image.inode(nid);
      return {
        kind: kindOf(mode),
        mode: mode & 0o7777,
        uid: onDisk(uid),
        gid: onDisk(gid),
        size,
        mtime,
        ...(kindOf(mode) === 'symlink' ? { target: image.inlineContent(nid)! } : {}),
      };
    },
    // what the layers removed is not in it
    hides: () => false,
    readFile(path, maxBytes) {
      const nid = file(path);
      if (nid === undefined) return undefined;
      const { size } = image.inode(nid);
      if (size > maxBytes)
        throw new OciError(
          'BAD_IMAGE',
          `${showBytes(toByteString(path))} has ${size} bytes, more than ${maxBytes}`,
        );
      const hex = image.objectOf(nid);
      if (hex === undefined) return image.inlineContent(nid);
      const content = withObject(path, hex, (object) => readFileSync(object));
      if (verityDigestOf(content) !== hex) throw damagedObject(path, 'its content has another digest');
      return content;
    },
    readHead(path, maxBytes) {
      const nid = file(path);
      if (nid === undefined) return undefined;
      const hex = image.objectOf(nid);
      if (hex === undefined) return image.inlineContent(nid)?.subarray(0, maxBytes);
      return withObject(path, hex, (object) => readStart(object, maxBytes));
    },
    close: () => {},
  };
}

function partsOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function onDisk(id: number): number {
  if (id <= CONTAINER_ID_MAX) return FOREIGN_UID_BASE + id;
  throw new OciError('BAD_IMAGE', `the composefs image has a file of id ${id}`);
}

function readStart(path: string, maxBytes: number): Buffer {
  const fd = check(openat(AT_FDCWD, toByteString(path), O_RDONLY | O_NOFOLLOW), 'open', path);
  try {
    const buffer = Buffer.alloc(maxBytes);
    return buffer.subarray(0, check(read(fd, buffer), 'read', path));
  } finally {
    close(fd);
  }
}
