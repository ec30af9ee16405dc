/** Compression: every member and frame of what the media type says, to the end; anything else is refused. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { OciError } from '../../src/oci/errors.ts';
import { file, tar } from '../unit/archive/tar-builder.ts';
import { apply } from '../unit/store-layer/layer-fixture.ts';
import { badArchive, type Case, hostile, refused } from './harness.ts';
import { type ImageSpec, OCI } from './image.ts';
import { rawBlocks, skippableFrame, zstdFrame } from './zstd-writer.ts';

const archive = tar(file('f', 'x'), file('g', 'y'));
const TREE = ['f "x"', 'g "y"'];
const GZIP = `${OCI.layer}+gzip`;
const ZSTD = `${OCI.layer}+zstd`;

function made(mediaType: string, blob: (tar: Buffer) => Buffer): ImageSpec {
  return { layers: [{ tar: archive, blob, mediaType }] };
}
const gzip = (blob: (tar: Buffer) => Buffer) => made(GZIP, blob);
const zstd = (blob: (tar: Buffer) => Buffer) => made(ZSTD, blob);
const changed = (
  bytes: Buffer,
  at: number,
  change: (byte: number) => number = (byte) => byte ^ 0xff,
): Buffer => {
  const copy = Buffer.from(bytes);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = change(copy[index]!);
  return copy;
};

/** A gzip member with header fields: FLG and what it announces. */
function member(content: Buffer, flags: number, fields: Buffer): Buffer {
  const plain = gzipSync(content);
  plain[3] = flags;
  return Buffer.concat([plain.subarray(0, 10), fields, plain.subarray(10)]);
}

hostile('gzip', [
  ['plain', gzip((t) => gzipSync(t)), TREE],
  ['stored blocks', gzip((t) => gzipSync(t, { level: 0 })), TREE],
  [
    'two members',
    gzip((t) => Buffer.concat([gzipSync(t.subarray(0, 600)), gzipSync(t.subarray(600))])),
    TREE,
  ],
  [
    'a member for each byte',
    gzip((t) => Buffer.concat(Array.from(t, (byte) => gzipSync(Buffer.from([byte]))))),
    TREE,
  ],
  ['empty members around', gzip((t) => Buffer.concat([gzipSync(''), gzipSync(t), gzipSync('')])), TREE],
  [
    'a name, a comment and an extra field',
    gzip((t) => member(t, 0x1c, Buffer.from('\x03\0abcname\0comment\0', 'latin1'))),
    TREE,
  ],
  ['the flag for text', gzip((t) => member(t, 1, Buffer.alloc(0))), TREE],
  ['zeros behind the end', gzip((t) => Buffer.concat([gzipSync(t), Buffer.alloc(4096)])), TREE],
  [
    'junk behind the end',
    gzip((t) => Buffer.concat([gzipSync(t), Buffer.from('junk')])),
    badArchive(/^gzip: /),
  ],
  [
    'zeros and junk behind the end',
    gzip((t) => Buffer.concat([gzipSync(t), Buffer.alloc(100), Buffer.from('junk')])),
    badArchive('gzip: data after the end of the compressed stream'),
  ],
  [
    'half a member behind the end',
    gzip((t) => Buffer.concat([gzipSync(t), gzipSync(t).subarray(0, 15)])),
    badArchive(/^gzip: the stream is cut short/),
  ],
  ['a wrong CRC', gzip((t) => changed(gzipSync(t), -8)), badArchive(/^gzip: the stream is damaged/)],
  ['a wrong length', gzip((t) => changed(gzipSync(t), -1)), badArchive(/^gzip: the stream is damaged/)],
  [
    'a wrong CRC of the first of two members',
    gzip((t) => {
      const first = gzipSync(t);
      return Buffer.concat([changed(first, -8), gzipSync('')]);
    }),
    badArchive(/^gzip: the stream is damaged/),
  ],
  [
    'damaged data',
    gzip((t) => changed(gzipSync(t), 20)),
    badArchive(/^(gzip: the stream is damaged|tar header|entry)/),
  ],
  [
    'another method than deflate',
    gzip((t) => changed(gzipSync(t), 2)),
    badArchive(/^the layer is said to be gzip, but is something else$/),
  ],
  [
    'reserved flags',
    gzip((t) => changed(gzipSync(t), 3, () => 0xe0)),
    badArchive(/^gzip: the stream is damaged/),
  ],
  [
    'a reserved block type',
    gzip((t) => changed(gzipSync(t), 10, (byte) => byte | 6)),
    badArchive(/^gzip: the stream is damaged/),
  ],
  [
    'without its last byte',
    gzip((t) => gzipSync(t).subarray(0, -1)),
    badArchive('gzip: the stream is cut short'),
  ],
  [
    'without its trailer',
    gzip((t) => gzipSync(t).subarray(0, -8)),
    badArchive('gzip: the stream is cut short'),
  ],
  ['the header alone', gzip((t) => gzipSync(t).subarray(0, 10)), badArchive('gzip: the stream is cut short')],
  [
    'one byte',
    gzip((t) => gzipSync(t).subarray(0, 1)),
    badArchive('the layer is said to be gzip, but is something else'),
  ],
  ['nothing at all', gzip(() => Buffer.alloc(0)), badArchive('gzip: the stream is cut short')],
  [
    'gzip in gzip',
    gzip((t) => gzipSync(gzipSync(t))),
    badArchive('tar header at byte 0: the archive is cut short'),
  ],
]);

hostile('zstd', [
  ['plain', zstd((t) => zstdCompressSync(t)), TREE],
  [
    'with a checksum',
    zstd((t) => zstdCompressSync(t, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })),
    TREE,
  ],
  [
    'without the content size',
    zstd((t) => zstdCompressSync(t, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } })),
    TREE,
  ],
  [
    'level 22 with a long window',
    zstd((t) =>
      zstdCompressSync(t, {
        params: { [constants.ZSTD_c_compressionLevel]: 22, [constants.ZSTD_c_windowLog]: 27 },
      }),
    ),
    TREE,
  ],
  [
    'two frames',
    zstd((t) => Buffer.concat([zstdCompressSync(t.subarray(0, 600)), zstdCompressSync(t.subarray(600))])),
    TREE,
  ],
  [
    'a frame for each byte of the first 600',
    zstd((t) =>
      Buffer.concat([
        ...Array.from(t.subarray(0, 600), (byte) => zstdCompressSync(Buffer.from([byte]))),
        zstdCompressSync(t.subarray(600)),
      ]),
    ),
    TREE,
  ],
  [
    'skippable frames first, between and last',
    zstd((t) =>
      Buffer.concat([
        skippableFrame(Buffer.from('toc')),
        zstdCompressSync(t.subarray(0, 600)),
        skippableFrame(Buffer.alloc(0), 15),
        zstdCompressSync(t.subarray(600)),
        skippableFrame(randomBytes(5000), 5),
      ]),
    ),
    TREE,
  ],
  [
    'skippable frames alone',
    zstd(() => skippableFrame(Buffer.from('toc'))),
    refused('DIGEST_MISMATCH', /^diffID: got/),
  ],
  ['raw blocks', zstd((t) => zstdFrame({ window: [7, 0], blocks: rawBlocks(t) })), TREE],
  ['a single segment', zstd((t) => zstdFrame({ contentSize: BigInt(t.length), blocks: rawBlocks(t) })), TREE],
  [
    'empty frames',
    zstd((t) =>
      Buffer.concat([
        zstdCompressSync(Buffer.alloc(0)),
        zstdCompressSync(t),
        zstdCompressSync(Buffer.alloc(0)),
      ]),
    ),
    TREE,
  ],
  ['a window of 128 MiB', zstd((t) => zstdFrame({ window: [17, 0], blocks: rawBlocks(t) })), TREE],
  [
    'a window of 144 MiB',
    zstd((t) => zstdFrame({ window: [17, 1], blocks: rawBlocks(t) })),
    badArchive('zstd: a frame needs a window of 150994944 bytes, more than 134217728'),
  ],
  [
    'a window of 2 GiB',
    zstd((t) => zstdFrame({ window: [21, 0], blocks: rawBlocks(t) })),
    badArchive('zstd: a frame needs a window of 2147483648 bytes, more than 134217728'),
  ],
  [
    'the largest window there is',
    zstd((t) => zstdFrame({ window: [31, 7], blocks: rawBlocks(t) })),
    badArchive(/^zstd: a frame needs a window of 4123168604160 bytes/),
  ],
  [
    'a single segment of 2^63',
    zstd((t) => zstdFrame({ contentSize: 2n ** 63n, blocks: rawBlocks(t) })),
    badArchive(/^zstd: a frame needs a window of 9223372036854776000 bytes/),
  ],
  [
    'a large window in the second frame',
    zstd((t) =>
      Buffer.concat([
        zstdCompressSync(t.subarray(0, 600)),
        zstdFrame({ window: [21, 0], blocks: rawBlocks(t.subarray(600)) }),
      ]),
    ),
    badArchive(/^zstd: a frame needs a window of 2147483648 bytes/),
  ],
  [
    'a dictionary',
    zstd((t) => zstdFrame({ window: [10, 0], dictionaryID: 12345, blocks: rawBlocks(t) })),
    badArchive(/^zstd: the stream is damaged/),
  ],
  [
    'a wrong checksum',
    zstd((t) => changed(zstdCompressSync(t, { params: { [constants.ZSTD_c_checksumFlag]: 1 } }), -1)),
    badArchive(/^zstd: the stream is damaged/),
  ],
  [
    'a wrong content size',
    zstd((t) => zstdFrame({ contentSize: BigInt(t.length + 1), blocks: rawBlocks(t) })),
    badArchive(/^zstd: the stream is damaged/),
  ],
  [
    'a reserved block',
    zstd(() => zstdFrame({ window: [10, 0], blocks: [{ type: 3 }] })),
    badArchive('zstd: block of a reserved type'),
  ],
  [
    'damaged data',
    zstd((t) => changed(zstdCompressSync(Buffer.concat([t, randomBytes(2000)])), 700)),
    refused('DIGEST_MISMATCH', /^diffID: got/),
  ],
  [
    'without its last byte',
    zstd((t) => zstdCompressSync(t).subarray(0, -1)),
    badArchive('zstd: the stream is cut short'),
  ],
  [
    'the frame header alone',
    zstd((t) => zstdCompressSync(t).subarray(0, 6)),
    badArchive('zstd: the stream is cut short'),
  ],
  [
    'a skippable frame cut short',
    zstd((t) => Buffer.concat([zstdCompressSync(t), skippableFrame(Buffer.alloc(100)).subarray(0, 50)])),
    badArchive('zstd: the stream is cut short'),
  ],
  [
    'junk behind the end',
    zstd((t) => Buffer.concat([zstdCompressSync(t), Buffer.from('junk')])),
    badArchive('zstd: data after the last frame that is not a frame'),
  ],
  [
    'zeros behind the end',
    zstd((t) => Buffer.concat([zstdCompressSync(t), Buffer.alloc(16)])),
    badArchive('zstd: data after the last frame that is not a frame'),
  ],
  [
    'a legacy frame (0.7)',
    zstd(() => Buffer.from([0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0])),
    badArchive('the layer is said to be zstd, but is something else'),
  ],
  ['nothing at all', zstd(() => Buffer.alloc(0)), badArchive('zstd: the stream is cut short')],
]);

const said = (mediaType: string, what: string, blob: (tar: Buffer) => Buffer, reason: string): Case => [
  `${mediaType.slice(OCI.layer.length - 3)} that is ${what}`,
  made(mediaType, blob),
  badArchive(reason),
];
const XZ = Buffer.from('fd377a585a000004e6d6b446', 'hex');
const BZIP2 = Buffer.from('425a683931415926535900', 'hex');
hostile('the media type and the data', [
  said(GZIP, 'zstd', (t) => zstdCompressSync(t), 'the layer is said to be gzip, but is zstd'),
  said(GZIP, 'plain', (t) => t, 'the layer is said to be gzip, but is something else'),
  said(GZIP, 'xz', () => XZ, 'the layer is said to be gzip, but is xz'),
  said(GZIP, 'bzip2', () => BZIP2, 'the layer is said to be gzip, but is bzip2'),
  said(ZSTD, 'gzip', (t) => gzipSync(t), 'the layer is said to be zstd, but is gzip'),
  said(ZSTD, 'plain', (t) => t, 'the layer is said to be zstd, but is something else'),
  said(OCI.layer, 'gzip', (t) => gzipSync(t), 'the layer is said to be not compressed, but is gzip'),
  said(OCI.layer, 'zstd', (t) => zstdCompressSync(t), 'the layer is said to be not compressed, but is zstd'),
  said(OCI.layer, 'xz', () => XZ, 'the layer is said to be not compressed, but is xz'),
  ['plain', made(OCI.layer, (t) => t), TREE],
  [
    'a page of HTML',
    made(GZIP, () => Buffer.from('<!DOCTYPE html><html>Log in</html>')),
    badArchive('the layer is said to be gzip, but is something else'),
  ],
]);

/** Cut at every KiB: without the disk, for there are many. */
describe('cut short, with a digest and size that fit', () => {
  const large = tar(
    file('a', randomBytes(9000).toString('latin1')),
    file('b', randomBytes(9000).toString('latin1')),
  );
  for (const [compression, blob] of [
    ['gzip', gzipSync(large)],
    ['zstd', zstdCompressSync(large, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })],
    ['none', large],
  ] as const)
    test(compression, async () => {
      for (let bytes = 0; bytes < blob.length; bytes += 1024) {
        if (compression === 'none' && bytes >= large.length - 1024) break; // the end mark alone is missing
        const cut = apply(large, { compression, blob: blob.subarray(0, bytes) });
        await assert.rejects(cut, (error) => {
          assert.ok(
            error instanceof OciError && ['BAD_ARCHIVE', 'DIGEST_MISMATCH'].includes(error.code),
            String(error),
          );
          assert.match(
            error.message,
            bytes === 0 && compression === 'none' ? /diffID|layer/ : /cut short|got sha256:/,
          );
          return true;
        });
      }
    });
});
