/**
 * CRC-32 of a file's content (the one of gzip and zlib), holes folded in without reading them.
 *
 * It finds what disks, memory and programs damage: every change of up to 32 bits in a row, and any other but one in
 * four thousand million. It is no defence against somebody who may write to the store; he could write a new checksum
 * as well. It costs half of a SHA-256 at most, next to nothing where ISA-L is installed.
 */
import { crc32 } from '../host/crc32.ts';
import { errno, type FileStat, lseek, read, SEEK_DATA, SEEK_HOLE } from '../host/syscalls.ts';

/**
 * Sums that were taken while the files were written, by inode: two columns, so that they cross to another thread at
 * once. They hold for as long as nothing else makes regular files in the tree.
 */
export interface ContentSums {
  readonly inodes: Float64Array;
  readonly crcs: Uint32Array;
}

export function sumsOf(byInode: ReadonlyMap<number, number>): ContentSums {
  return { inodes: Float64Array.from(byInode.keys()), crcs: Uint32Array.from(byInode.values()) };
}

export function sumsByInode({ inodes, crcs }: ContentSums): ReadonlyMap<number, number> {
  const byInode = new Map<number, number>();
  for (let i = 0; i < inodes.length; i++) byInode.set(inodes[i]!, crcs[i]!);
  return byInode;
}

const BLOCK_BYTES = 512;
/** As much as stays in a core's own cache between the copy and the sum. */
const chunk = Buffer.allocUnsafeSlow(128 * 1024);

/** Of the whole file behind `fd`, open at its start; or the negative errno. */
export function contentCrc32(fd: number, stat: FileStat): number {
  if (stat.blocks * BLOCK_BYTES < stat.size) return sparseCrc32(fd, stat.size);
  return appendData(0, fd, stat.size);
}

function sparseCrc32(fd: number, size: number): number {
  let crc = 0;
  for (let end = 0; end < size; ) {
    const found = lseek(fd, end, SEEK_DATA);
    const start = found === -errno.ENXIO ? size : found; // no more data
    if (start < 0) return start;
    crc = appendZeros(crc, start - end);
    if (start === size) break;
    end = Math.min(size, lseek(fd, start, SEEK_HOLE));
    if (end < 0) return end;
    lseek(fd, start, 0);
    crc = appendData(crc, fd, end - start);
    if (crc < 0) return crc;
  }
  return crc;
}

function appendData(crc: number, fd: number, bytes: number): number {
  let sum = crc;
  for (let left = bytes; left > 0; ) {
    const length = read(fd, left < chunk.length ? chunk.subarray(0, left) : chunk);
    if (length < 0) return length;
    if (length === 0) break;
    sum = crc32(length === chunk.length ? chunk : chunk.subarray(0, length), sum);
    left -= length;
  }
  return sum;
}

const POLYNOMIAL = 0xedb88320;

/**
 * The CRC-32 after `count` more zero bytes. A zero bit is a linear map of the register, kept as the images of its 32
 * bits; squaring the map again and again gives it for 2, 4, 8, … of them.
 */
export function appendZeros(crc: number, count: number): number {
  let map = Uint32Array.from({ length: 32 }, (_, bit) => (bit === 0 ? POLYNOMIAL : 2 ** (bit - 1)));
  for (let bits = 1; bits < 8; bits *= 2) map = map.map((image) => apply(map, image));
  let register = ~crc >>> 0;
  for (let left = count; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) register = apply(map, register);
    map = map.map((image) => apply(map, image));
  }
  return ~register >>> 0;
}

function apply(map: Uint32Array, register: number): number {
  let sum = 0;
  for (let bit = 0; bit < 32; bit++) if ((register >>> bit) & 1) sum ^= map[bit]!;
  return sum >>> 0;
}
