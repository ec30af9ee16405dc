/** Objects that are here already: shared where they are what their name says, replaced where they are not. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import { commitObjects, objectPath, objectPaths, openObjectStage } from '../../../src/store/objects.ts';

const root = mkdtempSync(join(tmpdir(), 'oci-objects-'));
after(() => rmSync(root, { recursive: true }));
const paths = objectPaths({ root });
let stages = 0;

/** By a stage of its own; the bytes that were new to it. */
function store(content: Buffer): number {
  const directory = join(root, `stage${++stages}`);
  mkdirSync(directory);
  const stage = openObjectStage(paths, directory);
  const writer = stage.create();
  for (let at = 0; at < content.length; at += 100_000) writer.write(content.subarray(at, at + 100_000));
  assert.equal(writer.finish(), verityDigestOf(content));
  stage.close();
  commitObjects(paths, directory);
  return stage.newBytes;
}

const flipped = (content: Buffer) =>
  Buffer.concat([content.subarray(0, -1), Buffer.from([content.at(-1)! ^ 1])]);
const DAMAGES: [what: string, damage: (content: Buffer) => Buffer][] = [
  ['its last bit is another', flipped],
  ['it is cut short', (content) => content.subarray(1)],
  ['it is longer', (content) => Buffer.concat([content, Buffer.alloc(1)])],
  ['it is empty, as after a power cut', () => Buffer.alloc(0)],
];

for (const size of [65, 300_000, 5 << 20])
  test(`an object of ${size} bytes is written once, and again where it is damaged`, () => {
    const content = randomBytes(size);
    const path = objectPath(paths, verityDigestOf(content));
    assert.equal(store(content), size);
    const { ino } = lstatSync(path);
    assert.equal(store(content), 0);
    assert.equal(lstatSync(path).ino, ino);
    for (const [what, damage] of DAMAGES) {
      rmSync(path);
      writeFileSync(path, damage(content));
      const container = openSync(path, 'r');
      assert.equal(store(content), size, what);
      assert.deepEqual(readFileSync(path), content, what);
      assert.deepEqual(readFileSync(container), damage(content)); // whoever has it open keeps it
      closeSync(container);
    }
  });

test('what another pull has made meanwhile stays', () => {
  const content = randomBytes(1000);
  const directory = join(root, 'meanwhile');
  mkdirSync(directory);
  const stage = openObjectStage(paths, directory);
  const writer = stage.create();
  writer.write(content);
  const path = objectPath(paths, writer.finish());
  stage.close();
  store(content);
  const { ino } = lstatSync(path);
  commitObjects(paths, directory);
  assert.equal(lstatSync(path).ino, ino);
});
