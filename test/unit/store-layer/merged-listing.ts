/** What an image of format composefs shows of layers, in the form of listing() in layer-fixture.ts. Nothing is written. */
import { createTarParser } from '../../../src/archive/tar-parser.ts';
import type { LayerRecord, TreeNode } from '../../../src/composefs/inode.ts';
import { createLayerMerger } from '../../../src/composefs/merge-layers.ts';
import { createStreamWriter } from '../../../src/store/stream-writer.ts';
import { type BuiltEntry, tar } from '../archive/tar-builder.ts';

const TYPES = {
  file: ' ',
  directory: '/',
  symlink: ' -> ',
  characterDevice: ' c',
  blockDevice: ' b',
  fifo: ' p',
};

/** Layers lowest first; files of at most 64 bytes. */
export function mergedListing(layers: readonly (BuiltEntry | Buffer)[][]): string[] {
  const merger = createLayerMerger();
  for (const layer of layers) merger.add(recordsOf(tar(...layer)));
  const lines: string[] = [];
  const first = new Map<TreeNode, string>();
  const visit = (node: TreeNode, path: string) => {
    const { type, target, inline, deviceMajor, deviceMinor } = node.inode;
    const what = {
      symlink: target,
      file: JSON.stringify(inline?.toString('latin1').slice(0, 40) ?? ''),
      characterDevice: `${deviceMajor}:${deviceMinor}`,
      blockDevice: `${deviceMajor}:${deviceMinor}`,
      directory: '',
      fifo: '',
    }[type];
    const shown = Buffer.from(path, 'latin1').toString();
    const known = first.get(node);
    if (path !== '') lines.push(`${shown}${TYPES[type]}${what}${known === undefined ? '' : ` = ${known}`}`);
    first.set(node, known ?? shown);
    for (const name of [...(node.children?.keys() ?? [])].sort())
      visit(node.children!.get(name)!, path === '' ? name : `${path}/${name}`);
  };
  visit(merger.root, '');
  return lines;
}

function recordsOf(archive: Buffer): LayerRecord[] {
  const records: LayerRecord[] = [];
  const stage = {
    newBytes: 0,
    close() {},
    remember() {},
    create(): never {
      throw new Error('a file of more than 64 bytes');
    },
  };
  const writer = createStreamWriter(stage, (record) => void records.push(record));
  const parser = createTarParser(writer);
  parser.push(archive);
  parser.end();
  return records;
}
