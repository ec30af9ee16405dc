/** oci-pull and ocictl from layouts of our own making, as processes, with a store of their own. Needs root and umoci. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ChainID, chainIDs, type DiffID, digestHex } from '../../../src/oci/digest.ts';
import { openStore } from '../../../src/store/store.ts';
import { type BuiltImage, directory, type Entry, file, writeImage } from './image-builder.ts';
import { describeTree, inodes, scratch, until } from './programs.ts';

const BASE_LAYER: Entry[] = [
  directory('./', { mode: 0o755 }),
  directory('etc'),
  file('etc/passwd', 'root:x:0:0::/root:/bin/sh\n'),
  file('etc/shadow', '', { mode: 0o640, gid: 42 }),
  directory('bin'),
  file('bin/su', 'su', { mode: 0o4755 }),
  { path: 'bin/sh', type: '2', link: 'su' },
  directory('tmp', { mode: 0o1777 }),
  directory('old/sub'),
  file('old/sub/gone', 'gone'),
  directory('home/user', { uid: 1000, gid: 1000, mode: 0o700 }),
  file('home/user/notes', 'notes', { uid: 1000, gid: 65535 }),
];
const TOP_LAYER: Entry[] = [
  directory('etc', { mtime: 1_600_000_000 }),
  file('etc/.wh.passwd', ''),
  file('etc/group', 'root:x:0:\n'),
  directory('old'),
  file('old/.wh.sub', ''),
  file('old/new', 'new'),
  { path: 'bin/su-too', type: '1', link: 'bin/su' },
];

const at = scratch('oci-pull-');
after(at.close);
let layouts = 0;

/** A layout below the scratch directory; its name, as oci-pull takes it. */
function image(
  layers: readonly (readonly Entry[])[],
  options: Parameters<typeof writeImage>[2] = {},
): BuiltImage & { ref: string; directory: string } {
  const path = join(at.base, `layout${++layouts}`);
  return {
    ...writeImage(path, layers, options),
    ref: `oci:${path}:${options.tag ?? 'latest'}`,
    directory: path,
  };
}

function chain(built: BuiltImage): ChainID[] {
  return chainIDs(built.diffIDs as DiffID[]);
}

const layerPath = (chainID: ChainID) => join(at.root, 'layers', digestHex(chainID));
const staging = () => readdirSync(join(at.root, 'staging'), { recursive: true, encoding: 'utf8' }).sort();
const has = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

const two = image([BASE_LAYER, TOP_LAYER], { tag: 'two', config: { Cmd: ['sh'], Env: ['A=\u001b[31m'] } });

test('a pull prints the digest alone on stdout and leaves a complete, closed store', async () => {
  const pulled = await at.run('oci-pull', two.ref, 'two');
  assert.deepEqual([pulled.status, pulled.stdout], [0, `${two.manifestDigest}\n`], pulled.stderr);
  assert.match(pulled.stderr, /^oci-pull: layer [0-9a-f]{12}: [0-9]+ B$/m);
  assert.match(pulled.stderr, /^oci-pull: stored as two$/m);
  assert.deepEqual(staging(), ['blobs']);
  const mstack = join(at.root, 'tags/two.mstack');
  const [lower, upper] = chain(two) as [ChainID, ChainID];
  assert.deepEqual(readdirSync(mstack).sort(), [
    '.oci',
    'layer@0000-skeleton',
    `layer@0001-${digestHex(lower).slice(0, 12)}`,
    `layer@0002-${digestHex(upper).slice(0, 12)}`,
  ]);
  assert.equal(statSync(join(mstack, 'layer@0000-skeleton/tmp')).mode & 0o7777, 0o1777);
  assert.equal(
    readFileSync(join(mstack, `layer@0001-${digestHex(lower).slice(0, 12)}/old/sub/gone`), 'utf8'),
    'gone',
  );
  for (const path of [
    '.',
    'layers',
    'images',
    'tags',
    'staging',
    `layers/${digestHex(lower)}`,
    'layers/skeleton',
  ])
    assert.equal(statSync(join(at.root, path)).mode & 0o7777, 0o700, path);
  const record = JSON.parse(readFileSync(join(layerPath(upper), 'layer.json'), 'utf8'));
  assert.deepEqual(
    [record.diffID, record.chainID, record.blob.digest, record.sizeBytes],
    [two.diffIDs[1], upper, two.layerDigests[1], 13],
  );
  for (const { uid, gid } of owners(at.root)) {
    assert.ok(uid === 0 || (uid >= 2147352576 && uid <= 2147352576 + 65535), `uid ${uid}`);
    assert.ok(gid === 0 || (gid >= 2147352576 && gid <= 2147352576 + 65535), `gid ${gid}`);
  }
});

function owners(directory: string) {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((path) =>
    lstatSync(join(directory, path)),
  );
}

test('a second pull of the image writes nothing', async () => {
  const before = inodes(at.root);
  for (const policy of ['always', 'missing', 'newer']) {
    const again = await at.run('oci-pull', '--policy', policy, two.ref, 'two');
    assert.deepEqual(
      [again.status, again.stdout, again.stderr],
      [0, `${two.manifestDigest}\n`, 'oci-pull: two is up to date\n'],
      policy,
    );
  }
  assert.deepEqual(inodes(at.root), before);
});

test('ocictl mount shows the tree that umoci unpacks, read-only, with ids from 0', async () => {
  const mounted = await at.run('ocictl', 'mount', 'two');
  assert.equal(mounted.status, 0, mounted.stderr);
  const tree = mounted.stdout.trimEnd();
  const bundle = join(at.base, 'umoci');
  execFileSync('umoci', ['unpack', '--image', `${two.directory}:two`, bundle]);
  // umoci loses the times of directories that are only implied
  assert.deepEqual(
    describeTree(tree, { times: false }),
    describeTree(join(bundle, 'rootfs'), { times: false }),
  );
  assert.equal(statSync(join(tree, 'etc')).mtimeMs, 1_600_000_000_000);
  assert.equal(statSync(join(tree, 'bin/su-too')).mode & 0o7777, 0o4755);
  assert.throws(() => writeFileSync(join(tree, 'x'), ''), { code: 'EROFS' });
  assert.equal(statSync(join(at.runRoot, 'mounts')).mode & 0o7777, 0o700);

  assert.equal((await at.run('ocictl', 'mount', 'two')).stdout, mounted.stdout);
  const busy = await at.run('ocictl', 'rm', 'two');
  assert.equal(busy.status, 75);
  assert.equal(
    busy.stderr,
    `ocictl: refusing to remove 'two': mount '${tree}' uses it\nhint: Unmount it first: ocictl umount ${tree}\n`,
  );
  assert.equal((await at.run('ocictl', 'umount', tree)).status, 0);
  assert.deepEqual(readdirSync(join(at.runRoot, 'mounts')), []);
  const again = await at.run('ocictl', 'umount', 'two');
  assert.deepEqual([again.status, again.stderr], [0, 'ocictl: two was not mounted\n']);
});

test('an image of one layer and one of none can be mounted, too', async () => {
  for (const [layers, names] of [
    [[BASE_LAYER], ['bin', 'etc', 'home', 'old', 'tmp']],
    [[], []],
  ] as const) {
    const built = image(layers);
    assert.equal((await at.run('oci-pull', built.ref, 'few')).status, 0);
    const tree = (await at.run('ocictl', 'mount', 'few')).stdout.trimEnd();
    assert.deepEqual(readdirSync(tree).sort(), names);
    assert.equal(statSync(tree).uid, 0);
    assert.equal((await at.run('ocictl', 'umount', 'few')).status, 0);
    assert.equal((await at.run('ocictl', 'rm', 'few')).status, 0);
  }
});

test('images share layers, and rm deletes only what no other image has', async () => {
  const other = image([BASE_LAYER, [file('other', 'x')]], { tag: 'other' });
  const pulled = await at.run('oci-pull', other.ref, 'other');
  assert.match(
    pulled.stderr,
    new RegExp(`^oci-pull: layer ${other.layerDigests[0]!.slice(7, 19)}: already here$`, 'm'),
  );
  const [shared, own] = chain(other) as [ChainID, ChainID];
  assert.equal(shared, chain(two)[0]);
  const inode = lstatSync(layerPath(shared)).ino;

  const removed = await at.run('ocictl', '--json', 'rm', 'other');
  assert.deepEqual(JSON.parse(removed.stdout), [
    { digest: other.manifestDigest, untagged: ['other'], deleted: true, deletedLayers: [digestHex(own)] },
  ]);
  assert.equal(has(layerPath(own)), false);
  assert.equal(lstatSync(layerPath(shared)).ino, inode);
  assert.deepEqual(staging(), ['blobs']);
});

test('names: tag, untag, rm by name and by digest', async () => {
  await at.run('ocictl', 'tag', 'two', 'quay.io/my/two:1');
  const images = JSON.parse((await at.run('ocictl', 'images', '--json')).stdout);
  assert.deepEqual(images[0].names, ['quay.io/my/two:1', 'two']);
  const several = await at.run('ocictl', 'rm', two.manifestDigest);
  assert.equal(several.status, 64);
  assert.match(several.stderr, /^ocictl: image [0-9a-f]{12} has 2 names: 'quay.io\/my\/two:1', 'two'$/m);
  assert.equal((await at.run('ocictl', 'untag', 'quay.io/my/two:1')).status, 0);
  const bad = await at.run('ocictl', 'tag', 'two', 'a b');
  assert.deepEqual([bad.status, bad.stderr.split('\n')[0]], [64, "ocictl: 'a b' is not a name for an image"]);
  const short = await at.run(
    'ocictl',
    '--json',
    'inspect',
    digestHex(two.manifestDigest as ChainID).slice(0, 12),
  );
  assert.deepEqual(JSON.parse(short.stdout).names, ['two']);
});

test('foreign text does not reach the terminal raw', async () => {
  for (const args of [
    ['inspect', 'two'],
    ['inspect', '--json', 'two'],
    ['inspect', '\u001b[2Jx'],
    ['\u009b2J'],
  ]) {
    const { stdout, stderr } = await at.run('ocictl', ...args);
    assert.doesNotMatch(stdout + stderr, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  }
});

test('a layer that another pull makes is waited for, and used', async () => {
  const built = image([[file('waited', 'for')]]);
  const store = openStore({ root: at.root, create: true })!;
  const claim = (await store.claimLayer(chain(built)[0]!, {}))!;
  const refused = await at.run('oci-pull', '--no-wait', built.ref, 'waited');
  assert.equal(refused.status, 75);
  assert.match(
    refused.stderr,
    /^oci-pull: pull 'oci:.*': layer [0-9a-f]{12} is in use by .* \(pid [0-9]+\)$/m,
  );
  const pull = at.start('oci-pull', built.ref, 'waited');
  let stderr = '';
  pull.child.stderr!.on('data', (text: string) => {
    stderr += text;
  });
  await until(() => /^oci-pull: waiting for layer [0-9a-f]{12}, in use by /m.test(stderr), 'the message');
  claim.discard();
  const { status } = await pull.ended;
  assert.equal(status, 0, stderr);
  await at.run('ocictl', 'rm', 'waited');
});

test('two pulls at once share the work', async () => {
  const built = image([[file('big', randomBytes(8 << 20))], [file('small', 'x')]]);
  const ended = await Promise.all(['a', 'b', 'c'].map((name) => at.run('oci-pull', built.ref, name)));
  for (const { status, stdout, stderr } of ended)
    assert.deepEqual([status, stdout], [0, `${built.manifestDigest}\n`], stderr);
  const done = ended
    .map(({ stderr }) => stderr.match(/: done$/gm)?.length ?? 0)
    .reduce((sum, count) => sum + count);
  assert.equal(done, 2, 'each layer was made once');
  assert.deepEqual(staging(), ['blobs']);
  assert.equal((await at.run('ocictl', 'rm', 'a', 'b', 'c')).status, 0);
  assert.equal(has(layerPath(chain(built)[0]!)), false);
});

test('a killed pull leaves nothing in the way of the next one', async () => {
  const built = image([BASE_LAYER, [file('big', randomBytes(48 << 20))], TOP_LAYER]);
  const layersBefore = readdirSync(join(at.root, 'layers')).sort();
  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGKILL', null],
  ] as const) {
    const pull = at.start('oci-pull', built.ref, 'killed');
    const tree = join(at.root, 'staging', digestHex(chain(built)[1]!), 'tree/big');
    await until(() => has(tree), 'the work to be under way');
    pull.child.kill(signal);
    const ended = await pull.ended;
    assert.equal(ended.status, status, ended.stderr);
    assert.deepEqual(readdirSync(join(at.root, 'layers')).sort(), layersBefore);
    if (signal !== 'SIGKILL') {
      assert.equal(ended.stderr.trimEnd().split('\n').at(-1), `oci-pull: interrupted by ${signal}`);
      assert.deepEqual(readdirSync(join(at.root, 'staging')), ['blobs']);
    }
  }
  const clean = await at.run('oci-pull', built.ref, 'killed');
  assert.equal(clean.status, 0, clean.stderr);
  assert.deepEqual(staging(), ['blobs']);
  assert.equal((await at.run('ocictl', 'rm', 'killed')).status, 0);
});

test('a download is resumed, also when what is here of it is damaged', async () => {
  for (const [what, damage] of [
    ['good', 0],
    ['damaged', 1],
  ] as const) {
    const built = image([[file('resumed', randomBytes(1 << 20))]]);
    const hex = built.layerDigests[0]!.slice(7);
    const half = readFileSync(join(built.directory, 'blobs/sha256', hex)).subarray(0, 1 << 19);
    half[1000] = half[1000]! ^ damage;
    writeFileSync(join(at.root, 'staging/blobs', `${hex}.partial`), half);
    const pulled = await at.run('oci-pull', built.ref, 'resumed');
    assert.equal(pulled.status, 0, pulled.stderr);
    const lines = pulled.stderr.split('\n').filter((line) => line.includes(`layer ${hex.slice(0, 12)}`));
    const start = `oci-pull: layer ${hex.slice(0, 12)}: 1.0 MB`;
    const from = `${start}, 524.3 kB of it here from an earlier pull`;
    const done = `oci-pull: layer ${hex.slice(0, 12)}: done`;
    assert.deepEqual(lines, what === 'good' ? [from, done] : [from, start, done]);
    assert.equal((await at.run('ocictl', 'rm', 'resumed')).status, 0);
  }
});

test('bad images: one line, the right status, nothing left behind', async () => {
  const wrong = `sha256:${'0'.repeat(64)}`;
  const good = image([[file('x', 'x')]]);
  const cases: [string, string, number, RegExp][] = [
    [
      'diffID',
      image([BASE_LAYER, [file('y', 'y')]], { lies: { diffIDs: [good.diffIDs[0]!, wrong] } }).ref,
      65,
      /: got sha256:[0-9a-f]{64}, expected sha256:/,
    ],
    ['size', image([[file('z', 'z')]], { lies: { sizes: [7] } }).ref, 65, /7/],
    ['no blob', image([[file('z', 'z')]], { lies: { layerDigests: [wrong] } }).ref, 65, /0{20}/],
    ['climbs out', image([[file('../../evil', 'z')]]).ref, 65, /evil/],
    ['no such tag', `${good.ref}x`, 66, /has no image 'latestx', only 'latest'/],
    ['no such layout', 'oci:/nonexistent', 66, /cannot open the layout/],
    ['another platform', image([[file('x', 'x')]], { architecture: 's390x' }).ref, 69, /'linux\/s390x'/],
  ];
  const before = inodes(at.root);
  for (const [what, ref, status, message] of cases) {
    const pulled = await at.run('oci-pull', ref, 'bad');
    assert.deepEqual([pulled.status, pulled.stdout], [status, ''], `${what}: ${pulled.stderr}`);
    assert.match(pulled.stderr, /^oci-pull: pull '/m, what);
    assert.match(pulled.stderr, message, what);
    assert.match(pulled.stderr, /^hint: [A-Z].*\.?$/m, what);
    const json = await at.run('oci-pull', '--json', ref, 'bad');
    assert.deepEqual(
      Object.keys(JSON.parse(json.stderr.trimEnd().split('\n').at(-1)!)).slice(0, 3),
      ['code', 'message', 'hint'],
      what,
    );
  }
  const stagingOnly = (line: string) => !line.startsWith('staging');
  assert.deepEqual(inodes(at.root).filter(stagingOnly), before.filter(stagingOnly));
  assert.deepEqual(staging(), ['blobs']);
});

test('a container that runs keeps its image', async () => {
  const record = join(at.runRoot, 'containers/web');
  mkdirSync(record, { recursive: true });
  writeFileSync(join(record, 'image.json'), JSON.stringify({ digest: two.manifestDigest, root: at.root }));
  const busy = await at.run('ocictl', 'rm', 'two');
  assert.deepEqual(
    [busy.status, busy.stderr.split('\n')[0]],
    [75, "ocictl: refusing to remove 'two': container 'web' uses it"],
  );
  writeFileSync(
    join(record, 'image.json'),
    JSON.stringify({ digest: two.manifestDigest, root: at.root, boot: 'an earlier one' }),
  );
  const removed = await at.run('ocictl', 'rm', 'two');
  assert.deepEqual([removed.status, removed.stdout], [0, `${two.manifestDigest}\n`]);
  assert.deepEqual(readdirSync(join(at.root, 'layers')), ['skeleton']);
  assert.equal((await at.run('ocictl', 'rm', 'two')).status, 66);
});
