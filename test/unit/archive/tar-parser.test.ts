/**
 * The tar parser against archives made by hand, by GNU tar and by Python's tarfile: every dialect, every limit.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { TarEntry } from '../../../src/archive/tar-entry.ts';
import { createTarParser } from '../../../src/archive/tar-parser.ts';
import { OciError } from '../../../src/oci/errors.ts';
import {
  type BuiltEntry,
  base256,
  directory,
  file,
  gnuLong,
  padded,
  paxHeader,
  tar,
  tarEntry,
  tarHeader,
} from './tar-builder.ts';

interface Parsed extends TarEntry {
  content: Buffer;
  extents: [offset: number, bytes: number][];
}

function parse(archive: Buffer, pieces = archive.length): Parsed[] {
  const entries: Parsed[] = [];
  let current: Parsed | undefined;
  let chunks: Buffer[] = [];
  const parser = createTarParser({
    entry(entry) {
      current = { ...entry, content: Buffer.alloc(0), extents: [] };
      entries.push(current);
      chunks = [];
    },
    data(bytes, offset) {
      chunks.push(Buffer.from(bytes));
      const last = current!.extents.at(-1);
      if (last !== undefined && last[0] + last[1] === offset) last[1] += bytes.length;
      else current!.extents.push([offset, bytes.length]);
    },
    end() {
      current!.content = Buffer.concat(chunks);
      current = undefined;
    },
  });
  for (let at = 0; at < archive.length; at += pieces) parser.push(archive.subarray(at, at + pieces));
  parser.end();
  return entries;
}

function one(...parts: (BuiltEntry | Buffer)[]): Parsed {
  const entries = parse(tar(...parts));
  assert.equal(entries.length, 1);
  return entries[0]!;
}

function refused(archive: Buffer, reason: string): void {
  assert.throws(
    () => parse(archive),
    (error) => {
      assert(error instanceof OciError, String(error));
      assert.deepEqual([error.code, error.message], ['BAD_ARCHIVE', reason]);
      return true;
    },
  );
}

const scratch = mkdtempSync(join(tmpdir(), 'tar-parser-'));
after(() => rmSync(scratch, { recursive: true }));

describe('headers', () => {
  it('reads every field of ustar, with its prefix', () => {
    const entry = one({
      name: 'b/c',
      prefix: 'a',
      data: 'hello',
      mode: 0o104755,
      uid: 12,
      gid: 65535,
      mtime: 1234567890,
    });
    assert.deepEqual(
      { ...entry, content: String(entry.content) },
      {
        type: 'file',
        path: 'a/b/c',
        linkPath: '',
        mode: 0o4755,
        uid: 12,
        gid: 65535,
        mtime: { seconds: 1234567890, nanoseconds: 0 },
        size: 5,
        sparse: false,
        deviceMajor: 0,
        deviceMinor: 0,
        xattrs: undefined,
        content: 'hello',
        extents: [[0, 5]],
      },
    );
  });

  const types: [string, string][] = [
    ['\0', 'file'],
    ['0', 'file'],
    ['7', 'file'],
    ['1', 'hardLink'],
    ['2', 'symlink'],
    ['3', 'characterDevice'],
    ['4', 'blockDevice'],
    ['5', 'directory'],
    ['6', 'fifo'],
  ];
  for (const [flag, type] of types)
    it(`type ${JSON.stringify(flag)} is a ${type}`, () => {
      const entry = one({ name: 'n', type: flag, linkName: 't', deviceMajor: 4095, deviceMinor: 1048575 });
      const link = type === 'hardLink' || type === 'symlink';
      const device = type.endsWith('Device');
      assert.deepEqual(
        [entry.type, entry.linkPath, entry.deviceMajor, entry.deviceMinor],
        [type, link ? 't' : '', device ? 4095 : 0, device ? 1048575 : 0],
      );
    });

  it('v7: no prefix, a trailing slash makes a directory', () => {
    const entries = parse(
      tar(
        { name: 'd/', type: '\0', magic: 'v7', prefix: 'no' },
        { name: 'f', type: '\0', magic: 'v7', data: 'x' },
      ),
    );
    assert.deepEqual(
      entries.map(({ type, path }) => [type, path]),
      [
        ['directory', 'd/'],
        ['file', 'f'],
      ],
    );
  });
  it('GNU magic: what ustar calls prefix is not part of the name', () =>
    assert.equal(one({ name: 'f', magic: 'gnu', prefix: '00001' }).path, 'f'));
  it('star: the prefix ends after 131 bytes', () => {
    const entry = one({
      name: 'f',
      prefix: 'p'.repeat(131),
      patch: (header) => {
        header.write('00000000000\x0000000000000\0', 476, 'latin1');
        header.write('tar\0', 508, 'latin1');
      },
    });
    assert.equal(entry.path, `${'p'.repeat(131)}/f`);
  });
  it('the checksum may be added signed', () =>
    assert.equal(one({ name: Buffer.from([0xff, 0xe9]), checksum: 'signed' }).path, 'ÿé'));
  it('names are bytes', () => assert.equal(one({ name: Buffer.from('é') }).path, '\xc3\xa9'));
  it('only files have data: the size of others is ignored', () =>
    assert.deepEqual(
      parse(
        tar(
          { name: 'l', type: '1', linkName: 'x', size: 4096 },
          { name: 'd/', type: '5', size: 99 },
          file('f', 'x'),
        ),
      ).map(({ path, size }) => [path, size]),
      [
        ['l', 0],
        ['d/', 0],
        ['f', 1],
      ],
    ));
  it('base-256 numbers, also negative times', () => {
    const entry = one({
      uid: base256(65535n, 8),
      size: base256(3n, 12),
      data: 'abc',
      mtime: base256(-86400n, 12),
    });
    assert.deepEqual([entry.uid, entry.size, entry.mtime.seconds], [65535, 3, -86400]);
  });
  it('numbers may be padded with spaces or be empty', () => {
    const entry = one({
      uid: Buffer.from('   17 \0\0'),
      gid: Buffer.alloc(8),
      mtime: Buffer.from('        7 \0 '),
    });
    assert.deepEqual([entry.uid, entry.gid, entry.mtime.seconds], [0o17, 0, 7]);
  });
  it('a volume header is skipped', () => assert.equal(one({ name: 'V', type: 'V' }, file('f')).path, 'f'));

  const ids: [string, number | Buffer, string][] = [
    ['65536', 65536, '65536'],
    ['2097151', 2097151, '2097151'],
    ['4294967295', base256(4294967295n, 8), '4294967295'],
    ['2^32', base256(2n ** 32n, 8), '4294967296'],
    ['-1', base256(-1n, 8), '-1'],
    ['2^40', base256(2n ** 40n, 8), '1099511627776'],
  ];
  for (const [what, value, shown] of ids)
    it(`id ${what} is refused`, () => {
      refused(tar({ name: 'evil', uid: value }), `entry 'evil': uid ${shown} is not in the range 0 to 65535`);
      refused(tar({ name: 'evil', gid: value }), `entry 'evil': gid ${shown} is not in the range 0 to 65535`);
    });
  for (const value of [
    '65536',
    '-1',
    '4294967295',
    '4294967296',
    '18446744073709551616',
    `1${'0'.repeat(39)}`,
  ])
    it(`PAX id ${value} is refused`, () =>
      refused(
        tar({ name: 'evil', pax: { uid: value } }),
        `entry 'evil': uid ${Number(value)} is not in the range 0 to 65535`,
      ));
});

describe('PAX', () => {
  it('path, linkpath, size, ids and times replace the header', () => {
    const long = `${'d/'.repeat(200)}é`;
    const entry = one({
      name: 'short',
      type: '0',
      size: 0,
      pax: { path: long, size: '0', uid: '1', gid: '2', mtime: '-1.5', atime: '1', comment: 'x' },
    });
    assert.deepEqual(
      [Buffer.from(entry.path, 'latin1').toString(), entry.uid, entry.gid, entry.mtime],
      [long, 1, 2, { seconds: -2, nanoseconds: 500000000 }],
    );
    assert.equal(one({ type: '2', linkName: 's', pax: { linkpath: 'é/..' } }).linkPath, '\xc3\xa9/..');
  });
  const times: [string, number, number][] = [
    ['0', 0, 0],
    ['1.000000001', 1, 1],
    ['1.9999999999', 1, 999999999],
    ['-0', 0, 0],
    ['-0.000000001', -1, 999999999],
    ['-0.0000000001', -1, 999999999],
    ['-7', -7, 0],
    ['253402300799.5', 253402300799, 500000000],
    ['5.', 5, 0],
  ];
  for (const [text, seconds, nanoseconds] of times)
    it(`time ${text}`, () => assert.deepEqual(one({ pax: { mtime: text } }).mtime, { seconds, nanoseconds }));
  for (const text of ['x', '1e9', '--1', '99999999999999999999', ' 1'])
    it(`time ${JSON.stringify(text)} is refused`, () =>
      refused(tar({ name: 'f', pax: { mtime: text } }), "entry 'f': mtime is not a time"));
  it('xattrs of both kinds', () => {
    const { xattrs } = one({
      pax: {
        'SCHILY.xattr.user.a': Buffer.from([0, 10, 255]),
        'SCHILY.xattr.user.empty': '',
        'LIBARCHIVE.xattr.user.b%3Dc': Buffer.from('value').toString('base64'),
      },
    });
    assert.deepEqual(
      [...xattrs!],
      [
        ['user.a', Buffer.from([0, 10, 255])],
        ['user.empty', Buffer.alloc(0)],
        ['user.b=c', Buffer.from('value')],
      ],
    );
  });
  it('counts for one entry only', () =>
    assert.deepEqual(
      parse(tar({ name: 'a', pax: { uid: '5' } }, { name: 'b' })).map(({ uid }) => uid),
      [5, 0],
    ));
  it('a global header counts for all that follow, until it is taken back', () => {
    const entries = parse(
      tar(
        paxHeader({ uid: '5', comment: 'x', 'SCHILY.xattr.user.no': 'x' }, 'g'),
        file('a'),
        file('b', '', { pax: { uid: '6' } }),
        file('c', '', { pax: { uid: '' } }),
        paxHeader({ uid: '' }, 'g'),
        file('d'),
      ),
    );
    assert.deepEqual(
      entries.map(({ uid, xattrs }) => [uid, xattrs]),
      [
        [5, undefined],
        [6, undefined],
        [0, undefined],
        [0, undefined],
      ],
    );
  });
  it('GNU long names and links', () => {
    const name = 'n'.repeat(250);
    assert.equal(one(gnuLong('L', name), { name: 'cut' }).path, name);
    const entry = one(gnuLong('K', name), gnuLong('L', 'x'), {
      type: '2',
      linkName: 'cut',
      pax: { path: 'loses' },
    });
    assert.deepEqual([entry.linkPath, entry.path], [name, 'x']);
  });

  const bad: [string, Buffer, string][] = [
    ['no length', Buffer.from('x path=a\n'), 'PAX record without a length'],
    ['length too long', Buffer.from('99 path=a\n'), 'PAX record whose length is wrong'],
    ['length too short', Buffer.from('5 path=abc\n'), 'PAX record whose length is wrong'],
    ['no newline', Buffer.from('9 path=ab'), 'PAX record whose length is wrong'],
    ['no equals sign', Buffer.from('9 pathab\n'), 'PAX record without KEY=VALUE'],
    ['no key', Buffer.from('5 =a\n'), 'PAX record without KEY=VALUE'],
    ['length 0', Buffer.from('0 a=b\n'), 'PAX record whose length is wrong'],
    ['NUL in the key', Buffer.from('8 a\0b=c\n'), 'NUL in the key of a PAX record'],
  ];
  for (const [what, data, reason] of bad)
    it(`${what} is refused`, () =>
      refused(
        Buffer.concat([tarHeader({ type: 'x', size: data.length }), padded(data), tar({ name: 'f' })]),
        `tar header at byte 0: ${reason}`,
      ));
  it('a claim of 4 GiB is refused at once, without memory', () => {
    for (const type of ['x', 'g', 'L', 'K']) {
      const max = type === 'L' || type === 'K' ? 4096 : 1048576;
      refused(
        tarHeader({ name: 'pax', type, size: base256(2n ** 32n, 12) }),
        `entry 'pax': extended header of 4294967296 bytes, more than ${max} for one or 2097152 for all of an entry`,
      );
    }
  });
  it('a chain of extended headers in front of one entry is bounded', () => {
    const header = paxHeader({ comment: 'c'.repeat(900_000) });
    refused(
      tar(header, header, header),
      "entry 'PaxHeaders/0': extended header of 900016 bytes, more than 1048576 for one or 2097152 for all of an entry",
    );
  });
  it('an extended header without its entry is refused', () => {
    refused(
      tar(paxHeader({ uid: '1' })),
      'tar header at byte 1024: the archive ends after an extended header, without its entry',
    );
    refused(paxHeader({ uid: '1' }), 'tar header at byte 0: the archive is cut short');
  });
  it('names longer than PATH_MAX and NULs in names are refused', () => {
    const long = 'a/'.repeat(2048);
    assert.throws(() => one({ pax: { path: long } }), /: name of 4096 bytes, more than 4095$/);
    assert.throws(
      () => one({ type: '2', pax: { linkpath: long } }),
      /: link target of 4096 bytes, more than 4095$/,
    );
    refused(tar({ pax: { path: 'a\0b' } }), "entry 'a\\x00b': NUL in its name");
    refused(tar({ name: 's', type: '2', pax: { linkpath: 'a\0b' } }), "entry 's': NUL in its link target");
  });
  it('bad xattrs are refused', () => {
    refused(
      tar({ name: 'f', pax: { 'SCHILY.xattr.user.\0x': '' } }),
      'tar header at byte 0: NUL in the key of a PAX record',
    );
    refused(
      tar({ name: 'f', pax: { 'LIBARCHIVE.xattr.user.%00x': '' } }),
      "entry 'f': xattr name that is not valid",
    );
    refused(
      tar({ name: 'f', pax: { 'LIBARCHIVE.xattr.user.x': '*' } }),
      "entry 'f': xattr value that is not base64",
    );
    refused(
      tar({ name: 'f', pax: { 'SCHILY.xattr.user.x': Buffer.alloc(65537, 65) } }),
      "entry 'f': xattr of 65537 bytes, more than 65536",
    );
  });
});

describe('refusals', () => {
  const cases: [string, Buffer, string][] = [
    [
      'a wrong checksum',
      tar({ checksum: 'wrong' }),
      'tar header at byte 0: wrong checksum: this is not a tar header',
    ],
    ['text', Buffer.alloc(1024, 'hello '), 'tar header at byte 0: wrong checksum: this is not a tar header'],
    [
      'a second header that is damaged',
      tar(file('a', 'x'), { checksum: 'wrong' }),
      'tar header at byte 1024: wrong checksum: this is not a tar header',
    ],
    ['an unknown type', tar({ name: 'f', type: 'M' }), "entry 'f': entry type 'M' is not supported"],
    [
      'a size that is no number',
      tar({ name: 'f', size: Buffer.from('9zz') }),
      "entry 'f': size is not a number",
    ],
    [
      'a negative size',
      tar({ name: 'f', size: base256(-1n, 12) }),
      "entry 'f': size -1 is not in the range 0 to 9007199254740991",
    ],
    [
      'a mode that is no number',
      tar({ name: 'f', patch: (h) => h.fill('z', 100, 107) }),
      "entry 'f': mode is not a number",
    ],
    [
      'a major number that would wrap',
      tar({ name: 'd', type: '3', deviceMajor: 4096, deviceMinor: 0 }),
      "entry 'd': device major number 4096 is not in the range 0 to 4095",
    ],
    [
      'a minor number that would wrap',
      tar({ name: 'd', type: '4', deviceMajor: 0, deviceMinor: 1048576 }),
      "entry 'd': device minor number 1048576 is not in the range 0 to 1048575",
    ],
    ['a header cut short', tar(file('f')).subarray(0, 300), 'tar header at byte 0: the archive is cut short'],
    [
      'data cut short',
      tarEntry(file('f', 'x'.repeat(600))).subarray(0, 1000),
      "entry 'f': the archive is cut short",
    ],
    [
      'a header after one block of zeros',
      Buffer.concat([tarEntry(file('a')), Buffer.alloc(512), tar(file('b'))]),
      'tar header at byte 1024: a header after a block of zeros, which ends an archive',
    ],
    [
      'control characters in a name',
      tar({ name: 'a\x1b[2J', uid: 99999 }),
      "entry 'a\\x1b[2J': uid 99999 is not in the range 0 to 65535",
    ],
  ];
  for (const [what, archive, reason] of cases) it(what, () => refused(archive, reason));
});

describe('ends', () => {
  const entry = tarEntry(file('f', 'abc'));
  const cases: [string, Buffer, number][] = [
    ['nothing at all', Buffer.alloc(0), 0],
    ['only the marker', Buffer.alloc(1024), 0],
    ['no marker', entry, 1],
    ['one block of zeros', Buffer.concat([entry, Buffer.alloc(512)]), 1],
    ['the last entry without padding', entry.subarray(0, 515), 1],
    ['junk after the marker', Buffer.concat([tar(file('f', 'abc')), Buffer.alloc(700, 'junk')]), 1],
  ];
  for (const [what, archive, count] of cases) it(what, () => assert.equal(parse(archive).length, count));
});

describe('sparse', () => {
  const extents = (map: [number, number][]) => (header: Buffer) => {
    map.slice(0, 4).forEach(([offset, length], i) => {
      header.write(`${offset.toString(8).padStart(11, '0')}\0`, 386 + 24 * i, 'latin1');
      header.write(`${length.toString(8).padStart(11, '0')}\0`, 398 + 24 * i, 'latin1');
    });
    header[482] = map.length > 4 ? 1 : 0;
  };
  const realSize = (size: bigint) => (header: Buffer) => base256(size, 12).copy(header, 483);

  it('a petabyte of hole', () => {
    const entry = one({
      name: 's',
      type: 'S',
      magic: 'gnu',
      data: 'ab',
      patch(header) {
        extents([[2 ** 20, 2]])(header);
        realSize(2n ** 50n)(header);
      },
    });
    assert.deepEqual([entry.size, entry.sparse, entry.extents], [2 ** 50, true, [[2 ** 20, 2]]]);
  });
  it('PAX 0.0, 0.1 and 1.0', () => {
    const pax: [string, string][] = [
      ['GNU.sparse.size', '100'],
      ['GNU.sparse.numblocks', '2'],
      ['GNU.sparse.offset', '10'],
      ['GNU.sparse.numbytes', '1'],
      ['GNU.sparse.offset', '50'],
      ['GNU.sparse.numbytes', '2'],
    ];
    const name = 'real';
    const map = padded(Buffer.from('2\n10\n1\n50\n2\n'));
    const archives = [
      tar({ name, data: 'abc', pax }),
      tar({
        name: 'x',
        data: 'abc',
        pax: { 'GNU.sparse.size': '100', 'GNU.sparse.map': '10,1,50,2', 'GNU.sparse.name': name },
      }),
      tar({
        name: 'x',
        data: Buffer.concat([map, Buffer.from('abc')]),
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': name,
          'GNU.sparse.realsize': '100',
        },
      }),
    ];
    for (const archive of archives)
      for (const pieces of [1, 511, archive.length]) {
        const [entry] = parse(archive, pieces);
        assert.deepEqual(
          [entry!.path, entry!.size, entry!.sparse, String(entry!.content), entry!.extents],
          [
            name,
            100,
            true,
            'abc',
            [
              [10, 1],
              [50, 2],
            ],
          ],
        );
      }
  });
  const v1 = (map: string, data: string, size: string) =>
    tar({
      name: 's',
      data: Buffer.concat([padded(Buffer.from(map)), Buffer.from(data)]),
      pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': size },
    });
  const bad: [string, Buffer, string][] = [
    ['overlap', v1('2\n0\n2\n1\n1\n', 'abc', '9'), 'sparse map whose extents overlap or leave the file'],
    ['beyond the end', v1('1\n8\n2\n', 'ab', '9'), 'sparse map whose extents overlap or leave the file'],
    [
      'another length than the data',
      v1('1\n0\n2\n', 'abc', '9'),
      'sparse map of 2 bytes for 3 bytes of data',
    ],
    ['too many', v1('9999999\n', '', '9'), 'sparse map of more than 1048576 extents'],
    ['no numbers', v1('1\nx\n1\n', 'a', '9'), 'sparse map that is not made of numbers'],
    ['map longer than the data', v1(`300\n${'1\n'.repeat(254)}`, '', '9'), 'sparse map longer than its data'],
    [
      'version',
      tar({ name: 's', pax: { 'GNU.sparse.major': '2', 'GNU.sparse.size': '1' } }),
      'sparse format of a version that is not known',
    ],
  ];
  for (const [what, archive, reason] of bad)
    it(`${what} is refused`, () => refused(archive, `entry 's': ${reason}`));
});

describe('other programs', () => {
  const source = join(scratch, 'source');
  execFileSync('mkdir', ['-p', join(source, 'd', 'n'.repeat(120), 'm'.repeat(120))]);
  writeFileSync(join(source, 'd', 'n'.repeat(120), 'm'.repeat(120), 'é'), 'deep');
  writeFileSync(join(source, 'plain'), 'x'.repeat(1000));
  symlinkSync('t'.repeat(200), join(source, 'link'));
  execFileSync('ln', [join(source, 'plain'), join(source, 'hard')]);
  execFileSync('mkfifo', [join(source, 'fifo')]);
  writeFileSync(join(source, 'holes'), '');
  truncateSync(join(source, 'holes'), 1024 * 1024);
  execFileSync('python3', [
    '-c',
    `f=open(${JSON.stringify(join(source, 'holes'))},'r+b')
for i in range(30): f.seek(i*32768); f.write(b'block%d'%i)`,
  ]);
  const expected = [
    'directory ./',
    'directory ./d/',
    `directory ./d/${'n'.repeat(120)}/`,
    `directory ./d/${'n'.repeat(120)}/${'m'.repeat(120)}/`,
    `file ./d/${'n'.repeat(120)}/${'m'.repeat(120)}/\xc3\xa9 4`,
    'fifo ./fifo',
    'file ./hard 1000',
    'file ./holes 1048576',
    `symlink ./link -> ${'t'.repeat(200)}`,
    'hardLink ./plain -> ./hard',
  ];
  const summary = (entries: Parsed[]) =>
    entries.map(({ type, path, size, linkPath }) => {
      const slash = type === 'directory' && !path.endsWith('/') ? '/' : '';
      return `${type} ${path}${slash}${type === 'file' ? ` ${size}` : ''}${linkPath === '' ? '' : ` -> ${linkPath}`}`;
    });
  const sparseKinds: [string, string[]][] = [
    ['gnu', ['--format=gnu']],
    ['pax', ['--format=posix']],
    ['gnu sparse', ['--format=gnu', '--sparse']],
    ['pax sparse 0.0', ['--format=posix', '--sparse', '--sparse-version=0.0']],
    ['pax sparse 0.1', ['--format=posix', '--sparse', '--sparse-version=0.1']],
    ['pax sparse 1.0', ['--format=posix', '--sparse', '--sparse-version=1.0']],
  ];
  for (const [what, options] of sparseKinds)
    it(`GNU tar: ${what}`, () => {
      const archive = execFileSync('tar', ['-c', '--sort=name', ...options, '-C', source, '.'], {
        maxBuffer: 64 * 1024 * 1024,
      });
      for (const pieces of [archive.length, 1000]) {
        const entries = parse(archive, pieces);
        assert.deepEqual(summary(entries), expected);
        const holes = entries.find(({ path }) => path === './holes')!;
        const content = Buffer.alloc(holes.size);
        let at = 0;
        for (const [offset, bytes] of holes.extents) {
          holes.content.copy(content, offset, at, at + bytes);
          at += bytes;
        }
        for (let i = 0; i < 30; i++)
          assert.equal(content.toString('latin1', i * 32768, i * 32768 + 5), 'block');
        assert.equal(holes.sparse, what.includes('sparse'));
      }
    });
  for (const format of ['USTAR_FORMAT', 'GNU_FORMAT', 'PAX_FORMAT'])
    it(`tarfile: ${format}`, () => {
      const script = `import sys,tarfile,io
t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.${format})
i=tarfile.TarInfo('p'*80+'/'+'q'*80); i.size=3; i.uid=1000; i.gid=2000; i.mtime=1.5 if tarfile.${format}==tarfile.PAX_FORMAT else 1
t.addfile(i,io.BytesIO(b'abc'))
i=tarfile.TarInfo('dev'); i.type=tarfile.CHRTYPE; i.devmajor=5; i.devminor=300; i.mode=0o620
t.addfile(i); t.close()`;
      const entries = parse(execFileSync('python3', ['-c', script]), 333);
      const pax = format === 'PAX_FORMAT';
      assert.deepEqual(
        entries.map((e) => [
          e.type,
          e.path,
          e.size,
          e.uid,
          e.gid,
          e.mode,
          e.mtime,
          e.deviceMajor,
          e.deviceMinor,
        ]),
        [
          [
            'file',
            `${'p'.repeat(80)}/${'q'.repeat(80)}`,
            3,
            1000,
            2000,
            0o644,
            { seconds: 1, nanoseconds: pax ? 500000000 : 0 },
            0,
            0,
          ],
          ['characterDevice', 'dev', 0, 0, 0, 0o620, { seconds: 0, nanoseconds: 0 }, 5, 300],
        ],
      );
    });
  it('every split of the chunks gives the same entries', () => {
    const archive = tar(
      directory('d'),
      gnuLong('L', 'l'.repeat(300)),
      file('cut', 'x'.repeat(700)),
      file('p', 'y', { pax: { uid: '7', 'SCHILY.xattr.user.x': 'v' } }),
    );
    const whole = parse(archive);
    assert.deepEqual(
      whole.map(({ path }) => path),
      ['d/', 'l'.repeat(300), 'p'],
    );
    for (const pieces of [1, 2, 3, 5, 100, 511, 512, 513, 1024])
      assert.deepEqual(
        parse(archive, pieces).map((entry) => ({ ...entry, extents: [] })),
        whole.map((entry) => ({ ...entry, extents: [] })),
      );
  });
});
