/**
 * Faults: killed pulls, collections and repairs, full disks, things in the way, wrong clocks. After each the store is
 * sound, the next pull succeeds and little is left over. Processes with stores of their own. Needs root.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ChainID, chainIDs, type DiffID, type Digest, digestHex } from '../../../src/oci/digest.ts';
import { openStore } from '../../../src/store/store.ts';
import { type BuiltImage, directory, type Entry, file, writeImage } from './image-builder.ts';
import { type Running, scratch, until } from './programs.ts';

const MIB = 1 << 20;
const KILLS = 20;
const LEFT_OVER_MAX_BYTES = 64 * MIB;

type Scratch = ReturnType<typeof scratch>;

interface Built extends BuiltImage {
  readonly ref: string;
  readonly chain: ChainID[];
}

let layouts = 0;
function image(at: Scratch, layers: readonly (readonly Entry[])[]): Built {
  const path = join(at.base, `layout${++layouts}`);
  const built = writeImage(path, layers);
  return { ...built, ref: `oci:${path}`, chain: chainIDs(built.diffIDs as DiffID[]) };
}

function open(at: Scratch) {
  return openStore({ root: at.root, create: true })!;
}

async function assertSound(at: Scratch, when: string): Promise<void> {
  const { damage } = await open(at).check();
  assert.deepEqual(damage, [], when);
}

/** A clean pull succeeds, everything is sound, and nothing but the store's own content is left. */
async function assertRecovers(at: Scratch, ...images: Built[]): Promise<void> {
  for (const { ref, manifestDigest } of images) {
    const pulled = await at.run('oci-pull', ref, `clean${ref.replace(/\W/g, '')}`);
    assert.deepEqual([pulled.status, pulled.stdout], [0, `${manifestDigest}\n`], pulled.stderr);
  }
  const fsck = await at.run('ocictl', 'fsck');
  assert.deepEqual([fsck.status, fsck.stdout], [0, '']);
  assert.deepEqual(readdirSync(join(at.root, 'staging')), ['blobs']);
  assert.deepEqual(readdirSync(join(at.root, 'staging/blobs')), []);
  const { unusedBytes, stagingBytes, totalBytes } = open(at).usage();
  assert.ok(unusedBytes + stagingBytes <= LEFT_OVER_MAX_BYTES);
  assert.equal(
    totalBytes,
    Number(execFileSync('du', ['-s', '--block-size=1', at.root], { encoding: 'utf8' }).split('\t')[0]),
  );
}

const layersOf = (count: number, bytes: number): Entry[][] =>
  Array.from({ length: count }, (_, layer) => [
    directory(`d${layer}`),
    ...Array.from({ length: 40 }, (_, i) => file(`d${layer}/${i}`, randomBytes(bytes / 40))),
  ]);

test(`pulls killed at ${KILLS} random moments, alone and two at once`, async () => {
  const at = scratch('oci-kills-');
  after(at.close);
  const layers = layersOf(6, 3 * MIB);
  const one = image(at, layers);
  const two = image(at, [...layers.slice(0, 4), [file('other', randomBytes(2 * MIB))]]);
  const started = performance.now();
  assert.equal((await at.run('oci-pull', one.ref, 'one')).status, 0);
  let whole = performance.now() - started;
  const forget = async () => {
    const store = open(at);
    using _lock = await store.lock('exclusive');
    await store.removeImage(['one'], at.runRoot);
    store.collectGarbage(at.runRoot, { graceMs: 0, dryRun: false, isGone: () => false });
  };
  let killed = 0;
  for (let round = 0; killed < KILLS; round++) {
    assert.ok(round < 3 * KILLS, `only ${killed} of ${round} pulls were alive when they were killed`);
    if (existsSync(join(at.root, 'tags/one.mstack'))) await forget();
    const pulls: Running[] = [at.start('oci-pull', one.ref, 'one')];
    if (round % 2 === 1) pulls.push(at.start('oci-pull', round % 4 === 1 ? one.ref : two.ref, 'two'));
    await sleep(Math.random() * whole * pulls.length);
    pulls[0]!.child.kill('SIGKILL');
    if (round % 3 === 0) pulls[1]?.child.kill('SIGKILL');
    const [first, second] = await Promise.all(pulls.map(({ ended }) => ended));
    if (first!.signal === 'SIGKILL') killed++;
    else whole *= 0.7; // the machine is faster than it was
    if (second !== undefined && second.signal === null) assert.equal(second.status, 0, second.stderr);
    await assertSound(at, `after round ${round}`);
  }
  await assertRecovers(at, one, two);
});

test('killed collections and repairs', async () => {
  const at = scratch('oci-kills-gc-');
  after(at.close);
  const layers = layersOf(3, MIB);
  const kept = image(at, layers);
  const gone = image(at, [layers[0]!, [file('x', 'x')], ...layersOf(3, MIB)]);
  assert.equal((await at.run('oci-pull', kept.ref, 'kept')).status, 0);
  const killed = { gc: 0, fsck: 0 };
  let span = 500;
  for (let round = 0; round < 8; round++) {
    assert.equal((await at.run('oci-pull', gone.ref, 'gone')).status, 0);
    assert.equal((await at.run('ocictl', 'untag', 'gone')).status, 0);
    const gc = at.start('ocictl', 'gc', '--grace', '0');
    await sleep(Math.random() * span);
    gc.child.kill('SIGKILL');
    if ((await gc.ended).signal === 'SIGKILL') killed.gc++;
    else span /= 2;
    await assertSound(at, `after collection ${round}`);
  }
  assert.equal((await at.run('ocictl', 'gc', '--grace', '0')).status, 0);
  assert.equal(readdirSync(join(at.root, 'layers')).length, layers.length + 1);

  span = 1000;
  const victim = join(at.root, 'layers', digestHex(kept.chain[1]!), 'tree/d1/0');
  for (let round = 0; round < 8; round++) {
    writeFileSync(victim, 'damaged');
    const repair = at.start('ocictl', 'fsck', '--repair');
    await sleep(Math.random() * span);
    repair.child.kill('SIGKILL');
    if ((await repair.ended).signal === 'SIGKILL') killed.fsck++;
    else span /= 2;
    const { damage } = await open(at).check();
    assert.ok(damage.length <= 1 && damage.every(({ path }) => path === "'d1/0'"), JSON.stringify(damage));
  }
  assert.equal((await at.run('ocictl', 'fsck', '--repair')).status, 0);
  assert.ok(killed.gc > 0 && killed.fsck > 0, JSON.stringify(killed));
  await assertRecovers(at, kept);
});

test('a full disk: the pull says so, and the next one succeeds once there is room', async () => {
  const at = scratch('oci-full-');
  after(at.close);
  const built = image(at, [...layersOf(2, 4 * MIB), [file('large', randomBytes(8 * MIB))]]);
  mkdirSync(at.root);
  // 40 MiB are enough: blobs and trees lie there together for a while
  const steps: [options: string, errno: RegExp][] = [
    ['size=64k', /ENOSPC/],
    ['size=2m', /ENOSPC/],
    ['size=6m', /ENOSPC/],
    ['size=14m', /ENOSPC/],
    ['size=15m', /ENOSPC/],
    ['size=16m', /ENOSPC/],
    ['size=40m,nr_inodes=60', /ENOSPC/],
    ['size=40m,nr_inodes=110', /ENOSPC/],
  ];
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700,size=64k,nr_inodes=9999', 'none', at.root]);
  for (const [options, errno] of steps) {
    execFileSync('mount', ['-o', `remount,nr_inodes=9999,${options}`, at.root]);
    const full = await at.run('oci-pull', built.ref, 'full');
    assert.equal(full.status, 74, `${options}: ${full.stderr}`);
    assert.match(full.stderr, errno, options);
    assert.match(full.stderr, /\nhint: Free some disk space and run the command again\.\n$/, options);
    assert.deepEqual(readdirSync(join(at.root, 'tags')), [], options);
    assert.equal((await at.run('ocictl', 'gc', '--grace', '0')).status, 0, options);
    await assertSound(at, options);
  }
  execFileSync('mount', ['-o', 'remount,nr_inodes=9999,size=40m', at.root]);
  await assertRecovers(at, built);

  // what is full can still be cleared
  writeFileSync(join(at.root, 'staging/filler'), '');
  execFileSync('sh', ['-c', `head -c 100M /dev/zero >'${at.root}/staging/filler' 2>/dev/null || true`]);
  for (const name of readdirSync(join(at.root, 'tags'))) rmSync(join(at.root, 'tags', name));
  const gc = await at.run('ocictl', 'gc', '--grace', '0');
  assert.equal(gc.status, 0, gc.stderr);
  assert.deepEqual(readdirSync(join(at.root, 'layers')), ['skeleton']);
  await assertRecovers(at, built);
});

test('whatever lies in the place of a download is no obstacle', async () => {
  const at = scratch('oci-partial-');
  after(at.close);
  const secret = join(at.base, 'secret');
  writeFileSync(secret, 'secret');
  const things: [what: string, put: (path: string) => void][] = [
    ['a directory', (path) => mkdirSync(join(path, 'deep'), { recursive: true })],
    ['a symlink out of the store', (path) => symlinkSync(secret, path)],
    ['a dangling symlink', (path) => symlinkSync('nowhere', path)],
    ['a fifo', (path) => execFileSync('mkfifo', [path])],
    ['a device', (path) => execFileSync('mknod', [path, 'c', '1', '5'])],
    ['random bytes', (path) => writeFileSync(path, randomBytes(1000))],
    ['too many bytes', (path) => writeFileSync(path, randomBytes(2 * MIB))],
    ['zeros, as after a power cut', (path) => writeFileSync(path, Buffer.alloc(1000))],
    ['an empty file', (path) => writeFileSync(path, '')],
    [
      'a file without permissions',
      (path) => {
        writeFileSync(path, 'x');
        chmodSync(path, 0);
      },
    ],
    [
      'a file of the future',
      (path) => {
        writeFileSync(path, 'x');
        utimesSync(path, 4e9, 4e9);
      },
    ],
  ];
  open(at);
  for (const [what, put] of things) {
    const built = image(at, [[file('x', randomBytes(100_000))]]);
    put(join(at.root, 'staging/blobs', `${digestHex(built.layerDigests[0] as Digest)}.partial`));
    const pulled = await at.run('oci-pull', built.ref, 'x');
    assert.equal(pulled.status, 0, `${what}: ${pulled.stderr}`);
    assert.deepEqual(readdirSync(join(at.root, 'staging/blobs')), [], what);
  }
  assert.equal(readFileSync(secret, 'utf8'), 'secret');
  await assertSound(at, 'at the end');
});

test('whatever lies in the place of work in progress is no obstacle', async () => {
  const at = scratch('oci-stage-');
  after(at.close);
  open(at);
  const built = image(at, [[file('x', 'x')], [file('y', 'y')]]);
  const [lower, upper] = built.chain.map((chainID) => join(at.root, 'staging', digestHex(chainID)));
  mkdirSync(join(lower!, 'tree/x/deep'), { recursive: true, mode: 0 });
  writeFileSync(join(lower!, 'files'), 'x');
  utimesSync(lower!, 4e9, 4e9);
  writeFileSync(upper!, 'a file');
  symlinkSync(at.base, join(at.root, 'staging', `${digestHex(built.manifestDigest as Digest)}.mstack`));
  await assertRecovers(at, built);
  assert.equal(existsSync(at.base), true);
});

test('a wrong clock: images stored in the future and in the past are listed, kept and found', async () => {
  const at = scratch('oci-clock-');
  after(at.close);
  const built = image(at, [[file('x', 'x')]]);
  assert.equal((await at.run('oci-pull', built.ref, 'x')).status, 0);
  const directoryPath = join(at.root, 'images', `${digestHex(built.manifestDigest as Digest)}.mstack`);
  const path = join(directoryPath, '.oci/image.json');
  const record = JSON.parse(readFileSync(path, 'utf8'));
  for (const stored of ['2099-01-01T00:00:00.000Z', '1970-01-01T00:00:00.000Z']) {
    writeFileSync(path, JSON.stringify({ ...record, stored }));
    utimesSync(directoryPath, Date.parse(stored) / 1000, Date.parse(stored) / 1000);
    const { status, stdout } = await at.run('ocictl', 'images');
    assert.equal(status, 0);
    assert.match(stdout, stored.startsWith('2099') ? / 2099-01-01T00:00:00.000Z$/m : / [0-9]+ years ago$/m);
    assert.deepEqual(JSON.parse((await at.run('ocictl', 'gc', '--json')).stdout).removed, []);
    await assertRecovers(at, built);
  }
});

test('a pull leaves a layer to the pull that makes it, goes on with the others, and never in a circle', async () => {
  const at = scratch('oci-share-');
  after(at.close);
  const built = image(at, layersOf(4, 100_000));
  const store = open(at);
  const isStored = (index: number) => store.hasLayer(built.chain[index]!);
  const isStaged = (index: number) =>
    lstatSync(join(at.root, 'staging', digestHex(built.chain[index]!), 'tree', `d${index}`, '39'), {
      throwIfNoEntry: false,
    }) !== undefined;
  // another pull holds the second layer, and would wait for the first one, which this pull makes
  const held = (await store.claimLayer(built.chain[1]!, {}))!;
  const pull = at.start('oci-pull', built.ref, 'x');
  await until(() => isStored(0) && isStaged(2) && isStaged(3), 'all but the held layer');
  assert.deepEqual([0, 1, 2, 3].map(isStored), [true, false, false, false]);
  held.discard(); // it gave up: this pull makes it itself
  const { status, stderr } = await pull.ended;
  assert.equal(status, 0, stderr);
  await assertRecovers(at, built);
});

test('many pulls of images that share layers, all at once', async () => {
  const at = scratch('oci-crowd-');
  after(at.close);
  const base = layersOf(3, 2 * MIB);
  const images = [0, 1, 2].map((n) => image(at, [...base.slice(0, n + 1), ...layersOf(2, MIB)]));
  const ended = await Promise.all(
    [...images, ...images].map(({ ref }, n) => at.run('oci-pull', ref, `crowd${n}`)),
  );
  for (const { status, stderr } of ended) assert.equal(status, 0, stderr);
  await assertRecovers(at, ...images);
});
