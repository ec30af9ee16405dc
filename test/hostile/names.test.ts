/** Names of entries: whatever they are, they stay names inside the tree, or the layer is refused. */
import { type BuiltEntry, directory, file, gnuLong, symlink } from '../unit/archive/tar-builder.ts';
import { badArchive, type Case, hostile, layered, OUTSIDE } from './harness.ts';

const n255 = 'n'.repeat(255);
const n256 = 'n'.repeat(256);
const deep = (components: number) => Array.from({ length: components }, () => 'd'.repeat(200)).join('/');
const pax = (path: string | Buffer, more: BuiltEntry = {}): BuiltEntry => ({
  name: 'short',
  pax: { path },
  ...more,
});

const dotDot: Case[] = [
  '../f',
  '../../../../../../../../tmp/f',
  'a/../f',
  'a/../../f',
  '/../f',
  './../f',
  'a/..',
  '..',
  '../',
].map((name) => [`'..' in ${name}`, [file(name, 'x')], badArchive(`entry '${name}': '..' in its path`)]);

hostile('names', [
  ...dotDot,
  ["'..' in a directory", [directory('../d')], badArchive("entry '../d/': '..' in its path")],
  ["'..' in a symlink's own name", [symlink('../l', 'x')], badArchive("entry '../l': '..' in its path")],
  ["'..' in a PAX path", [pax('a/../../f')], badArchive("entry 'a/../../f': '..' in its path")],
  [
    "'..' in a GNU long name",
    [gnuLong('L', 'a/../../f'), file('f')],
    badArchive("entry 'a/../../f': '..' in its path"),
  ],
  ["'..' in the prefix", [{ name: 'f', prefix: '..' }], badArchive("entry '../f': '..' in its path")],
  [
    "'..' in a whiteout",
    layered([file('f')], [{ name: '../.wh.f' }]),
    badArchive("entry '../.wh.f': '..' in its path"),
  ],
  [
    "'..' in a fifo below a real directory",
    [directory('a'), { name: 'a/../p', type: '6' }],
    badArchive("entry 'a/../p': '..' in its path"),
  ],
  [
    'names that only look like ..',
    [file('..a', '1'), file('a..', '2'), file('...', '3')],
    ['... "3"', '..a "1"', 'a.. "2"'],
  ],
  ['absolute', [file('/etc/f', 'x')], ['etc/', 'etc/f "x"']],
  [
    'absolute, to the host',
    [file(`${OUTSIDE}/secret`, 'x')].map((entry) => ({
      ...entry,
      name: 'short',
      pax: { path: `${OUTSIDE}/secret` },
    })),
    treeOf(`${OUTSIDE}/secret`),
  ],
  ['double and leading slashes', [file('//a///b////f', 'x')], ['a/', 'a/b/', 'a/b/f "x"']],
  ["'.' everywhere", [file('./a/././f', 'x'), file('a/./g', 'y')], ['a/', 'a/f "x"', 'a/g "y"']],
  [
    'one file under four names',
    [file('f', '1'), file('./f', '2'), file('/f', '3'), file('.//./f', '4')],
    ['f "4"'],
  ],
  ['a trailing slash on a file', [file('f/', 'x')], ['f "x"']],
  ['trailing slashes on a directory', [{ name: 'd///', type: '5', mode: 0o700 }], ['d/ 700']],
  ['a directory without a slash', [{ name: 'd', type: '5', mode: 0o700 }], ['d/ 700']],
  ['a trailing slash on a symlink', [{ name: 'l/', type: '2', linkName: 'x' }], ['l -> x']],
  ['backslashes', [file('..\\..\\f', 'x'), file('C:\\f', 'y')], ['..\\..\\f "x"', 'C:\\f "y"']],
  [
    'a leading dash, spaces, quotes',
    [file('-rf', '1'), file(' ', '2'), file('a\'b"c', '3')],
    ['  "2"', '-rf "1"', 'a\'b"c "3"'],
  ],
  [
    'a newline and other control characters',
    [file('a\nb', '1'), file('\x1b[31m', '2'), file('\x7f', '3')],
    ['\\x1b[31m "2"', 'a\\x0ab "1"', '\\x7f "3"'],
  ],
  [
    'a refused name with control characters',
    [file('a\x1b[2J/../f')],
    badArchive("entry 'a\\x1b[2J/../f': '..' in its path"),
  ],
  [
    'a refused name with C1 and bidi characters',
    [file('a\u009b2J\u202e/../f')],
    badArchive("entry 'a\\x9b2J\\u{202e}/../f': '..' in its path"),
  ],
  [
    'names that are not UTF-8',
    [
      { name: Buffer.from([0x66, 0xff]), data: '1' },
      { name: Buffer.from([0xc0, 0xaf]), data: '2' },
    ],
    ['f\\xff "1"', '\\xc0\\xaf "2"'],
  ],
  [
    'UTF-8 in several forms is several names',
    [file('é', '1'), file('e\u0301', '2')],
    ['e\u0301 "2"', 'é "1"'],
  ],
  ['a NUL in a PAX path', [pax('a\0b')], badArchive(/^entry 'a\\x00b': NUL in its name$/)],
  ['a NUL in a GNU long name ends it', [gnuLong('L', 'abc\0def'), file('f', 'x')], ['abc "x"']],
  ['a component of 255 bytes', [pax(n255, { data: 'x' })], [`${n255} "x"`]],
  [
    'a component of 256 bytes',
    [pax(n256)],
    badArchive(`entry '${n256}': a name of 256 bytes, more than 255, in its path`),
  ],
  [
    'a directory component of 256 bytes',
    [pax(`${n256}/f`)],
    badArchive(`entry '${n256}/f': a name of 256 bytes, more than 255, in its path`),
  ],
  [
    '128 two-byte characters are 256 bytes',
    [pax('é'.repeat(128))],
    badArchive(/a name of 256 bytes, more than 255, in its path$/),
  ],
  ['a path of 4020 bytes', [pax(`${deep(20)}/f`, { data: 'x' })], treeOf(`/${deep(20)}/f`)],
  [
    'a path of 4097 bytes',
    [pax(`${deep(20)}/${'f'.repeat(77)}`)],
    badArchive(/: name of 4097 bytes, more than 4095$/),
  ],
  [
    'a path of a megabyte',
    [gnuLong('L', 'a/'.repeat(500_000)), file('f')],
    badArchive(/: extended header of 1000001 bytes, more than 4096 /),
  ],
  [
    '2000 directories in one another',
    [pax(`${'d/'.repeat(2000)}f`, { data: 'x' })],
    treeOf(`/${'d/'.repeat(2000)}f`),
  ],
  ['an empty name', [{ name: '', data: 'x' }], badArchive("entry '': the root of a layer cannot be a file")],
  [
    'the same path below a file',
    [file('a', 'x'), file('a/b', 'y')],
    badArchive("entry 'a/b': 'a' on its path is not a directory"),
  ],
  [
    'below a fifo',
    [{ name: 'a', type: '6' }, file('a/b')],
    badArchive("entry 'a/b': 'a' on its path is not a directory"),
  ],
  [
    'below a file that is a directory later',
    [file('a', 'x'), directory('a'), file('a/b', 'y')],
    ['a/', 'a/b "y"'],
  ],
  [
    'the last entry of a name wins',
    [file('f', 'long content'), file('f', 'x', { mode: 0o600 })],
    ['f "x" 600'],
  ],
  [
    'names of our own files',
    [file('.oci', 'x'), directory('tree'), file('layer@0000-x', 'y')],
    ['.oci "x"', 'layer@0000-x "y"', 'tree/'],
  ],
]);

/** One file with the content x, and the directories above it. */
function treeOf(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  return names
    .map((_, i) => names.slice(0, i + 1).join('/'))
    .map((p, i) => (i === names.length - 1 ? `${p} "x"` : `${p}/`));
}
