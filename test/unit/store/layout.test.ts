import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { nameOfTagFile, openLayout, tagFileName } from '../../../src/store/layout.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-layout-'));
after(() => rmSync(base, { recursive: true }));

test('a new store: every directory 0700, whatever the umask', () => {
  const root = join(base, 'deep/er/new');
  const layout = openLayout(root, true)!;
  for (const path of [root, layout.layers, layout.images, layout.tags, layout.staging, layout.blobs])
    assert.equal(statSync(path).mode & 0o7777, 0o700, path);
  assert.equal(readFileSync(join(root, 'format'), 'utf8'), '1\n');
  assert.deepEqual(openLayout(root, true), layout);
  assert.deepEqual(openLayout(root, false), layout);
});

test('without create a missing or empty root is no store, and nothing is made', () => {
  assert.equal(openLayout(join(base, 'none'), false), undefined);
  assert.equal(statSync(join(base, 'none'), { throwIfNoEntry: false }), undefined);
  mkdirSync(join(base, 'empty'), { mode: 0o700 });
  assert.equal(openLayout(join(base, 'empty'), false), undefined);
});

test('an empty directory is taken over and closed to others', () => {
  const root = join(base, 'adopted');
  mkdirSync(root, { mode: 0o755 });
  assert.ok(openLayout(root, true));
  assert.equal(statSync(root).mode & 0o7777, 0o700);
});

test('a root that is a link to a store is that store', () => {
  openLayout(join(base, 'real'), true);
  symlinkSync('real', join(base, 'link'));
  assert.equal(openLayout(join(base, 'link'), false)!.root, join(base, 'real'));
});

test('what is not ours is refused', () => {
  const root = join(base, 'foreign');
  openLayout(root, true);
  chmodSync(root, 0o755);
  assert.throws(() => openLayout(root, false), {
    code: 'DENIED',
    message: `refusing the store '${root}': other users may enter it (mode 0755)`,
  });
  chmodSync(root, 0o700);
  chownSync(root, 65534, 0);
  assert.throws(() => openLayout(root, true), {
    code: 'DENIED',
    message: `the store '${root}' belongs to user 65534, not to 0`,
  });
  chownSync(root, 0, 0);
  writeFileSync(join(root, 'format'), '7\n');
  assert.throws(() => openLayout(root, false), {
    code: 'UNSUPPORTED',
    message: `the store '${root}' has format '7', expected 1`,
  });

  const home = join(base, 'home');
  mkdirSync(home, { mode: 0o700 });
  writeFileSync(join(home, 'diary'), '');
  assert.throws(() => openLayout(home, true), {
    code: 'CONFIG',
    message: `refusing '${home}' as a store: it holds other files`,
  });
  writeFileSync(join(base, 'file'), '');
  assert.throws(() => openLayout(join(base, 'file'), true), {
    code: 'CONFIG',
    message: `refusing '${join(base, 'file')}' as a store: it is not a directory`,
  });
});

test('names and their files in tags/', () => {
  const pairs: [string, string][] = [
    ['fedora', 'fedora.mstack'],
    ['quay.io/x/y:1.2', 'quay.io%2Fx%2Fy:1.2.mstack'],
    ['..', '%2E..mstack'],
    ['.hidden', '%2Ehidden.mstack'],
    ['a%2Fb', 'a%252Fb.mstack'],
    ['häuser', 'h%C3%A4user.mstack'],
  ];
  for (const [name, fileName] of pairs) {
    assert.equal(tagFileName(name), fileName);
    assert.equal(nameOfTagFile(fileName), name);
  }
  for (const bad of ['', 'a b', 'a\nb', 'a\0b', 'x'.repeat(300)])
    assert.throws(() => tagFileName(bad), { code: 'USAGE' });
  for (const foreign of ['x', 'a%2fb.mstack', '.hidden.mstack', 'a%2.mstack', '%41.mstack', '.mstack'])
    assert.equal(nameOfTagFile(foreign), undefined, foreign);
});
