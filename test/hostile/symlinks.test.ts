/** Symlinks: resolved inside the image, never by the host; what cannot be resolved is refused. */
import { directory, file, hardLink, symlink } from '../unit/archive/tar-builder.ts';
import { badArchive, hostile, layered, OUTSIDE } from './harness.ts';

/** The directories down to OUTSIDE, as a layer that was led there has them inside. */
const inside = OUTSIDE.slice(1)
  .split('/')
  .map((_, i, names) => `${names.slice(0, i + 1).join('/')}/`);
const outsideOf = (name: string) => `${OUTSIDE.slice(1)}/${name}`;
const sorted = (...lines: string[]) => lines.sort((a, b) => (a.split(' ')[0]! < b.split(' ')[0]! ? -1 : 1));
const LONG_TARGET = `${'x/'.repeat(2047)}y`;

hostile('symlinks', [
  [
    'symlinks are stored as they are',
    [
      symlink('a', OUTSIDE),
      symlink('b', '../../../..'),
      symlink('c', '/proc/self/cwd'),
      symlink('d', 'd'),
      symlink('e', '.'),
    ],
    [`a -> ${OUTSIDE}`, 'b -> ../../../..', 'c -> /proc/self/cwd', 'd -> d', 'e -> .'],
  ],
  [
    'written through an absolute symlink',
    [symlink('l', OUTSIDE), file('l/f', 'x')],
    sorted(...inside, `${outsideOf('f')} "x"`, `l -> ${OUTSIDE}`),
  ],
  [
    'written through a relative symlink that climbs',
    [directory('d'), symlink('d/l', `../../../../../../..${OUTSIDE}`), file('d/l/f', 'x')],
    sorted('d/', `d/l -> ../../../../../../..${OUTSIDE}`, ...inside, `${outsideOf('f')} "x"`),
  ],
  ['written through a symlink to /', [symlink('l', '/'), file('l/f', 'x')], ['f "x"', 'l -> /']],
  ['written through a symlink to ..', [symlink('l', '..'), file('l/f', 'x')], ['f "x"', 'l -> ..']],
  [
    'written through a chain',
    [symlink('a', 'b'), symlink('b', '/c'), symlink('c', 'd/../e'), directory('e'), file('a/f', 'x')],
    ['a -> b', 'b -> /c', 'c -> d/../e', 'e/', 'e/f "x"'],
  ],
  [
    'a chain of 40',
    [
      ...Array.from({ length: 40 }, (_, i) => symlink(`l${i + 10}`, `l${i + 11}`)),
      directory('l50'),
      file('l10/f', 'x'),
    ],
    ['l10 -> l11', ...Array.from({ length: 39 }, (_, i) => `l${i + 11} -> l${i + 12}`), 'l50/', 'l50/f "x"'],
  ],
  [
    'a chain of 41',
    [
      ...Array.from({ length: 41 }, (_, i) => symlink(`l${i + 10}`, `l${i + 11}`)),
      directory('l51'),
      file('l10/f', 'x'),
    ],
    badArchive("entry 'l10/f': its path has too many levels of symlinks"),
  ],
  [
    'a symlink to itself on the path',
    [symlink('l', 'l'), file('l/f')],
    badArchive("entry 'l/f': its path has too many levels of symlinks"),
  ],
  [
    'a loop of two on the path',
    [symlink('a', 'b'), symlink('b', 'a'), directory('a/d')],
    badArchive("entry 'a/d/': its path has too many levels of symlinks"),
  ],
  [
    'a symlink whose target doubles at each step',
    [symlink('a', 'a/a'), file('a/f')],
    badArchive("entry 'a/f': its path has too many levels of symlinks"),
  ],
  [
    'a dangling symlink on the path',
    [symlink('l', 'gone/deep'), file('l/f', 'x')],
    ['gone/', 'gone/deep/', 'gone/deep/f "x"', 'l -> gone/deep'],
  ],
  [
    '/proc/self/… on the path is a path of the image',
    [symlink('l', '/proc/self/cwd'), file('l/f', 'x')],
    ['l -> /proc/self/cwd', 'proc/', 'proc/self/', 'proc/self/cwd/', 'proc/self/cwd/f "x"'],
  ],
  [
    '/proc/self/fd on the path',
    [symlink('l', '/proc/self/fd/3'), file('l/f', 'x')],
    [
      'l -> /proc/self/fd/3',
      'proc/',
      'proc/self/',
      'proc/self/fd/',
      'proc/self/fd/3/',
      'proc/self/fd/3/f "x"',
    ],
  ],
  [
    'a directory swapped for a symlink, then written through',
    [directory('d'), file('d/a', '1'), symlink('d', OUTSIDE), file('d/b', '2')],
    sorted(`d -> ${OUTSIDE}`, ...inside, `${outsideOf('b')} "2"`),
  ],
  [
    'a symlink swapped for a directory',
    [symlink('d', OUTSIDE), directory('d'), file('d/f', 'x')],
    ['d/', 'd/f "x"'],
  ],
  [
    'a symlink replaced by a file is not written through',
    [symlink('secret', `${OUTSIDE}/secret`), file('secret', 'x')],
    ['secret "x"'],
  ],
  [
    'a parent swapped between two files of it',
    [directory('a/b'), file('a/b/1', '1'), symlink('a', '/'), file('a/b/2', '2')],
    ['a -> /', 'b/', 'b/2 "2"'],
  ],
  [
    'a symlink with an absolute target and a trailing slash',
    [symlink('l', `${OUTSIDE}/`), file('l//f', 'x')],
    sorted(...inside, `${outsideOf('f')} "x"`, `l -> ${OUTSIDE}/`),
  ],
  [
    'a directory entry where a symlink to a directory is',
    [directory('d', 0o700), symlink('l', 'd'), directory('l', 0o711)],
    ['d/ 700', 'l/ 711'],
  ],
  ['a symlink without a target', [symlink('l', '')], badArchive("entry 'l': a symlink without a target")],
  [
    'a target of 4095 bytes',
    [{ name: 'l', type: '2', pax: { linkpath: LONG_TARGET } }],
    [`l -> ${LONG_TARGET}`],
  ],
  [
    'a target of 4096 bytes',
    [{ name: 'l', type: '2', pax: { linkpath: 'x/'.repeat(2048) } }],
    badArchive("entry 'l': link target of 4096 bytes, more than 4095"),
  ],
  [
    'a target with a NUL',
    [{ name: 'l', type: '2', pax: { linkpath: 'a\0b' } }],
    badArchive("entry 'l': NUL in its link target"),
  ],
  ['a target with control characters', [symlink('l', '\x1b[31m\n')], ['l -> \\x1b[31m\\x0a']],
  [
    'over a symlink of a lower layer: file, directory, symlink',
    layered(
      [symlink('a', OUTSIDE), symlink('b', OUTSIDE), symlink('c', OUTSIDE)],
      [file('a', 'x'), directory('b'), symlink('c', 'x')],
    ),
    ['a "x"', 'b/', 'c -> x'],
  ],
  [
    'through a symlink of a lower layer to the host',
    layered([symlink('l', OUTSIDE)], [file('l/f', 'x')]),
    sorted(...inside, `${outsideOf('f')} "x"`, `l -> ${OUTSIDE}`),
  ],
  [
    'through a symlink of a lower layer that climbs',
    layered([directory('d'), symlink('d/l', '../../../..')], [file('d/l/f', 'x')]),
    ['d/', 'd/l -> ../../../..', 'f "x"'],
  ],
  [
    'through a loop of a lower layer',
    layered([symlink('a', 'b'), symlink('b', 'a')], [file('a/f', 'x')]),
    badArchive(/^entry 'a': .*too many levels of symlinks/),
  ],
  [
    'through a symlink to a file of a lower layer',
    layered([file('f', 'x'), symlink('l', 'f')], [file('l/g', 'y')]),
    badArchive(/^entry 'l': .*is not a directory/),
  ],
  [
    'through a symlink of a lower layer that this layer removes',
    layered([symlink('l', 'd'), directory('d')], [{ name: '.wh.l' }, file('l/f', 'x')]),
    ['d/', 'l/', 'l/f "x"'],
  ],
  [
    'usrmerge: files of a later layer in lib',
    layered(
      [directory('usr/lib'), file('usr/lib/a', '1'), symlink('lib', 'usr/lib')],
      [file('lib/b', '2'), directory('lib/c'), file('lib/c/d', '3')],
    ),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a "1"', 'usr/lib/b "2"', 'usr/lib/c/', 'usr/lib/c/d "3"'],
  ],
  [
    'usrmerge: an entry for lib itself replaces the link',
    layered(
      [directory('usr/lib'), file('usr/lib/a', '1'), symlink('lib', 'usr/lib')],
      [directory('lib'), file('lib/b', '2')],
    ),
    ['lib/', 'lib/b "2"', 'usr/', 'usr/lib/', 'usr/lib/a "1"'],
  ],
  [
    'usrmerge: a whiteout in lib',
    layered(
      [directory('usr/lib'), file('usr/lib/a', '1'), file('usr/lib/b', '2'), symlink('lib', 'usr/lib')],
      [{ name: 'lib/.wh.a' }],
    ),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/b "2"'],
  ],
  [
    'usrmerge: an opaque lib',
    layered(
      [directory('usr/lib'), file('usr/lib/a', '1'), symlink('lib', 'usr/lib')],
      [{ name: 'lib/.wh..wh..opq' }, file('lib/b', '2')],
    ),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/b "2"'],
  ],
  [
    'usrmerge: both ways to one file in one layer, the real one later',
    layered([directory('usr/lib'), symlink('lib', 'usr/lib')], [file('lib/a', '1'), file('usr/lib/a', '2')]),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a "2"'],
  ],
  [
    'usrmerge: link and content in one layer',
    [directory('usr/lib'), symlink('lib', 'usr/lib'), file('lib/a', '1')],
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a "1"'],
  ],
  [
    'usrmerge: a later layer makes the link over a directory',
    layered(
      [directory('lib'), file('lib/a', '1')],
      [directory('usr/lib'), symlink('lib', 'usr/lib')],
      [file('lib/b', '2')],
    ),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/b "2"'],
  ],
  [
    'usrmerge: a hard link through the link',
    layered(
      [directory('usr/bin'), file('usr/bin/a', '1'), symlink('bin', 'usr/bin')],
      [hardLink('bin/b', 'bin/a')],
    ),
    ['bin -> usr/bin', 'usr/', 'usr/bin/', 'usr/bin/a "1"', 'usr/bin/b "1" = usr/bin/a'],
  ],
]);
