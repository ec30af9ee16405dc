/**
 * The same through the programs as they are installed, bundled and all: oci-pull and `ocictl mount`, by exit status,
 * stdout, stderr and the tree. One image of each class.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { buildPrograms } from '../../scripts/build.ts';
import { PROJECT_DIR } from '../../scripts/step.ts';
import { unmount } from '../../src/host/mount.ts';
import { directory, file, hardLink, opaque, symlink, tar, whiteout } from '../unit/archive/tar-builder.ts';
import {
  assertNothingStored,
  assertPrintable,
  assertUntouched,
  layered,
  OUTSIDE,
  scratch,
} from './harness.ts';
import { ARCHITECTURE, hashOf, type ImageSpec, OCI, TAG, writeLayout } from './image.ts';
import { treeLines } from './tree.ts';
import { zstdFrame } from './zstd-writer.ts';

before(() => buildPrograms());

/** The tree; or exit status, code and a part of the message. */
type Expected = readonly string[] | readonly [status: number, code: string, message: RegExp];

const evil = file('f', 'x', { uid: 70000 });
const IMAGES: readonly (readonly [name: string, image: ImageSpec, expected: Expected])[] = [
  ['a plain image', {}, ['f "x"']],
  [
    'whiteout, then the directory again',
    layered([file('d/old', '1')], [whiteout('d'), directory('d', 0o700), file('d/new', '2')]),
    ['d/ 700', 'd/new "2"'],
  ],
  [
    'an opaque root',
    layered([file('a', '1'), directory('.', 0o711)], [opaque(''), file('b', '2')]),
    ['/ 711', 'b "2"'],
  ],
  [
    'usrmerge',
    layered([directory('usr/lib'), symlink('lib', 'usr/lib')], [file('lib/a', 'x')]),
    ['lib -> usr/lib', 'usr/', 'usr/lib/', 'usr/lib/a "x"'],
  ],
  [
    'a hard link to a lower layer',
    layered([file('a', 'x', { mode: 0o4755, uid: 1000 })], [hardLink('b', 'a')]),
    ['a "x" 4755 1000:0', 'b "x" = a 4755 1000:0'],
  ],
  [
    'a symlink of the host that is written through',
    layered([symlink('l', '/')], [file('l/tmp/f', 'x')]),
    ['l -> /', 'tmp/', 'tmp/f "x"'],
  ],
  [
    'devices and fifos',
    layered([
      { name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
      { name: 'p', type: '6' },
    ]),
    ['n c1:3 666', 'p p'],
  ],
  ['zstd', { layers: [{ tar: tar(file('f', 'x')), blob: 'zstd' }] }, ['f "x"']],
  ['no layers', { layers: [] }, []],
  ["'..'", layered([file('../../f')]), [65, 'BAD_ARCHIVE', /entry '\.\.\/\.\.\/f': '\.\.' in its path/]],
  [
    'a name with terminal commands',
    layered([file('\x1b]0;x\x07/../f')]),
    [65, 'BAD_ARCHIVE', /entry '\\x1b\]0;x\\x07\/\.\.\/f': '\.\.' in its path/],
  ],
  [
    'a hard link to the host',
    layered([hardLink('f', join(OUTSIDE, 'secret'))]),
    [65, 'BAD_ARCHIVE', /which is no file of the image/],
  ],
  [
    'an owner that does not fit',
    layered([file('a')], [evil]),
    [65, 'BAD_ARCHIVE', /entry 'f': uid 70000 is not in the range 0 to 65535/],
  ],
  [
    'a layer that is cut short',
    { layers: [{ tar: tar(file('f')), blob: (t) => gzipSync(t).subarray(0, -8) }] },
    [65, 'BAD_ARCHIVE', /gzip: the stream is cut short/],
  ],
  [
    'a window of 2 GiB',
    {
      layers: [
        {
          tar: tar(file('f')),
          mediaType: `${OCI.layer}+zstd`,
          blob: (t) => zstdFrame({ window: [21, 0], blocks: [t] }),
        },
      ],
    },
    [65, 'BAD_ARCHIVE', /a window of 2147483648 bytes/],
  ],
  [
    'a wrong diffID',
    {
      config: (c) => {
        c.rootfs.diff_ids = [hashOf('x')];
      },
    },
    [65, 'DIGEST_MISMATCH', /diffID: got sha256:[0-9a-f]{64}, expected sha256:/],
  ],
  [
    'a wrong size',
    {
      manifest: (m) => {
        m.layers[0].size++;
      },
    },
    [65, 'SIZE_MISMATCH', /got [0-9]+ bytes, expected [0-9]+/],
  ],
  [
    'a digest that is a path',
    {
      manifest: (m) => {
        m.layers[0].digest = 'sha256:../../../etc/passwd';
      },
    },
    [65, 'BAD_IMAGE', /manifest layer 1 digest 'sha256:\.\.\/\.\.\/\.\.\/etc\/passwd' is not sha256/],
  ],
  [
    'a key twice',
    { manifest: (m) => JSON.stringify(m).replace('{', '{"layers":[],') },
    [65, 'BAD_IMAGE', /manifest has the key 'layers' twice in one object/],
  ],
  [
    'schema 1',
    { manifest: (m) => ({ ...m, schemaVersion: 1 }) },
    [69, 'UNSUPPORTED', /Docker schema 1 manifest/],
  ],
  [
    'another platform',
    {
      config: (c) => {
        c.os = 'windows';
      },
    },
    [69, 'UNSUPPORTED', /is an image for 'windows\//],
  ],
  [
    'Entrypoint as a string',
    {
      config: (c) => {
        c.config.Entrypoint = 'sh';
      },
    },
    [65, 'BAD_IMAGE', /image configuration config Entrypoint is not an array/],
  ],
];

for (const [index, [name, image, expected]] of IMAGES.entries())
  test(name, () => {
    const base = join(scratch, `program${index}`);
    mkdirSync(base);
    const { manifest } = writeLayout(join(base, 'layout'), image);
    const root = join(base, 'store');
    const run = (program: string, ...args: string[]) =>
      spawnSync(
        process.execPath,
        [
          join(PROJECT_DIR, 'dist', `${program}.cjs`),
          '--root',
          root,
          '--run-root',
          join(base, 'run'),
          ...args,
        ],
        { encoding: 'utf8' },
      );
    const pull = (...options: string[]) =>
      run(
        'oci-pull',
        ...options,
        '--platform',
        ARCHITECTURE,
        `oci:${join(base, 'layout')}:${TAG}`,
        'hostile',
      );

    const pulled = pull();
    for (const line of pulled.stderr.trimEnd().split('\n')) assertPrintable(line);
    if (typeof expected[0] === 'number') {
      const [status, code, message] = expected as Extract<Expected, readonly [number, ...unknown[]]>;
      assert.deepEqual([pulled.status, pulled.stdout], [status, ''], pulled.stderr);
      assert.match(pulled.stderr, message);
      assert.match(pulled.stderr, /^hint: \S/m);
      const {
        code: given,
        message: said,
        hint,
      } = JSON.parse(pull('--json').stderr.trimEnd().split('\n').at(-1)!);
      assert.equal(given, code);
      assert.match(said, message);
      assert.match(hint, /\S/);
      assertNothingStored(root);
    } else {
      assert.deepEqual([pulled.status, pulled.stdout], [0, `${manifest.digest}\n`], pulled.stderr);
      const mounted = run('ocictl', 'mount', 'hostile');
      assert.equal(mounted.status, 0, mounted.stderr);
      const tree = mounted.stdout.trimEnd();
      try {
        assert.deepEqual(treeLines(tree), expected);
      } finally {
        unmount(tree);
      }
    }
    assertUntouched();
    rmSync(base, { recursive: true });
  });
