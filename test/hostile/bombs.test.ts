/**
 * Images that are small and want to be large: in memory, in time, on the disk. Each is pulled by a process of its own,
 * whose peak of resident memory and whose run time are limited.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openStore } from '../../src/store/store.ts';
import {
  type BuiltEntry,
  directory,
  file,
  hardLink,
  padded,
  paxRecord,
  symlink,
  tar,
  tarEntry,
  tarHeader,
} from '../unit/archive/tar-builder.ts';
import { assertNothingStored, assertPrintable, assertUntouched, scratch } from './harness.ts';
import { ARCHITECTURE, hashOf, type ImageSpec, type LayerSpec, OCI, TAG, writeLayout } from './image.ts';
import { rawBlocks, zstdFrame } from './zstd-writer.ts';

const MEMORY_MAX_BYTES = 400 * 1024 ** 2;
const TIME_MAX_MS = 300_000;

interface Bomb {
  readonly image: ImageSpec;
  /** Exit status, and what stderr says; 0 when the image is taken. */
  readonly status: number;
  readonly message?: RegExp;
  /** Looks at the tree of the last layer. */
  readonly check?: (tree: string) => void;
}

let counter = 0;
function bomb(name: string, make: () => Bomb): void {
  test(name, async (t) => {
    const { image, status, message, check } = make();
    const base = join(scratch, `bomb${counter++}`);
    mkdirSync(base);
    writeLayout(join(base, 'layout'), image);
    const root = join(base, 'store');
    const ended = await pull(root, `oci:${join(base, 'layout')}:${TAG}`);
    t.diagnostic(`${Math.round(ended.peakBytes / 1e6)} MB, ${ended.ms} ms`);
    assert.equal(ended.status, status, ended.stderr);
    if (message !== undefined) assert.match(ended.stderr, message);
    for (const line of ended.stderr.trimEnd().split('\n')) assertPrintable(line);
    if (status === 0) check?.(lastTree(root));
    else assertNothingStored(root);
    assert.ok(ended.peakBytes < MEMORY_MAX_BYTES, `${ended.peakBytes} bytes of memory`);
    assertUntouched();
    rmSync(base, { recursive: true });
  });
}

function lastTree(root: string): string {
  const store = openStore({ root })!;
  return store.layerTrees(store.lookup(['bomb'])!).at(-1)!;
}

interface Ended {
  readonly status: number | null;
  readonly stderr: string;
  readonly peakBytes: number;
  readonly ms: number;
}

async function pull(root: string, ref: string): Promise<Ended> {
  const program = resolve(import.meta.dirname, '../../src/cli/oci-pull.ts');
  const started = Date.now();
  const child = spawn(
    process.execPath,
    [program, '--root', root, '--run-root', `${root}-run`, '--platform', ARCHITECTURE, ref, 'bomb'],
    { stdio: ['ignore', 'ignore', 'pipe'], timeout: TIME_MAX_MS, killSignal: 'SIGKILL' },
  );
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // The kernel keeps the peak, so that rare looks are enough.
  let peakBytes = 0;
  const timer = setInterval(() => {
    try {
      const peak = /^VmHWM:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'))?.[1];
      peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024);
    } catch {
      // it has ended
    }
  }, 20);
  const status = await new Promise<number | null>((done) => child.on('close', done));
  clearInterval(timer);
  return { status, stderr, peakBytes, ms: Date.now() - started };
}

/** A layer whose diffID is wrong: it is read to its end, and never taken. */
const endless = (blob: Buffer, mediaType: string): ImageSpec => ({
  layers: [
    { tar: Buffer.alloc(0), blob: () => blob, mediaType, diffID: hashOf('another') } satisfies LayerSpec,
  ],
});
const gzip = (blob: Buffer) => endless(blob, `${OCI.layer}+gzip`);
const repeat = (bytes: Buffer, times: number) => Buffer.concat(Array<Buffer>(times).fill(bytes));
const wrongDiffID = { status: 65, message: /diffID: got sha256:/ };
const MIB = 1024 ** 2;

bomb('a plain image', () => ({ image: {}, status: 0 }));
bomb('gzip: a gibibyte of zeros behind the end of the archive, in a megabyte', () => ({
  image: gzip(Buffer.concat([gzipSync(tar(file('f', 'x'))), repeat(gzipSync(Buffer.alloc(64 * MIB)), 16)])),
  ...wrongDiffID,
}));
bomb('zstd: a gibibyte of zeros behind the end of the archive, in 32 kB', () => ({
  image: endless(
    Buffer.concat([
      zstdFrame({ window: [10, 0], blocks: rawBlocks(tar(file('f', 'x'))) }),
      zstdFrame({
        window: [10, 0],
        blocks: Array.from({ length: 8192 }, () => ({ rle: 0, count: 128 * 1024 })),
      }),
    ]),
    `${OCI.layer}+zstd`,
  ),
  ...wrongDiffID,
}));
bomb('a file of 256 MiB of zeros', () => ({
  image: { layers: [[file('f', '', { size: 256 * MIB }), Buffer.alloc(256 * MIB)]] },
  status: 0,
  check: (tree) => assert.equal(statSync(join(tree, 'f')).size, 256 * MIB),
}));
bomb('200000 empty gzip members', () => ({
  image: {
    layers: [
      { tar: tar(file('f', 'x')), blob: (t) => Buffer.concat([gzipSync(t), repeat(gzipSync(''), 200_000)]) },
    ],
  },
  status: 0,
}));
bomb('200000 empty zstd frames', () => ({
  image: {
    layers: [
      {
        tar: tar(file('f', 'x')),
        mediaType: `${OCI.layer}+zstd`,
        blob: (t) =>
          Buffer.concat([
            zstdFrame({ window: [10, 0], blocks: rawBlocks(t) }),
            repeat(zstdFrame({ window: [10, 0], blocks: [Buffer.alloc(0)] }), 200_000),
          ]),
      },
    ],
  },
  status: 0,
}));

const sparse = (realSize: number): BuiltEntry =>
  file('s', '', { pax: { 'GNU.sparse.size': String(realSize), 'GNU.sparse.map': '' } });
bomb('a sparse file of a tebibyte', () => ({
  image: { layers: [[sparse(2 ** 40)]] },
  status: 0,
  check: (tree) => {
    const { size, blocks } = statSync(join(tree, 's'));
    assert.deepEqual([size, blocks], [2 ** 40, 0]);
  },
}));
bomb('a sparse file of a pebibyte', () =>
  canHold(2 ** 50)
    ? {
        image: { layers: [[sparse(2 ** 50)]] },
        status: 0,
        check: (tree) => assert.equal(statSync(join(tree, 's')).size, 2 ** 50),
      }
    : { image: { layers: [[sparse(2 ** 50)]] }, status: 74, message: /truncate 's': EFBIG/ },
);
bomb('a sparse file of 2^53-1 bytes', () =>
  canHold(2 ** 53 - 1)
    ? { image: { layers: [[sparse(2 ** 53 - 1)]] }, status: 0 }
    : { image: { layers: [[sparse(2 ** 53 - 1)]] }, status: 74, message: /truncate 's': EFBIG/ },
);
/** Whether the file system of the tests has files of that size. */
function canHold(bytes: number): boolean {
  const path = join(scratch, 'sparse');
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, bytes);
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
    rmSync(path);
  }
}

const extended = (type: 'x' | 'g', records: Buffer) =>
  Buffer.concat([tarHeader({ name: 'pax', type, size: records.length }), padded(records)]);
bomb('a quarter of a gibibyte of global headers', () => {
  const header = extended('g', paxRecord('comment', Buffer.alloc(MIB - 100, 65)));
  return {
    image: gzip(Buffer.concat([repeat(gzipSync(repeat(header, 32)), 8), gzipSync(tar(file('f', 'x')))])),
    ...wrongDiffID,
  };
});
bomb('a gibibyte of extended headers before one entry', () => {
  const header = extended('x', paxRecord('comment', Buffer.alloc(MIB - 100, 65)));
  return {
    image: gzip(repeat(gzipSync(repeat(header, 32)), 32)),
    status: 65,
    message: /for one or 2097152 for all of an entry/,
  };
});
bomb('half a million records in headers of a megabyte', () => {
  const header = extended('x', Buffer.from('5 a=\n'.repeat(200_000)));
  return {
    image: { layers: [[header, file('f', 'x'), header, file('g', 'x'), header, file('h', 'x')]] },
    status: 0,
  };
});

bomb('30000 small files, then a layer that removes 10000 of them', () => {
  const names = Array.from({ length: 30_000 }, (_, i) => `d${i % 1000}/f${i}`).sort();
  return {
    image: {
      layers: [
        names.map((name) => file(name, 'x')),
        names.slice(0, 10_000).map((name) => file(name.replace('/', '/.wh.'))),
      ],
    },
    status: 0,
    check: (tree) => assert.equal(statSync(tree).isDirectory(), true),
  };
});
bomb('20000 hard links that wait for one another, backwards', () => {
  const links = Array.from({ length: 20_000 }, (_, i) => hardLink(`l${i}`, `l${i + 1}`));
  return {
    image: { layers: [[...links, file('l20000', 'x')]] },
    status: 65,
    message: /entry 'l0': a hard link to 'l1'/,
  };
});
bomb('20000 hard links to one file', () => ({
  image: { layers: [[file('f', 'x'), ...Array.from({ length: 20_000 }, (_, i) => hardLink(`l${i}`, 'f'))]] },
  status: 0,
  check: (tree) => assert.equal(statSync(join(tree, 'f')).nlink, 20_001),
}));
bomb('5000 times the same name, in turn a directory and a file', () => ({
  image: {
    layers: [Array.from({ length: 5_000 }, (_, i) => (i % 2 === 0 ? directory('n') : file('n', 'x')))],
  },
  status: 0,
}));
bomb('5000 whiteouts of nothing over 100 layers that have the directory', () => ({
  image: {
    layers: [
      ...Array.from({ length: 100 }, (_, i) => [file(`d/l${i}`)]),
      Array.from({ length: 5_000 }, (_, i) => file(`d/.wh.w${i}`)),
    ],
  },
  status: 0,
  check: (tree) => assert.deepEqual(readdirSync(join(tree, 'd')), []),
}));
/** 40 symlinks that lead to d by 64000 steps, cheap as each may be. */
function winding(): Buffer[] {
  const link = (name: string, target: string) =>
    tarEntry({ name, type: '2', pax: { linkpath: `${'d/../'.repeat(800)}${target}` } });
  return [
    tarEntry(directory('d')),
    ...Array.from({ length: 39 }, (_, i) => link(`l${i}`, `l${i + 1}`)),
    tarEntry(symlink('l39', 'd')),
  ];
}
bomb('20000 entries behind 40 symlinks of 4000 bytes each', () => ({
  image: {
    layers: [[...winding(), ...Array.from({ length: 20_000 }, (_, i) => file(`l${i % 2}/f${i}`, 'x'))]],
  },
  status: 65,
  message: /entry 'l[01]\/f[0-9]+': its path needs too much time: the symlinks of the layer are too long/,
}));
bomb('5000 hard links behind 40 symlinks of a lower layer', () => ({
  image: {
    layers: [
      [...winding(), ...Array.from({ length: 5_000 }, (_, i) => file(`d/f${i}`, 'x'))],
      Array.from({ length: 5_000 }, (_, i) => hardLink(`h${i}`, `l0/f${i}`)),
    ],
  },
  status: 65,
  message: /entry 'h[0-9]+': a hard link to 'l0\/f[0-9]+', which is no file of the image/,
}));
