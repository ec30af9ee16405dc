/** Tar headers: v7, ustar and GNU, numbers and times, the end; what is ambiguous or broken is refused with its place. */
import {
  type BuiltEntry,
  base256,
  directory,
  file,
  symlink,
  tar,
  tarEntry,
  tarHeader,
} from '../unit/archive/tar-builder.ts';
import { badArchive, type Case, hostile, layered } from './harness.ts';

const x = (pax: NonNullable<BuiltEntry['pax']>, more: BuiltEntry = {}): BuiltEntry => ({
  name: 'f',
  data: 'x',
  pax,
  ...more,
});
const octal = (text: string) => Buffer.from(text, 'latin1');
const END = Buffer.alloc(1024);
const bare = (...entries: BuiltEntry[]) => Buffer.concat(entries.map(tarEntry));
const layer = (bytes: Buffer) => layered(bytes);

hostile('headers', [
  [
    'v7',
    [
      { name: 'd/', type: '\0', magic: 'v7', mode: 0o700 },
      { name: 'd/f', type: '\0', magic: 'v7', data: 'x' },
      { name: 'd/l', type: '2', magic: 'v7', linkName: 'f' },
    ],
    ['d/ 700', 'd/f "x"', 'd/l -> f'],
  ],
  ['ustar with a prefix', [{ name: 'c', prefix: 'a/b', data: 'x' }], ['a/', 'a/b/', 'a/b/c "x"']],
  [
    'a prefix of 155 and a name of 100 bytes',
    [{ name: 'n'.repeat(100), prefix: 'p'.repeat(155), data: 'x' }],
    [`${'p'.repeat(155)}/`, `${'p'.repeat(155)}/${'n'.repeat(100)} "x"`],
  ],
  [
    'GNU magic with a prefix: no part of the name',
    [{ name: 'f', prefix: '00012345', magic: 'gnu', data: 'x' }],
    ['f "x"'],
  ],
  ['the contiguous file 7', [{ name: 'f', type: '7', data: 'x' }], ['f "x"']],
  ['a volume label', [{ name: 'label', type: 'V' }, file('f', 'x')], ['f "x"']],
  ...['M', 'D', 'N', 'A', 'Z', '8', '9', ' ', '\xff'.slice(0, 1)].map(
    (type): Case => [
      `the type ${JSON.stringify(type)}`,
      [{ name: 'f', patch: (header) => header.writeUInt8(type.charCodeAt(0), 156), data: 'x' }],
      badArchive(/^entry 'f': entry type '.{1,4}' is not supported$/),
    ],
  ),
  ['an empty archive of two blocks', layer(END), []],
  ['an archive of no bytes at all', layer(Buffer.alloc(0)), []],
  ['one block of zeros', layer(Buffer.alloc(512)), []],
  ['a hundred blocks of zeros', layer(Buffer.alloc(51200)), []],
  ['no end at all', layer(bare(file('f', 'x'))), ['f "x"']],
  ['one block for an end', layer(Buffer.concat([bare(file('f', 'x')), Buffer.alloc(512)])), ['f "x"']],
  ['the last padding missing', layer(bare(file('f', 'x')).subarray(0, 513)), ['f "x"']],
  ['junk after the end', layer(Buffer.concat([tar(file('f', 'x')), Buffer.from('junk')])), ['f "x"']],
  [
    'a second archive after the end',
    layer(Buffer.concat([tar(file('f', 'x')), tar(file('g', 'y'))])),
    ['f "x"'],
  ],
  [
    'a header after one block of zeros',
    layer(Buffer.concat([bare(file('f', 'x')), Buffer.alloc(512), tar(file('g', 'y'))])),
    badArchive('tar header at byte 1536: a header after a block of zeros, which ends an archive'),
  ],
  [
    'cut in a header',
    layer(tar(file('f', 'x')).subarray(0, 300)),
    badArchive('tar header at byte 0: the archive is cut short'),
  ],
  [
    'cut in the data',
    layer(tar(file('f', 'x'.repeat(5000))).subarray(0, 3000)),
    badArchive("entry 'f': the archive is cut short"),
  ],
  [
    'cut in an extended header',
    layer(tar(x({ path: 'long' })).subarray(0, 700)),
    badArchive('tar header at byte 0: the archive is cut short'),
  ],
  [
    'text instead of an archive',
    layer(Buffer.from('This is not a tar archive.\n'.repeat(50))),
    badArchive('tar header at byte 0: wrong checksum: this is not a tar header'),
  ],
  [
    'a wrong checksum',
    [file('a', 'x'), { name: 'f', checksum: 'wrong' }],
    badArchive('tar header at byte 1024: wrong checksum: this is not a tar header'),
  ],
  ['a signed checksum', [{ name: Buffer.from('é'), data: 'x', checksum: 'signed' }], ['é "x"']],
  [
    'a checksum without its NUL and space',
    layer(Buffer.concat([withChecksum(tarHeader(file('f'))), END])),
    ['f ""'],
  ],
  [
    'a header of one byte and zeros',
    layer(Buffer.concat([Buffer.from([65]), Buffer.alloc(1023)])),
    badArchive('tar header at byte 0: wrong checksum: this is not a tar header'),
  ],
]);

/** The same sum, written as seven digits and a space. */
function withChecksum(header: Buffer): Buffer {
  const sum = Number.parseInt(header.toString('latin1', 148, 154), 8);
  header.write(`${sum.toString(8).padStart(7, '0')} `, 148, 8, 'latin1');
  return header;
}

hostile('numbers', [
  ['a size with spaces', [{ name: 'f', size: octal('          1 '), data: 'x' }], ['f "x"']],
  ['a size without an end', [{ name: 'f', size: octal('000000000001'), data: 'x' }], ['f "x"']],
  ['a size in base-256', [{ name: 'f', size: base256(1n, 12), data: 'x' }], ['f "x"']],
  ['a size of junk', [{ name: 'f', size: octal('12junk') }], badArchive("entry 'f': size is not a number")],
  [
    'a size of 8 and 9',
    [{ name: 'f', size: octal('00000000018\0') }],
    badArchive("entry 'f': size is not a number"),
  ],
  [
    'a size in decimal with a minus',
    [{ name: 'f', size: octal('-1\0') }],
    badArchive("entry 'f': size is not a number"),
  ],
  [
    'a size of -1',
    [{ name: 'f', size: base256(-1n, 12) }],
    badArchive("entry 'f': size -1 is not in the range 0 to 9007199254740991"),
  ],
  [
    'a size of 2^63',
    [{ name: 'f', size: base256(2n ** 63n, 12) }],
    badArchive(/^entry 'f': size 9223372036854776000 is not in the range/),
  ],
  [
    'a size of 2^95',
    [{ name: 'f', size: base256(2n ** 93n, 12) }],
    badArchive(/^entry 'f': size [0-9.e+]+ is not in the range/),
  ],
  [
    'a size of 8 GiB without them',
    [{ name: 'f', size: octal('77777777777\0') }],
    badArchive("entry 'f': the archive is cut short"),
  ],
  [
    'a size larger than the archive',
    [{ name: 'f', size: 5000, data: 'x' }],
    badArchive("entry 'f': the archive is cut short"),
  ],
  [
    'sizes on what has no data are not skipped',
    [
      directory('d', 0o755, { size: 512 }),
      symlink('l', 'x'),
      { name: 'p', type: '6', size: 9999 },
      file('f', 'x'),
    ],
    ['d/', 'f "x"', 'l -> x', 'p p'],
  ],
  [
    'an empty mode, uid, gid and mtime',
    [{ name: 'f', data: 'x', mode: 0, patch: (h) => h.fill(0, 100, 124) }],
    ['f "x" 0'],
  ],
  [
    'a mode of junk',
    [{ name: 'f', patch: (h) => h.write('rwxr-xr', 100) }],
    badArchive("entry 'f': mode is not a number"),
  ],
  ['a mode with the file type in it', [{ name: 'f', data: 'x', mode: 0o120644 }], ['f "x"']],
  [
    'a mode of base-256',
    [{ name: 'f', data: 'x', patch: (h) => base256(0o640n, 8).copy(h, 100) }],
    ['f "x" 640'],
  ],
  [
    'a negative mode',
    [{ name: 'f', patch: (h) => base256(-1n, 8).copy(h, 100) }],
    badArchive("entry 'f': mode -1 is not in the range 0 to 2097151"),
  ],
  [
    'setuid, setgid and sticky',
    [
      file('a', '', { mode: 0o4755 }),
      file('b', '', { mode: 0o2755 }),
      directory('c', 0o1777),
      directory('d', 0o6777),
      file('e', '', { mode: 0o7777, uid: 5, gid: 6 }),
    ],
    ['a "" 4755', 'b "" 2755', 'c/ 1777', 'd/ 6777', 'e "" 7777 5:6'],
  ],
]);

const LAST_TIME = 15032385535; // of ext4 with 256-byte inodes
hostile('times', [
  ...(
    [
      ['of the header', { mtime: 1234567890 }, '1234567890'],
      ['of the header, negative', { mtime: base256(-86400n, 12) }, '-86400'],
      ['nanoseconds', { pax: { mtime: '1.000000001' } }, '1.000000001'],
      ['more digits than nanoseconds', { pax: { mtime: '1.9999999999' } }, '1.999999999'],
      ['negative, with a fraction', { pax: { mtime: '-1.5' } }, '-2.500000000'],
      ['negative zero', { pax: { mtime: '-0.000000000' }, mtime: 5 }, undefined],
      ['after 2038', { mtime: 2 ** 31 + 1 }, '2147483649'],
      ['after 2106', { pax: { mtime: '4294967297.25' } }, '4294967297.250000000'],
      ['before 1901', { pax: { mtime: '-2147483648' } }, '-2147483648'],
      [
        'after year 9999: the last one of the file system',
        { pax: { mtime: '253402300800' } },
        String(LAST_TIME),
      ],
      ['an empty PAX time: that of the header', { pax: { mtime: '' }, mtime: 5 }, '5'],
    ] as const
  ).map(
    ([what, entry, time]): Case => [
      `mtime ${what}`,
      [
        file('f', 'x', entry as BuiltEntry),
        directory('d', 0o755, entry as BuiltEntry),
        { ...symlink('l', 'x'), ...(entry as BuiltEntry) },
      ],
      ['d/', 'f "x"', 'l -> x'].map((line) => (time === undefined ? line : `${line} @${time}`)),
    ],
  ),
  ...['1e9', 'now', '0x1', '1,5', '1.5.5', ' 1', '1 ', '9'.repeat(30), 'NaN', '--1'].map(
    (mtime): Case => [
      `mtime ${JSON.stringify(mtime)}`,
      [file('f', 'x', { pax: { mtime } })],
      badArchive("entry 'f': mtime is not a time"),
    ],
  ),
]);
