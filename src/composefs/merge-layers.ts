/**
 * Records of layers, lowest first → one tree (image-spec layer.md, "Applying Changesets"): what the layered trees show
 * when overlayfs stacks them, in memory.
 *
 * - The last entry of a name wins. A directory over a directory changes its attributes and keeps what is in it.
 * - A directory that no entry describes keeps the attributes of the layers below, or has those of IMPLIED.
 * - A path through a symlink, of this layer or of one below, lands where that leads inside the root. What came
 *   to a place through a link of the layers below gives way to what the layer has there by its real name.
 * - Whiteouts hide what is below the layer, never what is in it, in whatever order they come.
 * - A hard link leads to what its target was when the link came, also when the layer hides that; one whose target is
 *   not there waits for it.
 */
import { showBytes } from '../archive/byte-string.ts';
import {
  checkName,
  ENTRIES_MAX,
  HARD_LINK_PASSES_MAX,
  LINK_NAMES_MAX,
  SYMLINKS_MAX,
} from '../archive/layer-path.ts';
import { atEntry, Refusal, refusing } from '../archive/refusal.ts';
import { PATH_MAX_BYTES } from '../oci/limits.ts';
import type { Inode, LayerRecord, TreeNode } from './inode.ts';

export interface LayerMerger {
  /** The next layer. Throws BAD_ARCHIVE naming the entry. */
  add(records: Iterable<LayerRecord>): void;
  readonly root: TreeNode;
}

interface Node extends TreeNode {
  inode: Inode;
  readonly children: Map<string, Node> | undefined;
  /** The layer that made it. */
  since: number;
  /** It came through a symlink of a lower layer. */
  detoured: boolean;
  // of directories only
  readonly name: string;
  readonly parent: Node | undefined;
  readonly pathBytes: number;
  /** The last layer with an entry for it, and whether that came through a symlink of a lower one. */
  described: number;
  describedDetoured: boolean;
  /** The last layer with an entry for it, or for something in it or below. */
  filled: number;
  /** What the layers below have here and this layer has hidden. */
  hidden: Map<string, Node> | undefined;
  /** The last layer that hid all that the layers below have in it. */
  emptied: number;
}

/** Targets of symlinks, xattrs and small content: all of it is in memory until the image is written. */
const HELD_MAX_BYTES = 512 * 1024 * 1024;

/** What a directory is as long as no entry describes it. */
const IMPLIED: Inode = {
  type: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  size: 0,
  object: undefined,
  inline: undefined,
  target: '',
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: undefined,
};

interface Way {
  readonly directory: Node;
  readonly missing: readonly string[];
  /** It led through a symlink of a lower layer. */
  readonly detoured: boolean;
  /** A file of a lower layer is in the way, under the first missing name. */
  readonly blocked: boolean;
}

interface WaitingLink {
  readonly parent: Node;
  readonly name: string;
  readonly target: string;
  readonly detoured: boolean;
  readonly path: string;
}

export function createLayerMerger(): LayerMerger {
  let layer = -1;
  let linkNames = 0;
  let entries = 0;
  let heldBytes = 0;
  const root = makeNode(IMPLIED, undefined, '', 0);
  let hiding: Node[] = [];
  /** Names that this layer gave to files of the layers below. */
  let linked = new Map<Node, Set<string>>();
  let waiting = new Map<Node, Map<string, WaitingLink>>();
  let knownPath: string | undefined;
  let knownWay: { parent: Node; detoured: boolean } | undefined;

  /** Follows symlinks on the way and at its end. `asBelow`: what the layers below have, whatever this one did. */
  function walk(names: readonly string[], asBelow = false): Way {
    let directory = root;
    const missing: string[] = [];
    let detoured = false;
    let blocked = false;
    const ahead = names.toReversed();
    for (let links = 0, name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (name === '' || name === '.') continue;
      checkName(name);
      if (name === '..') {
        if (missing.length > 0) missing.pop();
        else directory = directory.parent ?? root;
        blocked &&= missing.length > 0;
        continue;
      }
      const child =
        missing.length > 0 ? undefined : asBelow ? below(directory, name) : directory.children!.get(name);
      if (child?.children !== undefined) directory = child;
      else if (child?.inode.type === 'symlink') {
        const { target } = child.inode;
        if (++links > SYMLINKS_MAX) throw new Refusal('its path has too many levels of symlinks');
        detoured ||= child.since < layer;
        if (target.startsWith('/')) directory = root;
        const targetNames = target.split('/');
        linkNames += targetNames.length;
        if (linkNames > LINK_NAMES_MAX)
          throw new Refusal('its path needs too much time: the symlinks of the image are too long');
        ahead.push(...targetNames.reverse());
      } else {
        if (child !== undefined) {
          if (!asBelow && (child.since === layer || detoured))
            throw new Refusal(`${showBytes(name)} on its path is not a directory`);
          blocked = true;
        }
        missing.push(name);
      }
      if (missing.length === 0) blocked = false;
    }
    return { directory, missing, detoured, blocked };
  }

  function below(directory: Node, name: string): Node | undefined {
    const hidden = directory.hidden?.get(name);
    if (hidden !== undefined) return hidden;
    const child = directory.children!.get(name);
    return child !== undefined && child.since < layer ? child : undefined;
  }

  /** The name is of this layer, whatever has it. */
  function isOwn(parent: Node, name: string, node: Node): boolean {
    return node.since === layer || linked.get(parent)?.has(name) === true;
  }

  function hide(parent: Node, name: string, node: Node): void {
    if (parent.hidden === undefined) {
      parent.hidden = new Map();
      hiding.push(parent);
    }
    if (node.since < layer && !parent.hidden.has(name)) parent.hidden.set(name, node);
  }

  /** Removes what is at the name, a whole tree if need be. */
  function vacate(parent: Node, name: string): void {
    const there = parent.children!.get(name);
    if (there === undefined) return;
    hide(parent, name, there);
    parent.children!.delete(name);
    linked.get(parent)?.delete(name);
    if (there.children !== undefined || there.inode.type === 'symlink') knownPath = undefined;
  }

  function fill(directory: Node): void {
    for (let at: Node | undefined = directory; at !== undefined && at.filled !== layer; at = at.parent)
      at.filled = layer;
  }

  /** False when something has the name that does not give way. */
  function place(parent: Node, name: string, node: Node, detoured: boolean): boolean {
    const there = parent.children!.get(name);
    if (there !== undefined) {
      if (detoured && there.since === layer && !there.detoured) return false;
      vacate(parent, name);
    } else if (node.inode.type === 'symlink') knownPath = undefined;
    if (++entries > ENTRIES_MAX) throw new Refusal(`the image has more than ${ENTRIES_MAX} entries`);
    parent.children!.set(name, node);
    if (node.since < layer) linked.set(parent, (linked.get(parent) ?? new Set()).add(name));
    waiting.get(parent)?.delete(name);
    fill(parent);
    return true;
  }

  function ensureDirectory({ directory, missing, detoured }: Way): Node {
    let at = directory;
    for (const name of missing) {
      const made = makeNode(IMPLIED, at, name, layer);
      made.detoured = detoured;
      place(at, name, made, false);
      at = made;
    }
    return at;
  }

  function ensureParent(path: string, names: readonly string[]): { parent: Node; detoured: boolean } {
    const parentPath = path.slice(0, path.length - names.at(-1)!.length);
    if (parentPath !== knownPath || knownWay === undefined) {
      const way = walk(names.slice(0, -1));
      knownWay = { parent: ensureDirectory(way), detoured: way.detoured };
      knownPath = parentPath;
    }
    return knownWay;
  }

  function inode(path: string, names: readonly string[], entry: Inode): void {
    heldBytes += entry.target.length + (entry.inline?.length ?? 0);
    for (const [name, value] of entry.xattrs ?? []) heldBytes += name.length + value.length;
    if (heldBytes > HELD_MAX_BYTES)
      throw new Refusal(`the image has more than ${HELD_MAX_BYTES} bytes of symlinks and xattrs`);
    const name = names.at(-1);
    if (name === undefined) {
      describe(root, entry, false);
      return;
    }
    const { parent, detoured } = ensureParent(path, names);
    const there = parent.children!.get(name);
    if (entry.type === 'directory' && there?.children !== undefined) {
      describe(there, entry, detoured);
      return;
    }
    const made = makeNode(entry, parent, name, layer);
    made.detoured = detoured;
    if (place(parent, name, made, detoured) && made.children !== undefined) describe(made, entry, detoured);
  }

  function describe(directory: Node, entry: Inode, detoured: boolean): void {
    fill(directory);
    if (detoured && directory.described === layer && !directory.describedDetoured) return;
    directory.inode = entry;
    directory.described = layer;
    directory.describedDetoured = detoured;
  }

  /** What is there under the real name, links at its end not followed. */
  function find(target: string, asBelow: boolean): Node | undefined {
    const names = target.split('/').filter((part) => part !== '' && part !== '.');
    const name = names.pop();
    if (name === undefined) throw new Refusal('a hard link to a directory');
    checkName(name);
    const { directory, missing } = walk(names, asBelow);
    if (missing.length > 0) return undefined;
    return asBelow ? below(directory, name) : directory.children!.get(name);
  }

  /** False when the target is not there (yet). */
  function link({ parent, name, target, detoured }: WaitingLink, late: boolean): boolean {
    const node = find(target, false) ?? (late ? undefined : find(target, true));
    if (node === undefined) return false;
    if (node.children !== undefined) throw new Refusal(`a hard link to ${showBytes(target)}, a directory`);
    if (parent.children!.get(name) !== node) place(parent, name, node, detoured);
    return true;
  }

  function hardLink(path: string, names: readonly string[], target: string): void {
    const name = names.at(-1);
    if (name === undefined) throw new Refusal('the root of a layer cannot be a hardLink');
    const { parent, detoured } = ensureParent(path, names);
    const wanted = { parent, name, target, detoured, path };
    if (link(wanted, false)) return;
    fill(parent);
    const here = waiting.get(parent) ?? new Map<string, WaitingLink>();
    waiting.set(parent, here.set(name, wanted));
  }

  function finishLinks(): void {
    const attached = ({ parent }: WaitingLink) => {
      let at = parent;
      while (at.parent !== undefined && at.parent.children!.get(at.name) === at) at = at.parent;
      return at === root;
    };
    let left = [...waiting.values()].flatMap((here) => [...here.values()]).filter(attached);
    waiting = new Map();
    for (let pass = 0; left.length > 0; pass++) {
      const missing = left.filter((wanted) => !at(wanted.path, () => link(wanted, true)));
      const [first] = missing;
      if (first !== undefined && (missing.length === left.length || pass === HARD_LINK_PASSES_MAX))
        at(first.path, () => {
          throw new Refusal(`a hard link to ${showBytes(first.target)}, which is no file of the image`);
        });
      left = missing;
    }
  }

  function whiteout(names: readonly string[]): void {
    const name = names.at(-1);
    const way = walk(names.slice(0, -1));
    const there =
      name === undefined || way.missing.length > 0 ? undefined : way.directory.children!.get(name);
    if (there === undefined || isOwn(way.directory, name!, there)) return;
    if (there.children === undefined || there.filled !== layer) vacate(way.directory, name!);
    else {
      hide(way.directory, name!, there);
      hideBelow(there);
    }
  }

  /** Leaves what this layer has in a directory, and makes that its own. */
  function hideBelow(directory: Node): void {
    emptyBelow(directory);
    if (directory.described !== layer) directory.inode = IMPLIED;
    directory.since = layer;
  }

  function emptyBelow(directory: Node): void {
    if (directory.emptied === layer) return; // a layer may say it a million times
    directory.emptied = layer;
    for (const [name, child] of directory.children!) {
      if (isOwn(directory, name, child)) continue;
      if (child.children === undefined || child.filled !== layer) vacate(directory, name);
      else {
        hide(directory, name, child);
        hideBelow(child);
      }
    }
  }

  function opaque(names: readonly string[]): void {
    const { directory, missing } = walk(names);
    if (missing.length === 0 && directory.since < layer) emptyBelow(directory);
  }

  function apply(record: LayerRecord): void {
    const names = record.path === '' ? [] : record.path.split('/');
    if (record.kind === 'inode') inode(record.path, names, record.inode);
    else if (record.kind === 'hardLink') hardLink(record.path, names, record.target);
    else if (layer > 0) {
      knownPath = undefined;
      if (record.kind === 'whiteout') whiteout(names);
      else opaque(names);
    }
  }

  return {
    root,
    add(records) {
      layer++;
      linkNames = 0;
      knownPath = undefined;
      for (const record of records) at(record.path, () => apply(record));
      finishLinks();
      for (const directory of hiding) directory.hidden = undefined;
      hiding = [];
      linked = new Map();
    },
  };
}

function at<T>(path: string, run: () => T): T {
  return refusing(() => atEntry(path), run);
}

function makeNode(inode: Inode, parent: Node | undefined, name: string, since: number): Node {
  const isDirectory = inode.type === 'directory';
  const pathBytes = (parent?.pathBytes ?? 0) + 1 + name.length;
  if (isDirectory && pathBytes > PATH_MAX_BYTES)
    throw new Refusal(`leads to a path of more than ${PATH_MAX_BYTES} bytes`);
  return {
    inode,
    children: isDirectory ? new Map() : undefined,
    since,
    detoured: false,
    name,
    parent: isDirectory ? parent : undefined,
    pathBytes,
    described: -1,
    describedDetoured: false,
    filled: -1,
    hidden: undefined,
    emptied: -1,
  };
}
