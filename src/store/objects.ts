/**
 * Objects: the content of files, shared by all composefs images (layout.ts draws where).
 *
 * Invariant: an object in objects/ is whole, durable, and has the fs-verity digest that its name says; it never changes.
 * New ones are made in the stage of a pull and moved into place by commitObjects() after one sync; what is there
 * already is not written again, unless it is not what the pull has in hand: then it is damaged, and replaced. Where the
 * file system has fs-verity the kernel guards them, too.
 *
 * objects-by-sha256/ finds content by its plain digest. Losing an entry of it loses nothing but time.
 * An entry is a symbolic link that leads nowhere: its target is the object's digest in base64url, since what is shorter than
 * 60 bytes takes no block on ext4, and a path would take one for each file of an image. Content that is too small to be an
 * object is the target itself, behind `=`.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { toByteString } from '../archive/byte-string.ts';
import { INLINE_MAX_BYTES } from '../composefs/inode.ts';
import { createVerityHash, type VerityDigest } from '../composefs/verity-digest.ts';
import {
  AT_FDCWD,
  check,
  close,
  errno,
  ftruncate,
  lseek,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  openat,
  pwriteAll,
  RENAME_NOREPLACE,
  renameat2,
  SEEK_DATA,
  SEEK_HOLE,
  unlinkat,
} from '../host/syscalls.ts';
import { enableVerity, measureVerity } from '../host/verity.ts';
import { type Digest, digestHex, digestOf } from '../oci/digest.ts';
import type { Layout } from './layout.ts';

/** Where objects lie. May cross a thread boundary. */
export interface ObjectPaths {
  readonly objects: string;
  readonly objectsBySha256: string;
}

/** Where the content of a file is: an object, or, when it is small, here. */
export type StoredContent = { readonly object: VerityDigest } | { readonly inline: Buffer };

export interface ObjectWriter {
  /** At `offset`, ascending; default: after what was written. What lies between is zeros. */
  write(bytes: Uint8Array, offset?: number): void;
  /** `size`: of the content, when it ends with zeros that were not written. */
  finish(size?: number): VerityDigest;
  /** Leaves nothing behind. Does nothing after finish(). */
  abort(): void;
}

/** New objects of one pull, in a directory of its own. */
export interface ObjectStage {
  /** `size`: of the content, where it is known. Holes are for content with `sparse` only. */
  create(options?: { readonly size?: number; readonly sparse?: boolean }): ObjectWriter;
  /** Has the index find content that is too small to be an object. */
  remember(inline: Buffer): void;
  /** Bytes of the objects that were new. */
  readonly newBytes: number;
  close(): void;
}

/** Content that is written to the disk only when it is known to be new. */
const BUFFERED_MAX_BYTES = 4 * 1024 * 1024;
const OBJECT_MODE = 0o444;
/** The kernel reads holes as it does data, and writes a hash of each block of them. */
const GUARDED_HOLES_MAX_BYTES = 1024 ** 3;
const PIECE_BYTES = 256 * 1024;
const SHA256_BYTES = 32;
const INDEX_FILE = 'sha256';
/** Before content, where an entry of the index is that. */
const INLINE = '=';

export function objectPath({ objects }: Pick<ObjectPaths, 'objects'>, digest: VerityDigest): string {
  return `${objects}/${digest.slice(0, 2)}/${digest.slice(2)}`; // join() takes longer than the kernel's lookup
}

export function hasObject(paths: Pick<ObjectPaths, 'objects'>, digest: VerityDigest): boolean {
  return existsSync(objectPath(paths, digest));
}

/** Content of that digest, if it is known. */
export function contentBySha256(paths: ObjectPaths, content: Digest): StoredContent | undefined {
  const hex = digestHex(content);
  let target: string;
  try {
    target = readlinkSync(indexPath(paths, hex));
  } catch {
    return undefined;
  }
  if (target.startsWith(INLINE)) {
    const inline = Buffer.from(target.slice(INLINE.length), 'base64url');
    return digestOf(inline) === content ? { inline } : undefined;
  }
  const bytes = Buffer.from(target, 'base64url');
  if (bytes.length !== SHA256_BYTES) return undefined;
  const object = bytes.toString('hex') as VerityDigest;
  return hasObject(paths, object) ? { object } : undefined;
}

function indexPath({ objectsBySha256 }: ObjectPaths, hex: string): string {
  return `${objectsBySha256}/${hex.slice(0, 2)}/${hex.slice(2)}`;
}

/** Of a file, by what it takes on the disk. */
export function holeBytes({ size, blocks }: { readonly size: number; readonly blocks: number }): number {
  return Math.max(size - 512 * blocks, 0);
}

/**
 * Has the kernel guard the objects of a layer or an image, one after the other: what enableVerity() says, and false from
 * where they have more holes than can be waited for. `holeBytes`: of the file.
 */
export function createGuard(enable = enableVerity): (fd: number, holeBytes: number) => boolean {
  let holesLeft = GUARDED_HOLES_MAX_BYTES;
  return (fd, holeBytes) => {
    holesLeft -= holeBytes;
    return holesLeft >= 0 && enable(fd);
  };
}

/** `directory` is an empty directory of ours, on the file system of the store. */
export function openObjectStage(paths: ObjectPaths, directory: string): ObjectStage {
  const staged = join(directory, 'objects');
  mkdirSync(staged, { recursive: true, mode: 0o700 });
  const fd = check(openat(AT_FDCWD, toByteString(staged), O_RDONLY | O_DIRECTORY), 'open', staged);
  let partials = 0;
  let newBytes = 0;
  let index = '';
  let guarded = true;
  const guardObject = createGuard();

  function createFile(name: string): number {
    return openat(fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, OBJECT_MODE);
  }

  function writeAt(file: number, bytes: Uint8Array, offset: number): void {
    check(
      pwriteAll(file, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset),
      'write',
      'an object',
    );
  }

  /** What the kernel guards, no one changes; where it cannot, the digest is all there is. */
  function guard(name: string, holeBytes: number): void {
    if (!guarded) return;
    const file = check(openat(fd, name, O_RDONLY | O_NOFOLLOW), 'open', name);
    try {
      guarded = guardObject(file, holeBytes);
    } finally {
      close(file);
    }
  }

  /** Whether the object is here with this content; where none is given, or the kernel guards it, its size will do. */
  function isSound(digest: VerityDigest, size: number, content: Iterable<Buffer> | undefined): boolean {
    const object = openat(AT_FDCWD, objectPath(paths, digest), O_RDONLY | O_NOFOLLOW);
    if (object < 0) return false;
    try {
      if (fstatSync(object).size !== size) return false;
      return content === undefined || measureVerity(object) === digest || holds(object, content);
    } catch {
      return false;
    } finally {
      close(object);
    }
  }

  function remember(sha256: string, target: string): void {
    index += `${sha256} ${target}\n`;
    if (index.length >= 1 << 20) flush();
  }

  function flush(): void {
    if (index !== '') appendFileSync(join(directory, INDEX_FILE), index, { mode: 0o600 });
    index = '';
  }

  return {
    get newBytes() {
      return newBytes;
    },
    create({ size: hint = 0, sparse = false } = {}) {
      const verity = createVerityHash();
      const sha256 = sparse ? undefined : createHash('sha256'); // a file of holes may have any size
      let chunks: Buffer[] | undefined = sparse ? undefined : [];
      let file: { fd: number; name: string } | undefined;
      let end = 0;
      let written = 0;

      const spill = () => {
        const name = `partial-${partials++}`;
        file = { fd: check(createFile(name), 'create', 'an object'), name };
        let at = 0;
        for (const chunk of chunks ?? []) {
          writeAt(file.fd, chunk, at);
          at += chunk.length;
        }
        chunks = undefined;
        return file;
      };
      const abort = () => {
        if (file === undefined) return;
        close(file.fd);
        unlinkat(fd, file.name);
        file = undefined;
      };

      return {
        abort,
        write(bytes, offset = end) {
          if (offset > end) verity.skip(offset - end);
          verity.update(bytes);
          sha256?.update(bytes);
          // the bytes are the caller's again afterwards
          if (chunks !== undefined && Math.max(end + bytes.length, hint) <= BUFFERED_MAX_BYTES)
            chunks.push(Buffer.from(bytes));
          else {
            file ??= spill();
            writeAt(file.fd, bytes, offset);
          }
          end = offset + bytes.length;
          written += bytes.length;
        },
        finish(size = end) {
          if (size > end) verity.skip(size - end);
          const digest = verity.digest();
          const content = chunks ?? (file === undefined || sparse ? undefined : piecesOf(file.fd));
          if (isSound(digest, size, content)) {
            abort();
            return digest;
          }
          if (chunks !== undefined) {
            const created = createFile(digest);
            if (created === -errno.EEXIST) return digest;
            check(created, 'create', 'an object');
            try {
              if (chunks.length > 0)
                writeAt(created, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks), 0);
            } finally {
              close(created);
            }
          } else {
            const { fd: spilled, name } = file ?? spill();
            file = undefined;
            const truncated = ftruncate(spilled, size);
            close(spilled);
            check(truncated, 'truncate', 'an object');
            check(renameat2(fd, name, fd, digest), 'rename', 'an object');
          }
          guard(digest, size - written);
          newBytes += size;
          if (sha256 !== undefined)
            remember(sha256.digest('hex'), Buffer.from(digest, 'hex').toString('base64url'));
          return digest;
        },
      };
    },
    remember(inline) {
      if (inline.length === 0 || inline.length > INLINE_MAX_BYTES)
        throw new TypeError(`content of ${inline.length} bytes is not kept in the index`);
      remember(digestHex(digestOf(inline)), `${INLINE}${inline.toString('base64url')}`);
    },
    close() {
      flush();
      close(fd);
    },
  };
}

/**
 * Moves what openObjectStage() made in `directory` into place, after a sync of the file system; durable after the
 * next one. What somebody else has made meanwhile stays; what is damaged is replaced in one step, also while containers
 * run from it. Under the shared lock.
 */
export function commitObjects(paths: ObjectPaths, directory: string): void {
  const staged = join(directory, 'objects');
  const made = new Set<string>();
  const place = (root: string, hex: string) => {
    const parent = join(root, hex.slice(0, 2));
    if (!made.has(parent)) mkdirSync(parent, { recursive: true, mode: 0o700 });
    made.add(parent);
    return join(parent, hex.slice(2));
  };
  for (const name of readdirSync(staged)) {
    const [from, to] = [join(staged, name), place(paths.objects, name)];
    const status = renameat2(AT_FDCWD, toByteString(from), AT_FDCWD, toByteString(to), RENAME_NOREPLACE);
    if (status !== -errno.EEXIST) check(status, 'rename', 'an object');
    else if (isDamaged(to, name as VerityDigest)) renameSync(from, to);
  }
  const index = join(directory, INDEX_FILE);
  if (!existsSync(index)) return;
  for (const line of readFileSync(index, 'latin1').split('\n')) {
    const [sha256, target] = line.split(' ');
    if (target === undefined) continue;
    try {
      symlinkSync(target, place(paths.objectsBySha256, sha256!));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function* piecesOf(fd: number): Generator<Buffer> {
  const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let at = 0, length = -1; length !== 0; at += length) {
    length = readSync(fd, piece, 0, piece.length, at);
    yield piece.subarray(0, length);
  }
}

/** Whether the file begins with this content. */
function holds(fd: number, content: Iterable<Buffer>): boolean {
  let buffer = Buffer.alloc(0);
  let at = 0;
  for (const piece of content) {
    if (buffer.length < piece.length) buffer = Buffer.allocUnsafeSlow(piece.length);
    const found = buffer.subarray(0, readSync(fd, buffer, 0, piece.length, at));
    if (!found.equals(piece)) return false;
    at += piece.length;
  }
  return true;
}

function isDamaged(path: string, digest: VerityDigest): boolean {
  try {
    const fd = openSync(path, 'r');
    try {
      return verityDigestOfFile(fd, fstatSync(fd).size) !== digest;
    } finally {
      closeSync(fd);
    }
  } catch {
    return true; // the kernel refuses to read what it finds changed
  }
}

/** The digest of a file of this size. */
export function verityDigestOfFile(fd: number, size: number): VerityDigest {
  const verity = createVerityHash();
  let end = 0;
  for (const { bytes, offset } of dataOf(fd, size)) {
    verity.skip(offset - end);
    verity.update(bytes);
    end = offset + bytes.length;
  }
  verity.skip(size - end);
  return verity.digest();
}

/**
 * What a file of this size has, but for its holes, of which there may be more than can be read in a year; `bytes` are valid
 * until the next. Throws an Error where it turns out to be shorter.
 */
export function* dataOf(fd: number, size: number): Generator<{ bytes: Buffer; offset: number }> {
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < size; ) {
    const found = lseek(fd, at, SEEK_DATA);
    const start = found === -errno.ENXIO ? size : check(found, 'lseek', 'an object');
    const end = start === size ? size : check(lseek(fd, start, SEEK_HOLE), 'lseek', 'an object');
    for (at = start; at < end; ) {
      const length = readSync(fd, piece, 0, Math.min(PIECE_BYTES, end - at), at);
      if (length === 0) throw new Error('it is cut short');
      yield { bytes: piece.subarray(0, length), offset: at };
      at += length;
    }
  }
}

export function objectPaths({ root }: Pick<Layout, 'root'>): ObjectPaths {
  return { objects: join(root, 'objects'), objectsBySha256: join(root, 'objects-by-sha256') };
}
