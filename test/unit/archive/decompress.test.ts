/**
 * Decompression: members and frames in every arrangement and split, damage, bombs, and the window limit. All of it by
 * node:zlib and by the libraries of the system (libisal2 and libzstd1 are needed here).
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import type { Codecs } from '../../../src/archive/codec.ts';
import { createDecompressor, sniffCompression } from '../../../src/archive/decompress.ts';
import { systemCodecs } from '../../../src/host/codecs.ts';
import { OciError } from '../../../src/oci/errors.ts';
import type { Compression } from '../../../src/oci/media-type.ts';

/** The engine of the tests that run. */
let codecs: Codecs | undefined;

async function decompress(compression: Compression, input: Buffer, pieces = input.length): Promise<Buffer> {
  const output: Buffer[] = [];
  const decompressor = createDecompressor(compression, (bytes) => output.push(Buffer.from(bytes)), codecs);
  try {
    for (let at = 0; at < input.length; at += pieces)
      await decompressor.write(input.subarray(at, at + pieces));
    await decompressor.end();
  } finally {
    decompressor.close();
  }
  return Buffer.concat(output);
}

async function refused(compression: Compression, input: Buffer, message: string | RegExp): Promise<void> {
  for (const pieces of [input.length || 1, 1, 7])
    await assert.rejects(decompress(compression, input, pieces), (error) => {
      assert(error instanceof OciError, String(error));
      assert.equal(error.code, 'BAD_ARCHIVE');
      if (typeof message === 'string') assert.equal(error.message, message);
      else assert.match(error.message, message);
      return true;
    });
}

const text = Buffer.from('hello layer '.repeat(50));
const gzip = gzipSync(text);
const zstd = zstdCompressSync(text);
const checked = zstdCompressSync(text, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
const skippable = Buffer.concat([Buffer.from([0x57, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from('skip!')]);
const emptySkippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
const twice = Buffer.concat([text, text]);

for (const [engine, chosen] of [
  ['node:zlib', undefined],
  ['system libraries', systemCodecs],
] as const)
  describe(`decompress, ${engine}`, () => {
    before(() => {
      codecs = chosen;
      for (const compression of ['gzip', 'zstd'] as const)
        assert(chosen === undefined || chosen[compression]() !== undefined);
    });
    const cases: [string, Compression, Buffer, Buffer][] = [
      ['none', 'none', text, text],
      ['none, empty', 'none', Buffer.alloc(0), Buffer.alloc(0)],
      ['gzip', 'gzip', gzip, text],
      ['gzip, two members', 'gzip', Buffer.concat([gzip, gzip]), twice],
      ['gzip, an empty member between', 'gzip', Buffer.concat([gzip, gzipSync(''), gzip]), twice],
      ['gzip, NULs behind', 'gzip', Buffer.concat([gzip, Buffer.alloc(600)]), text],
      ['zstd', 'zstd', zstd, text],
      ['zstd, two frames', 'zstd', Buffer.concat([zstd, zstd]), twice],
      ['zstd, checksums', 'zstd', Buffer.concat([checked, checked]), twice],
      ['zstd, an empty frame between', 'zstd', Buffer.concat([zstd, zstdCompressSync(''), zstd]), twice],
      ['zstd, skippable frame first', 'zstd', Buffer.concat([skippable, zstd]), text],
      [
        'zstd, skippable frames everywhere',
        'zstd',
        Buffer.concat([emptySkippable, zstd, skippable, emptySkippable, zstd, skippable]),
        twice,
      ],
    ];
    for (const [what, compression, input, output] of cases)
      for (const pieces of [1, 2, 7, 1 << 20])
        it(`${what}, in pieces of ${pieces}`, async () => {
          assert.deepEqual(await decompress(compression, input, pieces), output);
        });

    it('large frames, whose ends meet the ends of the output buffer', async () => {
      const sizes = [262144, 524288, 262143, 262145, 3_000_000, 1, 0];
      const parts = sizes.map((size, i) => Buffer.alloc(size, i + 65));
      const whole = Buffer.concat(parts);
      for (const [compression, compress] of [
        ['zstd', zstdCompressSync],
        ['gzip', gzipSync],
      ] as const) {
        const input = Buffer.concat(parts.map((part) => compress(part)));
        for (const pieces of [100, 65536, input.length])
          assert.equal((await decompress(compression, input, pieces)).equals(whole), true);
      }
    });

    it('refuses what is cut short', async () => {
      for (const [compression, input] of [
        ['gzip', gzip],
        ['zstd', zstd],
      ] as const)
        for (const length of [input.length - 1, input.length - 9, 8])
          await refused(compression, input.subarray(0, length), `${compression}: the stream is cut short`);
      await refused('gzip', Buffer.alloc(0), 'gzip: the stream is cut short');
      await refused('zstd', Buffer.concat([zstd, zstd.subarray(0, 9)]), 'zstd: the stream is cut short');
    });
    it('refuses damage', async () => {
      const damaged = Buffer.from(gzip);
      damaged[damaged.length - 6]! ^= 1;
      await refused('gzip', damaged, 'gzip: the stream is damaged (incorrect data check)');
      const frame = Buffer.from(checked);
      frame[frame.length - 1]! ^= 1;
      await refused('zstd', frame, /^zstd: the stream is damaged \(/);
    });
    it('refuses junk behind the end', async () => {
      await refused('gzip', Buffer.concat([gzip, Buffer.from('junk')]), /^gzip: the stream is damaged \(/);
      await refused(
        'zstd',
        Buffer.concat([zstd, Buffer.from('junk')]),
        /^zstd: (data after the last frame that is not a frame|the stream is (damaged|cut short))/,
      );
      for (const pieces of [1, 7, 1000])
        await assert.rejects(
          decompress('gzip', Buffer.concat([gzip, Buffer.alloc(20), Buffer.from('junk')]), pieces),
          /^OciError: gzip: (data after the end of the compressed stream|the stream is damaged)/,
        );
    });
    it('says what a blob really is', async () => {
      const xz = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0]);
      await refused('gzip', zstd, 'the layer is said to be gzip, but is zstd');
      await refused('zstd', gzip, 'the layer is said to be zstd, but is gzip');
      await refused('none', gzip, 'the layer is said to be not compressed, but is gzip');
      await refused('none', skippable, 'the layer is said to be not compressed, but is zstd');
      await refused('gzip', xz, 'the layer is said to be gzip, but is xz');
      await refused('zstd', text, 'the layer is said to be zstd, but is something else');
      assert.equal(sniffCompression(Buffer.from('BZh9')), 'bzip2');
      assert.equal(sniffCompression(text), undefined);
    });
    it('refuses a zstd window of 2 GiB before any memory is taken', async () => {
      const frame = (window: number) =>
        Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, window << 3, 0x01, 0x00, 0x00]);
      await refused(
        'zstd',
        frame(31 - 10),
        'zstd: a frame needs a window of 2147483648 bytes, more than 134217728',
      );
      await refused(
        'zstd',
        frame(28 - 10),
        'zstd: a frame needs a window of 268435456 bytes, more than 134217728',
      );
      assert.deepEqual(await decompress('zstd', frame(27 - 10)), Buffer.alloc(0));
    });
    it('hands on what the receiver throws, and stays usable for close()', async () => {
      for (const [compression, input] of [
        ['none', text],
        ['gzip', gzip],
        ['zstd', zstd],
      ] as const) {
        const decompressor = createDecompressor(
          compression,
          () => {
            throw new Error('full');
          },
          codecs,
        );
        await assert.rejects(
          async () => {
            await decompressor.write(input);
            await decompressor.end();
          },
          { message: 'full' },
        );
        decompressor.close();
        decompressor.close();
      }
    });
    it('a bomb does not fill the memory', async () => {
      const mebibyte = gzipSync(Buffer.alloc(64 << 20));
      const before = process.memoryUsage().rss;
      let bytes = 0;
      const decompressor = createDecompressor(
        'gzip',
        (data) => {
          bytes += data.length;
        },
        codecs,
      );
      for (let i = 0; i < 16; i++) await decompressor.write(mebibyte);
      await decompressor.end();
      decompressor.close();
      assert.equal(bytes, 16 * (64 << 20));
      assert(process.memoryUsage().rss - before < 200 << 20);
    });
  });
