/**
 * One layer → one tree: attributes, hostile entries, digests. What layers make of each other is in settle-layer.test.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { DiffID, Digest } from '../../../src/oci/digest.ts';
import {
  type BuiltEntry,
  base256,
  directory,
  file,
  hardLink,
  opaque,
  symlink,
  tar,
  whiteout,
} from '../archive/tar-builder.ts';
import { apply, digest, ID_BASE, listing, newDirectory, rejects, scratch } from './layer-fixture.ts';

async function tree(...entries: (BuiltEntry | Buffer)[]): Promise<string[]> {
  return listing((await apply(tar(...entries))).tree).slice(1);
}

function xattr(path: string, name: string): string {
  return execFileSync('getfattr', ['--only-values', '-h', '-n', name, path], { encoding: 'latin1' });
}

describe('attributes', () => {
  it('owner, mode, setuid, times, devices, fifos, links', async () => {
    const archive = tar(
      directory('.', 0o751, { uid: 3, gid: 4, mtime: 1000 }),
      directory('d', 0o1777, { uid: 1, gid: 2, pax: { mtime: '-5.25' } }),
      file('d/suid', 'x', { mode: 0o6755, uid: 65535, gid: 65535, pax: { mtime: '1.5' } }),
      symlink('s', '../../etc/passwd'),
      { name: 'null', type: '3', mode: 0o666, deviceMajor: 1, deviceMinor: 3, mtime: 7 },
      { name: 'disk', type: '4', mode: 0o600, deviceMajor: 8, deviceMinor: 0 },
      { name: 'pipe', type: '6', mode: 0o622, gid: 9 },
      hardLink('same', 'd/suid'),
      { name: Buffer.from([0x66, 0xff]), data: 'raw' },
    );
    const { tree, unsettled, entries, sizeBytes } = await apply(archive);
    assert.deepEqual(listing(tree, { attributes: true, times: true }), [
      '/ 751 3:4 @1000',
      'd/ 1777 1:2 @-5.25',
      'd/suid "x" 6755 65535:65535 @1.5',
      'disk b8:0 600 0:0 @0',
      'f\ufffd "raw" 644 0:0 @0',
      'null c1:3 666 0:0 @7',
      'pipe p 622 0:9 @0',
      's -> ../../etc/passwd 777 0:0 @0',
      'same "x" = d/suid 6755 65535:65535 @1.5',
    ]);
    assert.deepEqual([entries, sizeBytes], [9, 4]);
    assert.deepEqual(unsettled, {
      implied: [],
      undescribed: [],
      whiteouts: [],
      links: [],
      rootOpaque: false,
    });
  });
  it('names lose nothing', async () => {
    const { tree } = await apply(tar({ name: Buffer.from([0xff, 0xfe, 0x41]) }));
    assert.deepEqual(readdirSync(tree, { encoding: 'buffer' }), [Buffer.from([0xff, 0xfe, 0x41])]);
  });
  it('parents that no entry describes are 0755, owned by idBase, and reported', async () => {
    const { tree, unsettled } = await apply(tar(file('a/b/c'), directory('a/x'), file('a/x/y/z')));
    assert.deepEqual(listing(tree, { attributes: true, times: true }), [
      '/ 755 0:0 @0',
      'a/ 755 0:0 @0',
      'a/b/ 755 0:0 @0',
      'a/b/c "" 644 0:0 @0',
      'a/x/ 755 0:0 @0',
      'a/x/y/ 755 0:0 @0',
      'a/x/y/z "" 644 0:0 @0',
    ]);
    assert.deepEqual(unsettled.implied.toSorted(), ['', 'a', 'a/b', 'a/x/y']);
    assert.deepEqual((await apply(tar(file('a/b')), { bottom: true })).unsettled.implied, []);
  });
  it('xattrs: user and trusted as they are, labels of another host left out', async () => {
    const { tree } = await apply(
      tar(
        file('f', 'x', {
          pax: {
            'SCHILY.xattr.user.a': 'value',
            'SCHILY.xattr.trusted.b': 'root',
            'SCHILY.xattr.security.selinux': 'system_u:object_r:etc_t:s0',
            'SCHILY.xattr.system.nfs4_acl': 'x',
          },
        }),
        directory('d', 0o755, { pax: { 'SCHILY.xattr.user.dir': '1' } }),
        {
          name: 's',
          type: '2',
          linkName: 'f',
          pax: { 'SCHILY.xattr.trusted.link': '2', 'SCHILY.xattr.user.no': '' },
        },
      ),
    );
    const all = execFileSync('getfattr', ['-h', '-d', '-m', '-', '-R', '--absolute-names', tree], {
      encoding: 'latin1',
    });
    assert.deepEqual(
      all
        .split('\n')
        .filter((line) => line.includes('='))
        .toSorted(),
      ['trusted.b="root"', 'trusted.link="2"', 'user.a="value"', 'user.dir="1"'],
    );
  });
  it('file capabilities belong to the root of the container', async () => {
    const v2 = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const archive = tar(file('ping', 'x', { mode: 0o755, pax: { 'SCHILY.xattr.security.capability': v2 } }));
    const v3 = Buffer.from('010000030020000000000000000000000000000000000000', 'hex');
    v3.writeUInt32LE(ID_BASE, 20);
    const { tree } = await apply(archive);
    assert.equal(xattr(join(tree, 'ping'), 'security.capability'), v3.toString('latin1'));
    const plain = await apply(archive, { idBase: 0 });
    assert.equal(xattr(join(plain.tree, 'ping'), 'security.capability'), v2.toString('latin1'));
    await rejects(
      apply(tar(file('c', '', { pax: { 'SCHILY.xattr.security.capability': 'junk' } }))),
      'BAD_ARCHIVE',
      "entry 'c': file capabilities of an unknown version",
    );
  });
  it('ACLs are shifted like owners, and default ACLs are not inherited while unpacking', async () => {
    const acl = Buffer.from(
      `02000000${'01000700ffffffff'}${'02000700e8030000'}${'04000500ffffffff'}${'10000700ffffffff'}${'20000500ffffffff'}`,
      'hex',
    );
    const { tree } = await apply(
      tar(
        directory('d', 0o775, { pax: { 'SCHILY.xattr.system.posix_acl_default': acl } }),
        file('d/f', 'x', { mode: 0o640 }),
        file('g', '', { mode: 0o674, pax: { 'SCHILY.xattr.system.posix_acl_access': acl } }),
      ),
    );
    const shifted = Buffer.from(acl);
    shifted.writeUInt32LE(ID_BASE + 1000, 16);
    assert.equal(xattr(join(tree, 'd'), 'system.posix_acl_default'), shifted.toString('latin1'));
    assert.equal(xattr(join(tree, 'g'), 'system.posix_acl_access'), shifted.toString('latin1'));
    assert.equal(statSync(join(tree, 'd/f')).mode & 0o777, 0o640);
    assert.throws(() =>
      execFileSync('getfattr', ['-n', 'system.posix_acl_access', join(tree, 'd/f')], { stdio: 'pipe' }),
    );
    acl.writeUInt32LE(70000, 16);
    await rejects(
      apply(tar(file('g', '', { pax: { 'SCHILY.xattr.system.posix_acl_access': acl } }))),
      'BAD_ARCHIVE',
      "entry 'g': an ACL with id 70000, not in the range 0 to 65535",
    );
  });
  it('sparse files keep their holes', async () => {
    const archive = tar({
      name: 's',
      data: 'end',
      pax: { 'GNU.sparse.size': '1073741824', 'GNU.sparse.map': '1073741821,3' },
    });
    const { tree, sizeBytes } = await apply(archive);
    const { size, blocks } = statSync(join(tree, 's'));
    assert.deepEqual([size, sizeBytes, blocks < 64], [1073741824, 3, true]);
  });
  it('a sparse file of a petabyte is an error that names it, or a hole', async () => {
    const archive = tar({ name: 's', pax: { 'GNU.sparse.size': String(2 ** 50), 'GNU.sparse.map': '' } });
    await rejects(apply(archive), 'IO_ERROR', "truncate 's': EFBIG: file too large");
  });
  it('the same whatever the process umask', async () => {
    const old = process.umask(0o077);
    try {
      assert.deepEqual(listing((await apply(tar(file('a/f'), whiteout('a/w')))).tree, { attributes: true }), [
        '/ 755 0:0',
        'a/ 755 0:0',
        'a/f "" 644 0:0',
        'a/w c0:0 0 0:0',
      ]);
    } finally {
      process.umask(old);
    }
  });
});

describe('the last entry of a name wins', () => {
  const cases: [string, BuiltEntry[], string[]][] = [
    ['file over file', [file('f', '1'), file('f', '2')], ['f "2"']],
    ['file over directory', [file('d/a/b'), file('d', 'x')], ['d "x"']],
    ['symlink over directory', [file('d/a/b'), symlink('d', 'e')], ['d -> e']],
    [
      'directory over file',
      [file('d', 'x'), file('e'), directory('d'), file('d/f')],
      ['d/', 'd/f ""', 'e ""'],
    ],
    ['directory over directory', [directory('d'), file('d/f'), directory('d')], ['d/', 'd/f ""']],
    [
      'directory over symlink',
      [directory('e'), symlink('d', 'e'), directory('d'), file('d/f')],
      ['d/', 'd/f ""', 'e/'],
    ],
    ['file over symlink', [file('t', 'keep'), symlink('s', 't'), file('s', 'new')], ['s "new"', 't "keep"']],
    ['link over directory', [file('t', '1'), file('d/x'), hardLink('d', 't')], ['d "1"', 't "1" = d']],
    ['link over the directory of its target', [file('d/x', '1'), hardLink('d', 'd/x')], ['d "1"']],
    ['link over itself', [file('f', '1'), hardLink('f', 'f')], ['f "1"']],
    [
      'link to a file that is replaced later',
      [file('a', '1'), hardLink('b', 'a'), file('a', '2')],
      ['a "2"', 'b "1"'],
    ],
    [
      'a waiting link that is replaced',
      [hardLink('b', 'a'), file('b', '2'), file('a', '1')],
      ['a "1"', 'b "2"'],
    ],
    [
      'a waiting link whose directory goes away',
      [hardLink('d/b', 'a'), file('d', '2'), file('a', '1')],
      ['a "1"', 'd "2"'],
    ],
    [
      'link to a symlink',
      [symlink('s', 'nowhere'), hardLink('h', 's')],
      ['h -> nowhere', 's -> nowhere = h'],
    ],
  ];
  for (const [what, entries, expected] of cases)
    it(what, async () => assert.deepEqual(await tree(...entries), expected));
  it('link to what comes later: made where nothing is below, else left to settleLayer()', async () => {
    const archive = tar(hardLink('d/c', 'b'), hardLink('b', 'a'), file('a', '1'));
    const { tree: bottom } = await apply(archive, { bottom: true });
    assert.deepEqual(listing(bottom).slice(1), ['a "1"', 'b "1" = a', 'd/', 'd/c "1" = a']);
    const { unsettled } = await apply(archive);
    assert.deepEqual(unsettled.links, [
      { path: 'd/c', target: 'b', late: false },
      { path: 'b', target: 'a', late: true },
    ]);
  });

  it('directory over directory: attributes and xattrs of the last', async () => {
    const { tree } = await apply(
      tar(
        directory('d', 0o700, { uid: 1, mtime: 5, pax: { 'SCHILY.xattr.user.old': '1' } }),
        file('d/f'),
        directory('d', 0o711, { uid: 2, mtime: 6, pax: { 'SCHILY.xattr.user.new': '1' } }),
      ),
    );
    assert.deepEqual(listing(tree, { attributes: true, times: true })[1], 'd/ 711 2:0 @6');
    assert.equal(xattr(join(tree, 'd'), 'user.new'), '1');
    assert.throws(() => execFileSync('getfattr', ['-n', 'user.old', join(tree, 'd')], { stdio: 'pipe' }));
  });
});

describe('names and links stay inside', () => {
  const outside = newDirectory();
  writeFileSync(join(outside, 'victim'), 'untouched');
  const up = '../'.repeat(12);

  const cases: [string, BuiltEntry[], string[]][] = [
    [
      'absolute names are taken from the root',
      [file('/etc/x', '1'), file('//y', '2')],
      ['etc/', 'etc/x "1"', 'y "2"'],
    ],
    ['dots and slashes mean nothing', [file('./a//./b', '1')], ['a/', 'a/b "1"']],
    [
      'through an absolute link',
      [symlink('s', outside), file('s/victim', 'in')],
      ['s -> *', 'var/', 'var/tmp/', '*/', '*/*/', '*/*/victim "in"'],
    ],
    [
      'through a link with ..',
      [symlink('s', `${up}etc`), file('s/f', 'in')],
      ['etc/', 'etc/f "in"', `s -> ${up}etc`],
    ],
    [
      'through links to links',
      [directory('real'), symlink('a', 'b'), symlink('b', './c/'), symlink('c', '/real'), file('a/f', 'in')],
      ['a -> b', 'b -> ./c/', 'c -> /real', 'real/', 'real/f "in"'],
    ],
    [
      'a link swapped after its directory was used',
      [file('d/a'), symlink('d', outside.slice(1)), file('e'), symlink('d', 'e2'), file('d/victim', 'in')],
      ['d -> e2', 'e ""', 'e2/', 'e2/victim "in"'],
    ],
    [
      '.. in a target over what does not exist',
      [symlink('s', 'no/../yes'), file('s/f', '1')],
      ['s -> no/../yes', 'yes/', 'yes/f "1"'],
    ],
    ['a hard link to an absolute name', [file('f', 'in'), hardLink('l', '/f')], ['f "in"', 'l "in" = f']],
    [
      'a hard link through a symlink',
      [file('d/f', 'in'), symlink('s', `${up}/d`), hardLink('l', 's/f')],
      ['d/', 'd/f "in"', 'l "in" = d/f', `s -> ${up}/d`],
    ],
    [
      'a hard link to a symlink does not follow it',
      [symlink('s', '/etc/passwd'), hardLink('l', 's')],
      ['l -> /etc/passwd', 's -> /etc/passwd = l'],
    ],
    [
      'writing through a symlink as the last name replaces it',
      [symlink('s', `${outside}/victim`), file('s', 'in')],
      ['s "in"'],
    ],
    [
      'writing through a hard link of a symlink replaces it',
      [symlink('s', `${outside}/victim`), hardLink('h', 's'), file('h', 'in')],
      ['h "in"', 's -> *'],
    ],
  ];
  for (const [what, entries, expected] of cases)
    it(what, async () => {
      const names = outside.split('/').slice(3);
      const shown = (await tree(...entries)).map((line) =>
        line
          .replace(` -> ${outside}/victim`, ' -> *')
          .replace(` -> ${outside}`, ' -> *')
          .replace(`var/tmp/${names[0]}/${names[1]}/`, '*/*/')
          .replace(`var/tmp/${names[0]}/`, '*/'),
      );
      assert.deepEqual(shown, expected);
      assert.deepEqual(readdirSync(outside), ['victim']);
      assert.equal(readFileSync(join(outside, 'victim'), 'utf8'), 'untouched');
    });

  const refusals: [string, BuiltEntry[], string][] = [
    ['.. first', [file('../x')], "entry '../x': '..' in its path"],
    ['.. inside', [file('a/../b')], "entry 'a/../b': '..' in its path"],
    ['.. last', [directory('a/..')], "entry 'a/../': '..' in its path"],
    ['.. in a hard link', [file('x'), hardLink('l', '../x')], "entry 'l': '..' in its path"],
    ['root as a file', [file('./')], "entry './': the root of a layer cannot be a file"],
    ['root as a symlink', [symlink('.', '/')], "entry '.': the root of a layer cannot be a symlink"],
    ['root as a hard link', [hardLink('/', 'x')], "entry '/': the root of a layer cannot be a hardLink"],
    ['hard link to the root', [hardLink('l', '/')], "entry 'l': a hard link to a directory"],
    [
      'hard link to a directory',
      [directory('d'), hardLink('l', 'd')],
      "entry 'l': a hard link to 'd', a directory",
    ],
    ['below a file', [file('f'), file('f/x')], "entry 'f/x': 'f' on its path is not a directory"],
    [
      'link loop',
      [symlink('a', 'b'), symlink('b', 'a'), file('a/x')],
      "entry 'a/x': its path has too many levels of symlinks",
    ],
    [
      'link to itself',
      [symlink('a', 'a'), file('a/x')],
      "entry 'a/x': its path has too many levels of symlinks",
    ],
    [
      'name of 256 bytes',
      [file('x', '', { pax: { path: 'n'.repeat(256) } })],
      `entry '${'n'.repeat(256)}': a name of 256 bytes, more than 255, in its path`,
    ],
    ['empty symlink', [symlink('s', '')], "entry 's': a symlink without a target"],
    [
      'char 0:0',
      [{ name: 'w', type: '3', deviceMajor: 0, deviceMinor: 0 }],
      "entry 'w': a character device 0:0, which is a whiteout to overlayfs",
    ],
    [
      'user.overlay',
      [file('f', '', { pax: { 'SCHILY.xattr.user.overlay.opaque': 'y' } })],
      "entry 'f': xattr 'user.overlay.opaque', which belongs to overlayfs",
    ],
    [
      'trusted.overlay',
      [directory('d', 0o755, { pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/x' } })],
      "entry 'd/': xattr 'trusted.overlay.redirect', which belongs to overlayfs",
    ],
    [
      'trusted.overlay by libarchive',
      [file('f', '', { pax: { 'LIBARCHIVE.xattr.trusted%2eoverlay.metacopy': '' } })],
      "entry 'f': xattr 'trusted.overlay.metacopy', which belongs to overlayfs",
    ],
    [
      'id 2^32',
      [file('setuid', '', { uid: base256(2n ** 32n, 8), mode: 0o4755 })],
      "entry 'setuid': uid 4294967296 is not in the range 0 to 65535",
    ],
    ['.wh. without a name', [file('.wh.')], "entry '.wh.': a whiteout without a name"],
    ['whiteout of ..', [file('d/.wh...')], "entry 'd/.wh...': a whiteout without a name"],
    ['below a whiteout', [file('.wh.d/x')], "entry '.wh.d/x': lies below the whiteout '.wh.d'"],
  ];
  for (const [what, entries, message] of refusals)
    it(`refused: ${what}`, () => rejects(apply(tar(...entries)), 'BAD_ARCHIVE', message));

  it('a path that symlinks make longer than PATH_MAX is refused', async () => {
    const deep = Array.from({ length: 15 }, () => 'd'.repeat(255)).join('/');
    await rejects(
      apply(
        tar(
          directory('x', 0o755, { pax: { path: `${deep}/` } }),
          symlink('s', `${deep.slice(0, 90)}`),
          { name: 's', type: '2', pax: { linkpath: deep } },
          file('f', '', { pax: { path: `s/${deep}/f` } }),
        ),
      ),
      'BAD_ARCHIVE',
      /: leads to a path of more than 4095 bytes$/,
    );
  });
  it('deep paths and many directories need few descriptors', async () => {
    const deep = Array.from({ length: 1000 }, (_, i) => String(i % 10)).join('/');
    const entries = Array.from({ length: 300 }, (_, i) => file(`many/${i}/f`, String(i)));
    const open = readdirSync('/proc/self/fd').length;
    const { tree } = await apply(
      tar(
        file('x', 'deep', { pax: { path: `${deep}/f` } }),
        ...entries,
        file('x', 'again', { pax: { path: `${deep}/f` } }),
      ),
    );
    assert.equal(readFileSync(join(tree, deep, 'f'), 'utf8'), 'again');
    assert.equal(readdirSync(join(tree, 'many')).length, 300);
    assert.equal(readdirSync('/proc/self/fd').length, open);
  });
});

describe('whiteouts in one layer', () => {
  const cases: [string, BuiltEntry[], string[], string[]][] = [
    ['a whiteout', [whiteout('d/x')], ['d/', 'd/x c0:0'], ['d/x']],
    ['before its sibling of the same name', [whiteout('f'), file('f', '1')], ['f "1"'], []],
    ['after its sibling of the same name', [file('f', '1'), whiteout('f')], ['f "1"'], []],
    ['before a directory', [whiteout('d'), directory('d'), file('d/f')], ['d/ opaque', 'd/f ""'], []],
    ['after a directory', [directory('d'), file('d/f'), whiteout('d')], ['d/ opaque', 'd/f ""'], []],
    ['before an implied directory', [whiteout('d'), file('d/f')], ['d/ opaque', 'd/f ""'], []],
    ['after an implied directory', [file('d/f'), whiteout('d')], ['d/ opaque', 'd/f ""'], []],
    ['twice', [whiteout('f'), whiteout('f')], ['f c0:0'], ['f']],
    ['a link in its place', [file('a'), whiteout('f'), hardLink('f', 'a')], ['a ""', 'f "" = a'], []],
    ['opaque before', [opaque('d'), file('d/f')], ['d/ opaque', 'd/f ""'], []],
    ['opaque after', [file('d/f'), directory('d/e'), opaque('d')], ['d/ opaque', 'd/e/', 'd/f ""'], []],
    ['opaque without anything', [opaque('d')], ['d/ opaque'], []],
    [
      'whiteouts in an opaque directory hide nothing',
      [whiteout('d/x'), opaque('d'), whiteout('d/e/y')],
      ['d/ opaque'],
      [],
    ],
    ['a directory over a file hides what is below', [file('d'), directory('d')], ['d/ opaque'], []],
    [
      'names of aufs are left out',
      [file('.wh..wh.aufs'), directory('.wh..wh.plnk'), file('.wh..wh.plnk/1.2', 'x'), file('f')],
      ['f ""'],
      [],
    ],
    [
      'the content of a whiteout is ignored',
      [file('.wh.f', 'content'), file('g', '1')],
      ['f c0:0', 'g "1"'],
      ['f'],
    ],
    [
      'through a link',
      [directory('r'), symlink('s', 'r'), whiteout('s/x')],
      ['r/', 'r/x c0:0', 's -> r'],
      ['r/x'],
    ],
  ];
  for (const [what, entries, expected, whiteouts] of cases)
    it(what, async () => {
      const { tree, unsettled } = await apply(tar(...entries));
      const marks = execFileSync(
        'getfattr',
        ['-R', '-h', '-d', '-m', '^user.overlay', '--absolute-names', tree],
        {
          encoding: 'utf8',
        },
      );
      const opaques = [...marks.matchAll(/# file: (.*)\nuser\.overlay\.opaque="y"\n/g)].map(
        ([, path]) => `${path!.slice(tree.length + 1)}/`,
      );
      const shown = listing(tree)
        .slice(1)
        .map((line) => (opaques.includes(line) ? `${line} opaque` : line));
      assert.deepEqual([shown, unsettled.whiteouts], [expected, whiteouts]);
    });
  it('in the bottom layer nothing is stored', async () => {
    const { tree, unsettled } = await apply(
      tar(whiteout('a/x'), opaque('b'), whiteout('d'), directory('d'), file('e'), directory('e'), file('f')),
      { bottom: true },
    );
    assert.deepEqual(listing(tree).slice(1), ['d/', 'e/', 'f ""']);
    assert.deepEqual(unsettled, {
      implied: [],
      undescribed: [],
      whiteouts: [],
      links: [],
      rootOpaque: false,
    });
    assert.equal(execFileSync('getfattr', ['-R', '-d', tree], { encoding: 'utf8' }), '');
  });
  it('an opaque root is reported', async () => {
    const { unsettled } = await apply(tar(file('f'), opaque('')));
    assert.equal(unsettled.rootOpaque, true);
  });
  it('in the bottom layer a hard link to nothing is refused', () =>
    rejects(
      apply(tar(hardLink('l', 'no')), { bottom: true }),
      'BAD_ARCHIVE',
      "entry 'l': a hard link to 'no', which is no file of the image",
    ));
});

describe('digests and sizes', () => {
  const archive = tar(file('f', 'x'.repeat(5000)), file('g', 'y'));
  const other = `sha256:${'0'.repeat(64)}` as Digest as DiffID;

  for (const compression of ['none', 'gzip', 'zstd'] as const)
    for (const pieceBytes of [1, 1000, 1 << 20])
      it(`${compression} in pieces of ${pieceBytes}`, async () => {
        const { tree, entries, sizeBytes } = await apply(archive, { compression, pieceBytes });
        assert.deepEqual([entries, sizeBytes, readdirSync(tree)], [2, 5001, ['f', 'g']]);
      });
  it('sha512', async () => {
    const { createHash } = await import('node:crypto');
    const sha512 = `sha512:${createHash('sha512').update(archive).digest('hex')}` as Digest as DiffID;
    assert.equal((await apply(archive, { descriptor: { digest: sha512 }, diffID: sha512 })).entries, 2);
  });
  it('wrong blob digest', () =>
    rejects(
      apply(archive, { descriptor: { digest: other } }),
      'DIGEST_MISMATCH',
      `got ${digest(archive)}, expected ${other}`,
    ));
  it('wrong diffID', () =>
    rejects(
      apply(archive, { compression: 'gzip', diffID: other }),
      'DIGEST_MISMATCH',
      `diffID: got ${digest(archive)}, expected ${other}`,
    ));
  it('too long: not read to its end', async () => {
    let yielded = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      for (; yielded < 1000; yielded++) yield Buffer.alloc(1000);
    }
    const { applyLayer } = await import('../../../src/store/apply-layer.ts');
    const mediaType = 'application/vnd.oci.image.layer.v1.tar';
    await rejects(
      applyLayer(endless(), {
        descriptor: { mediaType, digest: other, size: 2500 },
        diffID: other,
        treeDir: newDirectory(),
        idBase: 0,
        bottom: true,
      }),
      'SIZE_MISMATCH',
      'got more than 2500 bytes, expected 2500',
    );
    assert.equal(yielded, 2);
  });
  it('too short', () =>
    rejects(
      apply(archive, { blob: archive.subarray(0, 3000), descriptor: { size: archive.length } }),
      'SIZE_MISMATCH',
      `got 3000 bytes, expected ${archive.length}`,
    ));
  it('damaged on the way: the digest is what is reported, not the broken archive', async () => {
    const blob = gzipSync(archive);
    const damaged = Buffer.from(blob);
    damaged[30]! ^= 0xff;
    await rejects(
      apply(archive, { compression: 'gzip', blob: damaged, descriptor: { digest: digest(blob) } }),
      'DIGEST_MISMATCH',
      `got ${digest(damaged)}, expected ${digest(blob)}`,
    );
  });
  it('an archive that is bad at its source', () =>
    rejects(
      apply(Buffer.from('no tar at all'.padEnd(600)), { compression: 'gzip' }),
      'BAD_ARCHIVE',
      /wrong checksum/,
    ));
  it('another compression than the media type says', () =>
    rejects(
      apply(archive, { compression: 'gzip', blob: archive }),
      'BAD_ARCHIVE',
      'the layer is said to be gzip, but is something else',
    ));
  it('a media type that is not that of a layer', () =>
    rejects(
      apply(archive, { descriptor: { mediaType: 'text/plain' } }),
      'UNSUPPORTED',
      "media type 'text/plain' is not that of a layer",
    ));
  it('junk after the end counts for the digest', async () => {
    const { entries } = await apply(Buffer.concat([archive, Buffer.from('junk')]), { compression: 'gzip' });
    assert.equal(entries, 2);
  });
  it('what the blob throws comes through', () =>
    assert.rejects(
      async () => {
        const { applyLayer } = await import('../../../src/store/apply-layer.ts');
        // biome-ignore lint/correctness/useYield: it fails at once
        const blob = (async function* (): AsyncGenerator<Buffer> {
          throw new Error('connection lost');
        })();
        await applyLayer(blob, {
          descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: other, size: 1 },
          diffID: other,
          treeDir: newDirectory(),
          idBase: 0,
          bottom: true,
        });
      },
      { message: 'connection lost' },
    ));
});

describe('removeTree', () => {
  it('removes anything, and nothing else', async () => {
    const { removeTree } = await import('../../../src/store/remove-tree.ts');
    const outside = newDirectory();
    writeFileSync(join(outside, 'keep'), '');
    const top = newDirectory();
    execFileSync('python3', [
      '-c',
      `import os,sys
os.chdir(sys.argv[1])
for i in range(3): os.mkdir('.removing-%d'%i); open('.removing-%d/f'%i,'w')
os.symlink(sys.argv[2],'.removing-9'); os.symlink(sys.argv[2],b'l\\xff'); os.mkfifo('p')
for i in range(3000):
  open('f','w').close(); os.mkdir('d'*200); os.mkdir('e'); os.symlink(sys.argv[2],'s'); os.chdir('d'*200)`,
      top,
      outside,
    ]);
    removeTree(top);
    assert.equal(existsSync(top), false);
    assert.deepEqual(readdirSync(outside), ['keep']);
    removeTree(top);
    const link = join(scratch, 'link-to-outside');
    execFileSync('ln', ['-s', outside, link]);
    assert.throws(() => removeTree(link), { code: 'ENOTDIR' });
    assert.equal(lstatSync(link).isSymbolicLink(), true);
  });
  it('refuses to enter what is mounted inside', async () => {
    const { removeTree } = await import('../../../src/store/remove-tree.ts');
    const top = newDirectory();
    mkdirSync(join(top, 'm'));
    const outside = newDirectory();
    writeFileSync(join(outside, 'keep'), '');
    execFileSync('mount', ['--bind', outside, join(top, 'm')]);
    try {
      assert.throws(() => removeTree(top), { code: 'EBUSY' });
      assert.deepEqual(readdirSync(outside), ['keep']);
    } finally {
      execFileSync('umount', [join(top, 'm')]);
    }
    removeTree(top);
    assert.equal(existsSync(top), false);
  });
});
