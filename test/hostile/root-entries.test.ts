/** Entries that mean the root of the layer itself. */
import { directory, file, opaque } from '../unit/archive/tar-builder.ts';
import { badArchive, hostile, layered, OUTSIDE } from './harness.ts';

hostile('root entries', [
  ...['./', '.', '/', '//', '/.', './/./'].map(
    (name) =>
      [
        `the directory ${name} describes the root`,
        [{ name, type: '5', mode: 0o711, uid: 3, gid: 4, mtime: 9 }, file('f', 'x')],
        ['/ 711 3:4 @9', 'f "x"'],
      ] as const,
  ),
  ['an empty name, as a directory', [{ name: '', type: '5', mode: 0o700 }], ['/ 700']],
  ['an unnamed v7 entry with a slash', [{ name: './', type: '\0', magic: 'v7', mode: 0o700 }], ['/ 700']],
  ['the last one counts', [directory('.', 0o700), file('f', 'x'), directory('.', 0o711)], ['/ 711', 'f "x"']],
  ['sticky and setgid', [directory('.', 0o3777)], ['/ 3777']],
  [
    'of an upper layer',
    layered([directory('.', 0o700, { uid: 1 })], [directory('.', 0o711, { gid: 2, mtime: 3 })]),
    ['/ 711 0:2 @3'],
  ],
  [
    'only in the bottom layer',
    layered([directory('.', 0o700, { uid: 1, mtime: 5 })], [file('f', 'x')]),
    ['/ 700 1:0 @5', 'f "x"'],
  ],
  [
    'only in the bottom of three',
    layered([directory('.', 0o700, { uid: 1, mtime: 5 })], [file('f', 'x')], [{ name: '.wh.f' }]),
    ['/ 700 1:0 @5'],
  ],
  ['with a PAX xattr', [directory('.', 0o755, { pax: { 'SCHILY.xattr.user.a': 'b' } })], ['/ user.a="b"']],
  ['nobody: a root of its own', [file('f', 'x')], ['f "x"']],
  ...(
    [
      ['file', { name: './', type: '0', data: 'x' }, 'file'],
      ['symlink to the host', { name: './', type: '2', linkName: OUTSIDE }, 'symlink'],
      ['symlink named /', { name: '/', type: '2', linkName: 'x' }, 'symlink'],
      ['hard link', { name: '.', type: '1', linkName: 'f' }, 'hardLink'],
      ['character device', { name: './', type: '3', deviceMajor: 1, deviceMinor: 3 }, 'characterDevice'],
      ['block device', { name: './', type: '4', deviceMajor: 8, deviceMinor: 0 }, 'blockDevice'],
      ['fifo', { name: '.', type: '6' }, 'fifo'],
    ] as const
  ).map(
    ([kind, entry, type]) =>
      [
        `the root as a ${kind}`,
        [file('f', 'x'), entry],
        badArchive(`entry '${entry.name}': the root of a layer cannot be a ${type}`),
      ] as const,
  ),
  [
    'a whiteout of the root',
    layered([file('f', 'x')], [{ name: '.wh..' }]),
    badArchive("entry '.wh..': a whiteout without a name"),
  ],
  ["a whiteout below './'", layered([file('f', 'x'), file('g', 'y')], [{ name: './.wh.f' }]), ['g "y"']],
  [
    "an opaque root, named './'",
    layered([file('f', 'x')], [{ name: './.wh..wh..opq' }, file('g', 'y')]),
    ['g "y"'],
  ],
  [
    'an opaque root, last',
    layered([file('f', 'x'), directory('d'), file('d/a', '1')], [file('d/b', '2'), opaque('')]),
    ['d/', 'd/b "2"'],
  ],
  [
    'an opaque root and root attributes',
    layered([file('f', 'x')], [directory('.', 0o700), opaque('')]),
    ['/ 700'],
  ],
  [
    'an opaque root without an entry keeps the attributes',
    layered([directory('.', 0o700), file('f', 'x')], [opaque('')]),
    ['/ 700'],
  ],
  [
    'two opaque roots',
    layered([file('a', '1')], [opaque(''), file('b', '2')], [opaque(''), file('c', '3')], [file('d', '4')]),
    ['c "3"', 'd "4"'],
  ],
  [
    'an opaque root, then the same directory again',
    layered([file('d/a', '1')], [opaque('')], [directory('d')]),
    ['d/'],
  ],
]);
