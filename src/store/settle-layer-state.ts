/**
 * What the steps of settleLayer() share: the trees it works on, and how a directory of the merged tree comes into this
 * layer.
 */
import { OciError } from '../oci/errors.ts';
import { isWhiteout, kindOf, type Stack, type StackNode, type StackWay } from './merged-tree.ts';
import { type Names, type Source, shown, type UpperTree } from './settle-layer-upper.ts';

/** A directory of the layer with something left to do in it or below. */
export interface Task {
  readonly children: Map<string, Task>;
  readonly whiteouts: Set<string>;
  implied: boolean;
  undescribed: boolean;
}

/** What the steps of settleLayer() share. */
export interface Settling {
  readonly lower: Stack;
  /** The layers below and this one, as they are at the moment. */
  readonly merged: Stack;
  readonly upper: UpperTree;
  /** This layer's index in `merged`. */
  readonly top: number;
  readonly rootTask: Task;
  readonly implied: ReadonlySet<string>;
  /** Directories that have their attributes from no entry (yet), by their path now. */
  readonly undescribed: Set<string>;
}

export function sourceBelow({ lower }: Settling, node: StackNode, path: Names): Source {
  return { stat: node.stat, open: (flags) => lower.open(node.trees[0]!, path, flags) };
}

/** Makes the directory where a way of the merged tree leads exist in this layer; returns its real path. */
export function ensureDirectory(settling: Settling, way: StackWay, path: Names): Names {
  if (way.problem !== undefined) throw refusal(path, way.problem);
  if (kindOf(way.node.stat.mode) !== 'directory')
    throw refusal(path, `${shown(way.names)} is not a directory`);
  const { lower, upper } = settling;
  const to = [...way.names, ...way.missing];
  let below: StackNode | undefined = lower.root;
  for (let depth = 1; depth <= to.length; depth++) {
    const names = to.slice(0, depth);
    below = below === undefined ? undefined : lower.child(below, names);
    if (below !== undefined && kindOf(below.stat.mode) !== 'directory') below = undefined;
    const found = upper.stat(names);
    if (found === undefined || isWhiteout(found)) {
      if (found !== undefined) below = undefined;
      upper.makeDirectory(names, below === undefined ? undefined : sourceBelow(settling, below, names));
      settling.undescribed.add(names.join('/'));
    } else if (upper.isOpaque(names)) below = undefined;
  }
  return to;
}

export function refusal(path: Names, reason: string): OciError {
  return new OciError('BAD_ARCHIVE', `entry ${shown(path)}: ${reason}`);
}
