/** Hard links: to files of the image, in one layer and across layers; never to anything else. */
import { directory, file, hardLink, symlink } from '../unit/archive/tar-builder.ts';
import { badArchive, hostile, layered, OUTSIDE } from './harness.ts';

const noFile = (target: string) => `a hard link to '${target}', which is no file of the image`;

hostile('hard links', [
  [
    'a hard link',
    [file('a', 'x'), hardLink('b', 'a'), hardLink('c', 'b')],
    ['a "x"', 'b "x" = a', 'c "x" = a'],
  ],
  [
    'absolute and dotted targets',
    [file('d/a', 'x'), hardLink('b', '/d/a'), hardLink('c', './d//./a')],
    ['b "x"', 'c "x" = b', 'd/', 'd/a "x" = b'],
  ],
  [
    'to the host, absolute',
    [hardLink('b', `${OUTSIDE}/secret`)],
    badArchive(/^entry 'b': a hard link to '.*secret', which is no file of the image$/),
  ],
  [
    'to the host, by ..',
    [hardLink('b', `../../../../../..${OUTSIDE}/secret`)],
    badArchive("entry 'b': '..' in its path"),
  ],
  [
    'to the host, through a symlink',
    [symlink('l', OUTSIDE), hardLink('b', 'l/secret')],
    badArchive(`entry 'b': ${noFile('l/secret')}`),
  ],
  [
    'to the host, through a symlink of a lower layer',
    layered([symlink('l', OUTSIDE)], [hardLink('b', 'l/secret')]),
    badArchive(`entry 'b': ${noFile('l/secret')}`),
  ],
  [
    'to a symlink is a second name of the symlink',
    [symlink('l', `${OUTSIDE}/secret`), hardLink('b', 'l')],
    [`b -> ${OUTSIDE}/secret`, `l -> ${OUTSIDE}/secret = b`],
  ],
  [
    'to a symlink, then replaced by a file',
    [symlink('l', `${OUTSIDE}/secret`), hardLink('b', 'l'), file('b', 'x')],
    ['b "x"', `l -> ${OUTSIDE}/secret`],
  ],
  [
    'to a symlink of a lower layer',
    layered([symlink('l', `${OUTSIDE}/secret`)], [hardLink('b', 'l')]),
    [`b -> ${OUTSIDE}/secret`, `l -> ${OUTSIDE}/secret = b`],
  ],
  [
    'to a directory',
    [directory('d'), hardLink('b', 'd')],
    badArchive("entry 'b': a hard link to 'd', a directory"),
  ],
  ['to the root', [hardLink('b', '/')], badArchive("entry 'b': a hard link to a directory")],
  [
    'to a directory of a lower layer',
    layered([directory('d')], [hardLink('b', 'd')]),
    badArchive("entry 'b': a hard link to 'd', a directory"),
  ],
  ['to itself', [hardLink('a', 'a')], badArchive(`entry 'a': ${noFile('a')}`)],
  ['to itself, a file of the layer', [file('a', 'x'), hardLink('a', './a')], ['a "x"']],
  [
    'to itself, a file of a lower layer',
    layered([file('a', 'x', { mode: 0o600, mtime: 5 })], [hardLink('a', 'a')]),
    ['a "x" 600 @5'],
  ],
  ['to a later entry', [hardLink('b', 'a'), file('a', 'x')], ['a "x"', 'b "x" = a']],
  [
    'to a later entry in the place of one below: that one was there',
    layered([file('a', 'old')], [hardLink('b', 'a'), hardLink('c', 'a'), file('a', 'new')]),
    ['a "new"', 'b "old"', 'c "old" = b'],
  ],
  [
    'to a file of the layer by way of a symlink below',
    layered(
      [directory('d'), file('d/a', 'old'), symlink('l', 'd')],
      [file('d/a', 'new'), hardLink('b', 'l/a')],
    ),
    ['b "new"', 'd/', 'd/a "new" = b', 'l -> d'],
  ],
  [
    'a chain, backwards',
    [hardLink('c', 'b'), hardLink('b', 'a'), file('a', 'x')],
    ['a "x"', 'b "x" = a', 'c "x" = a'],
  ],
  [
    'two that wait for each other',
    [hardLink('a', 'b'), hardLink('b', 'a')],
    badArchive(`entry 'a': ${noFile('b')}`),
  ],
  ['to nothing', [hardLink('b', 'gone')], badArchive(`entry 'b': ${noFile('gone')}`)],
  [
    'to nothing, in an upper layer',
    layered([file('a', 'x')], [hardLink('b', 'gone')]),
    badArchive(`entry 'b': ${noFile('gone')}`),
  ],
  ['without a target', [hardLink('b', '')], badArchive("entry 'b': a hard link to a directory")],
  [
    'to a file of a lower layer: one inode',
    layered([file('a', 'x', { uid: 1, gid: 2, mode: 0o4755, mtime: 7 })], [hardLink('b', 'a')]),
    ['a "x" 4755 1:2 @7', 'b "x" = a 4755 1:2 @7'],
  ],
  [
    'a link to one of the names of a file below, another of which this layer hides',
    layered(
      [file('a', 'x'), hardLink('b', 'a'), hardLink('d/c', 'a'), hardLink('d/e', 'a')],
      [{ name: '.wh.b' }, file('d/e', 'y'), hardLink('f', 'a')],
    ),
    ['a "x"', 'd/', 'd/c "x" = a', 'd/e "y"', 'f "x" = a'],
  ],
  [
    'three layers of links to one file',
    layered([file('a', 'x')], [hardLink('b', 'a')], [hardLink('c', 'b')]),
    ['a "x"', 'b "x" = a', 'c "x" = a'],
  ],
  [
    'to a file that a lower layer removed',
    layered([file('a', 'x')], [{ name: '.wh.a' }], [hardLink('b', 'a')]),
    badArchive(`entry 'b': ${noFile('a')}`),
  ],
  [
    'to a file that this layer removes',
    layered([file('a', 'x')], [{ name: '.wh.a' }, hardLink('b', 'a')]),
    ['b "x"'],
  ],
  [
    'to a file that this layer removes later',
    layered([file('a', 'x')], [hardLink('b', 'a'), { name: '.wh.a' }]),
    ['b "x"'],
  ],
  [
    'to a file below an opaque directory',
    layered([file('d/a', 'x')], [{ name: 'd/.wh..wh..opq' }, hardLink('d/b', 'd/a')]),
    ['d/', 'd/b "x"'],
  ],
  [
    'to a device and a fifo',
    [
      { name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3 },
      { name: 'p', type: '6' },
      hardLink('m', 'n'),
      hardLink('q', 'p'),
    ],
    ['m c1:3', 'n c1:3 = m', 'p p', 'q p = p'],
  ],
  [
    'to a device of a lower layer',
    layered([{ name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3 }], [hardLink('m', 'n')]),
    ['m c1:3', 'n c1:3 = m'],
  ],
  [
    'to a whiteout file',
    layered([file('a', 'x')], [{ name: '.wh.a' }, hardLink('b', '.wh.a')]),
    badArchive(`entry 'b': ${noFile('.wh.a')}`),
  ],
  [
    'replaced target keeps the old content under the link',
    [file('a', 'old'), hardLink('b', 'a'), file('a', 'new')],
    ['a "new"', 'b "old"'],
  ],
  [
    'over a directory',
    [file('a', 'x'), directory('d'), file('d/f'), hardLink('d', 'a')],
    ['a "x"', 'd "x" = a'],
  ],
  [
    'over a directory of a lower layer',
    layered([file('a', 'x'), file('d/f')], [hardLink('d', 'a')]),
    ['a "x"', 'd "x" = a'],
  ],
  [
    'with a size and attributes of its own: those of the target count',
    [
      file('a', 'x', { mode: 0o600 }),
      { name: 'b', type: '1', linkName: 'a', size: 4096, mode: 0o777, uid: 9 },
    ],
    ['a "x" 600', 'b "x" = a 600'],
  ],
  [
    'writing to a link does not change the lower layer',
    layered([file('a', 'x')], [hardLink('b', 'a'), file('b', 'y')]),
    ['a "x"', 'b "y"'],
  ],
]);
