import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LayerRecord } from '../../../src/composefs/inode.ts';
import { formatRecord, parseRecord } from '../../../src/composefs/layer-record.ts';
import { file, node } from './odd-tree.ts';

const RECORDS: readonly LayerRecord[] = [
  { kind: 'inode', path: '', inode: node('directory', { uid: 65535 }).inode },
  { kind: 'inode', path: '-', inode: file(0).inode },
  { kind: 'inode', path: 'a b/%41=\n\xff', inode: file(64).inode },
  {
    kind: 'inode',
    path: 'big',
    inode: file(2 ** 50, { mtime: { seconds: -(2 ** 40), nanoseconds: 999999999 } }).inode,
  },
  { kind: 'inode', path: 'l', inode: node('symlink', { target: '- %' }).inode },
  {
    kind: 'inode',
    path: 'c',
    inode: node('characterDevice', { deviceMajor: 4095, deviceMinor: 1048575 }).inode,
  },
  {
    kind: 'inode',
    path: 'x',
    inode: file(70, {
      xattrs: new Map([
        ['user.a=b c', Buffer.from([0, 10, 255])],
        ['user.empty', Buffer.alloc(0)],
      ]),
    }).inode,
  },
  { kind: 'hardLink', path: 'h', target: '../odd target' },
  { kind: 'whiteout', path: 'gone' },
  { kind: 'opaque', path: '' },
];

test('records are what they were after writing and reading', () => {
  for (const record of RECORDS) {
    const line = formatRecord(record);
    assert.match(line, /^[\x20-\x7e]+\n$/);
    assert.deepEqual(parseRecord(line.slice(0, -1)), record);
  }
});

test('what was never written is refused', () => {
  for (const line of [
    '',
    'X',
    'I f x',
    'L a',
    'W',
    `${formatRecord(RECORDS[1]!).trim()} x`.replace('I f', 'I z'),
  ])
    assert.throws(() => parseRecord(line), /record that is none/, line);
  const bad = formatRecord(RECORDS[1]!).trim().replace(' 1000000 ', ' 1e400 ');
  assert.throws(() => parseRecord(bad), /number that is none/);
});
