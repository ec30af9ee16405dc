/** Layers made from their tables of contents: what is fetched, what comes of it, and what becomes of lies. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { TarEntry } from '../../../src/archive/tar-entry.ts';
import type { TocEntry } from '../../../src/archive/toc.ts';
import type { VerityDigest } from '../../../src/composefs/verity-digest.ts';
import {
  type ChunkedFetch,
  fetchChunked,
  type LayerIdentity,
  mayBeChunked,
} from '../../../src/fetch-chunked-layer.ts';
import { slots } from '../../../src/fetch-layer.ts';
import { fetchStream } from '../../../src/fetch-stream.ts';
import type { ByteRange } from '../../../src/oci/content.ts';
import { type ChainID, type Digest, digestOf } from '../../../src/oci/digest.ts';
import { type ErrorCode, OciError } from '../../../src/oci/errors.ts';
import type { ImageSource } from '../../../src/source/image-source.ts';
import { applyStream } from '../../../src/store/apply-stream.ts';
import { contentReader } from '../../../src/store/chunked-layer.ts';
import type { StreamStage } from '../../../src/store/composefs-images.ts';
import {
  commitObjects,
  contentBySha256,
  objectPath,
  openObjectStage,
  type StoredContent,
} from '../../../src/store/objects.ts';
import { readStream } from '../../../src/store/streams.ts';
import { type BuiltLayer, estargz, locate, zstdChunked } from '../archive/chunked-builder.ts';
import { type BuiltEntry, directory, file, hardLink, tar, whiteout } from '../archive/tar-builder.ts';
import { rejectsOci } from '../expect-error.ts';

/** The lines of a stream, and what its last line says. */
function readWhole(path: string) {
  const stream = readStream(path);
  const records = [];
  for (;;) {
    const { done, value } = stream.next();
    if (done) return { records, record: value };
    records.push(value);
  }
}

const BIG = randomBytes(300_000);
const SHARED = Array.from({ length: 40 }, (_, i) =>
  file(`./usr/f${i}`, randomBytes(2000).toString('hex'), { mtime: i }),
);
const base = (changed: string) =>
  tar(
    directory('.'),
    directory('./usr'),
    ...SHARED,
    file('./big', '', { data: BIG }),
    file('./etc', changed, { mode: 0o4750, uid: 7 }),
    file('./twice', changed),
    file('./tiny', 'x'),
    file('./empty'),
    whiteout('./gone'),
    hardLink('./link', './big'),
  );
const FIRST = base('a'.repeat(5000));
const SECOND = base(randomBytes(3000).toString('hex'));

interface Outcome {
  readonly identity: LayerIdentity | undefined;
  readonly entries: { entry: TarEntry; content: Digest | undefined }[];
  /** What was asked of the source. */
  readonly asked: ByteRange[][];
  readonly notes: string[];
  readonly bytes: number[];
}

interface Fakes {
  readonly blob?: Buffer;
  readonly distrust?: ImageSource['distrust'];
  readonly readRanges?: ImageSource['readRanges'];
  readonly earlier?: ChunkedFetch['earlier'];
}

function openStore(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'ocictl-chunked-'));
  t.after(() => rmSync(root, { recursive: true }));
  const objects = { objects: join(root, 'objects'), objectsBySha256: join(root, 'objects-by-sha256') };
  let stages = 0;
  return {
    objects,
    /** The layer as it would be stored, by its ranges or from its whole blob: its records, and what vouches for it. */
    async stream(layer: BuiltLayer, how: 'ranges' | 'blob') {
      const directory = join(root, `stage${stages++}`);
      mkdirSync(directory);
      const { descriptor, diffID } = layer;
      const whole = () =>
        applyStream([layer.blob] as unknown as AsyncIterable<Uint8Array>, {
          descriptor,
          diffID,
          paths: objects,
          directory,
        });
      const source = {
        async *readRanges(_descriptor: unknown, ranges: readonly ByteRange[]) {
          for (const { offset, end } of ranges) yield { offset, bytes: layer.blob.subarray(offset, end) };
        },
      } as unknown as ImageSource;
      const never = () => assert.fail('the whole blob was asked for');
      const task = {
        layer: { descriptor, diffID },
        index: 0,
        blob: { size: 0 },
        apply: never,
        restart: never,
      };
      const options = { source, downloads: slots(1), signal: new AbortController().signal, onEvent() {} };
      const { toc } =
        how === 'blob'
          ? await whole()
          : await fetchStream(task as never, { directory } as StreamStage, objects, () => new Map(), options);
      const { records, record } = readWhole(join(directory, 'stream'));
      const { records: digest, ...facts } = record;
      assert.equal(facts.diffID, toc === undefined ? diffID : undefined);
      assert.equal(facts.toc, toc);
      return { toc, records, digest, sizeBytes: facts.sizeBytes, entries: facts.entries };
    },
    async fetch(layer: BuiltLayer, fakes: Fakes = {}): Promise<Outcome> {
      const directory = join(root, `stage${stages++}`);
      mkdirSync(directory);
      const stage = openObjectStage(objects, directory);
      const asked: ByteRange[][] = [];
      const notes: string[] = [];
      const bytes: number[] = [];
      let entries: { entry: TarEntry; stored: StoredContent | undefined }[] = [];
      const source = {
        async *readRanges(_descriptor: unknown, ranges: readonly ByteRange[]) {
          asked.push([...ranges]);
          for (const { offset, end } of ranges)
            for (let at = offset; at < end; at += 10_000)
              yield {
                offset: at,
                bytes: (fakes.blob ?? layer.blob).subarray(at, Math.min(end, at + 10_000)),
              };
        },
        ...fakes,
      } as unknown as ImageSource;
      try {
        const identity = await fetchChunked({
          layer: {
            descriptor: layer.descriptor,
            diffID: layer.diffID,
            chainID: layer.diffID as unknown as ChainID,
          },
          source,
          objects,
          stage,
          directory,
          earlier: fakes.earlier ?? (() => new Map()),
          signal: new AbortController().signal,
          onBytes: (count) => void bytes.push(count),
          note: (message) => void notes.push(message),
          begin() {
            entries = [];
            return (entry, stored) => void entries.push({ entry, stored });
          },
        });
        stage.close();
        const read = contentReader(objects, directory);
        const contents = entries.map(({ entry, stored }) => {
          const pieces: Buffer[] = [];
          if (stored !== undefined) read(stored, entry.size, (piece) => void pieces.push(Buffer.from(piece)));
          const { digest: _, chunks: __, pieces: ___, headerMode: ____, ...own } = entry as TocEntry;
          return { entry: own, content: stored && digestOf(Buffer.concat(pieces)) };
        });
        commitObjects(objects, directory);
        return { identity, entries: contents, asked, notes, bytes };
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  };
}

/** What an ordinary reader sees in a tar. */
function seen(archive: Buffer): Outcome['entries'] {
  return locate(archive).map(({ entry, start }) => ({
    entry,
    content: entry.size > 0 ? digestOf(archive.subarray(start, start + entry.size)) : undefined,
  }));
}

const total = (ranges: readonly ByteRange[]) =>
  ranges.reduce((sum, { offset, end }) => sum + end - offset, 0);

/** With the objects of the first layer there. */
async function filled(t: TestContext, build: (tar: Buffer) => BuiltLayer) {
  const store = openStore(t);
  const layer = build(FIRST);
  // Of a store with half of them, the rest is not too much to be fetched apart.
  const stage = join(store.objects.objects, '../first');
  mkdirSync(stage);
  const made = openObjectStage(store.objects, stage);
  for (const { entry, start } of locate(FIRST))
    if (entry.size > 64) {
      const writer = made.create({ size: entry.size });
      writer.write(FIRST.subarray(start, start + entry.size));
      writer.finish();
    }
  made.close();
  commitObjects(store.objects, stage);
  return { store, layer };
}

const FORMATS: Record<string, (tar: Buffer) => BuiltLayer> = {
  'zstd:chunked': (bytes) => zstdChunked(bytes),
  'zstd:chunked without tar-split data': (bytes) => zstdChunked(bytes, { tarSplit: false }),
  eStargz: (bytes) => estargz(bytes),
  'eStargz in chunks': (bytes) => estargz(bytes, { chunkBytes: 1000 }),
  'eStargz, files that share a member': (bytes) => estargz(bytes, { minMemberBytes: 20_000 }),
};

for (const [name, build] of Object.entries(FORMATS))
  test(`${name}: the stored layer is the one that its blob makes`, async (t) => {
    const { store } = await filled(t, build);
    const layer = build(SECOND);
    const { toc, ...byTable } = await store.stream(layer, 'ranges');
    const { toc: none, ...byBlob } = await store.stream(layer, 'blob');
    assert.deepEqual(byTable, byBlob);
    assert.equal(none, undefined);
    const annotations = Object.values(layer.descriptor.annotations!);
    if (name === 'zstd:chunked') assert.equal(toc, undefined);
    else assert.ok(annotations.includes(toc!));
  });

for (const [name, build] of Object.entries(FORMATS))
  test(`${name}: only what is missing is fetched, and the layer is what its tar says`, async (t) => {
    const { store } = await filled(t, build);
    const layer = build(SECOND);
    assert.ok(mayBeChunked({ descriptor: layer.descriptor } as never, { readRanges() {} } as never));
    const { identity, entries, asked, notes, bytes } = await store.fetch(layer);
    assert.deepEqual(notes, []);
    assert.deepEqual(entries, seen(layer.tar));
    if (name === 'zstd:chunked') assert.deepEqual(identity, { kind: 'diffID' });
    else {
      const annotations = Object.values(layer.descriptor.annotations!);
      assert.equal(identity?.kind, 'toc');
      assert.ok(annotations.includes((identity as { digest: string }).digest));
    }
    // the table, then the content of etc (once, though it is there twice) and tiny
    const content = asked.at(-1)!;
    assert.ok(content.length >= 1, JSON.stringify(asked));
    assert.ok(total(content) < (name.includes('share') ? 60_000 : 8000), `${total(content)} bytes`);
    assert.equal(bytes.at(-1), layer.blob.length);
    assert.equal(bytes[0], layer.blob.length - total(content));
    // and now nothing but the table, though tiny is no object
    const again = await store.fetch(layer);
    assert.deepEqual(again.entries, entries);
    assert.deepEqual(again.asked, asked.slice(0, -1));
  });

test('small content is found again, and only where it is what its digest says', async (t) => {
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  const layer = zstdChunked(SECOND);
  const first = await store.fetch(layer);
  const tiny = digestOf(Buffer.from('x'));
  assert.deepEqual(contentBySha256(store.objects, tiny), { inline: Buffer.from('x') });
  const hex = tiny.slice('sha256:'.length);
  const entry = join(store.objects.objectsBySha256, hex.slice(0, 2), hex.slice(2));
  assert.equal(readlinkSync(entry), '=eA');

  // a table that gives it another size
  const longer = zstdChunked(SECOND, {
    tarSplit: false,
    edit: ({ entries }) => Object.assign(entries.find(({ name }) => name === './tiny')!, { size: 2 }),
  });
  const { identity, notes } = await store.fetch(longer);
  assert.equal(identity, undefined);
  assert.match(notes.join(), /names content of another size than the file; fetching the whole layer$/);

  for (const target of ['=eQ', '=', 'eA']) {
    unlinkSync(entry);
    symlinkSync(target, entry);
    assert.equal(contentBySha256(store.objects, tiny), undefined);
  }
  const { asked, entries } = await store.fetch(layer);
  assert.deepEqual(entries, first.entries);
  assert.equal(asked.length, 2);
  assert.equal(asked[1]!.length, 1);
});

test('of a large file that changed a little only those pieces are fetched', async (t) => {
  const LARGE = 3_000_000;
  const CHUNK = 100_000;
  const old = randomBytes(LARGE);
  const inPlace = Buffer.from(old);
  for (const at of [0, 1_234_567, LARGE - 1]) inPlace[at]! ^= 1;
  const longer = Buffer.concat([
    old.subarray(0, 1_250_000),
    Buffer.from('ten bytes.'),
    old.subarray(1_250_000),
  ]);
  const layerOf = (data: Buffer, options: Parameters<typeof zstdChunked>[1] = {}) =>
    zstdChunked(tar(directory('.'), ...SHARED, file('./var/db', '', { data }), file('./z', 'last')), {
      chunkBytes: CHUNK,
      ...options,
    });

  async function fetched(layer: BuiltLayer, damage?: (path: string) => void) {
    const store = openStore(t);
    const stage = join(store.objects.objects, '../first');
    mkdirSync(stage);
    const made = openObjectStage(store.objects, stage);
    const writer = made.create({ size: LARGE });
    writer.write(old);
    const object = writer.finish();
    made.close();
    commitObjects(store.objects, stage);
    damage?.(objectPath(store.objects, object));
    const asked: string[][] = [];
    const result = await store.fetch(layer, {
      earlier(paths) {
        asked.push([...paths]);
        return new Map([['var/db', object]]);
      },
    });
    assert.deepEqual(asked, [['var/db']]);
    return { ...result, bytes: total(result.asked[1] ?? []) };
  }

  /** Bytes that these pieces, and all other files, take in the blob. */
  function bytesOf({ toc }: BuiltLayer, pieces: readonly number[]): number {
    const rows = toc.entries as { name: string; offset?: number; endOffset?: number }[];
    const others = rows.filter(({ name }) => name !== './var/db');
    const own = rows.filter(({ name }) => name === './var/db');
    const ends = [...own.slice(1).map(({ offset }) => offset!), own[0]!.endOffset!];
    return [
      ...others.map(({ offset = 0, endOffset = 0 }) => endOffset - offset),
      ...pieces.map((index) => ends[index]! - own[index]!.offset!),
    ].reduce((sum, bytes) => sum + bytes);
  }
  const all = Array.from({ length: LARGE / CHUNK }, (_, index) => index);

  for (const [data, pieces] of [
    [inPlace, [0, 12, 29]],
    [longer, [12]],
  ] as const) {
    const layer = layerOf(data);
    const { identity, entries, notes, bytes } = await fetched(layer);
    assert.deepEqual(notes, []);
    assert.deepEqual(identity, { kind: 'diffID' });
    assert.deepEqual(entries, seen(layer.tar));
    assert.equal(bytes, bytesOf(layer, pieces));
  }

  // all of the file's pieces are known: it was another file's beginning
  const shorter = layerOf(old.subarray(0, 2_000_000));
  const known = await fetched(shorter);
  assert.deepEqual(known.entries, seen(shorter.tar));
  assert.equal(known.bytes, bytesOf(shorter, []));

  // what it was is damaged, or gone
  const layer = layerOf(inPlace);
  for (const [damage, pieces] of [
    [(path: string) => writeFileSync(path, randomBytes(LARGE)), all],
    [(path: string) => writeFileSync(path, old.subarray(0, 2_000_050)), [0, 12, ...all.slice(20)]],
    [unlinkSync, all],
  ] as const) {
    const { entries, bytes, identity } = await fetched(layer, damage);
    if (pieces === all)
      assert.equal(identity, undefined); // too much for ranges
    else assert.deepEqual(entries, seen(layer.tar));
    if (pieces !== all) assert.equal(bytes, bytesOf(layer, pieces));
  }

  // a table whose pieces do not follow each other has files all the same, one that lies about them is an error
  const db = (entries: Record<string, unknown>[]) => entries.filter(({ name }) => name === './var/db');
  const edited = (edit: (rows: Record<string, unknown>[]) => unknown) =>
    layerOf(inPlace, { edit: ({ entries }) => edit(db(entries)) });
  for (const edit of [
    (rows: Record<string, unknown>[]) => delete rows[3]!['chunkDigest'],
    (rows: Record<string, unknown>[]) => Object.assign(rows[3]!, { chunkOffset: 1 }),
    (rows: Record<string, unknown>[]) => Object.assign(rows[3]!, { chunkSize: 1e9 }),
    (rows: Record<string, unknown>[]) => Object.assign(rows[3]!, { offset: 1e12 }),
  ]) {
    const store = openStore(t);
    const { identity, notes } = await store.fetch(edited(edit), { earlier: () => assert.fail('asked') });
    assert.equal(identity, undefined);
    assert.deepEqual(notes, []);
  }
  const lying = edited((rows) => Object.assign(rows[12]!, { chunkDigest: rows[13]!['chunkDigest'] }));
  await rejectsOci(fetched(lying), 'DIGEST_MISMATCH', './var/db');
});

test('a layer that is all new is left to be fetched whole', async (t) => {
  for (const build of Object.values(FORMATS)) {
    const store = openStore(t);
    const { identity, asked, notes } = await store.fetch(build(FIRST));
    assert.equal(identity, undefined);
    assert.deepEqual(notes, []);
    assert.ok(
      asked.length === 1 || (asked.length === 2 && total(asked[1]!) < 100_000),
      JSON.stringify(asked),
    );
  }
});

test('a table that is changed is an error', async (t) => {
  for (const build of Object.values(FORMATS)) {
    const { store } = await filled(t, build);
    const layer = build(SECOND);
    const position = layer.descriptor.annotations!['io.github.containers.zstd-chunked.manifest-position'];
    const blob = Buffer.from(layer.blob);
    // In the middle of the table; of a gzip stream the last byte of its content's checksum.
    const at = position === undefined ? blob.length - 51 - 6 : Number(position.split(':')[0]) + 300;
    blob[at]! ^= 1;
    const outcome = store.fetch(layer, { blob });
    if (position === undefined) {
      // Such a stream is damaged before its digest is known: the whole blob decides.
      assert.match((await outcome).notes.join(), /gzip: .*; fetching the whole layer$/);
      assert.equal((await outcome).identity, undefined);
    } else await rejectsOci(outcome, 'DIGEST_MISMATCH', 'table of contents: got sha256:');
  }
});

test('a table of another layer is an error, unless there is somewhere else to ask', async (t) => {
  const { store } = await filled(t, FORMATS['eStargz']!);
  const layer = estargz(SECOND);
  const other = estargz(FIRST);
  const lying = { ...layer, blob: other.blob, descriptor: { ...layer.descriptor, size: other.blob.length } };
  await rejectsOci(store.fetch(lying), 'DIGEST_MISMATCH', 'table of contents: got sha256:');
  let asked = 0;
  const distrust = () => ++asked < 3;
  await rejectsOci(store.fetch(lying, { distrust }), 'DIGEST_MISMATCH', 'table of contents: got sha256:');
  assert.equal(asked, 3);
});

test('content with another digest is an error', async (t) => {
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  const layer = zstdChunked(SECOND, {
    edit: ({ entries }) => {
      for (const entry of entries)
        if (entry['name'] === './etc') entry['digest'] = `sha256:${'0'.repeat(64)}`;
    },
  });
  await rejectsOci(store.fetch(layer), 'DIGEST_MISMATCH', "content of './etc': got sha256:");
});

test('a tar that is not that of the diffID is an error', async (t) => {
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  // A table that lies: what is here already is not what the tar has.
  const layer = zstdChunked(SECOND, {
    edit: ({ entries }) => {
      const [a, b] = entries.filter(({ name }) => /f[12]$/.test(String(name)));
      [a!['digest'], b!['digest']] = [b!['digest'], a!['digest']];
    },
  });
  await rejectsOci(
    store.fetch(layer),
    'DIGEST_MISMATCH',
    'diffID of the layer, from its table of contents: got',
  );
});

test('an object that is damaged is named, and the blob decides', async (t) => {
  for (const build of [FORMATS['zstd:chunked']!, FORMATS['eStargz']!]) {
    const { store } = await filled(t, build);
    const layer = build(SECOND);
    const row = layer.toc.entries.find(({ name }) => name === './usr/f5')!;
    const { object } = contentBySha256(store.objects, row['digest'] as never) as { object: VerityDigest };
    const path = objectPath(store.objects, object);
    const content = readFileSync(path);
    content[7]! ^= 1;
    writeFileSync(path, content);
    for (const bytes of [content, content.subarray(1)]) {
      writeFileSync(path, bytes);
      const { identity, notes } = await store.fetch(layer);
      assert.equal(identity, undefined);
      assert.deepEqual(notes, [`the object '${object}' is damaged; fetching the whole layer`]);
    }
  }
});

test('a table cannot give a file more content than the tar has for it', async (t) => {
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  const takes = (entries: Record<string, unknown>[], path: string, digest: unknown) => {
    for (const entry of entries) if (entry['name'] === path) entry['digest'] = digest;
  };
  const [own] = locate(SECOND).filter(({ entry }) => entry.path === './usr/f5');
  const longer = Buffer.concat([
    SECOND.subarray(own!.start, own!.start + own!.entry.size),
    Buffer.from('more'),
  ]);
  const stage = join(store.objects.objects, '../longer');
  mkdirSync(stage);
  const made = openObjectStage(store.objects, stage);
  const writer = made.create();
  writer.write(longer);
  writer.finish();
  made.close();
  commitObjects(store.objects, stage);
  // that of another image, whose beginning is the file's content: the tar comes out right
  const ofObject = zstdChunked(SECOND, {
    edit: ({ entries }) => takes(entries, './usr/f5', digestOf(longer)),
  });
  const first = await store.fetch(ofObject);
  assert.equal(first.identity, undefined);
  assert.match(first.notes.join(), /names content of another size than the file; fetching the whole layer$/);
  // that of another file of the layer
  for (const tarSplit of [true, false]) {
    const layer = zstdChunked(SECOND, {
      tarSplit,
      edit: ({ entries }) =>
        takes(entries, './tiny', entries.find(({ name }) => name === './etc')!['digest']),
    });
    const { identity, notes } = await store.fetch(layer);
    assert.equal(identity, undefined);
    assert.match(notes.join(), /has the same content with two sizes; fetching the whole layer$/);
  }
});

test('all other trouble leads to the whole blob, and says why', async (t) => {
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  const good = zstdChunked(SECOND);
  const prefix = 'io.github.containers.zstd-chunked.';
  const annotated = (changed: Record<string, string>) => ({
    ...good,
    descriptor: { ...good.descriptor, annotations: { ...good.descriptor.annotations, ...changed } },
  });
  const edited = (edit: (entries: Record<string, unknown>[]) => unknown) =>
    zstdChunked(SECOND, { edit: ({ entries }) => edit(entries) });
  const failing = (code: ErrorCode) => ({
    // biome-ignore lint/correctness/useYield: it fails before
    async *readRanges(): AsyncGenerator<never> {
      throw new OciError(code, 'no ranges today');
    },
  });
  const splitAt = good.descriptor.annotations![`${prefix}tarsplit-position`]!.split(':').map(Number);
  const noSplit = Buffer.from(good.blob);
  noSplit.fill(7, splitAt[0], splitAt[0]! + splitAt[1]!);
  const cases: [name: string, layer: BuiltLayer, fakes: Fakes, note: RegExp][] = [
    ['whole only', good, failing('UNSUPPORTED'), /^no ranges today; fetching the whole layer$/],
    ['no answer', good, failing('TEMPORARY'), /^no ranges today;/],
    ['not allowed', good, failing('DENIED'), /^no ranges today;/],
    [
      'place',
      annotated({ [`${prefix}manifest-position`]: '1:2:3:4' }),
      {},
      /place its table of contents at '1:2:3:4'/,
    ],
    [
      'short table',
      annotated({
        [`${prefix}manifest-position`]: good.descriptor.annotations![`${prefix}manifest-position`]!.replace(
          /\d+:1$/,
          '10:1',
        ),
      }),
      {},
      /has more than 10 bytes/,
    ],
    ['row', edited((e) => Object.assign(e[5]!, { uid: 2 ** 32 })), {}, /uid 4294967296 is not in the range/],
    [
      'a file too few',
      edited((e) => e.splice(5, 1)),
      {},
      /the tar-split data and the table of contents do not fit/,
    ],
    [
      'a file too many',
      edited((e) => e.push({ ...e.at(-5), name: 'more', offset: 1, endOffset: 9 })),
      {},
      /content at 1 to 9/,
    ],
    ['tar-split data', good, { blob: noSplit }, /is said to be zstd, but is something else/],
    ['the blob ends', good, { async *readRanges() {} } as never, /ends before its table of contents/],
  ];
  for (const [name, layer, fakes, note] of cases) {
    const { identity, notes } = await store.fetch(layer, fakes);
    assert.equal(identity, undefined, name);
    assert.equal(notes.length, 1, name);
    assert.match(notes[0]!, note, name);
  }
});

test('names that JSON cannot hold', async (t) => {
  const odd = tar(...SHARED, file('./etc', 'new'.repeat(100)), {
    name: Buffer.from('./f\xff', 'latin1'),
    data: 'y',
  });
  const { store } = await filled(t, FORMATS['zstd:chunked']!);
  const { identity, entries } = await store.fetch(zstdChunked(odd));
  assert.deepEqual(identity, { kind: 'diffID' });
  assert.equal(entries.at(-1)!.entry.path, './f\xff');
  const { notes } = await store.fetch(estargz(odd));
  assert.match(notes[0]!, /has names that its table of contents cannot hold/);
});

/** As Go's archive/tar writes it, with so many names that its tar-split data is not fetched along with the table. */
const goTar = (changed: string, { first, last }: { first?: BuiltEntry; last?: BuiltEntry } = {}) => {
  const numbers = { deviceMajor: 0, deviceMinor: 0 };
  return tar(
    directory('usr', 0o755, { ...numbers, ...first }),
    ...MANY.map((each) => ({ ...each, ...numbers })),
    file('etc', changed, numbers),
    file('link', '', { type: '1', linkName: 'etc', ...numbers }),
    file('z', 'last', { ...numbers, ...last }),
  );
};
const MANY = Array.from({ length: 1500 }, (_, i) =>
  file(`usr/${randomBytes(40).toString('hex')}`, i % 10 === 0 ? `${i}${'x'.repeat(1000)}` : '', { mtime: i }),
);
const userName = { patch: (header: Buffer) => void header.write('somebody', 265) };

/** What a pull asks for where `first` is here. */
async function pulledAfter(t: TestContext, first: Buffer, layer: BuiltLayer, fakes: Fakes = {}) {
  const store = openStore(t);
  const directory = join(store.objects.objects, '../first');
  mkdirSync(directory, { recursive: true });
  await applyStream([first] as unknown as AsyncIterable<Uint8Array>, {
    descriptor: {
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: digestOf(first),
      size: first.length,
    },
    diffID: digestOf(first) as never,
    paths: store.objects,
    directory,
  });
  commitObjects(store.objects, directory);
  const outcome = await store.fetch(layer, fakes);
  return { ...outcome, requests: outcome.asked.map((ranges) => ranges.map((range) => nameOf(range, layer))) };
}

function nameOf({ offset, end }: ByteRange, { descriptor, toc }: BuiltLayer): string {
  const position = (key: string) =>
    descriptor.annotations![`io.github.containers.zstd-chunked.${key}-position`]!.split(':').map(Number);
  const sections = { table: position('manifest'), 'tar-split': position('tarsplit') };
  for (const [name, [at, bytes]] of Object.entries(sections))
    if (offset === at && end === at + bytes!) return name;
  const row = toc.entries.find((entry) => entry['offset'] === offset && entry['endOffset'] === end);
  const [first] = toc.entries.filter((entry) => entry['offset'] !== undefined);
  return offset === 0 && end === first!['offset'] ? 'lead' : String(row?.['name']);
}

test('tar-split data is not fetched where the table alone makes the tar', async (t) => {
  const layer = zstdChunked(goTar('new'));
  const { identity, notes, entries, requests, bytes } = await pulledAfter(t, goTar('old'), layer);
  assert.deepEqual(requests, [['table'], ['lead', 'etc']]);
  assert.deepEqual(identity, { kind: 'diffID' });
  assert.deepEqual(entries, seen(layer.tar));
  assert.deepEqual(notes, []);
  assert.equal(bytes.at(-1), layer.blob.length);
});

test('tar-split data is fetched where the table does not make the tar', async (t) => {
  const old = goTar('old');
  const edited = (edit: (entries: Record<string, unknown>[]) => unknown) =>
    zstdChunked(goTar('new'), { edit: ({ entries }) => edit(entries) });
  const garbage = zstdChunked(goTar('new'));
  const value = Buffer.alloc(60_000).toString('base64');
  const manyXattrs = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`user.${i}`, value]));
  const noLead = Buffer.from(garbage.blob).fill(7, 0, 20);
  const cases: Record<string, [layer: BuiltLayer, fakes?: Fakes]> = {
    'another writer': [zstdChunked(goTar('new', { first: userName }))],
    'another writer, as the last header shows': [zstdChunked(goTar('new', { last: userName }))],
    'a table with another mode': [edited((entries) => Object.assign(entries[5]!, { mode: 0o4777 }))],
    'a table with another name': [edited((entries) => Object.assign(entries[5]!, { name: 'etc/shadow' }))],
    'a table with a link elsewhere': [edited((entries) => Object.assign(entries.at(-2)!, { linkName: 'z' }))],
    'a table with an entry more': [edited((entries) => entries.push({ type: 'dir', name: 'more/' }))],
    'a table with an entry less': [edited((entries) => entries.splice(5, 1))],
    'a table with more records than a tar may have': [
      edited((entries) => Object.assign(entries[5]!, { xattrs: manyXattrs })),
    ],
    'the beginning of the blob': [garbage, { blob: noLead }],
  };
  for (const [name, [layer, fakes]] of Object.entries(cases)) {
    const { identity, notes, entries, requests } = await pulledAfter(t, old, layer, fakes);
    assert.deepEqual(requests, [['table'], ['lead', 'etc'], ['tar-split']], name);
    assert.deepEqual(identity, { kind: 'diffID' }, name);
    assert.deepEqual(entries, seen(layer.tar), name);
    assert.deepEqual(notes, [], name);
  }
});

test('nobody looks at the beginning of a blob where that cannot help, or takes too much', async (t) => {
  const replaced = zstdChunked(goTar('new'), {
    edit: ({ entries }) => Object.assign(entries[5]!, { name: 'usr/\ufffd' }),
  });
  const directories = MANY.slice(0, 500).map(({ name }) => directory(`opt/${String(name)}`));
  const late = zstdChunked(tar(...directories, goTar('new').subarray(0, -1024)));
  for (const layer of [replaced, late]) {
    const { identity, entries, requests } = await pulledAfter(t, goTar('old'), layer);
    assert.deepEqual(requests, [['table'], ['etc'], ['tar-split']]);
    assert.deepEqual(identity, { kind: 'diffID' });
    assert.deepEqual(entries, seen(layer.tar));
  }
});

test('a layer that is neither by its table nor by its tar-split data what its diffID says', async (t) => {
  const layer = { ...zstdChunked(goTar('new')), diffID: zstdChunked(goTar('other')).diffID };
  await rejectsOci(pulledAfter(t, goTar('old'), layer), 'DIGEST_MISMATCH', /diffID of the layer/);
});

test('a table cannot have the same content read for days', async (t) => {
  const size = 2 ** 34;
  const layer = zstdChunked(SECOND, {
    edit({ entries }) {
      const files = entries.filter((entry) => entry['size'] !== undefined).slice(0, 5);
      for (const entry of files) Object.assign(entry, { size, digest: files[0]!['digest'] });
    },
  });
  const { identity, notes, asked } = await openStore(t).fetch(layer);
  assert.equal(identity, undefined);
  assert.deepEqual(notes, [
    'the table of contents has more content than is put together here; fetching the whole layer',
  ]);
  assert.equal(asked.length, 1);
});

test('layers that nobody would ask for a table', () => {
  const ask = (layer: BuiltLayer, source: object = { readRanges() {} }) =>
    mayBeChunked({ descriptor: layer.descriptor } as never, source as never);
  const layer = zstdChunked(SECOND);
  assert.equal(ask(layer), true);
  assert.equal(ask(layer, {}), false);
  assert.equal(ask(zstdChunked(tar(file('a', 'b')))), false);
  assert.equal(ask({ ...layer, descriptor: { ...layer.descriptor, annotations: {} } }), false);
  // A table that is most of the blob.
  const position = {
    'io.github.containers.zstd-chunked.manifest-position': `0:${layer.blob.length - 9}:100:1`,
  };
  const annotations = { ...layer.descriptor.annotations, ...position };
  assert.equal(ask({ ...layer, descriptor: { ...layer.descriptor, annotations } }), true); // its tar-split data lies wrong
  delete (annotations as Record<string, string>)['io.github.containers.zstd-chunked.tarsplit-position'];
  assert.equal(ask({ ...layer, descriptor: { ...layer.descriptor, annotations } }), false);
});
