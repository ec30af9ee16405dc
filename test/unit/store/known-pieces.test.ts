/** The search for pieces of files is bounded, whatever a table asks for. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { TocEntry } from '../../../src/archive/toc.ts';
import { verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { findKnownPieces } from '../../../src/store/known-pieces.ts';
import { objectPath } from '../../../src/store/objects.ts';

test('a table that has the same large file again and again', (context) => {
  const root = mkdtempSync('/var/tmp/oci-known-pieces-');
  context.after(() => rmSync(root, { recursive: true }));
  const paths = { objects: join(root, 'objects'), objectsBySha256: join(root, 'none') };
  const content = Buffer.alloc(2 ** 21, 'content');
  const object = verityDigestOf(content);
  mkdirSync(dirname(objectPath(paths, object)), { recursive: true });
  writeFileSync(objectPath(paths, object), content);
  const piece = (at: number) => ({
    offset: at,
    end: at + 2 ** 20,
    innerOffset: 0,
    size: 2 ** 20,
    digest: digestOf(content.subarray(at, at + 2 ** 20)),
  });
  const files = Array.from(
    { length: 10 },
    (): TocEntry => ({
      ...{
        type: 'file',
        path: 'a',
        linkPath: '',
        mode: 0o644,
        headerMode: 0o644,
        uid: 0,
        gid: 0,
        size: content.length,
      },
      ...{ mtime: { seconds: 0, nanoseconds: 0 }, sparse: false, deviceMajor: 0, deviceMinor: 0 },
      ...{ xattrs: undefined, digest: undefined, chunks: [], pieces: [piece(0), piece(2 ** 20)] },
    }),
  );
  const { wanted } = findKnownPieces(paths, files, () => new Map([['a', object]]), 6 * content.length);
  assert.deepEqual(
    wanted.map(({ chunks }) => chunks.length),
    [2, 2, 2, 0, 0, 0, 0, 0, 0, 0],
  );
});
