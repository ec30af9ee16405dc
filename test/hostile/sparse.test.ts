/** Sparse files: old GNU and PAX 0.0, 0.1, 1.0; maps that lie are refused. */
import { type BuiltEntry, file, padded, tarHeader } from '../unit/archive/tar-builder.ts';
import { badArchive, hostile, layered } from './harness.ts';

const x = (pax: NonNullable<BuiltEntry['pax']>, more: BuiltEntry = {}): BuiltEntry => ({
  name: 'f',
  data: 'x',
  pax,
  ...more,
});
const END = Buffer.alloc(1024);
const layer = (bytes: Buffer) => layered(bytes);

const extent = (header: Buffer, at: number, offset: number | bigint, length: number | bigint) => {
  header.write(
    `${offset.toString(8).padStart(11, '0')}\0${length.toString(8).padStart(11, '0')}\0`,
    at,
    'latin1',
  );
};
const gnuSparse = (
  name: string,
  realSize: number,
  extents: [number, number][],
  data: string,
  more = false,
): BuiltEntry => ({
  name,
  type: 'S',
  magic: 'gnu',
  data,
  patch: (header) => {
    for (const [i, [offset, length]] of extents.entries()) extent(header, 386 + 24 * i, offset, length);
    header[482] = more ? 1 : 0;
    header.write(`${realSize.toString(8).padStart(11, '0')}\0`, 483, 'latin1');
  },
});
const blockOf = (extents: [number, number][]): Buffer => {
  const block = Buffer.alloc(512);
  for (const [i, [offset, length]] of extents.entries()) extent(block, 24 * i, offset, length);
  return block;
};
const zeros = (count: number) => '\0'.repeat(count);
const S10 = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' };
hostile('sparse files', [
  [
    'old GNU',
    [
      gnuSparse(
        's',
        10,
        [
          [2, 3],
          [8, 0],
        ],
        'abc',
      ),
    ],
    [`s ${JSON.stringify(`${zeros(2)}abc${zeros(5)}`)}`],
  ],
  ['old GNU, all hole', [gnuSparse('s', 5, [], '')], [`s ${JSON.stringify(zeros(5))}`]],
  [
    'old GNU with a second block',
    layer(
      Buffer.concat([
        tarHeader({
          ...gnuSparse(
            's',
            12,
            [
              [0, 1],
              [2, 1],
              [4, 1],
              [6, 1],
            ],
            '',
            true,
          ),
          size: 6,
        }),
        blockOf([
          [8, 1],
          [10, 1],
        ]),
        padded(Buffer.from('abcdef')),
        END,
      ]),
    ),
    [`s ${JSON.stringify('a\0b\0c\0d\0e\0f\0')}`],
  ],
  [
    'old GNU whose extents overlap',
    [
      gnuSparse(
        's',
        10,
        [
          [0, 3],
          [2, 3],
        ],
        'abcdef',
      ),
    ],
    badArchive("entry 's': sparse map whose extents overlap or leave the file"),
  ],
  [
    'old GNU whose extent leaves the file',
    [gnuSparse('s', 10, [[8, 3]], 'abc')],
    badArchive("entry 's': sparse map whose extents overlap or leave the file"),
  ],
  [
    'old GNU with less data than the map',
    [gnuSparse('s', 10, [[0, 6]], 'abc')],
    badArchive("entry 's': sparse map of 6 bytes for 3 bytes of data"),
  ],
  [
    'old GNU backwards',
    [
      gnuSparse(
        's',
        10,
        [
          [5, 1],
          [0, 1],
        ],
        'ab',
      ),
    ],
    badArchive("entry 's': sparse map whose extents overlap or leave the file"),
  ],
  [
    'PAX 0.0',
    [
      x(
        [
          ['GNU.sparse.size', '6'],
          ['GNU.sparse.numblocks', '2'],
          ['GNU.sparse.offset', '1'],
          ['GNU.sparse.numbytes', '1'],
          ['GNU.sparse.offset', '4'],
          ['GNU.sparse.numbytes', '1'],
        ],
        { data: 'ab' },
      ),
    ],
    [`f ${JSON.stringify('\0a\0\0b\0')}`],
  ],
  [
    'PAX 0.1',
    [
      x(
        {
          'GNU.sparse.size': '6',
          'GNU.sparse.numblocks': '2',
          'GNU.sparse.map': '1,1,4,1',
          'GNU.sparse.name': 'real',
        },
        { data: 'ab' },
      ),
    ],
    [`real ${JSON.stringify('\0a\0\0b\0')}`],
  ],
  [
    'PAX 1.0',
    [
      x(
        { ...S10, 'GNU.sparse.realsize': '6', 'GNU.sparse.name': 'real' },
        { data: Buffer.concat([padded(Buffer.from('2\n1\n1\n4\n1\n')), Buffer.from('ab')]) },
      ),
    ],
    [`real ${JSON.stringify('\0a\0\0b\0')}`],
  ],
  [
    "PAX 1.0 with '..' in the real name",
    [
      x(
        { ...S10, 'GNU.sparse.realsize': '0', 'GNU.sparse.name': '../../f' },
        { data: padded(Buffer.from('0\n')) },
      ),
    ],
    badArchive("entry '../../f': '..' in its path"),
  ],
  [
    'PAX 1.0 with a map of junk',
    [x({ ...S10, 'GNU.sparse.realsize': '6' }, { data: padded(Buffer.from('x\n')) })],
    badArchive("entry 'f': sparse map that is not made of numbers"),
  ],
  [
    'PAX 1.0 with a map of more lines than data',
    [x({ ...S10, 'GNU.sparse.realsize': '6' }, { data: padded(Buffer.from('99\n1\n')) })],
    badArchive(/^entry 'f': sparse map /),
  ],
  [
    'PAX 1.0 with 10^12 extents',
    [x({ ...S10, 'GNU.sparse.realsize': '6' }, { data: padded(Buffer.from('1000000000000\n')) })],
    badArchive("entry 'f': sparse map of more than 1048576 extents"),
  ],
  [
    'PAX 0.1 with an odd map',
    [x({ 'GNU.sparse.size': '6', 'GNU.sparse.map': '1,1,4' }, { data: 'ab' })],
    badArchive("entry 'f': sparse map of another length than announced"),
  ],
  [
    'PAX 0.1 with negative numbers',
    [x({ 'GNU.sparse.size': '6', 'GNU.sparse.map': '-1,1' }, { data: 'a' })],
    badArchive("entry 'f': sparse map that is not made of numbers"),
  ],
  [
    'PAX 2.0',
    [x({ 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '6' })],
    badArchive("entry 'f': sparse format of a version that is not known"),
  ],
  [
    'sparse without a size',
    [x({ 'GNU.sparse.map': '0,1' })],
    badArchive("entry 'f': sparse map that is not made of numbers"),
  ],
  [
    'a file of zeros is not sparse but the same',
    [file('f', zeros(3000))],
    [`f ${JSON.stringify(zeros(60))}… 3000 bytes`],
  ],
]);
