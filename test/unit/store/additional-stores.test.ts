/** additional-stores= of oci.conf: found by every command, used by pulls and mounts, never written. Needs root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type ChainID, chainIDs, type DiffID, type Digest, digestHex } from '../../../src/oci/digest.ts';
import { openStore } from '../../../src/store/store.ts';
import { type BuiltImage, type Entry, file, writeImage } from './image-builder.ts';
import { describeTree, type Ended, inodes, scratch } from './programs.ts';

const at = scratch('oci-additional-');
const other = join(at.base, 'other');
after(() => {
  execFileSync('umount', [other]);
  at.close();
});
const BASE: Entry[] = [file('etc/base', 'base'), file('etc/shared', 'shared')];
const TOP: Entry[] = [file('etc/top', 'top')];
let shared: BuiltImage;
let seen: string[];
const conf = join(at.base, 'oci.conf');
const run = (program: string, ...args: string[]): Promise<Ended> =>
  at.run(program, '--config', conf, ...args);
const layout = (built: string) => `oci:${join(at.base, built)}`;
const chain = (built: BuiltImage) =>
  chainIDs(built.diffIDs as DiffID[]).map((chainID: ChainID) => digestHex(chainID));

async function json(...args: string[]) {
  const ended = await run('ocictl', '--json', ...args);
  assert.equal(ended.status, 0, ended.stderr);
  return JSON.parse(ended.stdout);
}

before(async () => {
  shared = writeImage(join(at.base, 'shared'), [BASE, TOP], { config: { Cmd: ['x'] } });
  const pulled = await at.run('oci-pull', '--root', other, layout('shared'), 'localhost/shared:1');
  assert.equal(pulled.status, 0, pulled.stderr);
  writeFileSync(conf, `additional-stores = ${at.base}/missing:${other}\n`);
  // whoever writes here gets EROFS
  execFileSync('mount', ['--bind', '-o', 'ro', other, other]);
  execFileSync('mount', ['-o', 'remount,bind,ro,noatime', other]);
  seen = inodes(other);
});

test('images of an additional store are found, also where there is no store of our own yet', async () => {
  const [image] = await json('images');
  assert.deepEqual(
    [image.digest, image.names, image.store],
    [shared.manifestDigest, ['localhost/shared:1'], other],
  );
  assert.deepEqual((await json('inspect', 'shared:1')).config.config, { Cmd: ['x'] });
  assert.equal((await json('history', 'shared:1')).length, 2);
  assert.equal(existsSync(at.root), false, 'reading makes no directories');
});

test('a mount of such an image', async () => {
  const mounted = await run('ocictl', 'mount', 'shared:1');
  assert.equal(mounted.status, 0, mounted.stderr);
  assert.equal(readFileSync(join(mounted.stdout.trimEnd(), 'etc/top'), 'utf8'), 'top');
  // its user counts for every store: the other one's keeper does not know of ours
  const busy = await at.run('ocictl', '--root', other, 'rm', 'shared:1');
  assert.equal(busy.status, 75);
  assert.match(busy.stderr, /: mount '.*' uses it$/m);
  assert.equal((await run('ocictl', 'umount', 'shared:1')).status, 0);
});

test('a pull under the name it has there is up to date, and writes nothing', async () => {
  const pulled = await run('oci-pull', layout('shared'), 'localhost/shared:1');
  assert.deepEqual([pulled.status, pulled.stderr], [0, 'oci-pull: localhost/shared:1 is up to date\n']);
  assert.deepEqual(readdirSync(join(at.root, 'images')), []);
});

test('a pull fetches only the layers that the other store lacks, and links to the others', async () => {
  const mine = writeImage(join(at.base, 'mine'), [BASE, [file('own', 'own')]]);
  rmSync(join(at.base, 'mine/blobs/sha256', digestHex(mine.layerDigests[0] as Digest))); // not needed
  const pulled = await run('oci-pull', layout('mine'), 'mine');
  assert.equal(pulled.status, 0, pulled.stderr);
  const [base, own] = chain(mine) as [string, string];
  assert.deepEqual(readdirSync(join(at.root, 'layers')).sort(), [own, 'skeleton'].sort());
  const directory = join(at.root, 'images', `${digestHex(mine.manifestDigest as Digest)}.mstack`);
  assert.equal(
    readlinkSync(join(directory, `layer@0001-${base.slice(0, 12)}`)),
    `${other}/layers/${base}/tree`,
  );
  assert.equal(readlinkSync(join(directory, `layer@0002-${own.slice(0, 12)}`)), `../../layers/${own}/tree`);
  const tree = (await run('ocictl', 'mount', 'mine')).stdout.trimEnd();
  assert.deepEqual(readdirSync(join(tree, 'etc')).sort(), ['base', 'shared']);
  assert.equal((await run('ocictl', 'umount', 'mine')).status, 0);
  assert.deepEqual(await json('fsck'), { layers: 2, images: 1, damage: [] });
});

test('a name of our own leads to links, not to copies', async () => {
  const tagged = await run('ocictl', 'tag', 'shared:1', 'ours');
  assert.equal(tagged.status, 0, tagged.stderr);
  const again = await run('oci-pull', layout('shared'), 'theirs');
  assert.deepEqual([again.status, again.stderr], [0, 'oci-pull: theirs is up to date\n']);
  const ours = (await json('images')).find(({ names }: { names: string[] }) => names.includes('ours'));
  assert.deepEqual([ours.names, ours.store], [['localhost/shared:1', 'ours', 'theirs'], at.root]);
  assert.equal(readdirSync(join(at.root, 'layers')).length, 2);
  const usage = await json('du', 'ours');
  assert.ok(usage.images[0].totalBytes < 65536, JSON.stringify(usage));
});

test('what is in the other store is not ours to change', async () => {
  const removed = await run('ocictl', 'rm', 'localhost/shared:1');
  assert.deepEqual(
    [removed.status, removed.stderr.split('\n')[0]],
    [
      77,
      `ocictl: refusing to remove 'localhost/shared:1': it is in the additional store '${other}', which is only read`,
    ],
  );
  const untagged = await run('ocictl', 'untag', 'localhost/shared:1');
  assert.equal(untagged.status, 77);
  const gone = await run('ocictl', 'rm', 'ours', 'theirs');
  assert.equal(gone.status, 0, gone.stderr);
  assert.deepEqual((await json('gc', '--grace', '0')).removed, []);
  assert.equal((await run('ocictl', 'fsck', 'shared:1')).status, 64);
});

test('a layer that is damaged or gone there is fetched into our store, and linked', async () => {
  const mine = (await json('inspect', 'mine')).layers.map(({ chainID }: { chainID: ChainID }) =>
    digestHex(chainID),
  );
  const built = writeImage(join(at.base, 'mine'), [BASE, [file('own', 'own')]]);
  assert.ok(built.manifestDigest);
  writeFileSync(conf, `additional-stores = ${at.base}/missing\n`);
  const found = await run('ocictl', 'fsck');
  assert.equal(found.status, 65);
  assert.match(found.stdout, new RegExp(`^layer ${mine[0].slice(0, 12)}: is missing$`, 'm'));
  const repaired = await run('ocictl', 'fsck', '--repair');
  assert.equal(repaired.status, 0, repaired.stdout + repaired.stderr);
  assert.equal((await run('ocictl', 'fsck')).stderr, 'ocictl: 2 layers of 1 images: clean\n');
  assert.deepEqual(
    describeTree(join(at.root, 'layers', mine[0], 'tree')),
    describeTree(join(other, 'layers', mine[0], 'tree')),
  );
});

test('nothing was written there, and what is no store is refused', async () => {
  assert.deepEqual(inodes(other), seen);
  assert.equal(lstatSync(join(other, 'lock')).size, 0);
  mkdirSync(join(at.base, 'open'), { mode: 0o755 });
  writeFileSync(join(at.base, 'open/x'), '');
  writeFileSync(conf, `additional-stores = ${at.base}/open\n`);
  const refused = await run('ocictl', 'images');
  assert.equal(refused.status, 78);
  assert.match(refused.stderr, /^ocictl: refusing '.*open' as a store: it holds other files$/m);
  writeFileSync(conf, 'additional-stores = relative\n');
  assert.equal((await run('ocictl', 'images')).status, 78);
  writeFileSync(conf, 'additional-stores =\n');
  assert.equal((await run('ocictl', 'images')).status, 0);
});

test('a store on a read-only file system can be read and mounted from', async () => {
  const store = openStore({ root: other })!;
  using _lock = await store.lock('shared');
  const root = ['--root', other];
  assert.equal((await at.run('ocictl', ...root, 'images')).status, 0);
  assert.equal((await at.run('ocictl', ...root, 'fsck')).status, 0);
  const tree = (await at.run('ocictl', ...root, 'mount', 'shared:1')).stdout.trimEnd();
  assert.equal(readFileSync(join(tree, 'etc/base'), 'utf8'), 'base');
  assert.equal((await at.run('ocictl', ...root, 'umount', 'shared:1')).status, 0);
  const pulled = await at.run('oci-pull', ...root, layout('mine'), 'mine');
  assert.equal(pulled.status, 74);
  assert.match(
    pulled.stderr,
    /EROFS.*\nhint: Mount the file system so that it can be written; for that of the store, name another with --root\.\n$/,
  );
  assert.deepEqual(inodes(other), seen);
});

test('an image there is signed there, not from here', async () => {
  const third = join(at.base, 'third');
  const pulled = await at.run(
    'oci-pull',
    ...['--root', third, '--store-format', 'composefs', layout('shared'), 'signed'],
  );
  assert.equal(pulled.status, 0, pulled.stderr);
  writeFileSync(conf, `additional-stores = ${third}\n`);
  const key = join(at.base, 'key.pem');
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const before = inodes(third);
  const signed = await run('ocictl', 'sign', 'signed', '--key', key);
  assert.deepEqual(
    [signed.status, signed.stderr.split('\n')[0]],
    [77, `ocictl: image 'signed' is in the additional store '${third}', which is only read`],
  );
  assert.deepEqual(inodes(third), before);
  assert.equal((await at.run('ocictl', '--root', third, 'sign', 'signed', '--key', key)).status, 0);

  execFileSync('mkfifo', [join(at.base, 'fifo')]);
  const asked = await run('ocictl', 'verify', 'signed', '--key', join(at.base, 'fifo'));
  assert.equal(asked.status, 78);
  assert.match(asked.stderr, /fifo': it is no regular file$/m);
});
