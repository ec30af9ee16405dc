/**
 * Stacks of layers, as overlayfs really shows them, against what the specification asks; and against umoci.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openMergedTree } from '../../../src/store/merged-tree.ts';
import {
  type BuiltEntry,
  directory,
  file,
  hardLink,
  opaque,
  symlink,
  tar,
  whiteout,
} from '../archive/tar-builder.ts';
import {
  apply,
  digest,
  ID_BASE,
  listing,
  merged,
  mountOverlay,
  newDirectory,
  rejects,
  stack,
} from './layer-fixture.ts';
import { mergedListing } from './merged-listing.ts';

type Layers = (BuiltEntry | Buffer)[][];

const cases: [string, Layers, string[]][] = [
  ['a whiteout hides', [[file('a'), file('b')], [whiteout('a')]], ['b ""']],
  ['a whiteout hides a tree', [[file('d/x/y'), file('b')], [whiteout('d')]], ['b ""']],
  [
    'a whiteout of nothing does not show',
    [[file('d/a')], [whiteout('d/no'), file('d/b')]],
    ['d/', 'd/a ""', 'd/b ""'],
  ],
  [
    'whiteouts in a directory that is new do not show',
    [[file('a')], [directory('d'), whiteout('d/no')]],
    ['a ""', 'd/'],
  ],
  ['whiteouts alone make no directory', [[file('a')], [whiteout('no/such/file')]], ['a ""']],
  ['whiteouts alone do not replace a file', [[file('a', '1')], [whiteout('a/b')]], ['a "1"']],
  ['an entry does replace a file on its way', [[file('a', '1')], [file('a/b', '2')]], ['a/', 'a/b "2"']],
  [
    'whiteout, then a new directory',
    [[file('d/old')], [whiteout('d'), directory('d'), file('d/new')]],
    ['d/', 'd/new ""'],
  ],
  [
    'a new directory, then the whiteout',
    [[file('d/old')], [directory('d'), file('d/new'), whiteout('d')]],
    ['d/', 'd/new ""'],
  ],
  [
    'whiteout and an implied directory',
    [[file('d/old')], [whiteout('d'), file('d/new')]],
    ['d/', 'd/new ""'],
  ],
  ['whiteout, then a file, then a directory', [[file('d/old')], [file('d'), directory('d')]], ['d/']],
  [
    'whiteout of a directory that comes back two layers up',
    [[file('d/old')], [whiteout('d')], [file('d/new')]],
    ['d/', 'd/new ""'],
  ],
  ['a file over a directory', [[file('d/old')], [file('d', '1')]], ['d "1"']],
  ['a directory over a file', [[file('d', '1')], [directory('d'), file('d/f')]], ['d/', 'd/f ""']],
  [
    'a file, then a directory over it, two layers up',
    [[file('d/old')], [file('d', '1')], [directory('d')]],
    ['d/'],
  ],
  [
    'opaque first',
    [
      [file('d/old'), file('d/e/old')],
      [opaque('d'), file('d/new')],
    ],
    ['d/', 'd/new ""'],
  ],
  [
    'opaque last',
    [
      [file('d/old'), file('d/e/old')],
      [file('d/new'), file('d/e/new'), opaque('d')],
    ],
    ['d/', 'd/e/', 'd/e/new ""', 'd/new ""'],
  ],
  ['opaque without an own entry', [[file('d/old')], [opaque('d')]], ['d/']],
  ['opaque where nothing is', [[file('a')], [opaque('d')]], ['a ""']],
  [
    'opaque with a whiteout in it',
    [[file('d/old')], [opaque('d'), whiteout('d/old'), whiteout('d/no')]],
    ['d/'],
  ],
  [
    'a whiteout and whiteouts below it, in any order',
    [
      [file('d/e/f'), file('g/e/f'), file('a')],
      [
        whiteout('d/e/f'),
        whiteout('d/e'),
        opaque('d/e'),
        whiteout('d'),
        whiteout('g'),
        whiteout('g/e/f'),
        opaque('g/e'),
      ],
    ],
    ['a ""'],
  ],
  [
    'usrmerge: a whiteout by one name, one below it by the other',
    [
      [file('usr/lib/d/old'), file('usr/lib/e/old'), symlink('lib', 'usr/lib')],
      [whiteout('lib/d'), whiteout('usr/lib/d/old'), whiteout('usr/lib/e'), whiteout('lib/e/old')],
    ],
    ['lib -> usr/lib', 'usr/', 'usr/lib/'],
  ],
  [
    'opaque root through a link',
    [
      [file('a'), file('d/old'), symlink('s', '.')],
      [opaque('s'), file('d/new')],
    ],
    ['d/', 'd/new ""'],
  ],
  [
    'opaque root first',
    [
      [file('a'), file('d/old'), symlink('s', 'a')],
      [opaque(''), file('d/new'), file('b')],
    ],
    ['b ""', 'd/', 'd/new ""'],
  ],
  [
    'opaque root last',
    [
      [file('a'), directory('d'), file('d/old')],
      [file('b'), directory('d'), opaque('')],
    ],
    ['b ""', 'd/'],
  ],
  ['opaque root in the bottom layer', [[file('a'), opaque('')], [file('b')]], ['a ""', 'b ""']],
  ['content over an opaque root', [[file('a/1')], [opaque('')], [file('a/2')]], ['a/', 'a/2 ""']],
  [
    'usrmerge: an entry through a link below',
    [[directory('usr/lib'), file('usr/lib/a'), symlink('lib', 'usr/lib')], [file('lib/b', '1')]],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a ""', 'usr/lib/b "1"'],
  ],
  [
    'usrmerge: replaced content, a new directory, a hard link, a symlink',
    [
      [file('usr/lib/a', 'old'), symlink('lib', '/usr/lib')],
      [file('lib/a', 'new'), file('lib/m/x'), hardLink('lib/h', 'lib/a'), symlink('lib/s', 'a')],
    ],
    [
      'lib -> /usr/lib',
      'usr/',
      'usr/lib/',
      'usr/lib/a "new"',
      'usr/lib/h "new" = usr/lib/a',
      'usr/lib/m/',
      'usr/lib/m/x ""',
      'usr/lib/s -> a',
    ],
  ],
  [
    'usrmerge: a whiteout through a link below',
    [[file('usr/lib/a'), file('usr/lib/b'), symlink('lib', 'usr/lib')], [whiteout('lib/a')]],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/b ""'],
  ],
  [
    'usrmerge: a whiteout of nothing through a link below',
    [
      [file('usr/lib/a'), symlink('lib', 'usr/lib')],
      [whiteout('lib/no'), whiteout('lib/d/no')],
    ],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a ""'],
  ],
  [
    'usrmerge: opaque through a link below',
    [
      [file('usr/lib/a'), symlink('lib', 'usr/lib')],
      [opaque('lib'), file('lib/b')],
    ],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/b ""'],
  ],
  [
    'usrmerge: both names in one layer',
    [
      [file('usr/lib/old'), symlink('lib', 'usr/lib')],
      [
        file('lib/x', '1'),
        file('lib/m/a', '1'),
        file('usr/lib/x', '2'),
        file('usr/lib/m/b', '2'),
        file('usr/lib/y', '2'),
      ],
    ],
    [
      'lib -> usr/lib',
      'usr/',
      'usr/lib/',
      'usr/lib/m/',
      'usr/lib/m/a "1"',
      'usr/lib/m/b "2"',
      'usr/lib/old ""',
      'usr/lib/x "2"',
      'usr/lib/y "2"',
    ],
  ],
  [
    'usrmerge: a whiteout by one name, an entry by the other',
    [
      [file('usr/lib/d/old'), file('usr/lib/e/old'), symlink('lib', 'usr/lib')],
      [whiteout('lib/d'), file('usr/lib/d/new'), whiteout('usr/lib/e'), file('lib/e/new')],
    ],
    [
      'lib -> usr/lib',
      'usr/',
      'usr/lib/',
      'usr/lib/d/',
      'usr/lib/d/new ""',
      'usr/lib/e/',
      'usr/lib/e/new ""',
    ],
  ],
  [
    'links to links below, in several layers',
    [
      [directory('r/lib'), symlink('usr', 'r'), file('r/lib/a')],
      [symlink('lib', 'usr/lib')],
      [file('lib/x/b'), file('usr/lib/c')],
      [symlink('r/lib/y', 'x')],
      [file('lib/y/d'), whiteout('usr/lib/a')],
    ],
    [
      'lib -> usr/lib',
      'r/',
      'r/lib/',
      'r/lib/c ""',
      'r/lib/x/',
      'r/lib/x/b ""',
      'r/lib/x/d ""',
      'r/lib/y -> x',
      'usr -> r',
    ],
  ],
  [
    'a link inside what moves',
    [
      [symlink('a', 'b'), directory('b'), symlink('b/c', '../d'), directory('d')],
      [file('a/c/x', '1'), file('a/y')],
    ],
    ['a -> b', 'b/', 'b/c -> ../d', 'b/y ""', 'd/', 'd/x "1"'],
  ],
  [
    'a link to its own directory',
    [[directory('p'), symlink('p/p', '.'), file('p/a')], [file('p/p/p/x', '1')]],
    ['p/', 'p/a ""', 'p/p -> .', 'p/x "1"'],
  ],
  [
    'a link that leaves the root stays in it',
    [[symlink('s', '../../../../etc')], [file('s/f', '1')]],
    ['etc/', 'etc/f "1"', 's -> ../../../../etc'],
  ],
  [
    'a dangling link gets its directory',
    [[symlink('s', 'no/where')], [file('s/f', '1')]],
    ['no/', 'no/where/', 'no/where/f "1"', 's -> no/where'],
  ],
  [
    'a dangling link and a whiteout: nothing',
    [[symlink('s', 'no/where')], [whiteout('s/f')]],
    ['s -> no/where'],
  ],
  [
    'an entry for the directory itself replaces the link',
    [
      [symlink('s', 'd'), file('d/a')],
      [directory('s'), file('s/f')],
    ],
    ['d/', 'd/a ""', 's/', 's/f ""'],
  ],
  [
    'a link that this layer replaces',
    [
      [symlink('s', 'd'), file('d/a')],
      [whiteout('s'), file('s/f')],
    ],
    ['d/', 'd/a ""', 's/', 's/f ""'],
  ],
  [
    'a link to what this layer hides',
    [
      [symlink('s', 'd'), file('d/a')],
      [whiteout('d'), file('s/f')],
    ],
    ['d/', 'd/f ""', 's -> d'],
  ],
  [
    'a hard link to a file below',
    [[file('d/a', '1')], [hardLink('e/b', 'd/a'), hardLink('c', 'd/a')]],
    ['c "1"', 'd/', 'd/a "1" = c', 'e/', 'e/b "1" = c'],
  ],
  [
    'a hard link to a link to a file below',
    [[file('a', '1')], [hardLink('c', 'b'), hardLink('b', 'a')]],
    ['a "1"', 'b "1" = a', 'c "1" = a'],
  ],
  [
    'a hard link to a file below that is hidden',
    [[file('a', '1')], [hardLink('b', 'a'), whiteout('a')]],
    ['b "1"'],
  ],
  [
    'a hard link to a file below, in a directory that then hides what is below',
    [[file('d/a', '1')], [hardLink('d/b', 'd/a'), opaque('d')]],
    ['d/', 'd/b "1"'],
  ],
  [
    'a hard link to a file below, then a whiteout of its name',
    [
      [file('d/a', '1'), file('d/b', '2')],
      [hardLink('d/b', 'd/a'), whiteout('d/b')],
    ],
    ['d/', 'd/a "1"', 'd/b "1" = d/a'],
  ],
  [
    'a hard link to a file below, through links',
    [[file('r/a', '1'), symlink('s', 'r')], [hardLink('s/b', 's/a')]],
    ['r/', 'r/a "1"', 'r/b "1" = r/a', 's -> r'],
  ],
  [
    'through a link to what this layer hides, which is a symlink there',
    [
      [symlink('d', 'b'), directory('b'), file('b/old')],
      [whiteout('b'), file('d/d/f', '1')],
    ],
    ['b/', 'b/d/', 'b/d/f "1"', 'd -> b'],
  ],
  [
    'usrmerge: a file by one name, whiteouts below it by the other',
    [
      [file('usr/lib/d/old'), symlink('lib', 'usr/lib')],
      [opaque('usr/lib/d'), whiteout('usr/lib/d/old'), file('lib/d', '1')],
    ],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/d "1"'],
  ],
  [
    'a hard link to a symlink below that the layer also goes through',
    [
      [directory('a'), symlink('b', 'a')],
      [file('b/f', '1'), hardLink('c', 'b')],
    ],
    ['a/', 'a/f "1"', 'b -> a', 'c -> a = b'],
  ],
  ['a hard link to a symlink below', [[symlink('s', 'x')], [hardLink('t', 's')]], ['s -> x', 't -> x = s']],
  ['a hard link over the directory of its target', [[file('d/a', '1')], [hardLink('d', 'd/a')]], ['d "1"']],
  [
    'a hard link to a device below',
    [[{ name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3 }], [hardLink('m', 'n')]],
    ['m c1:3', 'n c1:3 = m'],
  ],
  ['an empty layer', [[file('a')], [], [file('b')]], ['a ""', 'b ""']],
];

describe('what overlayfs shows, and an image of format composefs', () => {
  for (const [what, layers, expected] of cases)
    it(what, async () => {
      assert.deepEqual(mergedListing(layers), expected);
      const trees = await stack(...layers);
      const mount = mountOverlay(trees);
      assert.deepEqual(listing(mount).slice(1), expected);
      // The reader without a mount must agree, path by path.
      const tree = openMergedTree(trees);
      try {
        for (const line of listing(mount, { attributes: true, times: true })) {
          const path = line.split(' ')[0]!.replace(/(.)\/$/, '$1');
          const entry = tree.lookup(path, { followLast: false });
          const stat = statSync(join(mount, path), { throwIfNoEntry: false });
          assert(entry !== undefined, path);
          assert.equal(line.includes(' -> '), entry.kind === 'symlink', line);
          if (entry.kind !== 'symlink')
            assert.deepEqual(
              [entry.mode, entry.uid, entry.gid],
              [stat!.mode & 0o7777, stat!.uid, stat!.gid],
              path,
            );
          if (entry.kind === 'file')
            assert.equal(tree.readFile(path, 100)?.toString(), line.match(/"(.*)"/)?.[1], path);
        }
      } finally {
        tree.close();
      }
    });
});

describe('attributes', () => {
  const bottom = [
    directory('.', 0o711, { uid: 1, mtime: 11 }),
    directory('d', 0o1777, { uid: 2, gid: 3, mtime: 22, pax: { 'SCHILY.xattr.user.d': 'v' } }),
    directory('d/e', 0o750, { uid: 4, mtime: 33 }),
    file('d/e/f', 'x', { mode: 0o4711, uid: 5, mtime: 44 }),
    symlink('l', 'd/e'),
  ];
  it('of implied directories, and of the root, are those below', async () =>
    assert.deepEqual(
      listing(mountOverlay(await stack(bottom, [file('d/e/new', 'y')])), { attributes: true, times: true }),
      [
        '/ 711 1:0 @11',
        'd/ 1777 2:3 @22',
        'd/e/ 750 4:0 @33',
        'd/e/f "x" 4711 5:0 @44',
        'd/e/new "y" 644 0:0 @0',
        'l -> d/e 777 0:0 @0',
      ],
    ));
  it('of the root, where the layer says so', async () =>
    assert.equal((await stackListing(bottom, [directory('.', 0o700, { mtime: 5 })]))[0], '/ 700 0:0 @5'));
  it('survive through a layer that only has whiteouts, and through a link', async () => {
    const lines = await stackListing(bottom, [whiteout('d/e/f')], [file('l/g')], [whiteout('d/no')]);
    assert.deepEqual(lines, [
      '/ 711 1:0 @11',
      'd/ 1777 2:3 @22',
      'd/e/ 750 4:0 @33',
      'd/e/g "" 644 0:0 @0',
      'l -> d/e 777 0:0 @0',
    ]);
  });
  it('xattrs of implied directories come along', async () => {
    const mount = mountOverlay(await stack(bottom, [file('d/new')]));
    assert.equal(
      execFileSync('getfattr', ['--only-values', '-n', 'user.d', join(mount, 'd')], { encoding: 'utf8' }),
      'v',
    );
  });
  it('an opaque directory without an own entry keeps those below; one in the place of a whiteout does not', async () => {
    assert.equal((await stackListing(bottom, [opaque('d')]))[1], 'd/ 1777 2:3 @22');
    assert.equal((await stackListing(bottom, [whiteout('d'), file('d/x')]))[1], 'd/ 755 0:0 @0');
  });
  it('times of described directories stay when something inside is settled', async () => {
    const lines = await stackListing(bottom, [
      directory('d', 0o700, { mtime: 77 }),
      whiteout('d/no'),
      whiteout('d/x/no'),
      hardLink('d/h', 'd/e/f'),
    ]);
    assert.deepEqual(lines.slice(1, 5), [
      'd/ 700 0:0 @77',
      'd/e/ 750 4:0 @33',
      'd/e/f "x" 4711 5:0 @44',
      'd/h "x" = d/e/f 4711 5:0 @44',
    ]);
  });
  it('a file that is copied up keeps xattrs, capabilities and holes', async () => {
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const trees = await stack(
      [
        {
          name: 'f',
          data: 'end',
          pax: {
            'GNU.sparse.size': '104857600',
            'GNU.sparse.map': '104857597,3',
            'SCHILY.xattr.user.a': 'v',
            'SCHILY.xattr.security.capability': capability,
          },
        },
      ],
      [hardLink('g', 'f')],
    );
    const dump = (name: string) =>
      execFileSync('getfattr', ['-d', '-m', '-', '-e', 'hex', '--absolute-names', name], { encoding: 'utf8' })
        .split('\n')
        .slice(1);
    assert.deepEqual(dump(join(trees[1]!, 'g')), dump(join(trees[0]!, 'f')));
    const stat = statSync(join(trees[1]!, 'g'));
    assert.deepEqual([stat.size, stat.nlink, stat.blocks < 64], [104857600, 2, true]);
  });
  async function stackListing(...layers: Layers): Promise<string[]> {
    return listing(mountOverlay(await stack(...layers)), { attributes: true, times: true });
  }
});

describe('refusals', () => {
  const bottom = [symlink('loop', 'loop'), file('f'), symlink('s', 'f'), directory('d')];
  const refused: [string, BuiltEntry, string][] = [
    ['a link loop below', file('loop/x'), "entry 'loop': too many levels of symlinks"],
    ['a link to a file below', file('s/x'), "entry 's': 'f' is not a directory"],
    [
      'a hard link to nothing',
      hardLink('l', 'no'),
      "entry 'l': a hard link to 'no', which is no file of the image",
    ],
    ['a hard link to a directory below', hardLink('l', 'd'), "entry 'l': a hard link to 'd', a directory"],
  ];
  for (const [what, entry, message] of refused)
    it(what, () => rejects(stack(bottom, [entry]), 'BAD_ARCHIVE', message));
  it('nothing of a lower tree is changed', async () => {
    const trees = await stack([file('usr/lib/a', '1'), symlink('lib', 'usr/lib')]);
    const before = listing(trees[0]!, { attributes: true, times: true });
    const { tree, unsettled } = await apply(
      tar(file('lib/b'), whiteout('lib/a'), hardLink('c', 'usr/lib/a')),
    );
    const { settleLayer } = await import('../../../src/store/settle-layer.ts');
    settleLayer(tree, trees, unsettled, ID_BASE);
    assert.deepEqual(listing(trees[0]!, { attributes: true, times: true }), before);
    assert.deepEqual(readdirSync(tree).toSorted(), ['c', 'usr']);
  });
});

describe('beside umoci', () => {
  it('unpacks the same tree', async () => {
    const layers: Layers = [
      [
        directory('.', 0o755, { mtime: 1 }),
        directory('etc', 0o755, { mtime: 2 }),
        file('etc/passwd', 'root:x:0:0', { mtime: 3 }),
        directory('usr', 0o755, { mtime: 4 }),
        directory('usr/lib', 0o755, { mtime: 5 }),
        file('usr/lib/libc.so', 'elf', { mode: 0o755, mtime: 6 }),
        symlink('lib', 'usr/lib'),
        directory('opt', 0o755, { mtime: 7 }),
        directory('opt/a', 0o700, { uid: 7, mtime: 8 }),
        file('opt/a/1', '1', { uid: 8, gid: 9 }),
        file('opt/a/2', '2'),
        hardLink('opt/a/3', 'opt/a/2'),
        directory('srv', 0o755, { mtime: 9 }),
        file('srv/x'),
      ],
      [
        directory('opt/a', 0o711, { mtime: 10 }),
        whiteout('opt/a/1'),
        file('opt/a/4', '4', { mode: 0o6755, mtime: 12 }),
        whiteout('srv'),
        { name: 'pipe', type: '6' },
        symlink('etc/mtab', '/proc/mounts'),
        file('lib/new.so', 'n', { mtime: 13 }),
      ],
      [
        opaque('opt'),
        directory('opt', 0o755, { mtime: 14 }),
        file('opt/b', 'b', { pax: { mtime: '15.25', 'SCHILY.xattr.user.k': 'v' } }),
        file('etc/passwd', 'root::0:0', { mtime: 16 }),
        hardLink('etc/passwd-', 'etc/passwd'),
        file('x', 'y', { pax: { path: `${'deep/'.repeat(40)}f` } }),
      ],
    ];
    const unpacked = join(umoci(layers), 'rootfs');
    const ours = await merged(layers, { attributes: true, times: true });
    // umoci gives directories that no entry describes the time of the unpacking.
    const implied = (line: string) => line.replace(/^(.*deep\/.*) @.*/, '$1');
    const theirs = listing(unpacked, { attributes: true, times: true })
      .slice(1)
      .map((line) => line.replaceAll('host ', ''));
    assert.deepEqual(ours.map(implied), theirs.map(implied));
    assert.equal(ours.length, 53);
  });

  /** Writes a layout of the layers and has umoci unpack it as root; returns the bundle. */
  function umoci(layers: Layers): string {
    const layout = newDirectory();
    mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
    const put = (data: Buffer, mediaType: string) => {
      writeFileSync(join(layout, 'blobs/sha256', digest(data).slice(7)), data);
      return { mediaType, digest: digest(data), size: data.length };
    };
    const json = (value: unknown) => Buffer.from(JSON.stringify(value));
    const archives = layers.map((layer) => tar(...layer));
    const config = put(
      json({
        os: 'linux',
        architecture: 'amd64',
        config: {},
        rootfs: { type: 'layers', diff_ids: archives.map(digest) },
      }),
      'application/vnd.oci.image.config.v1+json',
    );
    const blobs = archives.map((archive) =>
      put(gzipSync(archive), 'application/vnd.oci.image.layer.v1.tar+gzip'),
    );
    const manifest = put(
      json({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        config,
        layers: blobs,
      }),
      'application/vnd.oci.image.manifest.v1+json',
    );
    writeFileSync(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }));
    writeFileSync(
      join(layout, 'index.json'),
      json({
        schemaVersion: 2,
        manifests: [{ ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'test' } }],
      }),
    );
    const bundle = join(newDirectory(), 'bundle');
    execFileSync('umoci', ['unpack', '--image', `${layout}:test`, bundle], { stdio: 'pipe' });
    return bundle;
  }
});
