/**
 * The fs-verity digest of a file, from its bytes as they come: SHA-256, blocks of 4 KiB, no salt
 * (Linux Documentation/filesystems/fsverity.rst). What FS_IOC_MEASURE_VERITY says, and the name of an object.
 *
 * A Merkle tree is built with one open block for each level, so memory is bounded whatever the size. Runs of zeros cost
 * next to nothing: their subtrees are known.
 */
import { hash } from 'node:crypto';
import { OciError, quote } from '../oci/errors.ts';

/** 64 lower-case hex digits: of a file, not of its bytes alone, and so no `Digest`. */
export type VerityDigest = string & { readonly __verityDigest: unique symbol };

/** Of the image of a container image, for people: `sha256:` and the digits. */
export function showVerityDigest(digest: VerityDigest): string {
  return `sha256:${digest}`;
}

/** With or without `sha256:`. Throws USAGE. */
export function parseVerityDigest(text: string): VerityDigest {
  const digits = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text)?.[1];
  if (digits === undefined)
    throw new OciError('USAGE', `${quote(text)} is not an fs-verity digest`, {
      hint: 'Write sha256: and 64 hex digits, as ocictl inspect shows them.',
    });
  return digits as VerityDigest;
}

export interface VerityHash {
  update(bytes: Uint8Array): void;
  /** As update() with so many zeros. */
  skip(zeros: number): void;
  digest(): VerityDigest;
}

const VERITY_BLOCK_BYTES = 4096;
const HASH_BYTES = 32;
const HASHES = VERITY_BLOCK_BYTES / HASH_BYTES;
const DESCRIPTOR_BYTES = 256;
const VERSION = 1;
const SHA256 = 1;
const BLOCK_LOG2 = 12;

/** Of a block of zeros, then of a block of such hashes, and so on; each once it is needed. */
const zeroHashes: Buffer[] = [];

function zeroHash(level: number): Buffer {
  for (let known = zeroHashes.length; known <= level; known++) {
    const block = Buffer.alloc(VERITY_BLOCK_BYTES);
    const below = zeroHashes[known - 1];
    for (let at = 0; below !== undefined && at < VERITY_BLOCK_BYTES; at += HASH_BYTES) below.copy(block, at);
    zeroHashes.push(sha256(block));
  }
  return zeroHashes[level]!;
}

function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

/** A block of hashes that is not full. */
interface Level {
  readonly block: Buffer;
  filled: number;
  /** Hashes that this level has seen. */
  count: number;
}

export function createVerityHash(): VerityHash {
  const levels: Level[] = [];
  let tail: Buffer | undefined;
  let tailBytes = 0;
  let size = 0;

  function add(level: number, digest: Buffer): void {
    let at = levels[level];
    if (at === undefined) {
      at = { block: Buffer.alloc(VERITY_BLOCK_BYTES), filled: 0, count: 0 };
      levels[level] = at;
    }
    digest.copy(at.block, at.filled * HASH_BYTES);
    at.count++;
    if (++at.filled < HASHES) return;
    at.filled = 0;
    add(level + 1, sha256(at.block));
  }

  /** So many hashes of a level, all of zeros. */
  function addZeros(level: number, count: number): void {
    let left = count;
    while (left > 0 && (levels[level]?.filled ?? 0) !== 0) {
      add(level, zeroHash(level));
      left--;
    }
    const full = Math.floor(left / HASHES);
    if (full > 0) {
      levels[level] ??= { block: Buffer.alloc(VERITY_BLOCK_BYTES), filled: 0, count: 0 };
      levels[level].count += full * HASHES;
      addZeros(level + 1, full);
    }
    for (left -= full * HASHES; left > 0; left--) add(level, zeroHash(level));
  }

  function update(bytes: Uint8Array): void {
    size += bytes.length;
    let at = 0;
    if (tailBytes > 0) {
      at = Math.min(VERITY_BLOCK_BYTES - tailBytes, bytes.length);
      tail!.set(bytes.subarray(0, at), tailBytes);
      tailBytes += at;
      if (tailBytes < VERITY_BLOCK_BYTES) return;
      add(0, sha256(tail!));
      tailBytes = 0;
    }
    for (; at + VERITY_BLOCK_BYTES <= bytes.length; at += VERITY_BLOCK_BYTES)
      add(0, sha256(bytes.subarray(at, at + VERITY_BLOCK_BYTES)));
    if (at === bytes.length) return;
    tail ??= Buffer.allocUnsafe(VERITY_BLOCK_BYTES);
    tail.set(bytes.subarray(at), 0);
    tailBytes = bytes.length - at;
  }

  /** The hash that covers everything: of the single block of the highest level, or of the only block of the file. */
  function root(): Buffer {
    if (size === 0) return Buffer.alloc(HASH_BYTES);
    if (tailBytes > 0) {
      tail!.fill(0, tailBytes);
      add(0, sha256(tail!));
    }
    for (let level = 0; ; level++) {
      const at = levels[level]!;
      if (at.count === 1) return Buffer.from(at.block.subarray(0, HASH_BYTES));
      if (at.filled === 0) continue;
      at.block.fill(0, at.filled * HASH_BYTES);
      add(level + 1, sha256(at.block));
    }
  }

  return {
    update,
    skip(zeros) {
      let left = zeros;
      if (tailBytes > 0) {
        const bytes = Math.min(left, VERITY_BLOCK_BYTES - tailBytes);
        update(Buffer.alloc(bytes));
        left -= bytes;
      }
      const blocks = Math.floor(left / VERITY_BLOCK_BYTES);
      size += blocks * VERITY_BLOCK_BYTES;
      addZeros(0, blocks);
      left -= blocks * VERITY_BLOCK_BYTES;
      if (left > 0) update(Buffer.alloc(left));
    },
    digest() {
      const descriptor = Buffer.alloc(DESCRIPTOR_BYTES);
      descriptor[0] = VERSION;
      descriptor[1] = SHA256;
      descriptor[2] = BLOCK_LOG2;
      descriptor.writeBigUInt64LE(BigInt(size), 8);
      root().copy(descriptor, 16);
      return sha256(descriptor).toString('hex') as VerityDigest;
    },
  };
}

export function verityDigestOf(bytes: Uint8Array): VerityDigest {
  const verity = createVerityHash();
  verity.update(bytes);
  return verity.digest();
}
