/**
 * Images that umoci, too, unpacks as the specification asks: both trees are the same, but for the times of directories
 * that no entry describes (umoci leaves them at the time of unpacking).
 *
 * Where it does not (umoci 0.4.7: global headers, type 7, GNU sparse files, xattrs of libarchive, hard links to later
 * entries, aufs metadata, implied directories over files), the other files of this suite say what we do.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import {
  type BuiltEntry,
  directory,
  file,
  gnuLong,
  hardLink,
  opaque,
  symlink,
  whiteout,
} from '../unit/archive/tar-builder.ts';
import { type Case, hostile, layered } from './harness.ts';
import { TAG } from './image.ts';
import { treeLines } from './tree.ts';

const below = [
  directory('.'),
  directory('d', 0o700, { uid: 1 }),
  file('d/a', '1'),
  directory('d/s'),
  file('d/s/b', '2'),
  file('f', '3', { mode: 0o4755 }),
  symlink('l', 'd'),
  { name: 'p', type: '6' },
];
const device: BuiltEntry = { name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3 };

const IMAGES: Record<string, (BuiltEntry | Buffer)[][]> = {
  'one layer': [below],
  'a whiteout of each kind': [
    below,
    [whiteout('d'), whiteout('f'), whiteout('l'), whiteout('p'), file('n', 'x')],
  ],
  'a whiteout and the directory again': [below, [whiteout('d'), directory('d', 0o711), file('d/n', 'x')]],
  'the directory again and a whiteout': [below, [directory('d', 0o711), file('d/n', 'x'), whiteout('d')]],
  'opaque, first': [below, [opaque('d'), directory('d'), file('d/n', 'x')]],
  'opaque, last': [below, [directory('d'), file('d/n', 'x'), opaque('d')]],
  'opaque root': [below, [opaque(''), directory('.', 0o711), file('n', 'x')]],
  'files over everything': [below, [file('d', 'x'), file('l', 'x'), file('p', 'x')]],
  'directories over everything': [below, [directory('f'), directory('l'), directory('p')]],
  'symlinks over everything': [below, [symlink('d', 'x'), symlink('f', 'x'), symlink('p', 'x')]],
  'devices over everything': [below, ['d', 'f', 'l', 'p'].map((name) => ({ ...device, name }))],
  'through a symlink below': [below, [file('l/n', 'x'), directory('l/m', 0o700)]],
  'a hard link to a file below': [below, [hardLink('h', 'f'), hardLink('i', 'h')]],
  'hard links in three layers': [
    below,
    [hardLink('h', 'f'), hardLink('d/i', 'h')],
    [hardLink('d/s/j', 'd/i')],
  ],
  'a hard link to a symlink': [below, [hardLink('h', 'l')]],
  'three layers and back': [below, [whiteout('d')], below],
  'the root replaced': [below, [directory('.', 0o711, { uid: 5, gid: 6, mtime: 7 })]],
  'long names': [
    [gnuLong('L', 'n'.repeat(200)), file('x', 'y'), file('x', 'z', { pax: { path: 'ä'.repeat(100) } })],
  ],
  'owners and times': [
    [
      file('a', 'x', { uid: 65535, gid: 1, mtime: 2 ** 31 + 1 }),
      file('b', 'x', { pax: { mtime: '-1.5', uid: '7' } }),
    ],
  ],
  'xattrs and capabilities': [
    [
      file('a', 'x', {
        pax: {
          'SCHILY.xattr.user.a': 'b',
          'SCHILY.xattr.security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
        },
      }),
    ],
  ],
  devices: [[device, { ...device, name: 'm', type: '4', deviceMajor: 259, deviceMinor: 300 }]],
  'a sparse file': [
    [
      file('s', 'ab', {
        pax: { 'GNU.sparse.size': '6', 'GNU.sparse.numblocks': '2', 'GNU.sparse.map': '1,1,4,1' },
      }),
    ],
  ],
  'names of bytes': [[{ name: Buffer.from([0x66, 0xff]), data: 'x' }, file('a\nb', 'x'), file('-rf', 'x')]],
};

/** Lines without the times of what has the time of now, and without the root, if that is all there is to say of it. */
function withoutNow(lines: readonly string[]): string[] {
  return lines
    .map((line) => line.replace(/ @17[0-9]{8}(\.[0-9]+)?| @18[0-9]{8}(\.[0-9]+)?/, ''))
    .filter((line) => line !== '/');
}

hostile(
  'as umoci',
  Object.entries(IMAGES).map(
    ([name, layers]): Case => [
      name,
      layered(...layers),
      ({ tree, base }) => {
        const bundle = join(base, 'umoci');
        execFileSync('umoci', ['unpack', '--image', `${join(base, 'layout')}:${TAG}`, bundle], {
          stdio: 'pipe',
        });
        const lines = treeLines(tree);
        assert.ok(lines.length > 0);
        assert.deepEqual(
          lines.filter((line) => line !== '/'),
          withoutNow(treeLines(join(bundle, 'rootfs'))),
        );
      },
    ],
  ),
);
