/** What is written as a tar reads back as it was: by our parser, and by GNU tar. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { TarEntry } from '../../../src/archive/tar-entry.ts';
import { createTarParser } from '../../../src/archive/tar-parser.ts';
import { createTarWriter } from '../../../src/archive/tar-writer.ts';

const entry = (values: Partial<TarEntry>): TarEntry => ({
  ...{ type: 'file', path: 'a', linkPath: '', mode: 0o644, uid: 0, gid: 0, size: 0, sparse: false },
  ...{ mtime: { seconds: 1e9, nanoseconds: 0 }, deviceMajor: 0, deviceMinor: 0, xattrs: undefined },
  ...values,
});

const ENTRIES: [TarEntry, [Buffer, number][]][] = [
  [entry({ type: 'directory', path: 'dir', mode: 0o1777, uid: 65535, gid: 1 }), []],
  [entry({ path: 'dir/one', size: 3 }), [[Buffer.from('one'), 0]]],
  [entry({ path: 'dir/empty', mode: 0o4755 }), []],
  [
    entry({ path: 'dir/holes', size: 3000 }),
    [
      [Buffer.from('x'), 600],
      [Buffer.from('y'), 2000],
    ],
  ],
  [entry({ type: 'hardLink', path: 'dir/two', linkPath: 'dir/one' }), []],
  [entry({ type: 'symlink', path: 'dir/link', linkPath: `../${'t'.repeat(200)}` }), []],
  [entry({ path: `dir/${'n'.repeat(98)}`, size: 512 }), [[Buffer.alloc(512, 'z'), 0]]],
  [entry({ path: 'dir/\xc3\xa4\xff\n=', mtime: { seconds: -5, nanoseconds: 0 } }), []],
];

function write(): Buffer {
  const chunks: Buffer[] = [];
  const tar = createTarWriter((bytes) => void chunks.push(Buffer.from(bytes)));
  for (const [header, data] of ENTRIES) {
    tar.entry(header);
    for (const [bytes, offset] of data) tar.data(bytes, offset);
    if (header.type === 'file') tar.end();
  }
  tar.finish();
  return Buffer.concat(chunks);
}

test('by our parser', () => {
  const read: [TarEntry, Buffer][] = [];
  const parser = createTarParser({
    entry: (header) => void read.push([header, Buffer.alloc(header.size)]),
    data: (bytes, offset) => void bytes.copy(read.at(-1)![1], offset),
    end: () => {},
  });
  parser.push(write());
  parser.end();
  assert.deepEqual(
    read,
    ENTRIES.map(([header, data]) => {
      const content = Buffer.alloc(header.size);
      for (const [bytes, offset] of data) bytes.copy(content, offset);
      // what PAX records say of owners the parser gives as xattrs: there are none
      return [header, content];
    }),
  );
});

test('by GNU tar', () => {
  const { stdout, stderr, status } = spawnSync('tar', ['-tvf', '-', '--numeric-owner', '--utc'], {
    input: write(),
  });
  assert.equal(status, 0, String(stderr));
  const lines = String(stdout).trim().split('\n');
  assert.equal(lines.length, ENTRIES.length);
  assert.match(lines[0]!, /^drwxrwxrwt 65535\/1 +0 2001-09-09 01:46 dir/);
  assert.match(lines[2]!, /^-rwsr-xr-x 0\/0 +0 .* dir\/empty$/);
  assert.match(lines[3]!, / 3000 .* dir\/holes$/);
  assert.match(lines[4]!, /^h.* dir\/two link to dir\/one$/);
  assert.match(lines[5]!, / dir\/link -> \.\.\/t{200}$/);
});
