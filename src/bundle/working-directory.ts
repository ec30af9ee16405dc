/**
 * The payload's working directory: whether it can be one, and who enters it.
 *
 * systemd does so as the container root's id before that has any capability, and takes no path below /proc, /sys and
 * /dev and none that it could not write into a file. For all others the shim does, as the container's root.
 */
import { OciError, quote } from '../oci/errors.ts';
import { canonicalPoint, prefixes, type RootEntry } from './scaffold.ts';

export interface WorkingDirectoryInput {
  cwd: string;
  /** Where id 0 of the image lies on disk. */
  idBase: number;
  /** What lies at a canonical path of the image. */
  lookup: (path: string) => RootEntry | undefined;
  /** True for a path that a mount will cover: it cannot be judged beforehand. */
  covered: (path: string) => boolean;
}

/** Throws BAD_IMAGE where something other than a directory is in the way. */
export function whoEntersDirectory({ cwd, idBase, lookup, covered }: WorkingDirectoryInput): 'unit' | 'shim' {
  if (
    /[\x00-\x1f\x7f]|^\s|\s$|\\$/.test(cwd) ||
    /^\/(proc|sys|dev)(\/|$)/.test(cwd.replace(/\/[/.]*\//g, '/'))
  )
    return 'shim';
  for (const prefix of prefixes(canonicalPoint(cwd, lookup))) {
    if (covered(prefix)) return 'unit';
    const entry = lookup(prefix);
    if (entry === undefined) return 'unit';
    if (entry.kind !== 'directory')
      throw new OciError(
        'BAD_IMAGE',
        `working directory ${quote(cwd)}: ${prefix === cwd ? 'it' : quote(prefix)} is a ${entry.kind} in the image`,
        { hint: 'Name another one with --workdir /DIR.' },
      );
    if ((entry.mode & searchBit(entry, idBase)) === 0) return 'shim';
  }
  return 'unit';
}

/** The bit of a directory's mode that lets a user without any capability search it; ids as on disk. */
export function searchBit(
  { uid, gid }: { uid: number; gid: number },
  user: number,
  groups: readonly number[] = [user],
): number {
  return uid === user ? 0o100 : groups.includes(gid) ? 0o010 : 0o001;
}
