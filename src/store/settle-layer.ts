/**
 * Second step of a layer: what could not be decided without the layers below (see Unsettled in tree-writer.ts).
 *
 * Invariant: afterwards overlayfs, stacking the tree on those below, shows what applying the entries one by one to the
 * merged root would have made. Only this layer's tree is written. Done twice, or killed half way, it is undefined:
 * the caller starts again from an empty tree.
 *
 * - A directory that no entry describes has the attributes of the one below; it is not there when only whiteouts were
 *   in it and nothing is below.
 * - Where the layers below have a symlink in its place, what is in it moves to where the link leads (lib/x over
 *   lib -> usr/lib becomes usr/lib/x). If the layer has an entry there by its real name, that one stays.
 * - A whiteout that hides nothing is dropped: overlayfs would show it in a directory that is not merged.
 * - A hard link to a file below makes a copy of the file in this layer, under all its names (settle-layer-links.ts).
 * - An opaque root becomes whiteouts and opaque directories: overlayfs ignores the mark on a root.
 */
import { close, O_DIRECTORY, O_RDONLY } from '../host/syscalls.ts';
import { isWhiteout, kindOf, openStack, type StackNode } from './merged-tree.ts';
import { settleLinks } from './settle-layer-links.ts';
import { ensureDirectory, type Settling, sourceBelow, type Task } from './settle-layer-state.ts';
import { listDirectory, type Names, openUpperTree, type UpperTree } from './settle-layer-upper.ts';
import type { Unsettled } from './tree-writer.ts';
import { TEMPORARY_NAME } from './tree-writer-links.ts';

/** `lowerTrees`: lowest first, themselves settled. `idBase` owns what nobody describes. */
export function settleLayer(
  treeDir: string,
  lowerTrees: readonly string[],
  unsettled: Unsettled,
  idBase: number,
): void {
  const { implied, undescribed, whiteouts, links, rootOpaque } = unsettled;
  if (implied.length + whiteouts.length + links.length === 0 && !rootOpaque) return;
  using resources = new DisposableStack();
  const lower = resources.adopt(openStack(lowerTrees), (stack) => stack.close());
  const merged = resources.adopt(openStack([...lowerTrees, treeDir]), (stack) => stack.close());
  const upper = resources.adopt(openUpperTree(treeDir, idBase), (tree) => tree.close());
  const settling: Settling = {
    lower,
    merged,
    upper,
    top: lowerTrees.length,
    rootTask: taskTree(unsettled),
    implied: new Set(implied),
    undescribed: new Set(undescribed),
  };

  if (rootOpaque) hideRoot(settling);
  workOff(settling, settling.rootTask, [], rootOpaque ? undefined : lower.root);
  if (settling.rootTask.implied && lowerTrees.length > 0)
    upper.copyAttributes(sourceBelow(settling, lower.root, []), []);
  settleLinks(settling, lowerTrees, links);
  upper.restoreTimes();
}

function newTask(): Task {
  return { children: new Map(), whiteouts: new Set(), implied: false, undescribed: false };
}

function taskTree({ implied, undescribed, whiteouts }: Unsettled): Task {
  const root = newTask();
  for (const path of implied) taskAt(root, split(path)).implied = true;
  for (const path of undescribed) taskAt(root, split(path)).undescribed = true;
  for (const path of whiteouts) {
    const names = split(path);
    taskAt(root, names.slice(0, -1)).whiteouts.add(names.at(-1)!);
  }
  return root;
}

function taskAt(root: Task, path: Names): Task {
  let task = root;
  for (const name of path) {
    let child = task.children.get(name);
    if (child === undefined) {
      child = newTask();
      task.children.set(name, child);
    }
    task = child;
  }
  return task;
}

function split(path: string): string[] {
  return path === '' ? [] : path.split('/');
}

/** Looking for that many names times trees one by one takes longer than listing the directory in each tree. */
const LISTED_LOOKS_MIN = 1024;

/**
 * Does what is left to do in a directory. `below` is the directory that it is merged with, if any. Content that
 * moves elsewhere becomes a task there, so tasks may appear in any directory that is not worked off yet.
 */
function workOff(settling: Settling, task: Task, path: Names, below: StackNode | undefined): void {
  const { lower, upper } = settling;
  const wanted = new Set([...task.children.keys(), ...task.whiteouts]);
  const listed =
    below !== undefined && wanted.size * below.trees.length >= LISTED_LOOKS_MIN
      ? lower.withNames(below, path, wanted)
      : undefined;
  // What moves here may make the directory opaque, so that is asked each time.
  const beneath = (name: string): StackNode | undefined => {
    if (below === undefined || upper.isOpaque(path)) return undefined;
    const parent = listed !== undefined && wanted.has(name) ? listed.get(name) : below;
    return parent && lower.child(parent, [...path, name]);
  };
  for (;;) {
    const [next] = task.children;
    if (next !== undefined) {
      const [name, child] = next;
      task.children.delete(name); // first: it may come again while it is worked off
      workOffChild(settling, child, [...path, name], beneath(name));
      continue;
    }
    const [name] = task.whiteouts;
    if (name === undefined) return;
    // A directory that content was moved to may have taken its place.
    if (isWhiteoutAt(upper, [...path, name]) && beneath(name) === undefined) upper.remove([...path, name]);
    task.whiteouts.delete(name);
  }
}

function isWhiteoutAt(upper: UpperTree, path: Names): boolean {
  const stat = upper.stat(path);
  return stat !== undefined && isWhiteout(stat);
}

function workOffChild(settling: Settling, task: Task, path: Names, below: StackNode | undefined): void {
  const { upper } = settling;
  const kind = below === undefined ? undefined : kindOf(below.stat.mode);
  if (kind === 'directory') {
    workOff(settling, task, path, below);
    if (task.implied) upper.copyAttributes(sourceBelow(settling, below!, path), path);
  } else if (kind === 'symlink' && task.implied) {
    moveThroughLink(settling, task, path);
  } else {
    workOff(settling, task, path, undefined);
    if (task.implied) upper.removeEmptyDirectory(path);
  }
}

/** `path` is an implied directory, and a symlink below. */
function moveThroughLink(settling: Settling, task: Task, path: Names): void {
  const { merged, upper, rootTask } = settling;
  const aside = [TEMPORARY_NAME];
  upper.move(path, aside);
  const way = merged.walk(path, true);
  const nothingThere =
    way.problem !== undefined || way.missing.length > 0 || kindOf(way.node.stat.mode) !== 'directory';
  if (nothingThere && onlyHides(settling, aside, path)) {
    upper.removeAll(aside);
    return;
  }
  const to = ensureDirectory(settling, way, path);
  mergeDirectory(settling, { path: aside, origin: path, task }, { path: to, task: taskAt(rootTask, to) });
  upper.removeAll(aside);
}

/** True for a directory that is there only for the whiteouts in it. `origin` is its path in the archive. */
function onlyHides(settling: Settling, path: Names, origin: Names): boolean {
  const { upper, implied } = settling;
  if (!implied.has(origin.join('/'))) return false;
  return upper.list(path).every((name) => {
    const stat = upper.stat([...path, name])!;
    if (kindOf(stat.mode) !== 'directory') return isWhiteout(stat);
    return onlyHides(settling, [...path, name], [...origin, name]);
  });
}

/** The whiteouts in it have nothing left to hide then, and overlayfs would show them. */
function makeOpaque(settling: Settling, path: Names): void {
  const { upper } = settling;
  upper.setOpaque(path);
  dropWhiteouts(upper, path);
  if (path.length === 0) hideRoot(settling);
}

function dropWhiteouts(upper: UpperTree, path: Names): void {
  for (const name of upper.list(path)) {
    const below = [...path, name];
    const stat = upper.stat(below)!;
    if (isWhiteout(stat)) upper.remove(below);
    else if (kindOf(stat.mode) === 'directory') dropWhiteouts(upper, below);
  }
}

interface Moving {
  readonly path: Names;
  /** Its path in the archive. */
  readonly origin: Names;
  readonly task: Task;
}

/** Moves what is in one directory of the layer into another one. Where both have a name, the one there stays. */
function mergeDirectory(settling: Settling, from: Moving, to: { path: Names; task: Task }): void {
  const { upper, undescribed } = settling;
  if (upper.isOpaque(from.path)) makeOpaque(settling, to.path);
  for (const name of upper.list(from.path)) {
    const source = [...from.path, name];
    const origin = [...from.origin, name];
    const target = [...to.path, name];
    const child = from.task.children.get(name);
    const moving = upper.stat(source)!;
    const there = upper.stat(target);
    const take = () => {
      to.task.whiteouts.delete(name);
      to.task.children.delete(name);
      upper.removeAll(target);
      upper.move(source, target);
      if (from.task.whiteouts.has(name)) to.task.whiteouts.add(name);
      undescribed.delete(target.join('/'));
      if (child === undefined) return;
      to.task.children.set(name, child);
      noteUndescribed(settling, child, target);
    };
    if (there === undefined) take();
    else if (isWhiteout(there)) {
      if (isWhiteout(moving) || (isDirectory(moving) && onlyHides(settling, source, origin))) continue;
      take();
      if (isDirectory(moving)) makeOpaque(settling, target);
    } else if (isDirectory(there) && !isDirectory(moving)) {
      if (onlyHides(settling, target, target)) take();
      else if (isWhiteout(moving)) makeOpaque(settling, target);
    } else if (isDirectory(there) && isDirectory(moving)) {
      const task = taskAt(to.task, [name]);
      const described = child?.undescribed !== true;
      if (described && undescribed.delete(target.join('/'))) {
        upper.copyAttributes(upper.source(source), target);
        task.implied = false;
        task.undescribed = false;
      }
      mergeDirectory(settling, { path: source, origin, task: child ?? newTask() }, { path: target, task });
    }
  }
}

/** A directory is at `path` now. */
function noteUndescribed(settling: Settling, task: Task, path: Names): void {
  if (task.undescribed) settling.undescribed.add(path.join('/'));
  for (const [name, child] of task.children) noteUndescribed(settling, child, [...path, name]);
}

function isDirectory(stat: { mode: number }): boolean {
  return kindOf(stat.mode) === 'directory';
}

/** The mark on a root means nothing to overlayfs: each name below is hidden by itself. */
function hideRoot(settling: Settling): void {
  const { lower, upper } = settling;
  for (const tree of lower.root.trees) {
    const fd = lower.open(tree, [], O_RDONLY | O_DIRECTORY);
    let names: string[];
    try {
      names = listDirectory(fd);
    } finally {
      close(fd);
    }
    for (const name of names) {
      const below = lower.child(lower.root, [name]);
      if (below === undefined) continue;
      const there = upper.stat([name]);
      if (there === undefined) upper.makeWhiteout([name]);
      else if (kindOf(there.mode) === 'directory' && kindOf(below.stat.mode) === 'directory')
        upper.setOpaque([name]);
    }
  }
}
