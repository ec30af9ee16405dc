/** The files of an image of format composefs, by path, from the records of its layers. Nothing is mounted. */
import { createHash } from 'node:crypto';
import type { TreeNode } from '../composefs/inode.ts';
import { createLayerMerger } from '../composefs/merge-layers.ts';
import type { Layout } from './layout.ts';
import { readStream, type StreamKey, streamPath } from './streams.ts';

/** What tells whether a file is the same: everything but its names. */
export interface ImageEntry {
  readonly content: string;
  readonly attributes: string;
}

/** Byte-string paths without a leading slash; the root is ''. */
export function composefsEntries(layout: Layout, layers: readonly StreamKey[]): Map<string, ImageEntry> {
  const merger = createLayerMerger();
  for (const key of layers) merger.add(readStream(streamPath(layout, key)));
  const entries = new Map<string, ImageEntry>();
  const ahead: [path: string, node: TreeNode][] = [['', merger.root]];
  for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
    const [path, node] = next;
    entries.set(path, entryOf(node));
    for (const [name, child] of node.children ?? [])
      ahead.push([path === '' ? name : `${path}/${name}`, child]);
  }
  return entries;
}

function entryOf({ inode }: TreeNode): ImageEntry {
  const { type, mode, uid, gid, mtime, size, object, inline, target, deviceMajor, deviceMinor, xattrs } =
    inode;
  const content = inline === undefined ? (object ?? '') : createHash('sha256').update(inline).digest('hex');
  return {
    content: [type, size, content, target, deviceMajor, deviceMinor].join(' '),
    attributes: JSON.stringify([
      mode,
      uid,
      gid,
      mtime.seconds,
      mtime.nanoseconds,
      [...(xattrs ?? [])].map(([name, value]) => [name, value.toString('base64')]).sort(),
    ]),
  };
}
