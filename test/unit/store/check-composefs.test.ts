/** What fsck says of streams and objects, and what it takes to say it. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import type { DiffID, Digest } from '../../../src/oci/digest.ts';
import { checkStream } from '../../../src/store/check-composefs.ts';
import { layoutBelow } from '../../../src/store/layout.ts';
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
