/**
 * The reader of layer stacks: paths that an image or a user may name, and file capabilities as containers see them.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { mountIdMapped, mountOverlay, unmount } from '../../../src/host/mount.ts';
import { openUserNamespace } from '../../../src/host/user-namespace.ts';
import { OciError } from '../../../src/oci/errors.ts';
import { type MergedTree, openMergedTree } from '../../../src/store/merged-tree.ts';
import { directory, file, symlink, tar, whiteout } from '../archive/tar-builder.ts';
import { apply, ID_BASE, newDirectory, stack } from './layer-fixture.ts';

describe('lookup', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const trees = await stack(
    [
      directory('etc'),
      file('etc/passwd', 'root:x:0:0', { mode: 0o640, uid: 1, gid: 2, mtime: 7 }),
      file('etc/gone', 'x'),
      symlink('abs', '/etc/passwd'),
      symlink('up', '../../../../../../etc'),
      symlink('chain', 'up/../abs'),
      symlink('a', 'b'),
      symlink('b', 'a'),
      symlink('dangling', 'no/where'),
      symlink('host', '/proc/self/root/etc/hostname'),
      { name: 'pipe', type: '6' },
      { name: 'null', type: '3', deviceMajor: 1, deviceMinor: 3 },
      file('empty'),
      { name: 'é', data: 'utf' },
      { name: Buffer.from([0xff]), data: 'raw' },
    ],
    [whiteout('etc/gone'), file('etc/group', 'g')],
  );
  const tree: MergedTree = openMergedTree(trees);
  after(() => {
    tree.close();
    assert.equal(readdirSync('/proc/self/fd').length <= before + 1, true);
  });

  const kinds: [string | Buffer, string | undefined, string | undefined][] = [
    ['/', 'directory', 'directory'],
    ['', 'directory', 'directory'],
    ['/..', 'directory', 'directory'],
    ['/etc/passwd', 'file', 'file'],
    ['etc//./passwd', 'file', 'file'],
    ['/../etc/../etc/passwd', 'file', 'file'],
    ['/etc/gone', undefined, undefined],
    ['/etc/no', undefined, undefined],
    ['/etc/passwd/x', undefined, undefined],
    ['/etc/passwd/..', undefined, undefined],
    ['/no/../etc', 'directory', 'directory'],
    ['/abs', 'file', 'symlink'],
    ['/up', 'directory', 'symlink'],
    ['/up/group', 'file', 'file'],
    ['/chain', 'file', 'symlink'],
    ['/a', undefined, 'symlink'],
    ['/a/x', undefined, undefined],
    ['/dangling', undefined, 'symlink'],
    ['/host', undefined, 'symlink'],
    ['/pipe', 'fifo', 'fifo'],
    ['/null', 'device', 'device'],
    ['/é', 'file', 'file'],
    [Buffer.from([0x2f, 0xff]), 'file', 'file'],
    ['/a\0b', undefined, undefined],
    [`/${'n'.repeat(300)}`, undefined, undefined],
    [`/${'n/'.repeat(40000)}`, undefined, undefined],
  ];
  for (const [path, followed, itself] of kinds)
    it(JSON.stringify(String(path).slice(0, 40)), () =>
      assert.deepEqual(
        [tree.lookup(path)?.kind, tree.lookup(path, { followLast: false })?.kind],
        [followed, itself],
      ),
    );
  it('tells attributes and targets', () => {
    assert.deepEqual(tree.lookup('/etc/passwd'), {
      kind: 'file',
      mode: 0o640,
      uid: ID_BASE + 1,
      gid: ID_BASE + 2,
      size: 10,
      mtime: { seconds: 7, nanoseconds: 0 },
    });
    assert.equal(String(tree.lookup('/abs', { followLast: false })?.target), '/etc/passwd');
  });
  it('reads regular files only, and never blocks', () => {
    const read = (path: string) => tree.readFile(path, 10)?.toString();
    assert.deepEqual(
      [
        '/etc/passwd',
        '/chain',
        '/up/group',
        '/empty',
        '/é',
        '/etc',
        '/pipe',
        '/null',
        '/dangling',
        '/host',
        '/etc/gone',
      ].map(read),
      [
        'root:x:0:0',
        'root:x:0:0',
        'g',
        '',
        'utf',
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
      ],
    );
    assert.throws(
      () => tree.readFile('/etc/passwd', 9),
      (error) => error instanceof OciError && error.message === "'/etc/passwd' has 10 bytes, more than 9",
    );
  });
  it('no layers are an empty directory', () => {
    const empty = openMergedTree([]);
    assert.deepEqual(
      [empty.lookup('/')?.kind, empty.lookup('/x'), empty.readFile('/x', 1)],
      ['directory', undefined, undefined],
    );
    empty.close();
  });
});

describe('file capabilities', () => {
  it('count in the container, through an id-mapped overlay, and for nobody else', async () => {
    const capability = Buffer.alloc(20); // version 2, effective; CAP_NET_RAW permitted
    capability.writeUInt32LE(0x02000001, 0);
    capability.writeUInt32LE(1 << 13, 4);
    const archive = tar({
      name: 'cat',
      mode: 0o755,
      data: readFileSync('/bin/cat'),
      pax: { 'SCHILY.xattr.security.capability': capability },
    });
    const { tree } = await apply(archive, { bottom: true });
    const base = 1000 * 65536;
    const [layer, other, merged] = [newDirectory(), newDirectory(), newDirectory()];
    const open = newDirectory(); // reachable for other users, as a container's root is
    for (const part of [join(tree, '..'), merged, open]) chmodSync(part, 0o755);
    mkdirSync(join(open, 'empty'));
    const namespace = await openUserNamespace([{ inside: ID_BASE, outside: base, count: 65536 }]);
    const child = spawn('unshare', ['--user', '--', 'sh', '-c', 'echo ready; read wait']);
    try {
      mountIdMapped(tree, layer, namespace);
      mountIdMapped(join(open, 'empty'), other, namespace);
      mountOverlay([other, layer], merged);
      await once(child.stdout, 'data');
      for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, `0 ${base} 65536`);
      const enter = ['nsenter', `--user=/proc/${child.pid}/ns/user`, '-S', '1000', '-G', '1000', '--'];
      const permitted = (command: string, ...args: string[]) =>
        execFileSync(command, [...args, join(merged, 'cat'), '/proc/self/status'], {
          encoding: 'utf8',
        }).match(/^CapPrm:\t(.*)$/m)?.[1];
      assert.equal(permitted(enter[0]!, ...enter.slice(1)), '0000000000002000');
      assert.equal(
        permitted('setpriv', '--reuid', '65000', '--regid', '65000', '--clear-groups'),
        '0000000000000000',
      );
    } finally {
      child.kill('SIGKILL');
      for (const target of [merged, other, layer]) unmount(target);
      closeSync(namespace);
    }
  });
});
