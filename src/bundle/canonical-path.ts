/** Where a path of the image leads, symlinks resolved inside the image, also when its last parts do not exist. */
import { OciError, quote } from '../oci/errors.ts';

const SYMLINKS_MAX = 40; // as the kernel's

/**
 * The canonical absolute path. `readLink` gives the target of a symlink at a canonical path, undefined for anything
 * else. Throws BAD_IMAGE for a loop.
 */
export function canonicalPath(path: string, readLink: (path: string) => string | undefined): string {
  let pending = path.split('/').filter((part) => part !== '' && part !== '.');
  let resolved: string[] = [];
  let links = 0;
  for (let part = pending.shift(); part !== undefined; part = pending.shift()) {
    if (part === '..') {
      resolved.pop(); // the parent of the root is the root
      continue;
    }
    const target = readLink(`/${[...resolved, part].join('/')}`);
    if (target === undefined) {
      resolved.push(part);
      continue;
    }
    if (++links > SYMLINKS_MAX)
      throw new OciError('BAD_IMAGE', `path ${quote(path)} leads round in symbolic links`, {
        hint: 'Look at the image with: ocictl mount IMAGE.',
      });
    if (target.startsWith('/')) resolved = [];
    pending = [...target.split('/').filter((p) => p !== '' && p !== '.'), ...pending];
  }
  return `/${resolved.join('/')}`;
}
