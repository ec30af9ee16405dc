/**
 * Hard links of a layer, to what is there and to what is still to come.
 *
 * Invariant: a target is looked up inside the layer and never followed when it is a symlink; a link that gives way to a
 * later entry of its name is forgotten.
 */
import { showBytes } from '../archive/byte-string.ts';
import { HARD_LINK_PASSES_MAX, splitPath } from '../archive/layer-path.ts';
import { atEntry, Refusal, refusing } from '../archive/refusal.ts';
import { check, errno, linkat, renameat2, statAt } from '../host/syscalls.ts';
import { type Directories, type Directory, joinPath } from './tree-writer-directories.ts';

export interface WaitingLink {
  readonly path: string;
  /** As the archive has it. */
  readonly target: string;
  /** The layer has the target now: it came after the link. */
  readonly late: boolean;
}

export interface HardLinks {
  /** Links the name to the target now, or when the target has come. */
  add(parent: Directory, name: string, target: string): void;
  /** Something else takes the name. */
  forget(parent: Directory, name: string): void;
  /** The links whose target was not in the layer when they came. */
  waiting(): WaitingLink[];
  /** Where nothing lies below: makes the links to what came later; returns those that lead to nothing. */
  finish(): WaitingLink[];
}

/** No entry can have this name: it begins as those of aufs do. */
export const TEMPORARY_NAME = '.wh..wh.ocictl';

/** `vacate` removes whatever is at a name. */
export function createHardLinks(
  { walk, fdOf }: Directories,
  vacate: (parent: Directory, name: string) => void,
): HardLinks {
  const waiting = new Map<string, { parent: Directory; name: string; target: string }>();

  /** Where the target is, or would be; undefined when its directory is not (yet) in the layer. */
  function find(target: string): { directory: Directory; name: string } | undefined {
    const names = splitPath(target);
    const name = names.pop();
    if (name === undefined) throw new Refusal('a hard link to a directory');
    const { directory, missing } = walk(names);
    return missing.length > 0 || directory.whiteouts?.has(name) ? undefined : { directory, name };
  }

  /** False when the target is not (yet) in the layer. */
  function link(parent: Directory, name: string, target: string): boolean {
    const found = find(target);
    const directory = found?.directory.children?.get(found.name);
    // One that no entry describes may turn out to be a symlink, once the layers below are known.
    if (found === undefined || directory?.implied === true) return false;
    if (directory !== undefined) throw new Refusal(`a hard link to ${showBytes(target)}, a directory`);
    const from = fdOf(found.directory);
    const to = fdOf(parent);
    const status = linkat(from, found.name, to, name);
    if (status === -errno.ENOENT) return false;
    if (status === -errno.EEXIST) {
      if (found.directory === parent && found.name === name) return true;
      if (typeof statAt(from, found.name) === 'number') return false;
      // The target may lie in a tree that gives way to the link: hold it under another name meanwhile.
      check(linkat(from, found.name, to, TEMPORARY_NAME), 'link', showBytes(name));
      vacate(parent, name);
      check(renameat2(fdOf(parent), TEMPORARY_NAME, fdOf(parent), name), 'rename', showBytes(name));
    } else check(status, 'link', showBytes(name));
    return true;
  }

  function forget(parent: Directory, name: string): void {
    if (waiting.size > 0) waiting.delete(joinPath(parent, name));
  }

  function hasNow(target: string): boolean {
    const found = find(target);
    if (found === undefined || found.directory.children?.get(found.name)?.implied) return false;
    return typeof statAt(fdOf(found.directory), found.name) !== 'number';
  }

  function list(): WaitingLink[] {
    return [...waiting]
      .filter(([, { parent }]) => !parent.removed)
      .map(([path, { target }]) => ({
        path,
        target,
        late: refusing(
          () => atEntry(path),
          () => hasNow(target),
        ),
      }));
  }

  return {
    forget,
    waiting: list,
    add(parent, name, target) {
      if (link(parent, name, target)) forget(parent, name);
      else waiting.set(joinPath(parent, name), { parent, name, target });
    },
    finish() {
      for (let pass = 0, progress = true; progress && pass < HARD_LINK_PASSES_MAX; pass++) {
        progress = false;
        for (const [path, { parent, name, target }] of waiting) {
          const place = () => atEntry(path);
          if (!parent.removed && !refusing(place, () => link(parent, name, target))) continue;
          waiting.delete(path);
          progress = true;
        }
      }
      return list();
    },
  };
}
