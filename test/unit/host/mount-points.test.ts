/** Mount points in a tree full of links, and what counts as a static init. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeMountPoints } from '../../../src/host/mount-points.ts';

test('mount points are made inside, owned by the tree’s root, and what exists stays', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mount-points-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const root = join(directory, 'root');
  mkdirSync(join(root, 'var'), { recursive: true });
  chmodSync(join(root, 'var'), 0o700);
  writeFileSync(join(root, 'var/file'), 'kept');
  makeMountPoints({
    root,
    directories: ['/proc', '/var/lib/x', '/var'],
    files: ['/etc/hosts', '/var/file'],
    idBase: 1234,
  });
  assert.equal(statSync(join(root, 'proc')).mode & 0o7777, 0o755);
  assert.equal(statSync(join(root, 'var/lib/x')).uid, 1234);
  assert.equal(statSync(join(root, 'etc/hosts')).gid, 1234);
  assert.equal(statSync(join(root, 'var')).mode & 0o7777, 0o700);
  assert.equal(statSync(join(root, 'var/file')).size, 4);
});

test('a link where a directory was, put there meanwhile, is not followed', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mount-points-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const root = join(directory, 'root');
  const outside = join(directory, 'outside');
  mkdirSync(root);
  mkdirSync(outside);
  for (const target of [outside, '../outside', '/..']) {
    symlinkSync(target, join(root, 'etc'));
    const points = { root, directories: ['/etc/x'], files: [], idBase: 0 };
    assert.throws(() => makeMountPoints(points), { code: 'ELOOP' }, target);
    rmSync(join(root, 'etc'));
  }
  assert.deepEqual(readdirSync(outside), []);
  assert.ok(!existsSync('/x'));
});
