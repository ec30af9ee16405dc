/** Odd cases of several classes that the other files do not have. */
import assert from 'node:assert/strict';
import {
  directory,
  file,
  gnuLong,
  hardLink,
  opaque,
  padded,
  paxHeader,
  symlink,
  tar,
  tarHeader,
  whiteout,
} from '../unit/archive/tar-builder.ts';
import { badArchive, badImage, type Case, hostile, layered, refused } from './harness.ts';
import { ARCHITECTURE, OCI } from './image.ts';

const pax = (key: string, value: string, name = 'f') => [file(name, 'x', { pax: { [key]: value } })];

hostile('PAX numbers', [
  ...['+5', ' 5', '5 ', '1e3', '0x10', '1_000', '٣', '--1', '1'.repeat(41)].map(
    (value): Case => [
      `uid '${value.slice(0, 9)}'`,
      pax('uid', value),
      badArchive("entry 'f': uid is not a number"),
    ],
  ),
  ['uid with leading zeros is decimal', pax('uid', '0000000777'), ['f "x" 777:0']],
  ['uid -0', pax('uid', '-0'), ['f "x"']],
  ['gid of 40 digits', pax('gid', '9'.repeat(40)), badArchive(/^entry 'f': gid 1e\+40 is not in the range/)],
  ...['abc', '.5', '1.5.5', '1e5', '-', '1,5', '0x1', ' 1', '1'.repeat(17)].map(
    (value): Case => [
      `mtime '${value.slice(0, 9)}'`,
      pax('mtime', value),
      badArchive("entry 'f': mtime is not a time"),
    ],
  ),
  ['mtime with a point and nothing behind', pax('mtime', '5.'), ['f "x" @5']],
  ['mtime of a million digits', pax('mtime', `5.${'1'.repeat(1_000_000)}`), ['f "x" @5.111111111']],
  [
    'atime and ctime of junk are not asked for',
    [file('f', 'x', { pax: { atime: 'abc', ctime: '-' } })],
    ['f "x"'],
  ],
  [
    'records of star, RedHat and Solaris that we do not need',
    [
      file('f', 'x', {
        pax: {
          'SCHILY.dev': 'x',
          'SCHILY.ino': '-1',
          'SCHILY.nlink': '9',
          'SCHILY.filetype': 'directory',
          'SCHILY.acl.access': 'user::rwx',
          'SCHILY.fflags': 'sappnd',
          'RHT.security.selinux': 'label',
          'SUN.holesdata': '0 1',
          'LIBARCHIVE.creationtime': 'x',
          'LIBARCHIVE.symlinktype': 'dir',
          charset: 'x',
          comment: 'x',
          'realtime.any': 'x',
        },
      }),
    ],
    ['f "x"'],
  ],
]);

hostile('PAX xattr keys', [
  [
    'LIBARCHIVE with broken percent signs',
    pax('LIBARCHIVE.xattr.user.a%zz%', 'Mg=='),
    ['f "x" user.a%zz%="2"'],
  ],
  [
    'LIBARCHIVE with a coded NUL',
    pax('LIBARCHIVE.xattr.user.a%00b', 'Mg=='),
    badArchive("entry 'f': xattr name that is not valid"),
  ],
  [
    "LIBARCHIVE with the name of overlayfs' in full coding",
    pax('LIBARCHIVE.xattr.%74rusted%2Eoverlay%2Eopaque', 'eQ=='),
    badArchive("entry 'f': xattr 'trusted.overlay.opaque', which belongs to overlayfs"),
  ],
  [
    "a name that only begins like overlayfs'",
    pax('SCHILY.xattr.user.overlays', 'y'),
    ['f "x" user.overlays="y"'],
  ],
  [
    'the name user.overlay. with an escape of overlayfs',
    pax('SCHILY.xattr.user.overlay.overlay.opaque', 'y'),
    badArchive("entry 'f': xattr 'user.overlay.overlay.opaque', which belongs to overlayfs"),
  ],
  ['in upper case: of no namespace', pax('SCHILY.xattr.USER.a', 'y'), ['f "x"']],
  ['schily in lower case is no xattr', pax('schily.xattr.user.a', 'y'), ['f "x"']],
  [
    'an xattr of overlayfs on a whiteout, a link and an opaque mark is never set',
    layered(
      [file('a', 'x'), file('d/x'), directory('e')],
      [
        { ...whiteout('a'), pax: { 'SCHILY.xattr.user.overlay.metacopy': '' } },
        { ...opaque('d'), pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/etc' } },
      ],
    ),
    ['d/', 'e/'],
  ],
  [
    'an xattr of overlayfs on a hard link',
    [file('a', 'x'), { ...hardLink('b', 'a'), pax: { 'SCHILY.xattr.user.overlay.opaque': 'y' } }],
    ['a "x"', 'b "x" = a'],
  ],
  [
    'an xattr of overlayfs on a symlink',
    [{ ...symlink('l', 't'), pax: { 'SCHILY.xattr.trusted.overlay.redirect': 'y' } }],
    badArchive("entry 'l': xattr 'trusted.overlay.redirect', which belongs to overlayfs"),
  ],
  [
    'an xattr of overlayfs on the root',
    [{ ...directory('./'), pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } }],
    badArchive(/xattr 'trusted\.overlay\.opaque', which belongs to overlayfs/),
  ],
  [
    'capabilities on a directory',
    [
      directory('d', 0o755, {
        pax: {
          'SCHILY.xattr.security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
        },
      }),
    ],
    (seen) => assert.ok(seen.tree),
  ],
]);

// GNU.sparse.*
const NO_EXTENTS = padded(Buffer.from('0\n')).toString();
hostile('sparse records', [
  [
    'a name that climbs',
    [
      file('f', NO_EXTENTS, {
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': '../f',
          'GNU.sparse.realsize': '1',
        },
      }),
    ],
    badArchive(/^entry '\.\.\/f': '\.\.' in its path/),
  ],
  [
    'a name with a NUL',
    [
      file('f', NO_EXTENTS, {
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': 'a\0b',
          'GNU.sparse.realsize': '1',
        },
      }),
    ],
    badArchive(/NUL in its name/),
  ],
  [
    'a negative real size',
    [
      file('f', NO_EXTENTS, {
        pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '-1' },
      }),
    ],
    badArchive(/^entry 'f': /),
  ],
  [
    'a real size of 2^63',
    [
      file('f', NO_EXTENTS, {
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.realsize': '9223372036854775808',
        },
      }),
    ],
    badArchive("entry 'f': sparse map that is not made of numbers"),
  ],
  [
    'on a directory and a symlink: no file, no holes',
    [
      directory('d', 0o755, { pax: { 'GNU.sparse.map': '0,1', 'GNU.sparse.size': '1' } }),
      { ...symlink('l', 't'), pax: { 'GNU.sparse.map': '0,1', 'GNU.sparse.size': '1' } },
    ],
    ['d/', 'l -> t'],
  ],
  [
    'an extent that ends beyond 2^53',
    [
      file('f', 'x', {
        pax: { 'GNU.sparse.map': '9007199254740991,9007199254740991', 'GNU.sparse.size': '9007199254740991' },
      }),
    ],
    badArchive(/^entry 'f': /),
  ],
  [
    'a map of a single number',
    [file('f', 'x', { pax: { 'GNU.sparse.map': '0', 'GNU.sparse.size': '1' } })],
    badArchive(/^entry 'f': /),
  ],
]);

hostile('entry types', [
  ...['D', 'M', 'N', 'E', 'A', 'I', '8', '9', 'Z', ' ', '\x1b', '\xff'].map(
    (type): Case => [
      `type ${JSON.stringify(type)}`,
      [{ name: 'f', type, data: 'x' }],
      badArchive(/^entry 'f': entry type '.*' is not supported/),
    ],
  ),
  [
    'a v7 file whose name ends with a slash is a directory',
    [{ name: 'd/', type: '\0', magic: 'v7', mode: 0o755 }],
    ['d/'],
  ],
  ['names of slashes alone', [directory('//', 0o711), directory('.//./', 0o700)], ['/ 700']],
  [
    'a long name, then a PAX header, then a long link, then the entry',
    [
      gnuLong('L', 'long'),
      paxHeader({ mtime: '7' }),
      gnuLong('K', 't'),
      { name: 's', type: '2', linkName: 'u' },
    ],
    ['long -> t @7'],
  ],
  ['a long link on a file means nothing', [gnuLong('K', '../../x'), file('f', 'x')], ['f "x"']],
  ['a long name that is empty: that of the header', [gnuLong('L', ''), file('f', 'x')], ['f "x"']],
  ['a long name that climbs', [gnuLong('L', 'a/../../f'), file('f', 'x')], badArchive(/'\.\.' in its path/)],
  [
    'a PAX header for a PAX header',
    [paxHeader({ path: 'g' }), paxHeader({ mtime: '7' }), file('f', 'x')],
    // Two headers in a row: what the first says is gone (as in the reference reader).
    ['f "x" @7'],
  ],
  ['a long link with an empty target', [gnuLong('K', ''), symlink('l', 't')], ['l -> t']],
  [
    'the data of an extended header looks like an entry',
    [
      paxHeader({ comment: tarHeader(file('evil', '')).toString('latin1').replaceAll('\0', ' ') }),
      file('f', 'x'),
    ],
    ['f "x"'],
  ],
  [
    'an archive of an archive is a file',
    [{ name: 'in.tar', data: padded(tar(file('evil'))) }],
    (seen) => assert.ok(seen.tree),
  ],
]);

hostile('modes', [
  [
    'setuid, setgid and sticky on directories and files',
    [
      directory('a', 0o4755),
      directory('b', 0o2711),
      directory('c', 0o7777),
      file('d', 'x', { mode: 0o1644 }),
      file('e', 'x', { mode: 0o7000 }),
    ],
    ['a/ 4755', 'b/ 2711', 'c/ 7777', 'd "x" 1644', 'e "x" 7000'],
  ],
  [
    'nothing is inherited from a setgid directory',
    [
      directory('d', 0o2755, { gid: 5 }),
      directory('d/s'),
      file('d/f', 'x'),
      symlink('d/l', 't'),
      { name: 'd/p', type: '6' },
      file('d/i/f', 'y'),
    ],
    ['d/ 2755 0:5', 'd/f "x"', 'd/i/', 'd/i/f "y"', 'd/l -> t', 'd/p p', 'd/s/'],
  ],
  [
    'nothing is inherited from a setgid directory of a lower layer, behind a symlink',
    layered(
      [directory('d', 0o2755, { gid: 5 }), symlink('l', 'd/new'), file('o', 'x')],
      [file('l/f', 'y'), hardLink('d/h', 'o')],
    ),
    ['d/ 2755 0:5', 'd/h "x"', 'd/new/', 'd/new/f "y"', 'l -> d/new', 'o "x" = d/h'],
  ],
  [
    'a directory without permissions, and what is in it',
    [directory('d', 0), file('d/f', 'x'), directory('d/e', 0), file('d/e/g', 'y')],
    ['d/ 0', 'd/e/ 0', 'd/e/g "y"', 'd/f "x"'],
  ],
  [
    'a directory without permissions, and a layer above it',
    layered([directory('d', 0), file('d/f', 'x')], [file('d/g', 'y'), whiteout('d/f')]),
    ['d/ 0', 'd/g "y"'],
  ],
]);

const DEFAULT_ACL = (() => {
  const value = Buffer.alloc(4 + 8 * 5);
  value.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id]] of (
    [
      [1, 7, -1],
      [2, 7, 1],
      [4, 5, -1],
      [16, 7, -1],
      [32, 5, -1],
    ] as const
  ).entries()) {
    value.writeUInt16LE(tag, 4 + 8 * i);
    value.writeUInt16LE(permissions, 6 + 8 * i);
    value.writeInt32LE(id, 8 + 8 * i);
  }
  return value;
})();
const withAcl = directory('d', 0o755, { pax: { 'SCHILY.xattr.system.posix_acl_default': DEFAULT_ACL } });
const D = `d/ system.posix_acl_default=0x${DEFAULT_ACL.toString('hex')}`;
hostile('a default ACL of a lower layer is for what the container makes', [
  ['files beside', layered([withAcl], [file('d/f', 'x'), directory('d/s')]), [D, 'd/f "x"', 'd/s/']],
  [
    'a directory that a symlink leads to',
    layered([withAcl, symlink('l', 'd/new')], [file('l/f', 'x')]),
    [D, 'd/new/', 'd/new/f "x"', 'l -> d/new'],
  ],
  [
    'hard links to files below',
    layered(
      [withAcl, file('o', 'x'), symlink('s', 't'), { name: 'p', type: '6' }],
      [hardLink('d/o', 'o'), hardLink('d/s', 's'), hardLink('d/p', 'p')],
    ),
    [D, 'd/o "x"', 'd/p p', 'd/s -> t', 'o "x" = d/o', 'p p = d/p', 's -> t = d/s'],
  ],
  [
    'of the root',
    layered(
      [
        directory('./', 0o755, { pax: { 'SCHILY.xattr.system.posix_acl_default': DEFAULT_ACL } }),
        file('o', 'x'),
        symlink('l', 'new'),
      ],
      [hardLink('h', 'o'), file('l/f', 'y')],
    ),
    [
      `/ system.posix_acl_default=0x${DEFAULT_ACL.toString('hex')}`,
      'h "x"',
      'l -> new',
      'new/',
      'new/f "y"',
      'o "x" = h',
    ],
  ],
]);

hostile('layers', [
  [
    'a path of 2047 directories, whited out above',
    layered([file('short', 'x', { pax: { path: `${'d/'.repeat(2040)}f` } })], [whiteout('d')]),
    [],
  ],
  [
    'a path of 2040 directories, a file added and one removed at its end',
    layered(
      [file('s', 'x', { pax: { path: `${'d/'.repeat(1990)}f` } })],
      [
        file('s', 'y', { pax: { path: `${'d/'.repeat(1990)}g` } }),
        file('s', '', { pax: { path: `${'d/'.repeat(1990)}.wh.f` } }),
      ],
    ),
    (seen) => assert.ok(seen.tree),
  ],
  [
    'a file below a whiteout of a later entry',
    layered([file('a/b', '1')], [file('a/b/c', 'x'), whiteout('a/b')]),
    ['a/', 'a/b/', 'a/b/c "x"'],
  ],
  [
    'opaque above opaque, implied between',
    layered([file('d/a', '1')], [opaque('d'), file('d/b', '2')], [file('d/c', '3')], [opaque('d')]),
    ['d/'],
  ],
  [
    'a whiteout of a directory that the layer only implies elsewhere',
    layered([file('a/b/c', '1'), file('a/d', '2')], [file('a/b/e', '3'), whiteout('a')]),
    ['a/', 'a/b/', 'a/b/e "3"'],
  ],
  [
    'a symlink over an opaque directory, then a directory over the symlink',
    layered([file('d/a', '1')], [whiteout('d'), symlink('d', 'x')], [directory('d'), file('d/b', '2')]),
    ['d/', 'd/b "2"'],
  ],
  [
    'a symlink to a directory that a third layer removes',
    layered([file('t/a', '1'), symlink('l', 't')], [whiteout('t')], [file('l/b', '2')]),
    ['l -> t', 't/', 't/b "2"'],
  ],
]);

hostile('hard links', [
  [
    'to a file behind a symlink to the root',
    layered([symlink('r', '/'), file('a', 'x')], [hardLink('b', 'r/r/r/a')]),
    ['a "x"', 'b "x" = a', 'r -> /'],
  ],
  [
    'to a whiteout of the same layer',
    layered([file('a', 'x')], [whiteout('a'), hardLink('b', '.wh.a')]),
    badArchive(/^entry 'b': a hard link to '\.wh\.a'/),
  ],
  [
    'to a name of a megabyte',
    [file('a'), { ...hardLink('b', 'a'), pax: { linkpath: 'n'.repeat(1_000_000) } }],
    badArchive(/^entry 'b': link target of 1000000 bytes/),
  ],
  [
    'with data behind it: links have none',
    [file('a', 'x'), { ...hardLink('b', 'a'), size: 1 }, file('c', 'y')],
    ['a "x"', 'b "x" = a', 'c "y"'],
  ],
  [
    'a file with capabilities and setuid below, linked twice',
    layered([file('a', 'x', { mode: 0o6755, uid: 7, gid: 8 })], [hardLink('b', 'a'), hardLink('c', 'b')]),
    ['a "x" 6755 7:8', 'b "x" = a 6755 7:8', 'c "x" = a 6755 7:8'],
  ],
  [
    'itself through a symlink',
    [file('d/a', 'x'), symlink('l', 'd'), hardLink('l/a', 'd/a')],
    ['d/', 'd/a "x"', 'l -> d'],
  ],
  [
    'a directory that gives way to a link to what was in it',
    [file('d/a', 'x'), hardLink('d', 'd/a')],
    ['d "x"'],
  ],
]);

// Documents
const config = (edit: (config: Record<string, unknown>) => void) => ({
  config: (document: { config: Record<string, unknown> }) => void edit(document.config),
});
hostile('configurations', [
  [
    'a NUL in Cmd',
    config((c) => {
      c['Cmd'] = ['a\0b'];
    }),
    badImage(/NUL|Cmd/),
  ],
  [
    'a NUL in Env',
    config((c) => {
      c['Env'] = ['A=\0'];
    }),
    badImage(/NUL|Env/),
  ],
  [
    'a NUL in User',
    config((c) => {
      c['User'] = 'a\0';
    }),
    badImage(/NUL|User/),
  ],
  [
    'a NUL in WorkingDir',
    config((c) => {
      c['WorkingDir'] = '/a\0';
    }),
    badImage(/NUL|WorkingDir/),
  ],
  [
    'an Entrypoint that is a string',
    config((c) => {
      c['Entrypoint'] = '/bin/sh';
    }),
    badImage(/Entrypoint/),
  ],
  [
    'Volumes that are an array',
    config((c) => {
      c['Volumes'] = ['/v'];
    }),
    badImage(/Volumes/),
  ],
  [
    'a Volume that climbs',
    config((c) => {
      c['Volumes'] = { '/../../etc': {} };
    }),
    ['f "x"'],
  ],
  [
    'ExposedPorts that nobody has',
    config((c) => {
      c['ExposedPorts'] = { '99999/tcp': {}, '-1': {}, 'x/y/z': {} };
    }),
    ['f "x"'],
  ],
  [
    'a User of 2^32',
    config((c) => {
      c['User'] = '4294967296:0';
    }),
    ['f "x"'],
  ],
  [
    'config with keys that differ in case',
    config((c) => {
      c['cmd'] = 5;
    }),
    ['f "x"'],
  ],
  [
    'numbers beyond everything in fields that nobody knows',
    {
      config: (d) =>
        JSON.stringify(d).replace('"config"', '"x":1e999,"y":-99999999999999999999999999,"config"'),
    },
    ['f "x"'],
  ],
  [
    'os.version and os.features of another system',
    { config: (d) => ({ ...d, 'os.version': '10.0', 'os.features': ['win32k'] }) },
    ['f "x"'],
  ],
]);

hostile('manifests', [
  [
    'a media type in upper case',
    { layers: [{ tar: [file('f', 'x')], mediaType: `${OCI.layer}+GZIP` }] },
    refused('UNSUPPORTED', /\+GZIP/),
  ],
  [
    'a media type with parameters',
    { layers: [{ tar: [file('f', 'x')], mediaType: `${OCI.layer}+gzip; charset=utf-8` }] },
    refused('UNSUPPORTED', /charset/),
  ],
  [
    'a media type with a space behind',
    { layers: [{ tar: [file('f', 'x')], mediaType: `${OCI.layer}+gzip ` }] },
    refused('UNSUPPORTED', /./),
  ],
  [
    'a media type of a megabyte',
    { layers: [{ tar: [file('f', 'x')], mediaType: 'x'.repeat(1_000_000) }] },
    refused('UNSUPPORTED', /^layer 1 is of an unknown type: 'x+…'$/),
  ],
  [
    'an encrypted layer',
    { layers: [{ tar: [file('f', 'x')], mediaType: `${OCI.layer}+gzip+encrypted` }] },
    refused('UNSUPPORTED', /encrypted/),
  ],
  [
    'a configuration that is the layer',
    { manifest: (m) => ({ ...m, config: { ...m.layers[0], mediaType: OCI.config } }) },
    badImage(/./),
  ],
  [
    'an artifact with the empty configuration',
    {
      manifest: (m) => ({
        ...m,
        artifactType: 'application/x',
        config: {
          mediaType: 'application/vnd.oci.empty.v1+json',
          digest: m.config.digest,
          size: m.config.size,
        },
      }),
    },
    refused('UNSUPPORTED', /./),
  ],
  [
    'a helm chart',
    { configDescriptor: { mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    refused('UNSUPPORTED', /helm/),
  ],
  [
    'a size as a string',
    { manifest: (m) => ({ ...m, layers: [{ ...m.layers[0], size: '5' }] }) },
    badImage(/size/),
  ],
  [
    'a layer twice, once with another size',
    {
      layers: [[file('f', 'x')], [file('f', 'x')]],
      manifest: (m) => ({ ...m, layers: [m.layers[0], { ...m.layers[1], size: 1 }] }),
    },
    refused('SIZE_MISMATCH', /./),
  ],
  [
    'schemaVersion 2.0 is 2',
    { manifest: (m) => JSON.stringify(m).replace('"schemaVersion":2', '"schemaVersion":2.0') },
    ['f "x"'],
  ],
  [
    'schemaVersion as a string',
    { manifest: (m) => ({ ...m, schemaVersion: '2' }) },
    badImage(/schemaVersion/),
  ],
]);

const entryOf = (index: { manifests: Record<string, unknown>[] }) => index.manifests[0]!;
hostile('indexes', [
  [
    'a platform without an os',
    {
      index: (i) => {
        entryOf(i)['platform'] = { architecture: ARCHITECTURE };
      },
    },
    (seen) => assert.ok(seen),
  ],
  ['an entry of size 0', { manifestDescriptor: { size: 0 } }, refused('SIZE_MISMATCH', /./)],
  ['an entry of a negative size', { manifestDescriptor: { size: -1 } }, badImage(/size/)],
  [
    'annotations of a name with control characters',
    {
      index: (i) => {
        i.manifests.push({ ...entryOf(i), annotations: { 'org.opencontainers.image.ref.name': '\x1b[2J' } });
      },
    },
    ['f "x"'],
  ],
  [
    'a name that is a number',
    {
      index: (i) => {
        i.manifests.push({ ...entryOf(i), annotations: { 'org.opencontainers.image.ref.name': 5 } });
      },
    },
    badImage(/annotation/),
  ],
  [
    'the same name twice for one digest',
    {
      index: (i) => {
        i.manifests.push(entryOf(i));
      },
    },
    badImage("the layout 'LAYOUT' has 2 images 'hostile'"),
  ],
]);
