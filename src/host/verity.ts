/**
 * fs-verity: a file whose content the kernel checks at every read, against a digest that it keeps with the file.
 * Source: Documentation/filesystems/fsverity.rst.
 */
import { check, errno, ioctl } from './syscalls.ts';

const FS_IOC_ENABLE_VERITY = 0x40806685;
const FS_IOC_MEASURE_VERITY = 0xc0046686;
const SHA256 = 1; // FS_VERITY_HASH_ALG_SHA256
const BLOCK_BYTES = 4096;
const DIGEST_MAX_BYTES = 64;

/** struct fsverity_enable_arg, all but the first fields zero: no salt, no signature. */
const enableArgument = Buffer.alloc(128);
enableArgument.writeUInt32LE(1, 0);
enableArgument.writeUInt32LE(SHA256, 4);
enableArgument.writeUInt32LE(BLOCK_BYTES, 8);

/** EBUSY: somebody else is at it. */
const NOT_GUARDED = new Set([errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM, errno.EBUSY]);

/**
 * Has the kernel guard the content of a file from now on: it can be read and deleted, but never written. `fd` is open for
 * reading only, and nobody has it open for writing. False where the file system or the kernel has no fs-verity, and
 * while somebody else is at it.
 */
export function enableVerity(fd: number): boolean {
  const status = ioctl(fd, FS_IOC_ENABLE_VERITY, enableArgument);
  if (NOT_GUARDED.has(-status)) return false;
  if (status !== -errno.EEXIST) check(status, 'enable fs-verity on', 'an object');
  return true;
}

/** Whether the kernel could guard the file, and does not. */
export function lacksVerity(fd: number): boolean {
  return ioctl(fd, FS_IOC_MEASURE_VERITY, digestArgument()) === -errno.ENODATA;
}

/** What the kernel guards the file with, in hex; undefined where it does not, or not with SHA-256. */
export function measureVerity(fd: number): string | undefined {
  const digest = digestArgument();
  if (ioctl(fd, FS_IOC_MEASURE_VERITY, digest) < 0) return undefined;
  if (digest.readUInt16LE(0) !== SHA256) return undefined;
  return digest.toString('hex', 4, 4 + digest.readUInt16LE(2));
}

/** struct fsverity_digest: algorithm, size (here the most that fits) and the digest itself. */
function digestArgument(): Buffer {
  const argument = Buffer.alloc(4 + DIGEST_MAX_BYTES);
  argument.writeUInt16LE(DIGEST_MAX_BYTES, 2);
  return argument;
}
