/**
 * Images of format composefs: bit for bit those of mkcomposefs, which is fed once by a dump of our own tree and once by
 * one that a shell script makes of the mounted tree; and the tools of composefs take ours for theirs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dumpTree } from '../../src/composefs/dump.ts';
import { type TreeNode, writeErofsImage } from '../../src/composefs/erofs-image.ts';
import { verityDigestOf } from '../../src/composefs/verity-digest.ts';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { file, node, oddTree } from '../unit/composefs/odd-tree.ts';

const machine = sharedMachine();

const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));

function imageOf(root: TreeNode): Buffer {
  const pieces: Buffer[] = [];
  writeErofsImage(root, (bytes) => pieces.push(bytes));
  return Buffer.concat(pieces);
}

/** Compares with mkcomposefs; the first byte that differs is the message. */
async function assertAsMkcomposefs(root: TreeNode, name: string): Promise<void> {
  const image = imageOf(root);
  await machine.writeFile(`/tmp/${name}.dump`, dumpTree(root));
  await machine.writeFile(`/tmp/${name}.cfs`, image);
  const made = await sh(
    `mkcomposefs --min-version=1 --from-file --print-digest /tmp/${name}.dump /tmp/${name}.oracle; cmp /tmp/${name}.cfs /tmp/${name}.oracle >&2`,
  );
  assert.equal(made.trim(), verityDigestOf(image));
}

test('an empty tree, and one with everything odd, are the bytes that mkcomposefs makes', async () => {
  await assertAsMkcomposefs(node('directory'), 'empty');
  await assertAsMkcomposefs(oddTree(), 'odd');
});

test('a file with more than 65535 links', async () => {
  const root = node('directory');
  const linked = file(100, { mtime: root.inode.mtime });
  for (let i = 0; i < 65536; i++) root.children!.set(`link${i}`, linked);
  await assertAsMkcomposefs(root, 'links');
});

test('composefs-info reads ours', async () => {
  const root = oddTree();
  await machine.writeFile('/tmp/ours.cfs', imageOf(root));
  const objects = (await sh('composefs-info objects /tmp/ours.cfs')).trim().split('\n');
  assert.ok(objects.length >= 16, `${objects.length} objects`);
  const dump = await sh('composefs-info dump /tmp/ours.cfs');
  assert.equal(dump.split('\n').length, dumpTree(root).split('\n').length);
});
