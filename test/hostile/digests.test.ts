/** Digests and sizes: what does not match is not taken, and what is no digest never becomes a path. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { file } from '../unit/archive/tar-builder.ts';
import { badImage, type Case, hostile, layered, OUTSIDE, refused } from './harness.ts';
import { hashOf, type ImageSpec, type WrittenLayout } from './image.ts';

const two = layered([file('f', 'x')], [file('g', 'y')]);
const TREE = ['f "x"', 'g "y"'];
const with_ = (more: Partial<ImageSpec>): ImageSpec => ({ ...two, ...more });
const flip = (path: string) => {
  const bytes = readFileSync(path);
  bytes[bytes.length - 9]! ^= 1;
  writeFileSync(path, bytes);
};

hostile('blobs that differ from what is said of them', [
  ['nothing differs', two, TREE],
  [
    'one bit of the manifest',
    with_({ layout: (l) => flip(l.path(l.manifest.digest)) }),
    refused(
      'DIGEST_MISMATCH',
      /^manifest in 'LAYOUT': got sha256:[0-9a-f]{64}, expected sha256:[0-9a-f]{64}$/,
    ),
  ],
  [
    'one bit of the configuration',
    with_({ layout: (l) => flip(l.path(l.config.digest)) }),
    refused('DIGEST_MISMATCH', /^image configuration sha256:[0-9a-f]{64}: got sha256:/),
  ],
  [
    'one bit of a layer',
    with_({ layout: (l) => flip(l.path(l.layers[1]!.digest)) }),
    refused('DIGEST_MISMATCH', /^got sha256:[0-9a-f]{64}, expected sha256:[0-9a-f]{64}$/),
  ],
  [
    'layers swapped in the store of blobs',
    with_({ layout: (l) => swap(l.path(l.layers[0]!.digest), l.path(l.layers[1]!.digest)) }),
    refused('DIGEST_MISMATCH', /^got sha256:/),
  ],
  [
    'a layer of another image',
    with_({
      layout: (l) => writeFileSync(l.path(l.layers[0]!.digest), readFileSync(l.path(l.layers[1]!.digest))),
    }),
    refused('DIGEST_MISMATCH', /^got sha256:/),
  ],
  [
    'the manifest larger than said',
    with_({ manifestDescriptor: { size: 1 } }),
    refused('SIZE_MISMATCH', /^manifest sha256:[0-9a-f]{64}: got [0-9]+ bytes, expected 1$/),
  ],
  [
    'the manifest smaller than said',
    with_({ manifestDescriptor: { size: 99999 } }),
    refused('SIZE_MISMATCH', /^manifest sha256:[0-9a-f]{64}: got [0-9]+ bytes, expected 99999$/),
  ],
  [
    'the configuration larger than said',
    with_({ configDescriptor: { size: 10 } }),
    refused('SIZE_MISMATCH', /^image configuration sha256:[0-9a-f]{64}: got 11 bytes, expected 10$/),
  ],
  [
    'the configuration smaller than said',
    with_({ configDescriptor: { size: 9999 } }),
    refused('SIZE_MISMATCH', /^image configuration sha256:[0-9a-f]{64}: got [0-9]+ bytes, expected 9999$/),
  ],
  [
    'the configuration far too large',
    with_({ configDescriptor: { size: 5 * 1024 * 1024 } }),
    badImage(/^blob sha256:[0-9a-f]{64} has 5242880 bytes, more than the 4194304 allowed$/),
  ],
  ...([-1, 1] as const).map(
    (by): Case => [
      `a layer of ${by} byte`,
      with_({
        manifest: (m) => {
          m.layers[0].size += by;
        },
      }),
      refused(
        'SIZE_MISMATCH',
        by < 0
          ? /^the blob is longer than the [0-9]+ bytes it should have$|^got more than/
          : /^got [0-9]+ bytes, expected [0-9]+$/,
      ),
    ],
  ),
  [
    'a layer of size 0',
    with_({
      manifest: (m) => {
        m.layers[0].size = 0;
      },
    }),
    refused('DIGEST_MISMATCH', /^got sha256:/),
  ],
  [
    'a layer of 2^53-1 bytes',
    with_({
      manifest: (m) => {
        m.layers[0].size = Number.MAX_SAFE_INTEGER;
      },
    }),
    refused('SIZE_MISMATCH', /^got [0-9]+ bytes, expected 9007199254740991$/),
  ],
  [
    'a blob that was cut',
    with_({
      layout: (l) =>
        writeFileSync(l.path(l.layers[0]!.digest), readFileSync(l.path(l.layers[0]!.digest)).subarray(0, 50)),
    }),
    refused('SIZE_MISMATCH', /^got 50 bytes, expected [0-9]+$/),
  ],
  [
    'a blob with something behind it',
    with_({
      layout: (l) =>
        writeFileSync(
          l.path(l.layers[0]!.digest),
          Buffer.concat([readFileSync(l.path(l.layers[0]!.digest)), Buffer.alloc(1)]),
        ),
    }),
    refused('SIZE_MISMATCH', /^the blob is longer than|^got more than/),
  ],
]);

function swap(a: string, b: string): void {
  renameSync(a, `${a}.swap`);
  renameSync(b, a);
  renameSync(`${a}.swap`, b);
}

const diffIDs = (change: (ids: string[]) => unknown): ImageSpec =>
  with_({
    config: (c) => {
      c.rootfs.diff_ids = change(c.rootfs.diff_ids);
    },
  });
hostile('diffIDs', [
  [
    'wrong',
    diffIDs(([, b]) => [hashOf('other'), b]),
    refused('DIGEST_MISMATCH', /^diffID: got sha256:[0-9a-f]{64}, expected sha256:[0-9a-f]{64}$/),
  ],
  ['in another order', diffIDs((ids) => ids.reverse()), refused('DIGEST_MISMATCH', /^diffID: got/)],
  [
    'those of the blobs',
    {
      ...two,
      manifest: (m) => m,
      config: (c) => {
        c.rootfs.diff_ids[1] = hashOf('blob');
      },
    },
    refused('DIGEST_MISMATCH', /^diffID: got/),
  ],
  ['one too few', diffIDs(([a]) => [a]), badImage('the image has 2 layers but 1 diff_ids')],
  ['one too many', diffIDs((ids) => [...ids, ids[0]]), badImage('the image has 2 layers but 3 diff_ids')],
  ['none', diffIDs(() => []), badImage('the image has 2 layers but 0 diff_ids')],
  ['null', diffIDs(() => null), badImage('the image has 2 layers but 0 diff_ids')],
  ['an object', diffIDs(() => ({})), badImage('image configuration diff_ids is not an array')],
  [
    'a number',
    diffIDs(([a]) => [a, 7]),
    badImage("diffID '7' is not sha256 or sha512 followed by its hex digits"),
  ],
  [
    'a path',
    diffIDs(([a]) => [a, 'sha256:../../../etc']),
    badImage("diffID 'sha256:../../../etc' is not sha256 or sha512 followed by its hex digits"),
  ],
]);

const grammar = 'is not sha256 or sha512 followed by its hex digits';
const hex = 'a'.repeat(64);
const BAD_DIGESTS: [what: string, digest: unknown, shown: string][] = [
  ['in upper case', `sha256:${'A'.repeat(64)}`, `sha256:${'A'.repeat(64)}`],
  ['with an upper-case algorithm', `SHA256:${hex}`, `SHA256:${hex}`],
  ['of 63 digits', `sha256:${'a'.repeat(63)}`, `sha256:${'a'.repeat(63)}`],
  ['of 65 digits', `sha256:${'a'.repeat(65)}`, `sha256:${'a'.repeat(65)}`],
  ['sha512 of 64 digits', `sha512:${hex}`, `sha512:${hex}`],
  ['of no digits', 'sha256:', 'sha256:'],
  ['md5', `md5:${'a'.repeat(32)}`, `md5:${'a'.repeat(32)}`],
  ['sha1', `sha1:${'a'.repeat(40)}`, `sha1:${'a'.repeat(40)}`],
  ['of two algorithms', `sha256+b64:${hex}`, `sha256+b64:${hex}`],
  ['without an algorithm', hex, hex],
  ['a path', 'sha256:../../../../etc/passwd', 'sha256:../../../../etc/passwd'],
  ['an algorithm that is a path', `../sha256:${hex}`, `../sha256:${hex}`],
  [
    'with a slash',
    `sha256:${'a'.repeat(31)}/${'a'.repeat(32)}`,
    `sha256:${'a'.repeat(31)}/${'a'.repeat(32)}`,
  ],
  ['with a newline', `sha256:${hex}\n`, `sha256:${hex}\\x0a`],
  ['with a NUL', `sha256:${hex}\0`, `sha256:${hex}\\x00`],
  ['with a space', ` sha256:${hex}`, ` sha256:${hex}`],
  ['empty', '', ''],
  ['null', null, 'null'],
  ['a number', 256, '256'],
  ['an array', [`sha256:${hex}`], `sha256:${hex}`],
];
hostile('what is no digest', [
  ...BAD_DIGESTS.map(
    ([what, digest, shown]): Case => [
      what,
      with_({
        manifest: (m) => {
          m.layers[1].digest = digest;
        },
      }),
      badImage(`manifest layer 2 digest '${shown}' ${grammar}`),
    ],
  ),
  [
    'missing',
    with_({
      manifest: (m) => {
        delete m.layers[1].digest;
      },
    }),
    badImage(`manifest layer 2 digest 'undefined' ${grammar}`),
  ],
  [
    'of the configuration',
    with_({ configDescriptor: { digest: 'sha256:../../x' } }),
    badImage(`manifest config digest 'sha256:../../x' ${grammar}`),
  ],
  [
    'of the manifest',
    with_({ manifestDescriptor: { digest: 'sha256:../../x' } }),
    badImage(`index.json entry 1 digest 'sha256:../../x' ${grammar}`),
  ],
  [
    'of a megabyte',
    with_({ configDescriptor: { digest: 'x'.repeat(1_000_000) } }),
    badImage(`manifest config digest '${'x'.repeat(300)}…' ${grammar}`),
  ],
]);

const sha512: ImageSpec = {
  ...two,
  config: (c) => {
    c.created = '2024-01-01T00:00:00Z';
  },
  layout: (l) => {
    const config = l.put(readFileSync(l.path(l.config.digest)), 'sha512');
    const manifest = JSON.parse(readFileSync(l.path(l.manifest.digest), 'utf8'));
    Object.assign(manifest.config, config);
    for (const layer of manifest.layers)
      Object.assign(layer, l.put(readFileSync(l.path(layer.digest)), 'sha512'));
    retag(l, l.put(JSON.stringify(manifest), 'sha512'));
  },
};
function retag(l: WrittenLayout, entry: { digest: string; size: number }): void {
  const index = JSON.parse(readFileSync(join(l.directory, 'index.json'), 'utf8'));
  Object.assign(index.manifests[0], entry);
  writeFileSync(join(l.directory, 'index.json'), JSON.stringify(index));
}
hostile('sha512', [
  ['for everything but the diffIDs', sha512, TREE],
  [
    'for a layer, with a wrong digest',
    {
      ...two,
      layout: (l) => {
        sha512.layout!(l);
        const [first] = JSON.parse(readFileSync(l.path(indexDigest(l)), 'utf8')).layers;
        flip(l.path(first.digest));
      },
    },
    refused('DIGEST_MISMATCH', /^got sha512:[0-9a-f]{128}, expected sha512:[0-9a-f]{128}$/),
  ],
]);
function indexDigest(l: WrittenLayout): string {
  return JSON.parse(readFileSync(join(l.directory, 'index.json'), 'utf8')).manifests[0].digest;
}

/** Puts something else in the place of a blob; what was there lies at OUTSIDE-like paths of the layout's parent. */
const replaced = (
  which: (l: WrittenLayout) => string,
  by: (path: string, aside: string) => void,
): ImageSpec =>
  with_({
    layout: (l) => {
      const path = l.path(which(l));
      const aside = join(l.directory, '..', 'aside');
      renameSync(path, aside);
      by(path, aside);
    },
  });
const layer = (l: WrittenLayout) => l.layers[0]!.digest;
const notIn = /^the layout has no 'blobs\/sha256\/[0-9a-f]{64}'$/;
const notA =
  /^'blobs\/sha256\/[0-9a-f]{64}' in the layout is (not a regular file|a link or not what it should be)$/;
hostile('blobs that are no files', [
  ['a layer is missing', with_({ layout: (l) => rmSync(l.path(layer(l))) }), badImage(notIn)],
  [
    'the configuration is missing',
    with_({ layout: (l) => rmSync(l.path(l.config.digest)) }),
    badImage(notIn),
  ],
  ['the manifest is missing', with_({ layout: (l) => rmSync(l.path(l.manifest.digest)) }), badImage(notIn)],
  [
    'a layer is a symlink to the right bytes outside',
    replaced(layer, (path, aside) => symlinkSync(aside, path)),
    badImage(notA),
  ],
  [
    'a layer is a symlink to a file of the host',
    replaced(layer, (path) => symlinkSync(join(OUTSIDE, 'secret'), path)),
    badImage(notA),
  ],
  [
    'a layer is a fifo',
    replaced(layer, (path) => {
      execFileSync('mkfifo', [path]);
    }),
    badImage(notA),
  ],
  ['a layer is a directory', replaced(layer, (path) => mkdirSync(path)), badImage(notA)],
  [
    'a layer is a device',
    replaced(layer, (path) => {
      execFileSync('mknod', [path, 'c', '1', '5']);
    }),
    badImage(notA),
  ],
  [
    'the configuration is a fifo',
    replaced(
      (l) => l.config.digest,
      (path) => {
        execFileSync('mkfifo', [path]);
      },
    ),
    badImage(notA),
  ],
  [
    'the manifest is a symlink',
    replaced(
      (l) => l.manifest.digest,
      (path, aside) => symlinkSync(aside, path),
    ),
    badImage(notA),
  ],
  [
    'blobs/sha256 is a symlink',
    with_({
      layout: (l) => {
        const at = join(l.directory, 'blobs/sha256');
        renameSync(at, join(l.directory, '../aside'));
        symlinkSync('../../aside', at);
      },
    }),
    badImage(/^'blobs\/sha256\/[0-9a-f]{64}' in the layout is a link or not what it should be$/),
  ],
  [
    'index.json is a symlink',
    with_({
      layout: (l) => {
        const at = join(l.directory, 'index.json');
        renameSync(at, join(l.directory, '../aside'));
        symlinkSync('../aside', at);
      },
    }),
    badImage("'index.json' in the layout is a link or not what it should be"),
  ],
]);
