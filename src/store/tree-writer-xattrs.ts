/** The xattrs of a layer on the disk. Which, and how: src/archive/layer-xattrs.ts. */
import { showBytes } from '../archive/byte-string.ts';
import { storedXattr } from '../archive/layer-xattrs.ts';
import { Refusal } from '../archive/refusal.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import { check, errno } from '../host/syscalls.ts';

export const OPAQUE_XATTR = 'user.overlay.opaque';

/**
 * Gives each xattr that an entry of the type is to have to `set`, which returns what the system call did.
 * Throws a Refusal for what means something to overlayfs, or what the kernel calls invalid.
 */
export function storeXattrs(
  { type, xattrs }: Pick<TarEntry, 'type' | 'xattrs'>,
  idBase: number,
  path: () => string,
  set: (name: string, value: Buffer) => number,
): void {
  for (const [name, value] of xattrs ?? []) {
    const stored = storedXattr(name, value, type, idBase);
    if (stored === undefined) continue;
    checkXattr(set(name, stored), name, path);
  }
}

/** Of what setting the xattr returned. Throws a Refusal where the kernel calls it invalid. */
export function checkXattr(status: number, name: string, path: () => string): void {
  if (status >= 0) return;
  if (status === -errno.EINVAL) throw new Refusal(`xattr ${showBytes(name)} that the kernel finds invalid`);
  check(status, `setxattr ${showBytes(name)}`, showBytes(path()));
}
