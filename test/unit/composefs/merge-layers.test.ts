/** Layers that are made to cost time or memory. What layers show: test/unit/store-layer/settle-layer.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Inode, LayerRecord } from '../../../src/composefs/inode.ts';
import { createLayerMerger } from '../../../src/composefs/merge-layers.ts';
import { throwsOci } from '../expect-error.ts';
import { node } from './odd-tree.ts';

function inode(path: string, type: Inode['type'], more: Partial<Inode> = {}): LayerRecord {
  return { kind: 'inode', path, inode: node(type, more).inode };
}

/** Each look at all of the directory would take minutes. */
test('a layer that says of a large directory a hundred thousand times that it is opaque', () => {
  const merger = createLayerMerger();
  merger.add([inode('d', 'directory'), inode('d/old', 'fifo')]);
  const count = 100_000;
  merger.add(
    (function* () {
      for (let i = 0; i < count; i++) yield inode(`d/${i}`, 'fifo');
      for (let i = 0; i < count; i++) yield { kind: 'opaque', path: 'd' };
    })(),
  );
  const { children } = merger.root.children!.get('d')!;
  assert.equal(children!.size, count);
  assert.equal(children!.has('old'), false);
});

test('xattrs and symlinks of more than 512 MiB are refused, before they are all in memory', () => {
  const target = 't'.repeat(4095);
  const value = Buffer.alloc(60_000);
  for (const more of [{ target }, { xattrs: new Map([['user.x', value]]) }])
    throwsOci(
      () =>
        createLayerMerger().add(
          (function* () {
            for (let i = 0; ; i++) yield inode(`f${i % 10}`, 'symlink', more);
          })(),
        ),
      'BAD_ARCHIVE',
      /: the image has more than 536870912 bytes of symlinks and xattrs$/,
    );
});
