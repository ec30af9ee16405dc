import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Digest } from '../../../src/oci/digest.ts';
import { openLayout } from '../../../src/store/layout.ts';
import { openPartialBlob, RESUMABLE_FOR_MS, visitLeftOverBlobs } from '../../../src/store/partial-blob.ts';
import { removeAny } from '../../../src/store/remove-tree.ts';
import { claimStage, visitLeftOverStages } from '../../../src/store/stage.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-stage-'));
after(() => rmSync(base, { recursive: true }));
const layout = openLayout(join(base, 'store'), true)!;

test('the second claim waits for the first and finds its work done', async () => {
  const target = join(layout.layers, 'aa');
  const isDone = () => existsSync(target);
  const first = (await claimStage(layout, 'aa', 'layer aa', isDone, {}))!;
  writeFileSync(join(first.directory, 'content'), 'x');
  const second = claimStage(layout, 'aa', 'layer aa', isDone, {});
  first.commit(target);
  first.discard(); // nothing to discard
  assert.equal(await second, undefined);
  assert.deepEqual(readdirSync(target), ['content']);
  assert.deepEqual(readdirSync(layout.staging), ['blobs']);
});

test('the second claim takes over when the first gives up', async () => {
  const first = (await claimStage(layout, 'bb', 'layer bb', () => false, {}))!;
  const second = claimStage(layout, 'bb', 'layer bb', () => false, {});
  first.discard();
  const stage = (await second)!;
  assert.equal(existsSync(stage.directory), true);
  stage.discard();
});

test('what a crash left is cleared by the next claim', async () => {
  mkdirSync(join(layout.staging, 'cc/tree/deep'), { recursive: true });
  writeFileSync(join(layout.staging, 'cc/layer.json'), '{');
  const stage = (await claimStage(layout, 'cc', 'layer cc', () => false, {}))!;
  assert.deepEqual(readdirSync(stage.directory), []);
  stage.discard();
});

test('a sweep removes what nobody holds, and only that', async () => {
  mkdirSync(join(layout.staging, 'left/tree'), { recursive: true });
  writeFileSync(join(layout.staging, 'stray'), '');
  const held = (await claimStage(layout, 'held', 'layer', () => false, {}))!;
  writeFileSync(join(held.directory, 'x'), '');
  visitLeftOverStages(layout, removeAny);
  assert.deepEqual(readdirSync(layout.staging).sort(), ['blobs', 'held']);
  assert.deepEqual(readdirSync(held.directory), ['x']);
  held.discard();
});

test('a partial blob is taken up where it was left', () => {
  const digest = `sha256:${'1'.repeat(64)}` as Digest;
  const first = openPartialBlob(layout, digest);
  first.append(Buffer.from('hello '));
  first.keep();
  const second = openPartialBlob(layout, digest);
  assert.equal(second.path, first.path);
  assert.equal(second.size, 6);
  second.append(Buffer.from('world'));
  assert.equal(second.size, 11);
  second.remove();
  assert.deepEqual(readdirSync(layout.blobs), []);
});

test('a partial blob in use is left to its owner', () => {
  const digest = `sha256:${'2'.repeat(64)}` as Digest;
  const first = openPartialBlob(layout, digest);
  first.append(Buffer.from('abc'));
  const other = openPartialBlob(layout, digest);
  assert.notEqual(other.path, first.path);
  assert.equal(other.size, 0);
  other.append(Buffer.from('ab'));
  visitLeftOverBlobs(layout, 0, removeAny);
  assert.equal(readdirSync(layout.blobs).length, 2);
  other.keep(); // nobody could find it again
  first.keep();
  assert.deepEqual(readdirSync(layout.blobs), [`${'2'.repeat(64)}.partial`]);
});

test('left-over downloads go after a day, those of another time as well', () => {
  for (const name of readdirSync(layout.blobs)) rmSync(join(layout.blobs, name));
  const put = (name: string, ageSeconds: number) => {
    writeFileSync(join(layout.blobs, name), 'x');
    const time = Date.now() / 1000 - ageSeconds;
    utimesSync(join(layout.blobs, name), time, time);
  };
  put('aa.partial', 3600);
  put('bb.partial', 2 * 86400);
  put('cc.partial', -2 * 86400);
  put('dd.123456.partial', 0);
  visitLeftOverBlobs(layout, RESUMABLE_FOR_MS, removeAny);
  assert.deepEqual(readdirSync(layout.blobs), ['aa.partial']);
});
