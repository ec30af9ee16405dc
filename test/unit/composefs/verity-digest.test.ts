import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createVerityHash, parseVerityDigest, verityDigestOf } from '../../../src/composefs/verity-digest.ts';
import { throwsOci } from '../expect-error.ts';

/** What `fsverity digest` says of the bytes i * 7 % 251. */
const KNOWN: [size: number, digest: string][] = [
  [0, '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95'],
  [1, 'b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551'],
  [64, '243defeeae9ee514fced6d874a65309b82027032c45a13da8174761f38d21f70'],
  [4095, 'f7c044deee0d5af15f6478c08b8a0c03931d9963beb30220eeca8bdd03e1c7e4'],
  [4096, '258b680fa93e3bfc1586d9b439d29a2172bd0db550fe7da1272fd8120d801182'],
  [4097, '0328cc6ed983dc0df3103b9651098ab305e4adfae46a1a5814b6602b0630293d'],
  [8192, '32dd06a98d4b2bb226faad1839766c3592f4f9ed541a417116c8b828ccd07da3'],
  [524288, 'e1389416027616e5a91f01961c0d159871f5c6afaf577d6e3b9d815f916fbde0'],
  [524289, '00023924223dbf3c1f1095d9f0fb02546dc2d8ea7032445ad216eab168faa3bb'],
  [1000000, 'b58f50ee8cf6108ce2cac9ba93b208f88b3c2fce5e804b6189d2859bc8a1874e'],
];

function content(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 7) % 251;
  return bytes;
}

test('digests are those of fsverity(1), whatever the pieces', () => {
  for (const [size, expected] of KNOWN) {
    const bytes = content(size);
    assert.equal(verityDigestOf(bytes), expected, `${size} bytes`);
    for (const piece of [1000, 4096, 5000]) {
      const verity = createVerityHash();
      for (let at = 0; at < size; at += piece) verity.update(bytes.subarray(at, at + piece));
      assert.equal(verity.digest(), expected, `${size} bytes in pieces of ${piece}`);
    }
  }
});

test('zeros that are skipped count as zeros', () => {
  for (const [before, zeros, after] of [
    [0, 4096, 0],
    [5, 100, 7],
    [4096, 128 * 4096, 1],
    [1, 3 * 128 * 4096 + 17, 5000],
    [127 * 4096, 130 * 128 * 4096, 0],
    [0, 128 * 128 * 4096, 9],
  ] as const) {
    const skipping = createVerityHash();
    const whole = createVerityHash();
    skipping.update(content(before));
    skipping.skip(zeros);
    skipping.update(content(after));
    whole.update(content(before));
    whole.update(Buffer.alloc(zeros));
    whole.update(content(after));
    assert.equal(skipping.digest(), whole.digest(), `${before} ${zeros} ${after}`);
  }
});

test('an exabyte of zeros takes no time', () => {
  const verity = createVerityHash();
  verity.skip(2 ** 52);
  assert.match(verity.digest(), /^[0-9a-f]{64}$/);
});

test('a digest is read with and without its algorithm', () => {
  const hex = 'ab'.repeat(32);
  assert.equal(parseVerityDigest(`sha256:${hex}`), hex);
  assert.equal(parseVerityDigest(hex), hex);
  for (const bad of ['', 'sha256:', hex.slice(1), `sha512:${hex}`, hex.toUpperCase(), `${hex}\n`])
    throwsOci(() => parseVerityDigest(bad), 'USAGE', /is not an fs-verity digest/);
});
