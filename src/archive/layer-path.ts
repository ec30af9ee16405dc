/**
 * What the names in a layer mean (image-spec layer.md, "Whiteouts"): for every format that a layer is stored in.
 *
 * `.wh..wh.*` but the opaque mark is the business of aufs, and left out. Below a whiteout nothing can be.
 */
import { NAME_MAX_BYTES } from '../oci/limits.ts';
import { showBytes } from './byte-string.ts';
import { Refusal } from './refusal.ts';

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const WHITEOUT_OPAQUE = '.wh..wh..opq';

/** Each entry may cost memory and an inode on the disk. The largest layers in use stay below a tenth. */
export const ENTRIES_MAX = 4_000_000;
/** As the kernel. */
export const SYMLINKS_MAX = 40;
/**
 * Names in the targets of all symlinks that were followed: 40 of 4 KiB each would cost milliseconds for every entry
 * behind them. Real layers stay below a hundredth.
 */
export const LINK_NAMES_MAX = 20_000_000;
/** A hard link may wait for a hard link. Each pass is linear; longer chains in the wrong order are refused. */
export const HARD_LINK_PASSES_MAX = 40;

/** The names of a path, without '' and '.'. Throws a Refusal for '..' or a name that is too long. */
export function splitPath(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  for (const name of names) {
    if (name === '..') throw new Refusal("'..' in its path");
    checkName(name);
  }
  return names;
}

export function checkName(name: string): void {
  if (name.length > NAME_MAX_BYTES)
    throw new Refusal(`a name of ${name.length} bytes, more than ${NAME_MAX_BYTES}, in its path`);
}

/** `names` of splitPath(). Undefined: an entry as any other. 'none' means nothing; 'opaque' is all of the directory. */
export function whiteoutOf(
  names: readonly string[],
): undefined | { kind: 'none' } | { kind: 'opaque' } | { kind: 'name'; hidden: string } {
  const meta = names.findIndex((name) => name.startsWith(WHITEOUT));
  if (meta < 0) return undefined;
  const isLast = meta === names.length - 1;
  const name = names[meta]!;
  if (name.startsWith(WHITEOUT_META) && !(isLast && name === WHITEOUT_OPAQUE)) return { kind: 'none' };
  if (!isLast) throw new Refusal(`lies below the whiteout ${showBytes(name)}`);
  if (name === WHITEOUT_OPAQUE) return { kind: 'opaque' };
  const hidden = name.slice(WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..') throw new Refusal('a whiteout without a name');
  return { kind: 'name', hidden };
}
