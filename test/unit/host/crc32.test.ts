/** CRC-32 by ISA-L (libisal2 is needed here) is that of node:zlib. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { crc32 as zlibCrc32 } from 'node:zlib';
import { crc32, loadIsalCrc32 } from '../../../src/host/crc32.ts';
import { koffi } from '../../../src/host/koffi.ts';

test('any length, at any alignment, behind any checksum', () => {
  const isal = loadIsalCrc32();
  assert.ok(isal !== undefined);
  const bytes = randomBytes(70_000);
  for (const length of [0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 127, 255, 256, 1023, 4096, 65_537])
    for (const start of [0, 1, 13])
      for (const before of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
        const piece = bytes.subarray(start, start + length);
        assert.equal(
          isal(piece, before),
          zlibCrc32(piece, before),
          `${length} from ${start} behind ${before}`,
        );
      }
});

test('a library that miscalculates is left alone', (context) => {
  const load = context.mock.method(koffi(), 'load', () => ({ func: () => () => 0 }));
  assert.equal(loadIsalCrc32(), undefined);
  assert.equal(load.mock.callCount(), 1);
});

test('no library', (context) => {
  context.mock.method(koffi(), 'load', () => {
    throw new Error('cannot open shared object file');
  });
  assert.equal(loadIsalCrc32(), undefined);
});

test('the library is what is used', (context) => {
  const fake = (_crc: number, bytes: Buffer) => (bytes.toString() === '123456789' ? 0xcbf43926 : 7);
  context.mock.method(koffi(), 'load', () => ({ func: () => fake }));
  assert.equal(crc32(Buffer.from('x'), 0), 7);
});
