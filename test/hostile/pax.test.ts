/** Extended headers: PAX records, local and global, and GNU long names; what lies about its length is refused. */
import {
  type BuiltEntry,
  base256,
  directory,
  file,
  gnuLong,
  hardLink,
  padded,
  paxHeader,
  paxRecord,
  tar,
  tarHeader,
} from '../unit/archive/tar-builder.ts';
import { badArchive, type Case, hostile, layered } from './harness.ts';

const x = (pax: NonNullable<BuiltEntry['pax']>, more: BuiltEntry = {}): BuiltEntry => ({
  name: 'f',
  data: 'x',
  pax,
  ...more,
});
/** An extended header with these bytes for records. */
const rawPax = (records: string | Buffer, type = 'x'): Buffer =>
  Buffer.concat([tarHeader({ name: 'pax', type, size: records.length }), padded(Buffer.from(records))]);
const layer = (bytes: Buffer) => layered(bytes);

hostile('PAX', [
  [
    'all keys',
    [
      x({
        path: 'p/ä',
        size: '1',
        uid: '7',
        gid: '8',
        mtime: '9',
        atime: '1',
        ctime: '2',
        uname: 'root',
        gname: 'wheel',
        comment: 'c',
        charset: 'ISO-IR 10646 2000 UTF-8',
        hdrcharset: 'ISO-IR 10646 2000 UTF-8',
        'realtime.x': 'y',
        'VENDOR.key': '=',
      }),
    ],
    ['p/', 'p/ä "x" 7:8 @9'],
  ],
  [
    'uname and gname are not asked for',
    [
      {
        name: 'f',
        data: 'x',
        uid: 12,
        gid: 34,
        patch: (h) => {
          h.write('root', 265);
          h.write('root', 297);
        },
      },
    ],
    ['f "x" 12:34'],
  ],
  [
    'linkpath',
    [{ name: 'l', type: '2', linkName: 'no', pax: { linkpath: 'ä'.repeat(100) } }],
    [`l -> ${'ä'.repeat(100)}`],
  ],
  [
    'linkpath of a hard link',
    [file('ä', 'x'), { name: 'z', type: '1', linkName: 'no', pax: { linkpath: 'ä' } }],
    ['z "x"', 'ä "x" = z'],
  ],
  [
    'hdrcharset=BINARY',
    [
      x([
        ['hdrcharset', 'BINARY'],
        ['path', Buffer.from([0xff, 0xfe])],
      ]),
    ],
    ['\\xff\\xfe "x"'],
  ],
  ['bytes that are not UTF-8, without hdrcharset', [x([['path', Buffer.from([0xff])]])], ['\\xff "x"']],
  ['a size override, larger', [{ name: 'f', size: 0, data: 'hello', pax: { size: '5' } }], ['f "hello"']],
  [
    'a size override, smaller',
    layer(
      Buffer.concat([
        paxHeader({ size: '1' }),
        tarHeader({ name: 'f', size: 600 }),
        padded(Buffer.from('x')),
        tar(file('g', 'y')),
      ]),
    ),
    ['f "x"', 'g "y"'],
  ],
  [
    'a size override of an unreal size',
    [x({ size: '99999999999999' })],
    badArchive("entry 'f': the archive is cut short"),
  ],
  [
    'a size override that is negative',
    [x({ size: '-1' })],
    badArchive("entry 'f': size -1 is not in the range 0 to 9007199254740991"),
  ],
  ['a size override that is no number', [x({ size: '0x10' })], badArchive("entry 'f': size is not a number")],
  [
    'a size override of 2^64',
    [x({ size: '18446744073709551616' })],
    badArchive(/^entry 'f': size 18446744073709552000 is not in the range/),
  ],
  [
    'a size override on a directory is not skipped',
    [directory('d', 0o755, { pax: { size: '512' } }), file('f', 'x')],
    ['d/', 'f "x"'],
  ],
  [
    'the same key twice: the last counts',
    [
      x([
        ['path', 'a'],
        ['path', 'b'],
      ]),
    ],
    ['b "x"'],
  ],
  [
    'an empty value takes back the one before',
    [
      x([
        ['path', 'a'],
        ['path', ''],
      ]),
    ],
    ['f "x"'],
  ],
  [
    'two extended headers: the last one counts',
    [paxHeader({ path: 'a', uid: '5' }), x({ path: 'b' })],
    ['b "x"'],
  ],
  ['of one entry only', [x({ uid: '5' }), file('g', 'y')], ['f "x" 5:0', 'g "y"']],
  ['a newline and an equals sign in a value', [x({ path: 'a\nb=c' })], ['a\\x0ab=c "x"']],
  [
    'keys that look like others',
    [x({ PATH: 'no', 'path ': 'no', 'SCHILY.path': 'no', __proto__x: 'no', constructor: 'no' })],
    ['f "x"'],
  ],
  [
    'the key __proto__',
    [
      x([
        ['__proto__', 'no'],
        ['uid', '3'],
      ]),
    ],
    ['f "x" 3:0'],
  ],
  ...(
    [
      ['without a length', 'path=a\n', 'PAX record without a length'],
      ['length 0', '0 path=a\n', 'PAX record whose length is wrong'],
      ['length too small', '4 path=a\n', 'PAX record whose length is wrong'],
      ['length too large', '99 path=a\n', 'PAX record whose length is wrong'],
      ['length beyond any number', '99999999999999999999 path=a\n', 'PAX record without a length'],
      ['negative length', '-9 path=a\n', 'PAX record without a length'],
      ['no newline at the end', '10 path=ab', 'PAX record whose length is wrong'],
      ['no equals sign', '8 patha\n', 'PAX record without KEY=VALUE'],
      ['no key', '5 =a\n', 'PAX record without KEY=VALUE'],
      ['a NUL in the key', '11 pa\0th=a\n', 'NUL in the key of a PAX record'],
      ['records and then NULs', '10 path=a\n\0\0', 'PAX record without a length'],
      ['hexadecimal length', '0xA path=a\n', 'PAX record without a length'],
    ] as const
  ).map(
    ([what, records, reason]): Case => [
      `a record with ${what}`,
      [rawPax(records), file('f', 'x')],
      badArchive(`tar header at byte 0: ${reason}`),
    ],
  ),
  [
    'a header at the end without its entry',
    [paxHeader({ path: 'a' })],
    badArchive('tar header at byte 1024: the archive ends after an extended header, without its entry'),
  ],
  [
    'a header at the end of the file without its entry',
    layer(paxHeader({ path: 'a' })),
    badArchive(/the archive is cut short$/),
  ],
  ['an empty extended header', [rawPax(''), file('f', 'x')], ['f "x"']],
  [
    'a claim of 4 GiB',
    [tarHeader({ name: 'pax', type: 'x', size: base256(2n ** 32n, 12) })],
    badArchive(
      /^tar header at byte 0: extended header of 4294967296 bytes, more than 1048576 |^entry 'pax': extended header of 4294967296 bytes, more than 1048576 /,
    ),
  ],
  [
    'a global claim of 4 GiB',
    [tarHeader({ name: 'pax', type: 'g', size: base256(2n ** 32n, 12) })],
    badArchive(/extended header of 4294967296 bytes, more than 1048576 /),
  ],
  [
    'a header of a megabyte and one byte',
    [rawPax(paxRecord('comment', Buffer.alloc(1024 * 1024, 65))), file('f', 'x')],
    badArchive(/extended header of 10485[0-9]{2} bytes, more than 1048576 /),
  ],
  [
    'a header of nearly a megabyte',
    [rawPax(paxRecord('comment', Buffer.alloc(1024 * 1024 - 100, 65))), file('f', 'x')],
    ['f "x"'],
  ],
  [
    'many large headers before one entry',
    [
      ...Array.from({ length: 4 }, () => rawPax(paxRecord('comment', Buffer.alloc(900_000, 65)))),
      file('f', 'x'),
    ],
    badArchive(/more than 1048576 for one or 2097152 for all of an entry/),
  ],
  [
    'many large headers, each before an entry',
    Array.from({ length: 4 }, (_, i) => [
      rawPax(paxRecord('comment', Buffer.alloc(900_000, 65))),
      file(`f${i}`, 'x'),
    ]).flat(),
    ['f0 "x"', 'f1 "x"', 'f2 "x"', 'f3 "x"'],
  ],
  [
    'global: comments and unknown keys do nothing',
    [paxHeader({ comment: 'from git' }, 'g'), file('f', 'x')],
    ['f "x"'],
  ],
  [
    'global: owner and time of all that follows',
    [
      file('a', '1'),
      paxHeader({ uid: '5', gid: '6', mtime: '7' }, 'g'),
      file('b', '2'),
      file('c', '3', { pax: { uid: '9' } }),
    ],
    ['a "1"', 'b "2" 5:6 @7', 'c "3" 9:6 @7'],
  ],
  [
    'global: xattrs do not apply',
    [paxHeader({ 'SCHILY.xattr.user.a': 'b' }, 'g'), file('f', 'x')],
    ['f "x"'],
  ],
  [
    'global: a bad owner is the fault of the entry',
    [paxHeader({ uid: '70000' }, 'g'), file('f', 'x')],
    badArchive("entry 'f': uid 70000 is not in the range 0 to 65535"),
  ],
  [
    "global: a path for all: the last entry's",
    [paxHeader({ path: 'p' }, 'g'), file('a', '1'), file('b', '2')],
    ['p "2"'],
  ],
  [
    "global: '..' in a path",
    [paxHeader({ path: '../p' }, 'g'), file('a')],
    badArchive("entry '../p': '..' in its path"),
  ],
  ['global: at the end', [file('f', 'x'), paxHeader({ uid: '5' }, 'g')], ['f "x"']],
  [
    'star: the prefix ends after 131 bytes',
    [
      {
        name: 'f',
        data: 'x',
        prefix: 'p'.repeat(131),
        patch: (h) => {
          h.write('00000000000\x0000000000000\0', 476, 'latin1');
          h.write('tar\0', 508, 'latin1');
        },
      },
    ],
    [`${'p'.repeat(131)}/`, `${'p'.repeat(131)}/f "x"`],
  ],
]);

hostile('GNU', [
  [
    'a long name and a long link',
    [
      gnuLong('K', 't'.repeat(200)),
      gnuLong('L', 'n'.repeat(200)),
      { name: 'cut', type: '2', linkName: 'cut', magic: 'gnu' },
    ],
    [`${'n'.repeat(200)} -> ${'t'.repeat(200)}`],
  ],
  [
    'a long name for each of two',
    [gnuLong('L', 'a'.repeat(120)), file('x', '1'), file('b', '2')],
    [`${'a'.repeat(120)} "1"`, 'b "2"'],
  ],
  [
    'two long names: the last counts',
    [gnuLong('L', 'one'), gnuLong('L', 'two'), file('f', 'x')],
    ['two "x"'],
  ],
  [
    'a long link of a hard link',
    [file('t', 'x'), gnuLong('K', './././t'), hardLink('z', 'no')],
    ['t "x"', 'z "x" = t'],
  ],
  [
    'a long name without NUL',
    [
      Buffer.concat([
        tarHeader({ name: '././@LongLink', type: 'L', size: 4, magic: 'gnu' }),
        padded(Buffer.from('abcd')),
      ]),
      file('f', 'x'),
    ],
    ['abcd "x"'],
  ],
  ['a long name and a PAX path', [gnuLong('L', 'gnu'), x({ path: 'pax' })], ['gnu "x"']],
  [
    'a long name at the end',
    [gnuLong('L', 'a')],
    badArchive(/the archive ends after an extended header, without its entry$/),
  ],
  [
    'a long name of 1 GiB',
    [tarHeader({ name: 'L', type: 'L', size: 2 ** 30, magic: 'gnu' })],
    badArchive(/extended header of 1073741824 bytes, more than 4096 /),
  ],
]);
