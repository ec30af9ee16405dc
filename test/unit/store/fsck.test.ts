/** ocictl fsck: every kind of damage is found, and mended with as little as it takes. Needs root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import { type ChainID, chainIDs, type DiffID, type Digest, digestHex } from '../../../src/oci/digest.ts';
import { bootID } from '../../../src/store/image-users.ts';
import { objectPath } from '../../../src/store/objects.ts';
import { openStore } from '../../../src/store/store.ts';
import { type BuiltImage, directory, type Entry, file, writeImage } from './image-builder.ts';
import { describeTree, type Ended, inodes, scratch } from './programs.ts';

const at = scratch('oci-fsck-');
after(at.close);
const layout = join(at.base, 'layout');
const inStore = (...path: string[]) => join(at.root, ...path);

const LAYERS: Entry[][] = [
  [
    directory('usr/bin'),
    file('usr/bin/tool', randomBytes(5000), { mode: 0o755 }),
    { path: 'lib', type: '2', link: 'usr' },
  ],
  // into a symlink of the layer below, and a link to a file there: both take settling
  [file('lib/new', 'new'), { path: 'tool', type: '1', link: 'usr/bin/tool' }],
  [file('top', 'top'), file('usr/bin/.wh.tool', '')],
];
let built: BuiltImage;
let layers: string[];
let image: string;
const layerPath = (index: number, ...path: string[]) => inStore('layers', layers[index]!, ...path);
const short = (hex: string) => hex.slice(0, 12);
const CLEAN = 'ocictl: 3 layers of 1 images: clean\n';

before(async () => {
  built = writeImage(layout, LAYERS, { tag: 'v1' });
  const pulled = await at.run('oci-pull', `oci:${layout}:v1`, 'app');
  assert.equal(pulled.status, 0, pulled.stderr);
  layers = chainIDs(built.diffIDs as DiffID[]).map((chainID: ChainID) => digestHex(chainID));
  image = inStore('images', `${digestHex(built.manifestDigest as Digest)}.mstack`);
});

async function fsck(...args: string[]): Promise<Ended> {
  return at.run('ocictl', 'fsck', ...args);
}

async function assertClean(): Promise<void> {
  const { status, stdout, stderr } = await fsck();
  assert.deepEqual([status, stdout, stderr], [0, '', CLEAN]);
}

/** Changes one bit, and nothing that stat(2) shows. */
function flip(path: string): void {
  const { atime, mtime } = statSync(path);
  const content = readFileSync(path);
  content[0] = content[0]! ^ 0x10;
  writeFileSync(path, content);
  utimesSync(path, atime, mtime);
}

function blobsRead(result: Ended): string[] {
  return [...result.stderr.matchAll(/^ocictl: fetching layer ([0-9a-f]{12}) again from (.*)$/gm)].map(
    ([, layer, source]) => `${layer} ${source}`,
  );
}

test('a store that nobody damaged is clean, and fsck writes nothing', async () => {
  const seen = inodes(at.root);
  await assertClean();
  assert.deepEqual(JSON.parse((await fsck('--json', 'app')).stdout), { layers: 3, images: 1, damage: [] });
  assert.equal((await fsck('--repair')).status, 0);
  assert.deepEqual(inodes(at.root), seen);
  assert.equal((await fsck('other')).status, 66);
});

test('one flipped byte is found by its path, and that layer alone is fetched again', async () => {
  const inode = (index: number) => lstatSync(layerPath(index)).ino;
  const seen = [0, 1, 2].map(inode);
  const tree = [0, 1, 2].map((index) => describeTree(layerPath(index, 'tree')));
  flip(layerPath(1, 'tree/tool'));
  const line = `layer ${short(layers[1]!)}: 'tool': content differs`;
  const found = await fsck();
  assert.deepEqual(
    [found.status, found.stdout, found.stderr],
    [65, `${line}\n`, 'ocictl: 3 layers of 1 images: 1 damaged\nocictl: repair it: ocictl fsck --repair\n'],
  );
  assert.equal((await fsck('app')).status, 65);
  const repaired = await fsck('--repair');
  assert.deepEqual(
    [repaired.status, repaired.stdout, repaired.stderr],
    [
      0,
      `${line}: repaired\n`,
      `ocictl: fetching layer ${short(layers[1]!)} again from oci:${layout}:v1\nocictl: 3 layers of 1 images: 1 damaged, all repaired\n`,
    ],
  );
  assert.deepEqual(
    [0, 1, 2].map((index) => inode(index) === seen[index]),
    [true, false, true],
  );
  assert.deepEqual(
    [0, 1, 2].map((index) => describeTree(layerPath(index, 'tree'))),
    tree,
  );
  assert.deepEqual(readdirSync(inStore('staging')), ['blobs']);
  assert.deepEqual(readdirSync(inStore('staging/blobs')), []);
  await assertClean();
});

const LAYER_DAMAGES: [what: string, damage: () => void, fetched: number[]][] = [
  [
    'files gone and files too many',
    () => {
      unlinkSync(layerPath(2, 'tree/top'));
      writeFileSync(layerPath(0, 'tree/extra'), '');
    },
    [0, 2],
  ],
  ['the record of a layer', () => writeFileSync(layerPath(0, 'layer.json'), '{'), [0]],
  ['the list of files', () => flip(layerPath(2, 'files')), [2]],
  ['a whole layer', () => rmSync(layerPath(1), { recursive: true }), [1]],
  ['the mode of a layer’s directory', () => chmodSync(layerPath(1), 0o777), [1]],
  [
    'all of them',
    () => {
      for (const index of [0, 1, 2]) chmodSync(layerPath(index, 'tree'), 0o777);
    },
    [0, 1, 2],
  ],
];
for (const [what, damage, fetched] of LAYER_DAMAGES)
  test(`repaired by fetching layers again: ${what}`, async () => {
    damage();
    assert.equal((await fsck()).status, 65);
    const repaired = await fsck('--repair');
    assert.equal(repaired.status, 0, repaired.stdout + repaired.stderr);
    assert.deepEqual(
      blobsRead(repaired),
      fetched.map((index) => `${short(layers[index]!)} oci:${layout}:v1`),
    );
    await assertClean();
  });

const RECORD_DAMAGES: [what: string, damage: () => void, line: () => RegExp][] = [
  [
    'image.json cut short',
    () => writeFileSync(join(image, '.oci/image.json'), '{"dig'),
    () => /^image [0-9a-f]{12}: .*JSON.*: repaired$/m,
  ],
  [
    'image.json of something else',
    () => writeFileSync(join(image, '.oci/image.json'), '{"layers":[]}'),
    () => /^image [0-9a-f]{12}: .*: repaired$/m,
  ],
  [
    'the manifest',
    () => flip(join(image, '.oci/manifest.json')),
    () => /^image [0-9a-f]{12}: manifest: got sha256:[0-9a-f]{64}, expected .*: repaired$/m,
  ],
  [
    'the configuration',
    () => flip(join(image, '.oci/config.json')),
    () => /^image [0-9a-f]{12}: image configuration: got .*: repaired$/m,
  ],
  [
    'a link that leads elsewhere',
    () => {
      const link = join(image, `layer@0001-${short(layers[0]!)}`);
      unlinkSync(link);
      symlinkSync('../../layers/skeleton/tree', link);
    },
    () =>
      new RegExp(
        `^image [0-9a-f]{12}: the link layer@0001-${short(layers[0]!)} does not lead to its layer: repaired$`,
        'm',
      ),
  ],
  [
    'a missing link and a foreign file',
    () => {
      renameSync(join(image, `layer@0003-${short(layers[2]!)}`), join(image, 'x'));
    },
    () =>
      new RegExp(
        `^image [0-9a-f]{12}: the link layer@0003-${short(layers[2]!)} is missing: repaired\nimage [0-9a-f]{12}: 'x' does not belong there: repaired$`,
        'm',
      ),
  ],
  [
    'the skeleton',
    () => rmSync(inStore('layers/skeleton/tree/proc'), { recursive: true }),
    () => /^skeleton 'skeleton': 'proc': is missing: repaired$/m,
  ],
  [
    'a name without an image',
    () => symlinkSync(`../images/${'0'.repeat(64)}.mstack`, inStore('tags/ghost.mstack')),
    () => /^tag 'ghost': leads to the image 0{12}, which is missing: repaired$/m,
  ],
  [
    'a name that is a file',
    () => writeFileSync(inStore('tags/file.mstack'), ''),
    () => /^tag 'file': is no link to an image: repaired$/m,
  ],
];
for (const [what, damage, line] of RECORD_DAMAGES)
  test(`repaired from what is there: ${what}`, async () => {
    const { source, stored } = JSON.parse(readFileSync(join(image, '.oci/image.json'), 'utf8'));
    damage();
    const found = await fsck();
    assert.equal(found.status, 65, found.stdout);
    const repaired = await fsck('--repair');
    assert.equal(repaired.status, 0, repaired.stdout + repaired.stderr);
    assert.match(repaired.stdout, line());
    assert.deepEqual(blobsRead(repaired), []);
    await assertClean();
    const again = JSON.parse(readFileSync(join(image, '.oci/image.json'), 'utf8'));
    if (!what.startsWith('image.json')) assert.deepEqual([again.source, again.stored], [source, stored]);
    else writeFileSync(join(image, '.oci/image.json'), `${JSON.stringify({ ...again, source }, null, 2)}\n`);
  });

test('where nothing is left that tells where an image came from, that is the reason', async () => {
  const metadata = join(image, '.oci');
  renameSync(metadata, join(at.base, 'kept'));
  const repaired = await fsck('--repair');
  const why = 'not repaired: cannot get the manifest again: nobody knows where it came from';
  const hex = short(digestHex(built.manifestDigest as Digest));
  assert.deepEqual(
    [repaired.status, repaired.stdout],
    [65, `image ${hex}: image.json is missing: ${why}\nimage ${hex}: manifest.json is missing: ${why}\n`],
  );
  renameSync(join(at.base, 'kept'), metadata);
  await assertClean();
});

test('images shows a damaged one with its name', async () => {
  const path = join(image, '.oci/image.json');
  const text = readFileSync(path);
  writeFileSync(path, '');
  const table = await at.run('ocictl', 'images');
  assert.match(table.stdout, /^app +[0-9a-f]{12} +\? +\? +damaged$/m);
  const [listed] = JSON.parse((await at.run('ocictl', '--json', 'images')).stdout);
  assert.deepEqual([listed.digest, listed.names], [built.manifestDigest, ['app']]);
  assert.match(listed.damaged, /^the stored image '.*' is damaged: /);
  writeFileSync(path, text);
});

test('what does not belong into the store is told, and left to its owner', async () => {
  writeFileSync(inStore('images/notes'), '');
  writeFileSync(inStore('tags/notes'), '');
  mkdirSync(inStore('layers/notes'));
  const repaired = await fsck('--repair');
  assert.equal(repaired.status, 65);
  assert.deepEqual(repaired.stdout.trimEnd().split('\n').sort(), [
    "entry 'images/notes': does not belong there: not repaired: remove it by hand",
    "entry 'layers/notes': does not belong there: not repaired: remove it by hand",
    "entry 'tags/notes': does not belong there: not repaired: remove it by hand",
  ]);
  for (const path of ['images/notes', 'tags/notes', 'layers/notes'])
    rmSync(inStore(path), { recursive: true });
});

test('a damaged layer that no image has is removed', async () => {
  const hex = 'd'.repeat(64);
  mkdirSync(inStore('layers', hex), { mode: 0o700 });
  const repaired = await fsck('--repair');
  assert.equal(repaired.status, 0, repaired.stdout);
  assert.match(repaired.stdout, /^layer d{12}: layer.json is missing: repaired$/m);
  assert.equal(existsSync(inStore('layers', hex)), false);
});

test('a layer that runs or is mounted is not exchanged', async () => {
  flip(layerPath(0, 'tree/usr/bin/tool'));
  const line = `layer ${short(layers[0]!)}: 'usr/bin/tool': content differs: not repaired`;
  const bundle = join(at.runRoot, 'containers/web');
  mkdirSync(bundle, { recursive: true });
  writeFileSync(
    join(bundle, 'image.json'),
    JSON.stringify({ digest: built.manifestDigest, root: at.root, boot: bootID() }),
  );
  const running = await fsck('--repair');
  assert.deepEqual([running.status, running.stdout], [65, `${line}: container 'web' uses it\n`]);
  rmSync(bundle, { recursive: true });
  const tree = (await at.run('ocictl', 'mount', 'app')).stdout.trimEnd();
  const mounted = await fsck('--repair', '--json');
  assert.equal(mounted.status, 65);
  assert.deepEqual(JSON.parse(mounted.stdout), {
    layers: 3,
    images: 1,
    damage: [
      {
        kind: 'layer',
        name: layers[0],
        path: "'usr/bin/tool'",
        problem: 'content differs',
        repaired: false,
        reason: `mount '${tree}' uses it`,
      },
    ],
  });
  assert.equal((await at.run('ocictl', 'umount', 'app')).status, 0);
  // an installed service that does not run at the moment is no reason
  const store = openStore({ root: at.root })!;
  await store.addRoot('web', built.manifestDigest as Digest);
  assert.equal((await fsck('--repair')).status, 0);
  await assertClean();
  store.removeRoot('web');
});

test('a source that has gone, or that lies: nothing is changed, and the reason is told', async () => {
  flip(layerPath(1, 'tree/tool'));
  const damaged = inodes(inStore('layers'));
  renameSync(layout, `${layout}.away`);
  const gone = await fsck('--repair');
  assert.equal(gone.status, 65);
  assert.match(gone.stdout, /: not repaired: cannot get the layer again: .*layout'/);
  renameSync(`${layout}.away`, layout);
  const blob = join(layout, 'blobs/sha256', digestHex(built.layerDigests[1] as Digest));
  const good = readFileSync(blob);
  flip(blob);
  const lied = await fsck('--repair');
  assert.equal(lied.status, 65);
  assert.match(lied.stdout, /: not repaired: cannot get the layer again: layer sha256:[0-9a-f]{64}: got /);
  assert.deepEqual(inodes(inStore('layers')), damaged);
  assert.deepEqual(readdirSync(inStore('staging/blobs')), []);
  writeFileSync(blob, good);
  assert.equal((await fsck('--repair')).status, 0);
  await assertClean();
});

test('where the image’s own source has gone, that of another image with the layer will do', async () => {
  const copy = join(at.base, 'copy');
  cpSync(layout, copy, { recursive: true });
  // the same layers with another configuration
  const other = writeImage(copy, LAYERS, { tag: 'v2', config: { Cmd: ['x'] } });
  assert.notEqual(other.manifestDigest, built.manifestDigest);
  assert.equal((await at.run('oci-pull', `oci:${copy}:v2`, 'other')).status, 0);
  flip(layerPath(2, 'tree/top'));
  renameSync(layout, `${layout}.away`);
  const repaired = await fsck('--repair');
  assert.equal(repaired.status, 0, repaired.stdout);
  assert.equal(blobsRead(repaired).at(-1), `${short(layers[2]!)} oci:${copy}:v2`);
  assert.equal((await fsck()).stderr, 'ocictl: 3 layers of 2 images: clean\n');
});

test('whatever lies in the place of an object is told for each of its files, and replaced', async () => {
  const own = scratch('oci-fsck-objects-');
  try {
    const big = () => randomBytes(5000);
    const [twice, link, dangling] = [big(), big(), big()];
    const files = { one: twice, two: twice, link, dangling, good: big() };
    const source = join(own.base, 'layout');
    writeImage(source, [Object.entries(files).map(([path, content]) => file(path, content))]);
    const pulled = await own.run('oci-pull', '--store-format', 'composefs', `oci:${source}`, 'app');
    assert.equal(pulled.status, 0, pulled.stderr);
    const objectOf = (content: Buffer) =>
      objectPath({ objects: join(own.root, 'objects') }, verityDigestOf(content));
    unlinkSync(objectOf(twice));
    mkdirSync(join(objectOf(twice), 'full'), { recursive: true });
    for (const [content, target] of [
      [link, objectOf(files.good)],
      [dangling, 'nowhere'],
    ] as const) {
      unlinkSync(objectOf(content));
      symlinkSync(target, objectOf(content));
    }
    const good = lstatSync(objectOf(files.good)).ino;
    const told = (end: string) =>
      ['dangling', 'link', 'one', 'two'].map((path) => `'${path}': is no file${end}`);
    const lines = ({ stdout }: Ended) =>
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.slice(21))
        .sort();
    const found = await own.run('ocictl', 'fsck');
    assert.deepEqual([found.status, lines(found)], [65, told('')]);
    const repaired = await own.run('ocictl', 'fsck', '--repair');
    assert.deepEqual([repaired.status, lines(repaired)], [0, told(': repaired')], repaired.stderr);
    for (const content of Object.values(files)) {
      assert.ok(lstatSync(objectOf(content)).isFile());
      assert.deepEqual(readFileSync(objectOf(content)), content);
    }
    assert.equal(lstatSync(objectOf(files.good)).ino, good);
    // a layer that a conversion did not get an image for, and so no skeleton
    execFileSync('cp', ['-a', layerPath(0), join(own.root, 'layers')]);
    const clean = await own.run('ocictl', 'fsck');
    assert.deepEqual([clean.status, clean.stderr], [0, 'ocictl: 2 layers of 1 images: clean\n']);
  } finally {
    own.close();
  }
});
