/** ocictl du and gc: exact bytes, what goes and what stays, locks. Processes with a store of their own. Needs root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { collectGarbage } from '../../../src/gc.ts';
import { tryLockDirectory } from '../../../src/host/lock.ts';
import { type ChainID, chainIDs, type DiffID, type Digest, digestHex } from '../../../src/oci/digest.ts';
import { bootID } from '../../../src/store/image-users.ts';
import { openStore } from '../../../src/store/store.ts';
import { type BuiltImage, type Entry, file, writeImage } from './image-builder.ts';
import { inodes, scratch, until } from './programs.ts';

const at = scratch('oci-gc-');
after(at.close);
let layouts = 0;

async function pull(name: string, layers: readonly (readonly Entry[])[]): Promise<BuiltImage> {
  const path = join(at.base, `layout${++layouts}`);
  const built = writeImage(path, layers);
  const pulled = await at.run('oci-pull', `oci:${path}`, name);
  assert.equal(pulled.status, 0, pulled.stderr);
  return built;
}

function layers(built: BuiltImage): string[] {
  return chainIDs(built.diffIDs as DiffID[]).map((chainID: ChainID) => digestHex(chainID));
}

const hexOf = (built: BuiltImage) => digestHex(built.manifestDigest as Digest);
const stored = (kind: 'layers' | 'images') => readdirSync(join(at.root, kind)).sort();
const inStore = (...path: string[]) => join(at.root, ...path);

/** What du(1) says. */
function bytes(...paths: string[]): number {
  const lines = execFileSync('du', ['-s', '--block-size=1', '--', ...paths], { encoding: 'utf8' });
  return lines
    .trimEnd()
    .split('\n')
    .reduce((sum, line) => sum + Number(line.split('\t')[0]), 0);
}

async function json(...args: string[]) {
  const ended = await at.run('ocictl', '--json', ...args);
  assert.equal(ended.status, 0, ended.stderr);
  return JSON.parse(ended.stdout);
}

const gc = async (...args: string[]): Promise<{ kind: string; name: string; bytes: number }[]> =>
  (await json('gc', '--grace', '0', ...args)).removed;

/** Not to be taken for ended: where there is no systemd to ask, and where there is one. */
const RUNNING = 'systemd-journald';

const BASE: Entry[] = [file('base', randomBytes(100_000)), { path: 'same', type: '1', link: 'base' }];
const images: { one: BuiltImage; two: BuiltImage } = { one: undefined!, two: undefined! };

test('du counts shared and unique blocks as du(1) does', async () => {
  assert.deepEqual((await json('du')).images, []);
  images.one = await pull('one', [BASE, [file('a', randomBytes(50_000))]]);
  images.two = await pull('two', [BASE, [file('b', randomBytes(20_000))], [file('c', 'c')]]);
  await at.run('ocictl', 'tag', 'two', 'deux');
  mkdirSync(inStore('writable', RUNNING), { recursive: true });
  writeFileSync(inStore('writable', RUNNING, 'log'), randomBytes(10_000));
  writeFileSync(inStore('staging/blobs/ab.partial'), randomBytes(5000));
  const layer = (hex: string) => bytes(inStore('layers', hex));
  const image = (built: BuiltImage) => bytes(inStore('images', `${hexOf(built)}.mstack`));
  const [base, ...tops] = layers(images.two) as [string, string, string];
  const top = layers(images.one)[1]!;
  const expected = [
    {
      digest: images.one.manifestDigest,
      names: ['one'],
      sharedBytes: layer(base),
      uniqueBytes: layer(top) + image(images.one),
    },
    {
      digest: images.two.manifestDigest,
      names: ['deux', 'two'],
      sharedBytes: layer(base),
      uniqueBytes: tops.reduce((sum, hex) => sum + layer(hex), 0) + image(images.two),
    },
  ].map((usage) => ({ ...usage, totalBytes: usage.sharedBytes + usage.uniqueBytes }));
  const all = await json('du');
  assert.deepEqual(all, {
    images: expected,
    layersBytes: stored('layers').reduce((sum, hex) => sum + layer(hex), 0),
    unusedBytes: 0,
    stagingBytes: bytes(inStore('staging/blobs')),
    writableBytes: bytes(inStore('writable', RUNNING)),
    totalBytes: bytes(at.root),
  });
  assert.deepEqual(await json('du', 'deux'), { ...all, images: [expected[1]] });
  const table = await at.run('ocictl', 'du', 'one');
  assert.match(
    table.stdout,
    /^NAME +DIGEST +SHARED +UNIQUE +TOTAL\none +[0-9a-f]{12} +[0-9.]+ kB +[0-9.]+ kB +[0-9.]+ kB\n$/,
  );
  assert.equal((await at.run('ocictl', 'du', 'three')).status, 66);
});

test('gc leaves alone what has a name, is used, is young, or may still run', async () => {
  rmSync(inStore('staging/blobs/ab.partial'));
  const before = inodes(at.root);
  assert.deepEqual(await gc(), []);
  assert.deepEqual(inodes(at.root), before);
  assert.equal(existsSync(inStore('writable', RUNNING, 'log')), true);

  assert.equal((await at.run('ocictl', 'untag', 'one')).status, 0);
  assert.deepEqual((await json('gc')).removed, [], 'it lost its name just now');
  const record = join(at.runRoot, 'containers/web');
  mkdirSync(record, { recursive: true });
  writeFileSync(
    join(record, 'image.json'),
    JSON.stringify({ digest: images.one.manifestDigest, root: at.root, boot: bootID() }),
  );
  assert.deepEqual(await gc(), []);
  rmSync(record, { recursive: true });

  const store = openStore({ root: at.root })!;
  const digest = images.one.manifestDigest as Digest;
  for (const version of ['web@1', 'web@2']) await store.addRoot(version, digest);
  assert.deepEqual(await gc(), [], 'an installed service has it');
  assert.deepEqual(store.usersOf({ digest }, at.runRoot), [{ kind: 'service', name: 'web' }]);
  assert.equal(store.removeRoot('web@1'), true);
  assert.deepEqual(await gc(), [], 'another version of it has it');
  assert.equal(store.removeRoot('web@2'), true);
  const tree = (await at.run('ocictl', 'mount', hexOf(images.one))).stdout.trimEnd();
  assert.deepEqual(await gc(), []);
  assert.equal((await at.run('ocictl', 'umount', tree)).status, 0);
});

test('gc removes an image without a name and the layers that only it has', async () => {
  const [base, top] = layers(images.one) as [string, string];
  const image = inStore('images', `${hexOf(images.one)}.mstack`);
  const garbage = [
    { kind: 'image', name: hexOf(images.one), bytes: bytes(image) },
    { kind: 'layer', name: top, bytes: bytes(inStore('layers', top)) },
  ];
  const before = inodes(at.root);
  assert.deepEqual(await gc('--dry-run'), garbage);
  assert.deepEqual(inodes(at.root), before);
  const text = await at.run('ocictl', 'gc', '--grace', '0');
  const freed = garbage.reduce((sum, one) => sum + one.bytes, 0);
  assert.match(text.stdout, new RegExp(`^image ${hexOf(images.one)} [0-9.]+ kB\nlayer ${top} [0-9.]+ kB\n$`));
  assert.match(text.stderr, new RegExp(`^ocictl: freed [0-9.]+ kB \\(${freed} bytes\\) in 2 places\n$`));
  assert.deepEqual(stored('images'), [`${hexOf(images.two)}.mstack`]);
  assert.deepEqual(stored('layers'), [...layers(images.two), 'skeleton'].sort());
  assert.ok(stored('layers').includes(base));
});

test('gc removes what crashes left: staging, downloads, containers and mounts of an earlier boot', async () => {
  mkdirSync(inStore('staging/trash-1/tree/deep'), { recursive: true });
  symlinkSync('/etc', inStore('staging/trash-1/link'));
  writeFileSync(inStore('staging/stray'), 'x');
  writeFileSync(inStore('staging/trash-1/one'), randomBytes(9000));
  linkSync(inStore('staging/trash-1/one'), inStore('staging/trash-1/tree/two'));
  writeFileSync(inStore('staging/blobs/ab.partial'), randomBytes(5000));
  mkdirSync(inStore('layers', 'e'.repeat(64)));
  mkdirSync(join(at.runRoot, 'containers/old/mnt'), { recursive: true });
  mkdirSync(join(at.runRoot, 'containers/other'), { recursive: true });
  mkdirSync(join(at.runRoot, 'mounts/old/tree'), { recursive: true });
  const record = { digest: images.two.manifestDigest, root: at.root, boot: 'an earlier one' };
  writeFileSync(join(at.runRoot, 'containers/old/image.json'), JSON.stringify(record));
  writeFileSync(join(at.runRoot, 'mounts/old/mount.json'), JSON.stringify(record));
  writeFileSync(
    join(at.runRoot, 'containers/other/image.json'),
    JSON.stringify({ ...record, root: '/another/store' }),
  );
  const sizes = {
    old: bytes(join(at.runRoot, 'containers/old')),
    mount: bytes(join(at.runRoot, 'mounts/old')),
    trash: bytes(inStore('staging/trash-1')),
    layer: bytes(inStore('layers', 'e'.repeat(64))),
  };
  assert.deepEqual(
    (await json('gc')).removed.map(({ kind }: { kind: string }) => kind).sort(),
    ['container', 'layer', 'mount', 'staging', 'staging'],
    'the download may still be resumed',
  );
  assert.deepEqual(await gc(), [{ kind: 'download', name: 'ab.partial', bytes: 8192 }]);
  assert.ok(sizes.trash >= 12288 && sizes.old > 0 && sizes.mount > 0 && sizes.layer > 0);
  assert.deepEqual(readdirSync(inStore('staging')), ['blobs']);
  assert.deepEqual(readdirSync(join(at.runRoot, 'containers')), ['other']);
  assert.deepEqual(readdirSync(join(at.runRoot, 'mounts')), []);
  assert.equal(existsSync('/etc/passwd'), true);
  assert.deepEqual(await gc(), []);
});

test('a container goes with what it wrote once systemd says that it has ended', async () => {
  const bundle = join(at.runRoot, 'containers/web');
  mkdirSync(bundle, { recursive: true });
  writeFileSync(
    join(bundle, 'image.json'),
    JSON.stringify({ digest: images.two.manifestDigest, root: at.root, boot: bootID() }),
  );
  writeFileSync(
    join(bundle, 'teardown'),
    `: >'${at.base}/torn-down'; rm -rf '${inStore('writable', RUNNING)}'`,
  );
  mkdirSync(inStore('writable/crashed'));
  const store = openStore({ root: at.root })!;
  const collect = (isGone: (name: string) => boolean) =>
    collectGarbage(store, { runRoot: at.runRoot, graceMs: 0, dryRun: false, isGone });
  assert.deepEqual(await collect(() => false), []);
  const removed = await collect((name) => {
    if (name === 'web') assert.equal(tryLockDirectory(bundle), undefined, 'nobody may take the name up');
    return true;
  });
  assert.deepEqual(
    removed.map(({ kind, name }) => `${kind} ${name}`),
    ['container web', 'writable crashed'],
  );
  assert.equal(existsSync(join(at.base, 'torn-down')), true);
  assert.deepEqual(readdirSync(inStore('writable')), []);
});

test('clocks: grace counts from the loss of the name; a time in the future starts it anew', async () => {
  const path = inStore('images', `${hexOf(images.two)}.mstack`);
  const store = openStore({ root: at.root })!;
  const collect = (graceMs: number) => collectGarbage(store, { runRoot: at.runRoot, graceMs, dryRun: false });
  for (const name of ['two', 'deux']) store.untag(name);
  const touch = (seconds: number) =>
    utimesSync(path, Date.now() / 1000 + seconds, Date.now() / 1000 + seconds);
  touch(-50);
  assert.deepEqual(await collect(60_000), []);
  touch(+86_400);
  assert.deepEqual(await collect(60_000), []);
  assert.deepEqual(await collect(60_000), []);
  touch(-61);
  const kinds = (await collect(60_000)).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['image', 'layer', 'layer', 'layer']);
  assert.deepEqual(stored('images'), []);
});

test('gc waits for who works in the store, or says who that is', async () => {
  const store = openStore({ root: at.root })!;
  const lock = await store.lock('shared');
  const refused = await at.run('ocictl', '--no-wait', 'gc');
  assert.equal(refused.status, 75);
  assert.match(
    refused.stderr,
    new RegExp(`^ocictl: the store '${at.root}' is in use by .*\\(pid ${process.pid}\\)\nhint: `),
  );
  const dry = await at.run('ocictl', '--no-wait', 'gc', '--dry-run');
  assert.equal(dry.status, 0, dry.stderr);
  const waiting = at.start('ocictl', 'gc');
  let told = '';
  waiting.child.stderr!.on('data', (text: string) => {
    told += text;
  });
  await until(() => /^ocictl: waiting for the store '.*', in use by /.test(told), 'the message');
  lock.release();
  assert.equal((await waiting.ended).status, 0);
});

test('times on the command line', async () => {
  for (const time of ['90', '1h 30min', '2d', '0.5h', '500ms', '1w'])
    assert.equal((await at.run('ocictl', 'gc', '--grace', time)).status, 0, time);
  for (const time of ['', '1x', 'h', '-1', '1h!', '1 hour ago']) {
    const { status, stderr } = await at.run('ocictl', 'gc', `--grace=${time}`);
    assert.equal(status, 64, `${time}: ${stderr}`);
    assert.match(stderr, /Write a time like 90s, 30min, 1h or 2d\./);
  }
});

test('what cannot be removed is told, and the rest goes', async () => {
  mkdirSync(inStore('staging/busy/mnt'), { recursive: true });
  writeFileSync(inStore('staging/stray'), 'x');
  execFileSync('mount', ['-t', 'tmpfs', 'none', inStore('staging/busy/mnt')]);
  const { status, stdout, stderr } = await at.run('ocictl', 'gc');
  execFileSync('umount', [inStore('staging/busy/mnt')]);
  assert.equal(status, 74);
  assert.equal(stdout, 'staging stray 4.1 kB\n');
  assert.match(stderr, /^ocictl: the staging busy is still there: .*EBUSY/m);
  assert.deepEqual(readdirSync(inStore('staging')).sort(), ['blobs', 'busy']);
});

test('of a conversion that was cut short the other format goes, and names follow', async () => {
  const built = await pull('converted', [[file('a', randomBytes(5000))]]);
  const [layer] = layers(built);
  const image = (format: string) => inStore('images', `${hexOf(built)}.${format}`);
  const name = (format: string) => inStore('tags', `converted.${format}`);
  /** As a power cut leaves it: the image in both formats, and the names of the old one. */
  const cutShort = async () => {
    const tree = join(at.base, 'tree.mstack');
    cpSync(image('mstack'), tree, { recursive: true, verbatimSymlinks: true });
    await json('convert', '--to', 'composefs', 'converted');
    cpSync(tree, image('mstack'), { recursive: true, verbatimSymlinks: true });
    rmSync(tree, { recursive: true });
    unlinkSync(name('composefs'));
    symlinkSync(`../images/${hexOf(built)}.mstack`, name('mstack'));
  };
  await cutShort();
  assert.deepEqual(
    (await json('images')).flatMap((one: { names: string[]; format: string }) =>
      one.names.includes('converted') ? [one.format] : [],
    ),
    ['composefs'],
  );
  assert.equal((await at.run('ocictl', 'fsck', 'converted')).status, 0);
  assert.deepEqual(
    (await gc()).map((one) => `${one.kind} ${one.name}`),
    [`image ${hexOf(built)}`],
  );
  assert.deepEqual([existsSync(image('mstack')), existsSync(image('composefs'))], [false, true]);
  assert.deepEqual([existsSync(name('mstack')), existsSync(name('composefs'))], [false, true]);
  assert.equal((await at.run('ocictl', 'fsck', 'converted')).status, 0);

  await json('convert', '--to', 'tree', 'converted');
  assert.deepEqual([existsSync(name('mstack')), existsSync(name('composefs'))], [true, false]);
  await cutShort();
  await json('rm', 'converted');
  assert.deepEqual([existsSync(image('mstack')), existsSync(image('composefs'))], [false, false]);
  assert.ok(!stored('layers').includes(layer!));
});
