/** A tree with everything that an image can hold, and that is hard to lay out. */
import { createHash } from 'node:crypto';
import type { Inode, TreeNode } from '../../../src/composefs/inode.ts';
import type { VerityDigest } from '../../../src/composefs/verity-digest.ts';

export type Node = TreeNode & { readonly children: Map<string, Node> | undefined };

export function node(type: Inode['type'], more: Partial<Inode> = {}): Node {
  const inode: Inode = {
    type,
    mode: type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtime: { seconds: 1_000_000, nanoseconds: 0 },
    size: 0,
    object: undefined,
    inline: undefined,
    target: '',
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: undefined,
    ...more,
  };
  return { inode, children: type === 'directory' ? new Map() : undefined };
}

/** `size` bytes, as an object or, when they are few, in the image. */
export function file(size: number, more: Partial<Inode> = {}): Node {
  if (size <= 64)
    return node('file', { size, inline: size === 0 ? undefined : Buffer.alloc(size, 0xe9), ...more });
  const object = createHash('sha256').update(String(size)).digest('hex') as VerityDigest;
  return node('file', { size, object, ...more });
}

export function oddTree(): Node {
  const root = node('directory', { mode: 0o711, uid: 3, gid: 4, mtime: { seconds: 2, nanoseconds: 5 } });
  const add = (parent: Node, name: string, child: Node): Node => {
    parent.children!.set(name, child);
    return child;
  };
  const sizes = add(root, 'sizes', node('directory'));
  for (const size of [0, 1, 63, 64, 65, 4095, 4096, 4097, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 44, 2 ** 50])
    add(sizes, `f${size}`, file(size, { mode: 0o4755 }));
  const links = add(root, 'links', node('directory', { mode: 0o1777 }));
  const linked = file(1000);
  for (const name of ['z', 'b', 'a']) add(links, name, linked);
  add(root, 'aaa-link', linked);
  for (const length of [1, 60, 2000, 2100, 3900, 3968, 4000, 4032, 4060, 4064, 4065, 4095])
    add(links, `symlink${length}`, node('symlink', { target: 't'.repeat(length), mode: 0o777 }));
  add(links, 'symlink-', node('symlink', { target: '-', mode: 0o777 }));
  const special = add(root, 'special', node('directory'));
  add(special, 'null', node('characterDevice', { deviceMajor: 1, deviceMinor: 3 }));
  add(special, 'big', node('blockDevice', { deviceMajor: 4095, deviceMinor: 1048575 }));
  add(special, 'odd', node('blockDevice', { deviceMajor: 259, deviceMinor: 70000, uid: 65535, gid: 65535 }));
  add(special, 'fifo', node('fifo', { mode: 0 }));
  const names = add(root, 'names', node('directory'));
  for (const name of [
    '-',
    '!',
    '..a',
    '.hidden',
    ' space',
    'a=b',
    'back\\slash',
    '\xff\xfe',
    'new\nline',
    '\x01',
  ])
    add(names, name, file(3));
  add(names, 'n'.repeat(255), file(0));
  for (const count of [2, 100, 300, 1000]) {
    const many = add(root, `many${count}`, node('directory'));
    for (let i = 0; i < count; i++)
      add(many, `entry-${(i * 7919) % count}-${'x'.repeat(i % 40)}`, file(i % 70));
  }
  let deep = root;
  for (let i = 0; i < 300; i++) deep = add(deep, `d${i}`, node('directory', { gid: i }));
  const times = add(root, 'times', node('directory'));
  for (const [seconds, nanoseconds] of [
    [0, 0],
    [0, 1],
    [-1, 999999999],
    [2 ** 34, 17],
    [-(2 ** 40), 0],
    [2, 5],
  ] as const)
    add(times, `t${seconds}.${nanoseconds}`, file(10, { mtime: { seconds, nanoseconds } }));
  const xattrs = add(
    root,
    'xattrs',
    node('directory', { xattrs: new Map([['system.posix_acl_default', Buffer.alloc(28, 7)]]) }),
  );
  const shared: [string, Buffer][] = Array.from({ length: 150 }, (_, i) => [
    `user.shared${i}`,
    Buffer.from(`${i % 9}`),
  ]);
  for (const name of ['one', 'two']) add(xattrs, name, file(70, { xattrs: new Map(shared) }));
  add(xattrs, 'capability', file(5000, { xattrs: new Map([['security.capability', Buffer.alloc(20, 1)]]) }));
  add(
    xattrs,
    'long',
    file(64, {
      xattrs: new Map([
        ['user.long', Buffer.alloc(20000, 'l')],
        ['user.empty', Buffer.alloc(0)],
        [`trusted.${'k'.repeat(200)}`, Buffer.from('=\\ ')],
      ]),
    }),
  );
  add(xattrs, 'dir', node('directory', { xattrs: new Map([['user.long', Buffer.alloc(4000, 9)]]) }));
  add(
    xattrs,
    'symlink',
    node('symlink', { target: 'x'.repeat(200), xattrs: new Map([['trusted.a', Buffer.alloc(3950, 1)]]) }),
  );
  add(xattrs, 'acl', file(1, { xattrs: new Map([['system.posix_acl_access', Buffer.alloc(36, 2)]]) }));
  // a name that the image would otherwise hide
  add(root, 'ab', file(12));
  return root;
}
