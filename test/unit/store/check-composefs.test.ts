/** What fsck says of streams and objects, and what it takes to say it; what the kernel is asked to guard. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { createVerityHash, type VerityDigest, verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import type { DiffID, Digest } from '../../../src/oci/digest.ts';
import { checkStream, checkVerityFile } from '../../../src/store/check-composefs.ts';
import { layoutBelow } from '../../../src/store/layout.ts';
import { createGuard } from '../../../src/store/objects.ts';
import { createStreamFile, streamPath, streamsDirectory } from '../../../src/store/streams.ts';
import { node } from '../composefs/odd-tree.ts';

test('an object that is missing is told by the name of its file, without control characters', (context) => {
  const root = mkdtempSync('/var/tmp/oci-check-composefs-');
  context.after(() => rmSync(root, { recursive: true }));
  const layout = layoutBelow(root);
  const diffID = `sha256:${'a'.repeat(64)}` as Digest as DiffID;
  mkdirSync(streamsDirectory(layout));
  const object = verityDigestOf(Buffer.alloc(100));
  const stream = createStreamFile(streamPath(layout, diffID));
  stream.add({ kind: 'inode', path: 'a\x1b]0;x\x07', inode: node('file', { size: 100, object }).inode });
  stream.finish({ diffID, sizeBytes: 100, entries: 1 });
  assert.deepEqual(checkStream(layout, diffID, new Map()), [
    { kind: 'object', name: object, path: "'a\\x1b]0;x\\x07'", problem: 'is missing' },
  ]);
});

test('the holes of an object are not read: here they would take an hour', (context) => {
  const root = mkdtempSync('/var/tmp/oci-check-composefs-');
  context.after(() => rmSync(root, { recursive: true }));
  const file = `${root}/file`;
  const [data, size] = [Buffer.alloc(10_000, 1), 2 ** 42 + 5];
  const verity = createVerityHash();
  verity.update(data);
  verity.skip(2 ** 41 - data.length);
  verity.update(data);
  verity.skip(size - 2 ** 41 - data.length);
  const digest = verity.digest();
  writeFileSync(file, data);
  truncateSync(file, 2 ** 41);
  writeFileSync(file, data, { flag: 'a' });
  truncateSync(file, size);
  assert.equal(checkVerityFile(file, digest), undefined);
  assert.equal(checkVerityFile(file, 'f'.repeat(64) as VerityDigest), 'content differs');
});

test('of objects that are mostly holes the kernel is asked to guard a few only', () => {
  const asked: number[] = [];
  const guard = createGuard((fd) => asked.push(fd) > 0);
  const outcomes = [0, 2 ** 29, 0, 2 ** 29, 0, 1, 0].map((holeBytes, fd) => guard(fd, holeBytes));
  assert.deepEqual(outcomes, [true, true, true, true, true, false, false]);
  assert.deepEqual(asked, [0, 1, 2, 3, 4]);
});
