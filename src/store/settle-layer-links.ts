/**
 * Hard links to files of the layers below, and to entries that came after them.
 *
 * Invariant: a link leads to what its target was when the link came (the layer did not have it then), whatever the layer
 * removes or puts in its place. All names of one file that are to be seen end up in this layer, as names of one copy:
 * overlayfs shows the files of two layers as two files.
 */
import { showBytes } from '../archive/byte-string.ts';
import { HARD_LINK_PASSES_MAX } from '../archive/layer-path.ts';
import { check } from '../host/syscalls.ts';
import { kindOf, type StackWay } from './merged-tree.ts';
import { ensureDirectory, refusal, type Settling, sourceBelow } from './settle-layer-state.ts';
import type { Names } from './settle-layer-upper.ts';
import { TEMPORARY_NAME, type WaitingLink } from './tree-writer-links.ts';
import { walkTree } from './walk-tree.ts';

interface Linking extends Settling {
  /** All names that a file with several has in one of the trees below. */
  readonly namesBelow: (tree: number, ino: bigint) => readonly string[];
  /** Files of the trees below that are to be seen nowhere else → the link that has the copy. */
  readonly hiddenCopies: Map<string, Names>;
}

/** A link may be the target of one before it. */
export function settleLinks(
  settling: Settling,
  lowerTrees: readonly string[],
  links: readonly WaitingLink[],
): void {
  const linking: Linking = {
    ...settling,
    namesBelow: linkedNames(lowerTrees),
    hiddenCopies: new Map(),
  };
  let waiting = links;
  for (let pass = 0; waiting.length > 0; pass++) {
    const missing = waiting.filter((link) => !settleLink(linking, link));
    const [first] = missing;
    if (first !== undefined && (missing.length === waiting.length || pass === HARD_LINK_PASSES_MAX))
      throw refusal(
        first.path.split('/'),
        `a hard link to ${showBytes(first.target)}, which is no file of the image`,
      );
    waiting = missing;
  }
}

/** False when there is no target (yet). */
function settleLink(linking: Linking, link: WaitingLink): boolean {
  const names = link.path.split('/');
  const { merged, upper } = linking;
  const found = findTarget(linking, link);
  if (found === undefined) return false;
  if (kindOf(found.way.node.stat.mode) === 'directory')
    throw refusal(names, `a hard link to ${showBytes(link.target)}, a directory`);
  const aside = [TEMPORARY_NAME];
  const [visible] = found.hidden ? otherNames(linking, found.way) : [found.way.names];
  const copied = visible ?? linking.hiddenCopies.get(fileKey(found.way));
  if (visible !== undefined) copyUp(linking, merged.walk(visible, false), names);
  if (copied !== undefined) upper.link(copied, aside);
  else upper.copy(sourceBelow(linking, found.way.node, found.way.names), aside);
  const parent = ensureDirectory(linking, merged.walk(names.slice(0, -1), true), names);
  const to = [...parent, names.at(-1)!];
  upper.removeAll(to);
  upper.move(aside, to);
  if (copied === undefined) linking.hiddenCopies.set(fileKey(found.way), to);
  return true;
}

/** What the target was when the link came. `hidden`: it has not its place in the merged tree any more. */
function findTarget(
  { lower, merged }: Linking,
  { target, late }: WaitingLink,
): { way: StackWay; hidden: boolean } | undefined {
  const names = target.split('/').filter((name) => name !== '' && name !== '.');
  const now = merged.walk(names, false);
  if (leads(now) && !late) return { way: now, hidden: false };
  const before = lower.walk(names, false);
  if (leads(before)) return { way: before, hidden: true };
  return leads(now) ? { way: now, hidden: false } : undefined;
}

function leads(way: StackWay): boolean {
  return way.problem === undefined && way.missing.length === 0;
}

function fileKey({ node }: StackWay): string {
  return `${node.trees[0]} ${node.stat.ino}`;
}

/** Copies a file into this layer, under all names that are to be seen of it. */
function copyUp(linking: Linking, way: StackWay, entry: Names): void {
  const { merged, upper, top } = linking;
  if (way.node.trees[0] === top) return;
  const others = otherNames(linking, way);
  ensureDirectory(linking, merged.walk(way.names.slice(0, -1), true), entry);
  upper.copy(sourceBelow(linking, way.node, way.names), way.names);
  for (const other of others) {
    ensureDirectory(linking, merged.walk(other.slice(0, -1), true), entry);
    upper.link(way.names, other);
  }
}

/** Where else in the merged tree the file of a lower tree is to be seen. */
function otherNames({ merged, namesBelow }: Linking, { node, names }: StackWay): Names[] {
  const [tree] = node.trees;
  if (node.stat.links < 2) return [];
  const own = names.join('/');
  const others = namesBelow(tree!, node.stat.ino).filter((path) => path !== own);
  return others
    .map((path) => path.split('/'))
    .filter((other) => {
      const way = merged.walk(other, false);
      return leads(way) && way.node.trees[0] === tree && way.names.join('/') === other.join('/');
    });
}

/** A tree is walked when it is first asked about. */
function linkedNames(trees: readonly string[]): Linking['namesBelow'] {
  const known = new Map<number, Map<bigint, string[]>>();
  const find = (tree: number): Map<bigint, string[]> => {
    const found = new Map<bigint, string[]>();
    walkTree(trees[tree]!, {
      entry(path, { mode, links, ino }) {
        if (links < 2 || kindOf(mode) === 'directory') return;
        const names = found.get(ino);
        if (names === undefined) found.set(ino, [path]);
        else names.push(path);
      },
      unreadable: (path, status) => void check(status, 'stat', showBytes(path)),
    });
    return found;
  };
  return (tree, ino) => {
    const names = known.get(tree) ?? find(tree);
    known.set(tree, names);
    return names.get(ino) ?? [];
  };
}
