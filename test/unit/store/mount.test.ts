/** Mounts with mapped ids: overlays of few and many layers, both ways of naming them. Needs root. */
import assert from 'node:assert/strict';
import {
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  mountAt,
  mountIdMapped,
  mountOverlay,
  mountOverlayByString,
  mountsBelow,
  unmount,
} from '../../../src/host/mount.ts';
import { openUserNamespace } from '../../../src/host/user-namespace.ts';
import { FOREIGN_UID_BASE } from '../../../src/oci/limits.ts';

const base = realpathSync(mkdtempSync(join(tmpdir(), 'oci mount-')));
const LAYERS = 200;
after(() => {
  for (const { target } of mountsBelow(base).toReversed()) unmount(target);
  rmSync(base, { recursive: true });
});

const trees = Array.from({ length: LAYERS }, (_, i) => {
  const tree = join(base, `layer${i}`);
  mkdirSync(tree);
  for (const name of [`own${i}`, 'same']) {
    writeFileSync(join(tree, name), String(i));
    chownSync(join(tree, name), FOREIGN_UID_BASE + i, FOREIGN_UID_BASE + 65535);
  }
  return tree;
});

for (const [name, mount] of [
  ['one call for each layer', mountOverlay],
  ['all layers in one string', mountOverlayByString],
] as const)
  test(`an overlay of ${LAYERS} layers, ${name}`, async () => {
    const userNamespace = await openUserNamespace([{ inside: FOREIGN_UID_BASE, outside: 0, count: 65536 }]);
    const binds = trees.map((tree, i) => {
      const bind = join(base, String(i));
      mkdirSync(bind, { recursive: true });
      mountIdMapped(tree, bind, userNamespace, { readOnly: true });
      return bind;
    });
    closeSync(userNamespace);
    const merged = join(base, 'merged');
    mkdirSync(merged, { recursive: true });
    mount(binds, merged, { noSuid: true, noDevices: true });
    for (const bind of binds) assert.equal(unmount(bind), true);

    assert.equal(readdirSync(merged).length, LAYERS + 1);
    const { uid, gid } = lstatSync(join(merged, 'same'));
    assert.deepEqual([uid, gid], [LAYERS - 1, 65535]);
    const mounted = mountAt(merged)!;
    assert.equal(mounted.type, 'overlay');
    for (const option of ['ro', 'nosuid', 'nodev']) assert.ok(mounted.options.has(option), option);
    assert.throws(() => writeFileSync(join(merged, 'x'), ''), { code: 'EROFS' });
    assert.equal(mountsBelow(base).length, 1);
    assert.equal(unmount(merged), true);
    assert.equal(unmount(merged), false);
    assert.equal(mountAt(merged), undefined);
  });

test('a user namespace cannot be had for a map that the kernel refuses', async () => {
  await assert.rejects(openUserNamespace([{ inside: 0, outside: 0, count: 0 }]), {
    code: 'OS_ERROR',
    message: /^make a user namespace: EINVAL/,
  });
});

test('errors name the call and the object', () => {
  assert.throws(() => mountIdMapped('/none\n', base, 0), {
    code: 'ENOENT',
    message: "open_tree '/none\\x0a': ENOENT: no such file or directory",
  });
  assert.equal(unmount('/none'), false);
});
