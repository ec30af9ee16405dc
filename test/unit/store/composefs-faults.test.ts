/**
 * Format composefs under stress: pulls of images that share layers and objects, conversions, collections and checks, at
 * once, and killed at each of their steps. Nothing is damaged then, every image shows its content, and a collection leaves
 * exactly what a store has that never saw trouble. Needs root.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { mountImage, unmountImage } from '../../../src/mount-image.ts';
import { toOciError } from '../../../src/oci/errors.ts';
import { openStore } from '../../../src/store/store.ts';
import { rejectsOci } from '../expect-error.ts';
import { directory, type Entry, file, writeImage } from './image-builder.ts';
import { describeTree, type Running, scratch } from './programs.ts';
import { STEPS } from './store-step.ts';

const STEP_PROGRAM = join(import.meta.dirname, 'store-step.ts');
/** More changes than any step makes. */
const CHANGES_MAX = 40;

type Scratch = ReturnType<typeof scratch>;

const at = scratch('oci-composefs-');
after(at.close);
const reference = scratch('oci-composefs-reference-');
after(reference.close);

const content = (count: number) => Array.from({ length: count }, () => randomBytes(20_000));
const layer = (name: string, contents: readonly Buffer[]): Entry[] => [
  directory(name),
  ...contents.map((bytes, i) => file(`${name}/${i}`, bytes)),
];
const [base, more, own] = [content(20), content(10), content(10)] as const;
/** a and b have a layer in common, and c has the files of both in one layer of its own. */
const LAYERS: Record<string, Entry[][]> = {
  a: [layer('base', base), layer('more', more)],
  b: [layer('base', base), [...layer('own', own), file('small', 'b')]],
  c: [layer('all', [...base, ...more, ...own, randomBytes(20_000)])],
};
const NAMES = Object.keys(LAYERS);
const refOf = (name: string) => `oci:${join(at.base, name)}`;

/** What each image is to show. */
let trees: Record<string, unknown>;

before(async () => {
  // disks of memory, where a sync costs nothing: what is killed here are processes
  for (const { base: directory, root } of [at, reference]) {
    execFileSync('mount', ['-t', 'tmpfs', 'none', directory]);
    const disk = join(directory, 'disk');
    execFileSync('truncate', ['--size=128M', disk]);
    execFileSync('mkfs.ext4', ['-q', '-E', 'root_owner=0:0', disk]);
    mkdirSync(root, { mode: 0o700 });
    execFileSync('mount', ['-o', 'loop', disk, root]);
    chmodSync(root, 0o700);
  }
  for (const [name, layers] of Object.entries(LAYERS)) writeImage(join(at.base, name), layers);
  for (const name of NAMES) await stepIn(reference, 'pull', refOf(name), name);
  await stepIn(reference, 'convert', 'a', 'tree'); // makes the skeleton, which stays
  await stepIn(reference, 'convert', 'a', 'composefs');
  trees = await mountedTrees(reference);
});

function stepIn({ root, runRoot }: Scratch, name: keyof typeof STEPS, ...words: string[]): Promise<unknown> {
  return (STEPS[name] as (...args: string[]) => Promise<unknown>)(root, runRoot, ...words);
}

const step = (name: keyof typeof STEPS, ...words: string[]) => stepIn(at, name, ...words);

/** Without the directories of objects: they stay. The index has no entry where two pulls had the same object. */
function pathsOf({ root }: Scratch): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => !/^objects\/..$|^objects-by-sha256\//.test(path))
    .sort();
}

async function mountedTrees({ root, runRoot }: Scratch): Promise<Record<string, unknown>> {
  const store = openStore({ root })!;
  const found: Record<string, unknown> = {};
  for (const name of NAMES) {
    const image = store.lookup([name])!;
    found[name] = describeTree(await mountImage(store, image, runRoot));
    await unmountImage(store, image, runRoot);
  }
  return found;
}

async function assertSound(when: string): Promise<void> {
  const store = openStore({ root: at.root })!;
  assert.deepEqual((await store.check()).damage, [], when);
}

test('pulls at once, with collections, checks and conversions meanwhile', async () => {
  const pull = (name: string, as = name): Running =>
    at.start('oci-pull', '--store-format', 'composefs', refOf(name), as);
  const gc = () => at.start('ocictl', 'gc', '--grace', '0');
  const toTree = (name: string) => at.start('ocictl', 'convert', '--to', 'tree', name);
  const succeed = async (running: readonly Running[]) => {
    for (const { ended } of running) {
      const { status, stderr } = await ended;
      assert.equal(status, 0, stderr);
    }
    await assertSound('in between');
  };
  const repair = at.start('ocictl', 'fsck', '--repair');
  await succeed([pull('a'), pull('b'), pull('c'), pull('a', 'again'), pull('b', 'b-again'), gc(), repair]);
  await succeed([toTree('a'), toTree('a'), toTree('b'), gc(), pull('c', 'c-again')]);
  for (const name of NAMES) await step('convert', name, 'composefs');
  for (const name of ['again', 'b-again', 'c-again']) openStore({ root: at.root })!.untag(name);
  await step('gc');
  await assertSound('in the end');
  assert.deepEqual(await mountedTrees(at), trees);
  assert.deepEqual(pathsOf(at), pathsOf(reference));
});

for (const [name, ...words] of [
  ['rm', 'c'],
  ['pull', refOf('c'), 'c'],
  ['convert', 'c', 'tree'],
  ['convert', 'c', 'composefs'],
] as const)
  test(`${name} ${words.at(-1)}, killed before each change of a name, is done or was never begun`, async () => {
    const copy = join(at.base, 'copy');
    const [before, places] = [pathsOf(at), [] as string[][]];
    execFileSync('cp', ['-a', at.root, copy]);
    for (let done = false; !done; ) {
      assert.ok(places.length < CHANGES_MAX);
      execFileSync('sh', ['-c', `rm -rf '${at.root}'/* && cp -a '${copy}'/. '${at.root}'`]);
      const args = [STEP_PROGRAM, String(places.length), name, at.root, at.runRoot, ...words];
      const { signal, status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      done = signal === null;
      assert.deepEqual([signal, status], done ? [null, 0] : ['SIGKILL', null], stderr);
      await assertSound(`change ${places.length}`);
      await step('gc');
      await assertSound(`change ${places.length}, collected`);
      places.push(pathsOf(at));
    }
    rmSync(copy, { recursive: true });
    const after = places.at(-1);
    assert.notDeepEqual(after, before);
    const begun = places.findIndex((paths) => !isDeepStrictEqual(paths, before));
    assert.ok(begun > 0, `of ${places.length} changes the first to count is ${begun}`);
    for (const paths of places.slice(begun)) assert.deepEqual(paths, after);
  });

test('what nothing can repair is fetched by the next pull, also from elsewhere, and by that of another image', async () => {
  const [gone, elsewhere] = [join(at.base, 'a'), join(at.base, 'elsewhere')];
  const damage = () => {
    const objects = readdirSync(join(at.root, 'objects'), { recursive: true, encoding: 'utf8' });
    const path = join(at.root, 'objects', objects.find((name) => name.length > 3)!);
    const content = readFileSync(path);
    rmSync(path); // as another inode: what a container has open is not damaged
    writeFileSync(path, Buffer.concat([content.subarray(1), content.subarray(0, 1)]));
  };
  const fsck = async (...options: string[]) =>
    (
      JSON.parse((await at.start('ocictl', '--json', 'fsck', ...options).ended).stdout) as {
        damage: object[];
      }
    ).damage;

  for (const name of ['b', 'c']) await step('rm', name); // no image is left that has the content, too
  await step('gc');
  renameSync(gone, elsewhere);
  damage();
  const before = pathsOf(at);
  const [found, ...others] = (await fsck('--repair')) as {
    kind: string;
    repaired: boolean;
    reason: string;
  }[];
  assert.deepEqual(others, []);
  assert.deepEqual([found!.kind, found!.repaired], ['object', false]);
  assert.equal(found!.reason, 'its layer cannot be had again; the next pull of its image fetches it');
  assert.deepEqual(before.length - pathsOf(at).length, 1, 'the layer is forgotten');
  await step('gc');
  assert.deepEqual(before.length - pathsOf(at).length, 1, 'and nothing else');
  await step('pull', `oci:${elsewhere}`, 'a');
  await assertSound('after the pull');
  assert.deepEqual(pathsOf(at), before);

  damage();
  assert.equal((await fsck('--repair')).length, 1);
  await step('pull', refOf('b'), 'b'); // has one of the layers
  await step('pull', refOf('c'), 'c'); // and the content of all of them
  await step('pull', `oci:${elsewhere}`, 'a');
  await assertSound('after the pulls');
  renameSync(elsewhere, gone);
  assert.deepEqual(await mountedTrees(at), trees);
});

test('a full disk at each step: the pull says so, nothing is half, and the next one succeeds once there is room', async () => {
  const full = scratch('oci-composefs-full-');
  after(full.close);
  mkdirSync(full.root);
  const resize = (options: string, ...more: string[]) =>
    execFileSync('mount', ['-t', 'tmpfs', ...more, '-o', `mode=700,${options}`, 'none', full.root]);
  const room = (options: string) => resize(`remount,${options}`);
  resize('size=9m,nr_inodes=20');
  // the content takes 600 kB, and as much again while the blobs are there; 30 objects as many directories and links
  const sizes = ['size=64k', 'size=300k', 'size=600k', 'size=700k', 'size=900k'].map(
    (size) => `${size},nr_inodes=999`,
  );
  const inodes = [20, 45, 60, 70, 80, 90, 110].map((count) => `size=9m,nr_inodes=${count}`);
  const refused = (...words: Parameters<typeof step>) =>
    rejectsOci(
      stepIn(full, ...words).catch((error) => Promise.reject(toOciError(error))),
      'IO_ERROR',
      'ENOSPC',
    );
  for (const options of [...inodes, ...sizes]) {
    room(options);
    await refused('pull', refOf('a'), 'a');
    await stepIn(full, 'gc');
    const store = openStore({ root: full.root })!;
    assert.deepEqual([store.listImages(), (await store.check()).damage], [{ images: [], damaged: [] }, []]);
  }
  room('size=9m,nr_inodes=999');
  await stepIn(full, 'pull', refOf('a'), 'a');
  // what is full can be cleared, and nothing else is lost when there is no room for a conversion
  execFileSync('sh', ['-c', `head -c 20M /dev/zero >'${full.root}/staging/filler' 2>/dev/null || true`]);
  await refused('convert', 'a', 'tree');
  assert.deepEqual((await openStore({ root: full.root })!.check()).damage, []);
  await stepIn(full, 'rm', 'a');
  await stepIn(full, 'gc');
  const left = pathsOf(full).filter((path) => /^(images|objects|streams|layers|staging)\/./.test(path));
  assert.deepEqual(left, ['staging/blobs']);
});

test('an image that is refused when its layers are merged leaves them to the next collection, and nothing else', async () => {
  await step('pull', refOf('a'), 'a');
  const refused = join(at.base, 'refused');
  writeImage(refused, [
    [file('x', randomBytes(1000))],
    [file('x/below', 'a file')],
    [{ path: 'y', type: '1', link: 'z' }],
  ]);
  const before = pathsOf(at);
  await rejectsOci(step('pull', `oci:${refused}`, 'refused'), 'BAD_ARCHIVE', "pull 'oci:");
  await assertSound('after the refusal');
  const added = pathsOf(at).filter((path) => !before.includes(path));
  assert.ok(added.length > 0 && added.every((path) => /^(objects|streams)\//.test(path)), added.join(' '));
  await step('gc');
  assert.deepEqual(pathsOf(at), before);
});
