/** Hashes by the libcrypto in node against those of node:crypto. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { hashHex } from '../../../src/host/hash.ts';

test('hashes of every length around the blocks of SHA-256 are those of node:crypto', () => {
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => (index * 7) % 256));
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000])
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const part = bytes.subarray(bytes.length - length); // not where its memory begins
      assert.equal(hashHex(algorithm, part), createHash(algorithm).update(part).digest('hex'));
    }
});

test('an array that is no Buffer is hashed, too', () => {
  assert.equal(
    hashHex('sha256', new Uint8Array([0x61, 0x62, 0x63])),
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  );
});
