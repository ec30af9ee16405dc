/**
 * Trees made of the streams and objects that are here: without the source, the same as those that a pull makes, and never of
 * what is damaged. Needs root. What odd layers become: test/hostile/harness.ts.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { LayerEvent } from '../../../src/fetch-layer.ts';
import { pullImage } from '../../../src/pull.ts';
import type { StoreFormat } from '../../../src/store/layout.ts';
import { openStore } from '../../../src/store/store.ts';
import { rejectsOci } from '../expect-error.ts';
import { type BuiltImage, directory, type Entry, file, writeImage } from './image-builder.ts';
import { scratch, storedLayers } from './programs.ts';
import { PLATFORM, STEPS } from './store-step.ts';

const at = scratch('oci-convert-');
after(at.close);

const content = randomBytes(600_000);
const LOWER: Entry[] = [
  directory('etc'),
  file('etc/empty', ''),
  file('etc/small', 'in its entry', { mode: 0o4711, uid: 7, gid: 65_535 }),
  file('etc/large', content, { mtime: 5 }),
  { path: 'etc/hard', type: '1', link: 'etc/large' },
  { path: 'link', type: '2', link: 'etc' },
  directory('gone'),
];
const UPPER: Entry[] = [
  file('.wh.gone', ''),
  file('implied/.wh..wh..opq', ''),
  file('implied/a', randomBytes(5000)),
  file('link/through', 'a symlink'),
  { path: 'hard', type: '1', link: 'etc/large' },
];
const [layout, moved] = [join(at.base, 'layout'), join(at.base, 'moved')];
let built: BuiltImage;
let pulled: unknown[];

async function pull(root: string, format: StoreFormat, name = layout): Promise<LayerEvent['type'][]> {
  const types: LayerEvent['type'][] = [];
  await pullImage({
    ...{ store: openStore({ root, create: true })!, name: `oci:${name}`, localName: 'image' },
    ...{ platform: PLATFORM, source: {}, format },
    onEvent: ({ type }) => void types.push(type as LayerEvent['type']),
  });
  return types;
}

const convert = () => STEPS.convert(at.root, at.runRoot, 'image', 'tree');
const formatHere = () => openStore({ root: at.root })!.lookup(['image'])!.format;

before(async () => {
  built = writeImage(layout, [LOWER, UPPER]);
  const reference = join(at.base, 'reference');
  await pull(reference, 'tree');
  pulled = storedLayers(reference);
});

beforeEach(async () => {
  rmSync(at.root, { recursive: true, force: true });
  await pull(at.root, 'composefs');
});

test('without the source the layers are those of a pull', async () => {
  renameSync(layout, moved);
  try {
    await convert();
  } finally {
    renameSync(moved, layout);
  }
  assert.equal(formatHere(), 'tree');
  assert.equal(pulled.length, 2);
  assert.deepEqual(storedLayers(at.root), pulled);
  assert.deepEqual((await openStore({ root: at.root })!.check()).damage, []);
});

const objects = () =>
  readdirSync(join(at.root, 'objects'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.length > 3)
    .map((name) => join(at.root, 'objects', name))
    .sort();
const stream = () => join(at.root, 'streams', built.diffIDs[0]!.slice('sha256:'.length));
/** As another inode: where the kernel guards the file it lets nobody write to it. */
const replace = (path: string, edit: (bytes: Buffer) => Buffer) => {
  const bytes = edit(readFileSync(path));
  rmSync(path);
  writeFileSync(path, bytes);
};
const flip = (bytes: Buffer) => {
  bytes[bytes.length >> 1]! ^= 1;
  return bytes;
};

for (const [name, damage] of Object.entries({
  'an object that is missing': () => rmSync(objects()[0]!),
  'an object with another byte': () => replace(objects()[0]!, flip),
  'the other object with another byte': () => replace(objects()[1]!, flip),
  'an object of another size': () => replace(objects()[0]!, (bytes) => bytes.subarray(1)),
  'a stream with another byte': () => replace(stream(), flip),
  'a stream that ends': () => replace(stream(), (bytes) => bytes.subarray(0, -1)),
  'a stream that is missing': () => rmSync(stream()),
}))
  test(`${name} is not used: the layer comes from the source, or the image stays as it is`, async () => {
    assert.equal(objects().length, 2);
    damage();
    const found = (await openStore({ root: at.root })!.check()).damage;
    assert.ok(found.length > 0);
    renameSync(layout, moved);
    try {
      await rejectsOci(convert(), 'INPUT_NOT_FOUND', 'cannot open the layout');
    } finally {
      renameSync(moved, layout);
    }
    assert.equal(formatHere(), 'composefs');
    assert.deepEqual((await openStore({ root: at.root })!.check()).damage, found);
    await convert();
    assert.equal(formatHere(), 'tree');
    assert.deepEqual(storedLayers(at.root), pulled);
    assert.deepEqual((await openStore({ root: at.root })!.check()).damage, []);
  });

test('a pull of a tree does not fetch layers that are here as streams', async () => {
  const other = join(at.base, 'other');
  writeImage(other, [LOWER, UPPER, [file('more', 'of it')]]);
  for (const digest of built.layerDigests)
    rmSync(join(other, 'blobs/sha256', digest.slice('sha256:'.length)));
  const events = await pull(at.root, 'tree', other);
  assert.equal(events.filter((type) => type === 'layer-done').length, 3);
  assert.deepEqual((await openStore({ root: at.root })!.check()).damage, []);
});
