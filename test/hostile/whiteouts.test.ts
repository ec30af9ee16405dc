/** Whiteouts and the order of layers: image-spec layer.md, "Applying Changesets". */
import {
  type BuiltEntry,
  directory,
  file,
  hardLink,
  opaque,
  symlink,
  tar,
  whiteout,
} from '../unit/archive/tar-builder.ts';
import { badArchive, type Case, hostile, layered } from './harness.ts';

const below = [
  directory('d', 0o700, { uid: 1, mtime: 7 }),
  file('d/a', '1'),
  directory('d/s'),
  file('d/s/b', '2'),
  file('f', '3'),
];
const all = ['d/ 700 1:0 @7', 'd/a "1"', 'd/s/', 'd/s/b "2"', 'f "3"'];
const without = (...gone: string[]) => all.filter((line) => !gone.some((path) => line.startsWith(path)));

/** The same entries in every order give the same tree: one image, a directory (0/, 1/, …) for each order. */
function orders(
  name: string,
  lower: readonly BuiltEntry[],
  entries: readonly BuiltEntry[],
  expected: readonly string[],
): Case {
  const all = permutations(entries);
  const inside = (i: number, list: readonly BuiltEntry[]) =>
    list.map((entry) => ({ ...entry, name: `${i}/${entry.name}` }));
  return [
    `${name}, in all orders`,
    layered(
      all.flatMap((_, i) => inside(i, lower)),
      all.flatMap((order, i) => inside(i, order)),
    ),
    all.flatMap((_, i) => ['', ...expected].map((line) => `${i}/${line}`)),
  ];
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

hostile('whiteouts', [
  ['a file', layered(below, [whiteout('f')]), without('f')],
  ['a file below a directory without an entry', layered(below, [whiteout('d/s/b')]), without('d/s/b')],
  ['a directory with all in it', layered(below, [whiteout('d')]), without('d')],
  [
    'something that is not there',
    layered(below, [whiteout('gone'), whiteout('d/gone'), whiteout('gone/deep/er')]),
    all,
  ],
  ['below a file', layered(below, [whiteout('f/x')]), all],
  ['in the bottom layer', [whiteout('f'), file('g', 'x'), whiteout('d/x')], ['g "x"']],
  ['an opaque directory in the bottom layer', [opaque('d'), file('d/f', 'x'), opaque('')], ['d/', 'd/f "x"']],
  [
    'a whiteout beside its file in the bottom layer',
    [whiteout('f'), file('f', 'x'), file('g', 'y'), whiteout('g')],
    ['f "x"', 'g "y"'],
  ],
  ['twice', layered(below, [whiteout('f'), whiteout('f')]), without('f')],
  ['in two layers', layered(below, [whiteout('f')], [whiteout('f')]), without('f')],
  [
    'removed, then made again above',
    layered(below, [whiteout('f')], [file('f', 'new')]),
    [...without('f'), 'f "new"'],
  ],
  [
    'a directory removed, then made again above',
    layered(below, [whiteout('d')], [directory('d'), file('d/n', 'x')]),
    ['d/', 'd/n "x"', 'f "3"'],
  ],
  [
    'a directory removed, then implied above',
    layered(below, [whiteout('d')], [file('d/n', 'x')]),
    ['d/', 'd/n "x"', 'f "3"'],
  ],
  orders('a whiteout and its file', below, [whiteout('f'), file('f', 'new')], [...without('f'), 'f "new"']),
  orders(
    'a whiteout and its directory again',
    below,
    [whiteout('d'), directory('d', 0o711), file('d/n', 'x')],
    ['d/ 711', 'd/n "x"', 'f "3"'],
  ),
  orders(
    'an opaque mark between siblings',
    below,
    [opaque('d'), file('d/n', 'x'), directory('d', 0o711)],
    ['d/ 711', 'd/n "x"', 'f "3"'],
  ),
  [
    'an opaque mark on a directory without an entry',
    layered(below, [opaque('d'), file('d/n', 'x')]),
    ['d/ 700 1:0 @7', 'd/n "x"', 'f "3"'],
  ],
  ['an opaque mark alone', layered(below, [opaque('d')]), ['d/ 700 1:0 @7', 'f "3"']],
  ['an opaque mark on a directory that is not there', layered(below, [opaque('gone')]), all],
  ['an opaque mark in a subdirectory', layered(below, [opaque('d/s')]), without('d/s/b')],
  [
    'an opaque mark and whiteouts',
    layered(below, [whiteout('d/a'), opaque('d'), whiteout('d/s')]),
    ['d/ 700 1:0 @7', 'f "3"'],
  ],
  [
    'opaque, then content above',
    layered(below, [opaque('d')], [file('d/s/n', 'x')]),
    ['d/ 700 1:0 @7', 'd/s/', 'd/s/n "x"', 'f "3"'],
  ],
  [
    'a whiteout and its file as a directory, both ways',
    layered([file('x', '1'), directory('y')], [whiteout('x'), directory('x'), directory('y'), whiteout('y')]),
    ['x/', 'y/'],
  ],
  [
    'a whiteout of a symlink removes the link alone',
    layered([directory('d'), file('d/f', 'x'), symlink('l', 'd')], [whiteout('l')]),
    ['d/', 'd/f "x"'],
  ],
  [
    'a whiteout behind a symlink of a lower layer',
    layered([directory('d'), file('d/f', 'x'), symlink('l', 'd')], [whiteout('l/f')]),
    ['d/', 'l -> d'],
  ],
  [
    'a whiteout behind a symlink of the same layer',
    layered([directory('d'), file('d/f', 'x')], [symlink('l', 'd'), whiteout('l/f')]),
    ['d/', 'l -> d'],
  ],
  ['a whiteout behind a dangling symlink', layered([symlink('l', 'gone')], [whiteout('l/f')]), ['l -> gone']],
  [
    'a whiteout of one of two hard links',
    layered([file('a', 'x'), hardLink('b', 'a')], [whiteout('a')]),
    ['b "x"'],
  ],
  [
    'a name that the layer removes and links to',
    layered([file('a', 'x')], [whiteout('a'), hardLink('b', 'a'), file('a', 'new')]),
    ['a "new"', 'b "x"'],
  ],
  // Names of whiteouts
  ['.wh. alone', layered(below, [file('.wh.')]), badArchive("entry '.wh.': a whiteout without a name")],
  ['.wh. alone in the bottom layer', [file('.wh.')], badArchive("entry '.wh.': a whiteout without a name")],
  ['.wh..', layered(below, [file('d/.wh..')]), badArchive("entry 'd/.wh..': a whiteout without a name")],
  ['.wh...', layered(below, [file('.wh...')]), badArchive("entry '.wh...': a whiteout without a name")],
  ['.wh.... hides the file ...', layered([file('...', 'x')], [file('.wh....')]), []],
  ['a whiteout of .wh.x: nothing can have that name', layered(below, [file('.wh..wh.x')]), all],
  [
    '.wh..wh.plnk and .wh..wh.aufs are left out',
    layered(below, [directory('.wh..wh.plnk'), file('.wh..wh.plnk/1.2', 'x'), file('.wh..wh.aufs')]),
    all,
  ],
  ['.wh..wh..opq with something below', layered(below, [file('d/.wh..wh..opq/f', 'x')]), all],
  ['.wh..wh..opqx is no opaque mark', layered(below, [file('d/.wh..wh..opqx')]), all],
  ['.WH.f is a file', layered(below, [file('.WH.f', 'x')]), ['.WH.f "x"', ...all]],
  ['x.wh.f is a file', layered(below, [file('x.wh.f', 'x')]), [...all, 'x.wh.f "x"']],
  ['a whiteout in a PAX path', layered(below, [{ name: 'short', pax: { path: 'd/.wh.a' } }]), without('d/a')],
  [
    'a whiteout whose file has a non-UTF-8 name',
    layered(
      [{ name: Buffer.from([0xff]), data: 'x' }],
      [{ name: Buffer.from([0x2e, 0x77, 0x68, 0x2e, 0xff]) }],
    ),
    [],
  ],
  [
    'a whiteout of a name of 251 bytes',
    layered(
      [file('short', 'x', { pax: { path: 'n'.repeat(251) } })],
      [{ name: 'short', pax: { path: `.wh.${'n'.repeat(251)}` } }],
    ),
    [],
  ],
  // Whiteouts that are no empty files
  ['a whiteout that is a directory', layered(below, [directory('.wh.f')]), without('f')],
  ['a whiteout that is a symlink', layered(below, [symlink('.wh.f', '/etc/passwd')]), without('f')],
  ['a whiteout that is a hard link', layered(below, [hardLink('.wh.f', 'd/a')]), without('f')],
  [
    'a whiteout that is a device',
    layered(below, [{ name: '.wh.f', type: '3', deviceMajor: 1, deviceMinor: 3 }]),
    without('f'),
  ],
  [
    'a whiteout with content',
    layered(below, [file('.wh.f', 'x'.repeat(5000)), file('g', 'y')]),
    [...without('f'), 'g "y"'],
  ],
  [
    'an opaque mark that is a directory',
    layered(below, [directory('d/.wh..wh..opq')]),
    ['d/ 700 1:0 @7', 'f "3"'],
  ],
  [
    'a file below a whiteout',
    layered(below, [directory('.wh.d'), file('.wh.d/f', 'x')]),
    badArchive("entry '.wh.d/f': lies below the whiteout '.wh.d'"),
  ],
  [
    'a file below a whiteout, in the bottom layer',
    [file('.wh.d/f', 'x')],
    badArchive("entry '.wh.d/f': lies below the whiteout '.wh.d'"),
  ],
  // What overlayfs would take for a whiteout
  [
    'a character device 0:0',
    layered(below, [{ name: 'f', type: '3', deviceMajor: 0, deviceMinor: 0 }]),
    badArchive("entry 'f': a character device 0:0, which is a whiteout to overlayfs"),
  ],
  [
    'a character device 0:0 in the bottom layer',
    [{ name: 'f', type: '3', deviceMajor: 0, deviceMinor: 0 }],
    badArchive("entry 'f': a character device 0:0, which is a whiteout to overlayfs"),
  ],
  ...[
    'user.overlay.opaque',
    'trusted.overlay.opaque',
    'trusted.overlay.redirect',
    'trusted.overlay.metacopy',
    'user.overlay.redirect',
  ].map(
    (name): Case => [
      `the xattr ${name}`,
      layered(below, [directory('d', 0o755, { pax: { [`SCHILY.xattr.${name}`]: 'y' } })]),
      badArchive(`entry 'd/': xattr '${name}', which belongs to overlayfs`),
    ],
  ),
  [
    'the xattr of overlayfs in the coding of libarchive',
    layered(below, [directory('d', 0o755, { pax: { 'LIBARCHIVE.xattr.user%2Eoverlay.opaque': 'eQ==' } })]),
    badArchive("entry 'd/': xattr 'user.overlay.opaque', which belongs to overlayfs"),
  ],
]);

// Implied parents
hostile('implied parents', [
  [
    'an implied directory has the attributes below',
    layered(below, [file('d/s/n', 'x')]),
    [...all.slice(0, 4), 'd/s/n "x"', 'f "3"'],
  ],
  ['an implied directory of no layer', [file('p/q/f', 'x')], ['p/', 'p/q/', 'p/q/f "x"']],
  [
    'a directory that comes after what is in it',
    [file('p/f', 'x'), directory('p', 0o711, { mtime: 5 })],
    ['p/ 711 @5', 'p/f "x"'],
  ],
  [
    'an implied directory over two described ones: the upper one counts',
    layered([directory('d', 0o700)], [directory('d', 0o711, { mtime: 3 })], [file('d/f', 'x')]),
    ['d/ 711 @3', 'd/f "x"'],
  ],
  ['an implied directory over a file', layered([file('d', 'x')], [file('d/f', 'y')]), ['d/', 'd/f "y"']],
  [
    'an implied directory over a fifo',
    layered([{ name: 'd', type: '6' }], [file('d/f', 'y')]),
    ['d/', 'd/f "y"'],
  ],
  [
    'xattrs of an implied directory',
    layered([directory('d', 0o755, { pax: { 'SCHILY.xattr.user.a': 'b' } })], [file('d/f', 'x')]),
    ['d/ user.a="b"', 'd/f "x"'],
  ],
  [
    'xattrs of a described directory replace those below',
    layered(
      [directory('d', 0o755, { pax: { 'SCHILY.xattr.user.a': 'b' } })],
      [directory('d', 0o755, { pax: { 'SCHILY.xattr.user.c': 'd' } })],
    ),
    ['d/ user.c="d"'],
  ],
]);

// One directory that a layer has by several names, the parents being symlinks below
const names = [
  directory('r'),
  directory('r/d', 0o700),
  file('r/d/old', '1'),
  symlink('l', 'r'),
  symlink('m', 'r'),
];
const again = (title: string, entries: readonly BuiltEntry[], ...expected: string[]): Case =>
  orders(title, names, entries, ['l -> r', 'm -> r', ...expected]);
hostile('one directory by several names', [
  again(
    'removed and written to by its name, described behind a link',
    [whiteout('r/d'), file('r/d/f', 'x'), directory('l/d', 0o711)],
    'r/',
    'r/d/ 711',
    'r/d/f "x"',
  ),
  again(
    'removed and written to behind a link, described by its name',
    [whiteout('l/d'), file('l/d/f', 'x'), directory('r/d', 0o711)],
    'r/',
    'r/d/ 711',
    'r/d/f "x"',
  ),
  again(
    'written to behind one link, described behind another',
    [file('l/d/f', 'x'), directory('m/d', 0o711)],
    'r/',
    'r/d/ 711',
    'r/d/f "x"',
    'r/d/old "1"',
  ),
  again(
    'removed and written to behind one link, described behind another',
    [whiteout('l/d'), file('l/d/f', 'x'), directory('m/d', 0o711)],
    'r/',
    'r/d/ 711',
    'r/d/f "x"',
  ),
  again(
    'a directory inside of one that was removed',
    [whiteout('r/d'), file('r/d/s/f', 'x'), directory('l/d/s', 0o711)],
    'r/',
    'r/d/',
    'r/d/s/ 711',
    'r/d/s/f "x"',
  ),
  again(
    'a new directory inside, behind two links',
    [file('l/n/s/f', 'x'), directory('m/n/s', 0o711), directory('m/n', 0o700)],
    'r/',
    'r/d/ 700',
    'r/d/old "1"',
    'r/n/ 700',
    'r/n/s/ 711',
    'r/n/s/f "x"',
  ),
  orders(
    'where links lead to nothing',
    [symlink('l', 'gone/p'), symlink('m', 'gone')],
    [file('l/f', 'x'), directory('m/p', 0o711)],
    ['gone/', 'gone/p/ 711', 'gone/p/f "x"', 'l -> gone/p', 'm -> gone'],
  ),
]);

// Type changes: every kind over every kind
const KINDS: Record<string, (name: string) => BuiltEntry[]> = {
  file: (name) => [file(name, 'x')],
  directory: (name) => [directory(name)],
  full: (name) => [directory(name), file(`${name}/old`, 'x')],
  symlink: (name) => [symlink(name, 'some/where')],
  fifo: (name) => [{ name, type: '6' }],
  device: (name) => [{ name, type: '3', deviceMajor: 1, deviceMinor: 3 }],
  block: (name) => [{ name, type: '4', deviceMajor: 8, deviceMinor: 1 }],
};
const SHOWN: Record<string, (name: string) => string[]> = {
  file: (name) => [`${name} "x"`],
  directory: (name) => [`${name}/`],
  full: (name) => [`${name}/`, `${name}/old "x"`],
  symlink: (name) => [`${name} -> some/where`],
  fifo: (name) => [`${name} p`],
  device: (name) => [`${name} c1:3`],
  block: (name) => [`${name} b8:1`],
};
const kinds = Object.keys(KINDS).sort();
hostile(
  'type changes',
  kinds.flatMap((lower): Case[] => [
    [
      `from ${lower} to each kind, in the next layer`,
      layered(
        kinds.flatMap((upper) => KINDS[lower]!(upper)),
        kinds.filter((upper) => upper !== 'full').flatMap((upper) => KINDS[upper]!(upper)),
      ),
      kinds.flatMap((upper) => {
        if (upper === 'full') return SHOWN[lower]!(upper);
        return lower === 'full' && upper === 'directory' ? SHOWN['full']!(upper) : SHOWN[upper]!(upper);
      }),
    ],
    [
      `from ${lower} to each kind, in one layer`,
      [...kinds.flatMap((upper) => KINDS[lower]!(upper)), ...kinds.flatMap((upper) => KINDS[upper]!(upper))],
      kinds.flatMap((upper) =>
        lower === 'full' && upper === 'directory' ? SHOWN['full']!(upper) : SHOWN[upper]!(upper),
      ),
    ],
    [
      `from ${lower} to each kind with a whiteout, and back in a third layer`,
      layered(
        kinds.flatMap((upper) => KINDS[lower]!(upper)),
        kinds.flatMap((upper) => [...KINDS[upper]!(upper), whiteout(upper)]),
        kinds.flatMap((upper) => [whiteout(upper), ...KINDS[lower]!(upper)]),
      ),
      kinds.flatMap((upper) => SHOWN[lower]!(upper)),
    ],
  ]),
);

// Stacks
const many = (count: number, layer: (i: number) => BuiltEntry[]) =>
  layered(...Array.from({ length: count }, (_, i) => layer(i)));
const twice = tar(file('f', 'x'), directory('d', 0o700));
hostile('stacks of layers', [
  ['no layers', { layers: [] }, []],
  ['an empty layer', layered([]), []],
  ['empty layers between', layered([], [file('f', 'x')], [], []), ['f "x"']],
  ['the same layer twice', layered(twice, twice), ['d/ 700', 'f "x"']],
  [
    'the same layer twice with another between',
    layered(twice, [whiteout('f'), whiteout('d')], twice),
    ['d/ 700', 'f "x"'],
  ],
  ['40 times the same layer', layered(...Array.from({ length: 40 }, () => twice)), ['d/ 700', 'f "x"']],
  [
    'many whiteouts and implied directories over many layers, of which one has most of the names',
    layered(
      Array.from({ length: 50 }, (_, i) => file(`d/f${i}`, 'x')),
      [whiteout('d/f49'), directory('d/n1', 0o700), file('d/\xff')],
      ...Array.from({ length: 20 }, (_, i) => [file(`d/l${i}`, '')]),
      [
        ...Array.from({ length: 48 }, (_, i) => whiteout(`d/f${i + 2}`)),
        ...Array.from({ length: 18 }, (_, i) => whiteout(`d/l${i + 2}`)),
        whiteout('d/\xff'),
        whiteout('d/gone'),
        file('d/n1/a', '1'),
        file('d/n2/b', '2'),
      ],
    ),
    ['d/', 'd/f0 "x"', 'd/f1 "x"', 'd/l0 ""', 'd/l1 ""', 'd/n1/ 700', 'd/n1/a "1"', 'd/n2/', 'd/n2/b "2"'],
  ],
  [
    'three layers that change one file',
    layered([file('f', '1')], [file('f', '22')], [file('f', '333', { mode: 0o600 })]),
    ['f "333" 600'],
  ],
  [
    '220 layers that write and remove',
    many(220, (i) => [file(`f${i % 2}`, String(i)), whiteout(`f${(i + 1) % 2}`)]),
    ['f1 "219"'],
  ],
]);
