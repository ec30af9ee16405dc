/** Owners, modes, xattrs and devices: exact, or refused by name; nothing wraps, nothing reaches overlayfs. */
import assert from 'node:assert/strict';
import { getxattr, O_PATH, openat } from '../../src/host/syscalls.ts';
import { type BuiltEntry, base256, directory, file, hardLink, symlink } from '../unit/archive/tar-builder.ts';
import { badArchive, type Case, type Check, hostile, layered } from './harness.ts';

const range = 'is not in the range 0 to 65535';

hostile('owners', [
  [
    '0 to 65535',
    [
      file('a', '', { uid: 65535, gid: 65535 }),
      file('b', '', { uid: 1000, gid: 65534 }),
      directory('d', 0o755, { uid: 65535 }),
      { ...symlink('l', 'x'), uid: 65535, gid: 1 },
    ],
    ['a "" 65535:65535', 'b "" 1000:65534', 'd/ 65535:0', 'l -> x 65535:1'],
  ],
  ...(
    [
      ['65536', 65536],
      ['2^21-1', 2097151],
      ['2^31', 2n ** 31n],
      ['2^32-2', 2n ** 32n - 2n],
      ['2^32-1', 2n ** 32n - 1n],
      ['2^32', 2n ** 32n],
      ['2^32+1', 2n ** 32n + 1n],
      ['2^48', 2n ** 48n],
      ['-1', -1n],
      ['-65536', -65536n],
    ] as const
  ).flatMap(([what, id]): Case[] => {
    const field = typeof id === 'number' ? id : base256(id, 8);
    const setuid: BuiltEntry = { name: 'f', mode: 0o4755 };
    return [
      [
        `uid ${what} in the header`,
        [{ ...setuid, uid: field }],
        badArchive(`entry 'f': uid ${Number(id)} ${range}`),
      ],
      [
        `gid ${what} as a PAX record`,
        [{ ...setuid, pax: { gid: String(id) } }],
        badArchive(`entry 'f': gid ${Number(id)} ${range}`),
      ],
    ];
  }),
  [
    'of a directory, a symlink, a whiteout',
    layered([file('f')], [{ name: '.wh.f', uid: 70000 }]),
    badArchive(`entry '.wh.f': uid 70000 ${range}`),
  ],
  [
    'a PAX id that is no number',
    [file('f', '', { pax: { uid: 'root' } })],
    badArchive("entry 'f': uid is not a number"),
  ],
  [
    'a PAX id with a fraction',
    [file('f', '', { pax: { uid: '1.5' } })],
    badArchive("entry 'f': uid is not a number"),
  ],
  [
    'a PAX id that rescues the header',
    [file('f', 'x', { uid: 70000, pax: { uid: '1000' } })],
    ['f "x" 1000:0'],
  ],
]);

const x = (xattrs: Record<string, string | Uint8Array>, more: BuiltEntry = {}): BuiltEntry => ({
  name: 'f',
  data: 'x',
  ...more,
  pax: Object.fromEntries(Object.entries(xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value])),
});
function capability(version: number, effective: number, root?: number): Buffer {
  const value = Buffer.alloc(version === 1 ? 12 : version === 2 ? 20 : 24);
  value.writeUInt32LE((version << 24) | 1, 0);
  value.writeUInt32LE(effective, 4);
  if (version === 3) value.writeUInt32LE(root ?? 0, 20);
  return value;
}
const CAP_NET_RAW = 1 << 13;
const SEEN = `0x${capability(2, CAP_NET_RAW).toString('hex')}`;
/** user::rwx user:ID:r-- group::r-x mask::rwx other::r-- */
function acl(id: number): Buffer {
  const entries = [
    [1, 7, -1],
    [2, 4, id],
    [4, 5, -1],
    [16, 7, -1],
    [32, 4, -1],
  ] as const;
  const value = Buffer.alloc(4 + 8 * entries.length);
  value.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, who]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * i);
    value.writeUInt16LE(permissions, 6 + 8 * i);
    value.writeInt32LE(who, 8 + 8 * i);
  }
  return value;
}

/** The value of an xattr of `f`, too long for a line. */
function hasXattr(name: string, value: Buffer): Check {
  return ({ tree }) => {
    const fd = openat(-100, `${tree}/f`, O_PATH);
    assert.deepEqual(getxattr(fd, name), value);
  };
}

hostile('xattrs', [
  ['user.*', [x({ 'user.a': 'b', 'user.Ä ö': '\0\x01' })], ['f "x" user.a="b" user.Ä ö=0x0001']],
  ['with an empty value', [x({ 'user.a': '' })], ['f "x" user.a=""']],
  ['with control characters in the name', [x({ 'user.\x1b[2J\n': 'b' })], ['f "x" user.\\x1b[2J\\x0a="b"']],
  [
    'with control characters in a name that is refused',
    [x({ 'user.overlay.\x1b[2J': 'b' })],
    badArchive("entry 'f': xattr 'user.overlay.\\x1b[2J', which belongs to overlayfs"),
  ],
  ['a name of 255 bytes', [x({ [`user.${'n'.repeat(250)}`]: 'b' })], [`f "x" user.${'n'.repeat(250)}="b"`]],
  [
    'a name of 256 bytes',
    [x({ [`user.${'n'.repeat(251)}`]: 'b' })],
    badArchive("entry 'f': xattr name that is not valid"),
  ],
  ['without a name', [x({ '': 'b' })], badArchive("entry 'f': xattr name that is not valid")],
  ["the name 'user.' alone", [x({ 'user.': 'b' })], badArchive("entry 'f': xattr name that is not valid")],
  [
    'a value of 3000 bytes',
    [x({ 'user.a': Buffer.alloc(3000, 66) })],
    hasXattr('user.a', Buffer.alloc(3000, 66)),
  ],
  [
    'a value of 64 KiB and one byte',
    [x({ 'user.a': Buffer.alloc(65537) })],
    badArchive("entry 'f': xattr of 65537 bytes, more than 65536"),
  ],
  ['trusted.*', [x({ 'trusted.a': 'b' })], ['f "x" trusted.a="b"']],
  [
    'of namespaces that mean something to the host, or nothing',
    [
      x({
        'security.selinux': 'label',
        'security.ima': 'x',
        'security.evm': 'x',
        'security.apparmor': 'x',
        'system.nfs4_acl': 'x',
        'com.apple.quarantine': 'x',
        nothing: 'x',
      }),
    ],
    ['f "x"'],
  ],
  [
    'on directories',
    [x({ 'user.a': 'b' }, { name: 'd', type: '5', data: '', mode: 0o755 })],
    ['d/ user.a="b"'],
  ],
  [
    'user.* on symlinks, fifos and devices: the kernel has none there',
    [
      x({ 'user.a': 'b' }, { name: 'l', type: '2', linkName: 't', data: '' }),
      x({ 'user.a': 'b' }, { name: 'p', type: '6', data: '' }),
    ],
    ['l -> t', 'p p'],
  ],
  [
    'trusted.* on a symlink',
    [x({ 'trusted.a': 'b' }, { name: 'l', type: '2', linkName: 't', data: '' })],
    ['l -> t trusted.a="b"'],
  ],
  [
    'on a hard link: those of the target count',
    [file('a', 'x'), { ...hardLink('b', 'a'), pax: { 'SCHILY.xattr.user.a': 'b' } }],
    ['a "x"', 'b "x" = a'],
  ],
  [
    'in the coding of libarchive',
    [file('f', 'x', { pax: { 'LIBARCHIVE.xattr.user.a%3Db': 'AAE=' } })],
    ['f "x" user.a=b=0x0001'],
  ],
  [
    'in the coding of libarchive, not base64',
    [file('f', 'x', { pax: { 'LIBARCHIVE.xattr.user.a': '***' } })],
    badArchive("entry 'f': xattr value that is not base64"),
  ],
  [
    'in both codings: the last one',
    [file('f', 'x', { pax: { 'SCHILY.xattr.user.a': '1', 'LIBARCHIVE.xattr.user.a': 'Mg==' } })],
    ['f "x" user.a="2"'],
  ],
  [
    'the same one twice',
    [
      file('f', 'x', {
        pax: [
          ['SCHILY.xattr.user.a', '1'],
          ['SCHILY.xattr.user.a', '2'],
        ],
      }),
    ],
    ['f "x" user.a="2"'],
  ],
  [
    'file capabilities, version 2',
    [x({ 'security.capability': capability(2, CAP_NET_RAW) })],
    [`f "x" security.capability=${SEEN}`],
  ],
  [
    'file capabilities, version 3 of the container root',
    [x({ 'security.capability': capability(3, CAP_NET_RAW, 0) })],
    [`f "x" security.capability=${SEEN}`],
  ],
  [
    'file capabilities, version 3 of another id',
    [x({ 'security.capability': capability(3, CAP_NET_RAW, 1000) })],
    [`f "x" security.capability=0x${capability(3, CAP_NET_RAW, 1000).toString('hex')}`],
  ],
  [
    'file capabilities of root id 65536',
    [x({ 'security.capability': capability(3, CAP_NET_RAW, 65536) })],
    badArchive("entry 'f': file capabilities of root id 65536, not in the range 0 to 65535"),
  ],
  [
    'file capabilities of root id 2^32-1',
    [x({ 'security.capability': capability(3, CAP_NET_RAW, 2 ** 32 - 1) })],
    badArchive("entry 'f': file capabilities of root id 4294967295, not in the range 0 to 65535"),
  ],
  ...(
    [
      ['version 1', capability(1, CAP_NET_RAW)],
      [
        'version 4',
        (() => {
          const value = capability(3, 0);
          value[3] = 4;
          return value;
        })(),
      ],
      ['nothing', Buffer.alloc(0)],
      ['garbage', Buffer.from('garbage')],
      ['version 2 with the length of 3', Buffer.concat([capability(2, CAP_NET_RAW), Buffer.alloc(4)])],
    ] as const
  ).map(
    ([what, value]): Case => [
      `file capabilities: ${what}`,
      [x({ 'security.capability': value })],
      badArchive("entry 'f': file capabilities of an unknown version"),
    ],
  ),
  [
    'an ACL',
    [x({ 'system.posix_acl_access': acl(1000) }, { mode: 0o774 })],
    [`f "x" 774 system.posix_acl_access=0x${acl(1000).toString('hex')}`],
  ],
  [
    'a default ACL is not inherited by what comes with the layer',
    [
      x({ 'system.posix_acl_default': acl(1) }, { name: 'd', type: '5', data: '', mode: 0o755 }),
      file('d/f', 'x'),
    ],
    [`d/ system.posix_acl_default=0x${acl(1).toString('hex')}`, 'd/f "x"'],
  ],
  [
    'an ACL of id 65536',
    [x({ 'system.posix_acl_access': acl(65536) })],
    badArchive("entry 'f': an ACL with id 65536, not in the range 0 to 65535"),
  ],
  [
    'an ACL of id 2^32-2',
    [x({ 'system.posix_acl_access': acl(-2) })],
    badArchive("entry 'f': an ACL with id 4294967294, not in the range 0 to 65535"),
  ],
  [
    'an ACL of garbage',
    [x({ 'system.posix_acl_access': 'garbage' })],
    badArchive("entry 'f': an ACL that is not valid"),
  ],
  [
    'an ACL that only the kernel finds wrong',
    [x({ 'system.posix_acl_access': acl(1).subarray(0, 12) })],
    badArchive("entry 'f': xattr 'system.posix_acl_access' that the kernel finds invalid"),
  ],
  [
    'an ACL on a symlink',
    [x({ 'system.posix_acl_access': acl(1) }, { name: 'l', type: '2', linkName: 't', data: '' })],
    ['l -> t'],
  ],
  ['a default ACL on a file', [x({ 'system.posix_acl_default': acl(1) })], ['f "x"']],
  [
    'a default ACL that only the kernel finds wrong',
    [x({ 'system.posix_acl_default': acl(1).subarray(0, 12) }, { name: 'd', type: '5', data: '' })],
    badArchive("entry 'd': xattr 'system.posix_acl_default' that the kernel finds invalid"),
  ],
]);

const device = (
  name: string,
  type: '3' | '4',
  deviceMajor: number,
  deviceMinor: number,
  more: BuiltEntry = {},
): BuiltEntry => ({ name, type, deviceMajor, deviceMinor, ...more });
hostile('devices, fifos and sockets', [
  [
    'all kinds',
    [
      device('a', '3', 1, 3, { mode: 0o666 }),
      device('b', '4', 8, 0, { mode: 0o660, gid: 6 }),
      { name: 'c', type: '6', mode: 0o622, mtime: 5 },
    ],
    ['a c1:3 666', 'b b8:0 660 0:6', 'c p 622 @5'],
  ],
  ['a block device 0:0', [device('a', '4', 0, 0)], ['a b0:0']],
  [
    'a character device 0:0',
    [device('a', '3', 0, 0)],
    badArchive("entry 'a': a character device 0:0, which is a whiteout to overlayfs"),
  ],
  ['the largest numbers', [device('a', '3', 4095, 1048575)], ['a c4095:1048575']],
  [
    'a major number of 4096',
    [device('a', '3', 4096, 0)],
    badArchive("entry 'a': device major number 4096 is not in the range 0 to 4095"),
  ],
  [
    'a minor number of 2^20',
    [device('a', '4', 0, 1048576)],
    badArchive("entry 'a': device minor number 1048576 is not in the range 0 to 1048575"),
  ],
  [
    'numbers that wrap to 0:0',
    [device('a', '3', 0, 0, { patch: (h) => base256(2n ** 32n, 8).copy(h, 329) })],
    badArchive(/^entry 'a': device major number 4294967296 is not in the range/),
  ],
  [
    'negative numbers',
    [device('a', '3', 0, 0, { patch: (h) => base256(-1n, 8).copy(h, 337) })],
    badArchive("entry 'a': device minor number -1 is not in the range 0 to 1048575"),
  ],
  [
    'numbers of junk',
    [device('a', '3', 0, 0, { patch: (h) => h.write('zz', 329) })],
    badArchive("entry 'a': device major number is not a number"),
  ],
  [
    'numbers of a PAX record of star',
    [device('a', '3', 0, 0, { pax: { 'SCHILY.devmajor': '1', 'SCHILY.devminor': '5' } })],
    ['a c1:5'],
  ],
  ['numbers on a file mean nothing', [file('f', 'x', { deviceMajor: 99999, deviceMinor: 5 })], ['f "x"']],
  [
    'a socket has no type in tar',
    [{ name: 's', type: 's' }],
    badArchive("entry 's': entry type 's' is not supported"),
  ],
  ['a fifo with a size', [{ name: 'p', type: '6', size: 1000 }, file('f', 'x')], ['f "x"', 'p p']],
  ['data written to a fifo of the same name', [{ name: 'p', type: '6' }, file('p', 'x')], ['p "x"']],
  ['data written to a device of the same name', [device('n', '4', 8, 0), file('n', 'x')], ['n "x"']],
]);
