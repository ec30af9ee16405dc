/** Tables of contents of zstd:chunked and eStargz, and tar-split data: read, used, and refused where they lie. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { gzipSync, zstdDecompressSync } from 'node:zlib';
import {
  ESTARGZ_FOOTER_BYTES,
  estargzTocDigest,
  parseEstargzFooter,
  unpackEstargzToc,
} from '../../../src/archive/estargz.ts';
import type { TarEntry } from '../../../src/archive/tar-entry.ts';
import { createTarSplitParser } from '../../../src/archive/tar-split.ts';
import { parseToc, type Toc, type TocEntry, type TocFormat } from '../../../src/archive/toc.ts';
import { contentRanges, createContentReader } from '../../../src/archive/toc-content.ts';
import { zstdChunkedLayer } from '../../../src/archive/zstd-chunked.ts';
import { systemCodecs } from '../../../src/host/codecs.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { OciError } from '../../../src/oci/errors.ts';
import { rejectsOci, throwsOci } from '../expect-error.ts';
import { type BuiltLayer, estargz, estargzFooter, locate, zstdChunked } from './chunked-builder.ts';
import { directory, file, hardLink, symlink, tar, whiteout } from './tar-builder.ts';

const RANDOM = randomBytes(20_000);
const TAR = tar(
  directory('.', 0o755),
  file('./a', 'first', { mode: 0o4755, uid: 1, gid: 65535 }),
  file('./empty'),
  { name: './big', data: RANDOM, pax: { mtime: '1600000000.123456789', 'SCHILY.xattr.user.k': 'v' } },
  { name: './dev', type: '3', deviceMajor: 1, deviceMinor: 3 },
  { name: './fifo', type: '6' },
  symlink('./link', 'a'),
  hardLink('./hard', './a'),
  whiteout('./gone'),
  file('./umlaut-ä', 'x'.repeat(1000), { mtime: 7 }),
  file('./again', 'first'),
);

async function readToc(layer: BuiltLayer): Promise<{ toc: Toc; format: TocFormat; extra: TarEntry[] }> {
  const { blob, descriptor } = layer;
  const zstd = zstdChunkedLayer(descriptor);
  if (zstd !== undefined) {
    const json = zstdDecompressSync(blob.subarray(zstd.toc.offset, zstd.toc.end));
    assert.equal(json.length, zstd.toc.unpackedSize);
    return { toc: parseToc(json, 'zstd:chunked', zstd.toc.offset), format: 'zstd:chunked', extra: [] };
  }
  const footerAt = blob.length - ESTARGZ_FOOTER_BYTES;
  const tocAt = parseEstargzFooter(blob.subarray(footerAt), blob.length);
  const { json, entry } = await unpackEstargzToc(
    blob.subarray(tocAt, footerAt),
    estargzTocDigest(descriptor)!,
    systemCodecs,
  );
  return { toc: parseToc(json, 'eStargz', tocAt), format: 'eStargz', extra: [entry] };
}

/** Content of the wanted files, from the ranges of the blob alone, in pieces of that size. */
async function readContent(
  blob: Buffer,
  format: TocFormat,
  wanted: readonly TocEntry[],
  pieceBytes = 1000,
  codecs: typeof systemCodecs | undefined = systemCodecs,
): Promise<Map<string, Buffer>> {
  const contents = new Map<string, Buffer>();
  let pieces: Buffer[] = [];
  const reader = createContentReader(
    wanted,
    format,
    {
      begin() {
        pieces = [];
      },
      data: (bytes) => void pieces.push(Buffer.from(bytes)),
      end: ({ path }, digest) => {
        contents.set(path, Buffer.concat(pieces));
        assert.equal(digestOf(contents.get(path)!), digest);
      },
    },
    codecs,
  );
  try {
    for (const { offset, end } of contentRanges(wanted))
      for (let at = offset; at < end; at += pieceBytes)
        await reader.write({ offset: at, bytes: blob.subarray(at, Math.min(end, at + pieceBytes)) });
    await reader.end();
  } finally {
    reader.close();
  }
  return contents;
}

const LAYERS: Record<string, () => BuiltLayer> = {
  'zstd:chunked': () => zstdChunked(TAR),
  eStargz: () => estargz(TAR),
  'eStargz in chunks': () => estargz(TAR, { chunkBytes: 1000 }),
  'eStargz, files that share a member': () => estargz(TAR, { minMemberBytes: 5000, chunkBytes: 7000 }),
  'eStargz without digests of files': () => estargz(TAR, { chunkBytes: 7000, withDigests: false }),
};

for (const [name, build] of Object.entries(LAYERS))
  describe(name, () => {
    const layer = build();

    test('the table says what the tar says', async () => {
      const { toc, extra } = await readToc(layer);
      const inTable = [...toc.entries, ...extra].map((entry) => {
        const { digest: _, chunks: __, headerMode, ...rest } = entry as TocEntry;
        if (toc.entries.includes(entry as TocEntry)) assert.equal(headerMode & 0o7777, rest.mode);
        return rest;
      });
      const inTar = locate(layer.tar).map(({ entry }) => entry);
      assert.deepEqual(inTable, inTar);
      assert.equal(toc.entries.length, 11);
    });

    test('any files are read from their ranges alone', async () => {
      const { toc, format } = await readToc(layer);
      const files = toc.entries.filter(({ size }) => size > 0);
      const expected = new Map(
        locate(layer.tar).map(({ entry, start }) => [
          entry.path,
          layer.tar.subarray(start, start + entry.size),
        ]),
      );
      for (let choice = 0; choice < 2 ** files.length; choice++) {
        const wanted = files.filter((_, i) => choice & (1 << i));
        for (const codecs of [systemCodecs, undefined]) {
          const contents = await readContent(
            layer.blob,
            format,
            wanted,
            [100, 1000, 1e9][choice % 3],
            codecs,
          );
          assert.deepEqual(
            [...contents.keys()],
            wanted.map(({ path }) => path),
          );
          for (const [path, content] of contents) assert.deepEqual(content, expected.get(path), path);
        }
      }
    });

    test('changed bytes are found out', async () => {
      const { toc, format } = await readToc(layer);
      const wanted = toc.entries.filter(({ size }) => size > 0);
      let digests = 0;
      for (const { offset, end } of contentRanges(wanted))
        for (const at of [offset + 10, Math.floor((offset + end) / 2), end - 1]) {
          const blob = Buffer.from(layer.blob);
          blob[at]! ^= 1;
          try {
            // A member of eStargz goes on with headers, which do not count.
            const contents = await readContent(blob, format, wanted);
            assert.equal(format, 'eStargz');
            for (const { path, digest } of wanted)
              assert.equal(digestOf(contents.get(path)!), digest ?? digestOf(contents.get(path)!));
          } catch (error) {
            assert.ok(error instanceof OciError, String(error));
            if (error.code === 'DIGEST_MISMATCH') digests++;
            else assert.equal(error.code, 'BAD_ARCHIVE', error.message);
          }
        }
      if (format === 'zstd:chunked') assert.ok(digests > 0, 'none came to its digest');
    });
  });

test('content that is not as the table says', async () => {
  const read = async (edit: (entries: Record<string, unknown>[]) => unknown) => {
    const layer = zstdChunked(TAR, { edit: ({ entries }) => edit(entries) });
    const { toc, format } = await readToc(layer);
    return readContent(
      layer.blob,
      format,
      toc.entries.filter(({ size }) => size > 0),
    );
  };
  await rejectsOci(
    read((e) => Object.assign(e[1]!, { size: 4, digest: digestOf(Buffer.from('firs')) })),
    'BAD_ARCHIVE',
    "content of './a' is longer than the table of contents says",
  );
  await rejectsOci(
    read((e) => Object.assign(e[1]!, { size: 6 })),
    'BAD_ARCHIVE',
    "content of './a' is shorter than the table of contents says",
  );
  await rejectsOci(
    read((e) => Object.assign(e[1]!, { digest: digestOf(RANDOM) })),
    'DIGEST_MISMATCH',
    "content of './a': got sha256:",
  );
  await rejectsOci(
    read((e) => Object.assign(e[1]!, { offset: 1 })),
    'BAD_ARCHIVE',
    'is said to be zstd, but is something else',
  );
  const layer = estargz(TAR, {
    chunkBytes: 1000,
    edit: ({ entries }) => Object.assign(entries[5]!, { chunkDigest: digestOf(RANDOM) }),
  });
  const { toc, format } = await readToc(layer);
  await rejectsOci(readContent(layer.blob, format, toc.entries), 'DIGEST_MISMATCH', "content of './big'");
});

test('tables that are refused', () => {
  const reg = {
    type: 'reg',
    name: 'f',
    mode: 0o644,
    size: 10,
    digest: digestOf(RANDOM),
    offset: 100,
    endOffset: 200,
  };
  const chunked = (...entries: object[]) =>
    parseToc(Buffer.from(JSON.stringify({ version: 1, entries })), 'zstd:chunked', 1000);
  const stargz = (...entries: object[]) =>
    parseToc(Buffer.from(JSON.stringify({ version: 1, entries })), 'eStargz', 1000);
  const gz = { ...reg, chunkDigest: digestOf(RANDOM) };
  const cases: [name: string, parse: () => unknown, part: string][] = [
    [
      'version',
      () => parseToc(Buffer.from('{"version":2,"entries":[]}'), 'eStargz', 1),
      'is not of version 1',
    ],
    [
      'no entries',
      () => parseToc(Buffer.from('{"version":1}'), 'eStargz', 1),
      'entries of the table of contents is not an array',
    ],
    [
      'not JSON',
      () => parseToc(Buffer.from('{"version":1'), 'eStargz', 1),
      'table of contents is not valid JSON',
    ],
    [
      'key twice',
      () => parseToc(Buffer.from('{"version":1,"version":1}'), 'eStargz', 1),
      "has the key 'version' twice",
    ],
    ['deep', () => parseToc(Buffer.from('['.repeat(100)), 'eStargz', 1), 'is nested deeper'],
    ['too large', () => parseToc(Buffer.alloc(32 * 1024 * 1024 + 1), 'eStargz', 1), 'more than the'],
    ['no name', () => chunked({ ...reg, name: undefined }), 'name in the table of contents is not a string'],
    ['NUL', () => chunked({ ...reg, name: 'a\0b' }), 'NUL in its name'],
    ['long name', () => chunked({ ...reg, name: 'n'.repeat(5000) }), 'name of 5000 bytes, more than'],
    ['type', () => chunked({ ...reg, type: 'door' }), 'type "door" is not known'],
    [
      'uid that wraps',
      () => chunked({ ...reg, uid: 2 ** 32 }),
      'uid 4294967296 is not in the range 0 to 65535',
    ],
    ['negative gid', () => chunked({ ...reg, gid: -1 }), 'gid -1 is not in the range'],
    ['size', () => chunked({ ...reg, size: 1.5 }), 'size is not a number'],
    ['huge size', () => chunked({ ...reg, size: 2 ** 60 }), 'size 1152921504606847000 is not in the range'],
    ['time', () => chunked({ ...reg, modtime: 'today' }), 'modtime is not a time'],
    ['time of no day', () => chunked({ ...reg, modtime: '2020-13-41T00:00:00Z' }), 'modtime is not a time'],
    ['xattr', () => chunked({ ...reg, xattrs: { 'user.x': '!' } }), 'xattr is not base64'],
    ['xattr name', () => chunked({ ...reg, xattrs: { '': '' } }), 'xattr name that is not valid'],
    ['device', () => chunked({ ...reg, type: 'char', devMajor: 4096 }), 'devMajor 4096 is not in the range'],
    ['no digest', () => chunked({ ...reg, digest: '' }), 'content without a digest'],
    ['digest', () => chunked({ ...reg, digest: 'sha256:../../x' }), 'is not sha256 or sha512'],
    ['sha512', () => chunked({ ...reg, digest: `sha512:${'0'.repeat(128)}` }), 'digest that is not sha256'],
    ['empty range', () => chunked({ ...reg, endOffset: 100 }), 'content at 100 to 100'],
    ['backward', () => chunked({ ...reg, endOffset: 50 }), 'content at 100 to 50'],
    [
      'behind the data',
      () => chunked({ ...reg, endOffset: 1001 }),
      'content at 100 to 1001, behind 0 of 1000',
    ],
    [
      'overlap',
      () => chunked(reg, { ...reg, name: 'g', offset: 199, endOffset: 300 }),
      "entry 'g': content at 199 to 300, behind 200",
    ],
    [
      'out of order',
      () => chunked(reg, { ...reg, name: 'g', offset: 10, endOffset: 20 }),
      'content at 10 to 20, behind 200',
    ],
    ['the same range', () => chunked(reg, { ...reg, name: 'g' }), 'content at 100 to 200, behind 200'],
    ['chunk alone', () => chunked({ type: 'chunk', name: 'f' }), 'chunk without its file before it'],
    [
      'chunk of another',
      () => chunked(reg, { type: 'chunk', name: 'g' }),
      "entry 'g': chunk without its file before it",
    ],
    [
      'gz: overlap inside',
      () => stargz(gz, { ...gz, name: 'g', innerOffset: 9 }),
      'content at 100 to 1000, behind 1000',
    ],
    ['gz: chunk missing', () => stargz({ ...gz, chunkSize: 5 }), 'chunks that are less than the file'],
    [
      'gz: chunk elsewhere',
      () => stargz({ ...gz, chunkSize: 5 }, { ...gz, type: 'chunk', offset: 200, chunkOffset: 6 }),
      'chunks that do not follow each other',
    ],
    ['gz: chunk too long', () => stargz({ ...gz, chunkSize: 11 }), 'chunks that do not follow each other'],
    ['gz: at the table', () => stargz({ ...gz, offset: 1000 }), 'content at 1000 to 1000'],
    [
      'gz: chunk without digest',
      () => stargz({ ...gz, digest: '', chunkDigest: '' }),
      'content without a digest',
    ],
  ];
  for (const [name, parse, part] of cases)
    assert.throws(parse, (error) => {
      assert.ok(error instanceof OciError, `${name}: ${error}`);
      assert.match(error.code, /^BAD_(ARCHIVE|IMAGE)$/, name);
      assert.ok(error.message.includes(part), `${name}: ${error.message} lacks ${part}`);
      return true;
    });
  assert.equal(chunked({ ...reg, name: '__proto' }).entries.length, 1);
  const hole = chunked(reg, { type: 'chunk', name: 'f', chunkType: 'zeros', chunkOffset: 5, chunkSize: 5 });
  assert.deepEqual(hole.entries[0]!.chunks, [
    { offset: 100, end: 200, innerOffset: 0, size: 10, digest: undefined },
  ]);
});

test('annotations', () => {
  const { descriptor } = zstdChunked(TAR);
  const prefix = 'io.github.containers.zstd-chunked.';
  const layer = (changed: Record<string, string>, mediaType = descriptor.mediaType) =>
    zstdChunkedLayer({
      ...descriptor,
      mediaType,
      size: 10_000,
      annotations: {
        ...descriptor.annotations,
        ...Object.fromEntries(Object.entries(changed).map(([key, value]) => [prefix + key, value])),
      },
    });
  const good = { 'manifest-position': '10:20:30:1', 'tarsplit-position': '40:50:60' };
  assert.deepEqual(layer(good)!.toc, {
    offset: 10,
    end: 30,
    unpackedSize: 30,
    digest: descriptor.annotations![`${prefix}manifest-checksum`],
  });
  assert.deepEqual(layer(good)!.tarSplit, { offset: 40, end: 90, unpackedSize: 60, digest: undefined });
  assert.equal(layer(good, descriptor.mediaType.replace('zstd', 'gzip')), undefined);
  assert.equal(zstdChunkedLayer({ ...descriptor, annotations: {} }), undefined);
  const bad: [Record<string, string>, 'BAD_IMAGE' | 'UNSUPPORTED', string][] = [
    [{ 'manifest-position': '10:20:30:2' }, 'BAD_IMAGE', "at '10:20:30:2'"],
    [{ 'manifest-position': '10:20:30' }, 'BAD_IMAGE', "at '10:20:30'"],
    [{ 'manifest-position': '-1:20:30:1' }, 'BAD_IMAGE', "at '-1:20:30'"],
    [{ 'manifest-position': '9990:20:30:1' }, 'BAD_IMAGE', "at '9990:20:30'"],
    [{ 'manifest-position': '10:0:30:1' }, 'BAD_IMAGE', "at '10:0:30'"],
    [{ 'manifest-position': `10:20:${2 ** 40}:1` }, 'UNSUPPORTED', 'larger than we read'],
    [{ 'manifest-position': '1:1:1:1', 'tarsplit-position': '\x1b[2J' }, 'BAD_IMAGE', "at '\\x1b[2J'"],
    [{ 'manifest-position': '10:20:30:1', 'tarsplit-position': '29:20:30' }, 'BAD_IMAGE', "at '29:20:30'"],
    [{ 'manifest-checksum': 'md5:00' }, 'BAD_IMAGE', "digest of the table of contents 'md5:00'"],
    [{ 'tarsplit-checksum': 'x', ...good }, 'BAD_IMAGE', "digest of tar-split data 'x'"],
  ];
  for (const [changed, code, part] of bad) throwsOci(() => layer(changed), code, part);
});

test('the footer of eStargz', async () => {
  const { blob, descriptor } = estargz(TAR);
  const footer = estargzFooter(0x1234);
  assert.equal(footer.length, ESTARGZ_FOOTER_BYTES);
  assert.equal(parseEstargzFooter(footer, 100_000), 0x1234);
  const changed = (at: number) => {
    const bytes = Buffer.from(footer);
    bytes[at]! ^= 0x20;
    return bytes;
  };
  for (const at of [0, 1, 2, 3, 10, 12, 14, 16, 33, 37])
    throwsOci(() => parseEstargzFooter(changed(at), 100_000), 'BAD_ARCHIVE', 'does not end as such');
  throwsOci(() => parseEstargzFooter(footer, 0x1234 + 51), 'BAD_ARCHIVE', 'does not end as such');
  throwsOci(() => parseEstargzFooter(estargzFooter(0), 100), 'BAD_ARCHIVE', 'does not end as such');
  throwsOci(() => parseEstargzFooter(footer.subarray(1), 100_000), 'BAD_ARCHIVE', 'does not end as such');
  const digest = estargzTocDigest(descriptor)!;
  const unpack = (member: Buffer, expected = digest) => unpackEstargzToc(member, expected);
  const table = (archive: Buffer) => gzipSync(archive);
  await rejectsOci(
    unpack(table(tar(file('x', 'y')))),
    'BAD_ARCHIVE',
    'something other than its table of contents',
  );
  await rejectsOci(unpack(table(tar(directory('stargz.index.json')))), 'BAD_ARCHIVE', 'something other');
  // its digest says nothing of the header before it
  const json = Buffer.from('{}');
  const pax = { 'SCHILY.xattr.user.x': 'y' };
  const odd = file('stargz.index.json', '{}', { mode: 0o4755, uid: 7, gid: 8, mtime: 9, pax });
  assert.deepEqual(
    (await unpack(table(tar(odd)), digestOf(json))).entry,
    (await unpack(table(tar(file('stargz.index.json', '{}', { mode: 0 }))), digestOf(json))).entry,
  );
  await rejectsOci(
    unpack(table(tar(file('stargz.index.json', '{}')))),
    'DIGEST_MISMATCH',
    'table of contents: got',
  );
  await rejectsOci(
    unpack(table(tar(file('stargz.index.json', '{}'), file('x')))),
    'BAD_ARCHIVE',
    'something other',
  );
  await rejectsOci(unpack(table(Buffer.alloc(1024))), 'BAD_ARCHIVE', 'has no table of contents');
  await rejectsOci(
    unpack(table(tar(file('stargz.index.json', '{}'))).subarray(0, 40)),
    'BAD_ARCHIVE',
    'cut short',
  );
  await rejectsOci(unpack(Buffer.from('nothing of it')), 'BAD_ARCHIVE', 'is said to be gzip');
  const huge = tar(file('stargz.index.json', '', { size: 2 ** 31 }));
  await rejectsOci(unpack(table(huge)), 'BAD_ARCHIVE', 'something other');
  const endless = Buffer.concat([tar(file('stargz.index.json', '{}')), Buffer.alloc(64 * 1024 * 1024)]);
  await rejectsOci(unpack(table(endless)), 'BAD_ARCHIVE', 'has no end');
  assert.equal(estargzTocDigest({ ...descriptor, size: 51 }), undefined);
  assert.equal(blob.length, descriptor.size);
});

/** The tar of a zstd:chunked layer, from its tar-split data and the content of its files. */
function rebuild(layer: BuiltLayer, pieceBytes: number): Buffer {
  const { tarSplit } = zstdChunkedLayer(layer.descriptor)!;
  const data = zstdDecompressSync(layer.blob.subarray(tarSplit!.offset, tarSplit!.end));
  const files = locate(layer.tar).filter(({ entry }) => entry.size > 0);
  const parts: Buffer[] = [];
  const parser = createTarSplitParser({
    segment: (bytes) => void parts.push(Buffer.from(bytes)),
    content(size) {
      const { entry, start } = files.shift()!;
      assert.equal(size, entry.size);
      parts.push(layer.tar.subarray(start, start + size));
    },
  });
  for (let at = 0; at < data.length; at += pieceBytes) parser.push(data.subarray(at, at + pieceBytes));
  parser.end();
  return Buffer.concat(parts);
}

test('tar-split data gives the tar again', () => {
  const layer = zstdChunked(TAR);
  for (const pieceBytes of [1, 100, 1e9]) assert.deepEqual(rebuild(layer, pieceBytes), TAR);
});

test('tar-split data that is refused', () => {
  const parse = (...lines: string[]) => {
    const parser = createTarSplitParser({ segment() {}, content() {} });
    parser.push(Buffer.from(lines.join('\n')));
    parser.end();
  };
  parse('{"type":2,"payload":"AA==","position":0}', '{"type":1,"name":"d/","payload":null,"position":1}', '');
  const cases: [string[], 'BAD_ARCHIVE' | 'BAD_IMAGE', string][] = [
    [['{"type":2,"payload":"AA=="}'], 'BAD_ARCHIVE', 'tar-split entry 0 is cut short'],
    [['nonsense', ''], 'BAD_ARCHIVE', 'tar-split entry 0 is not JSON'],
    [['[]', ''], 'BAD_IMAGE', 'tar-split entry 0 is not an object'],
    [['{"type":3}', ''], 'BAD_ARCHIVE', 'of a type that is not known'],
    [['{"type":2,"payload":"A"}', ''], 'BAD_ARCHIVE', 'is not base64'],
    [['{"type":2,"payload":7}', ''], 'BAD_IMAGE', 'is not a string'],
    [['{"type":1,"size":-1}', ''], 'BAD_IMAGE', 'is not a non-negative integer'],
    [['{"type":1,"size":1e300}', ''], 'BAD_IMAGE', 'is not a non-negative integer'],
    [['{"type":1,"position":1}', ''], 'BAD_ARCHIVE', 'out of its place'],
    [['x'.repeat(5_000_000)], 'BAD_ARCHIVE', 'longer than'],
  ];
  for (const [lines, code, part] of cases) throwsOci(() => parse(...lines), code, part);
});

test('nothing but refusals comes of changed tables', async () => {
  // A generator of its own, so that a failure can be repeated.
  let state = 12345;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const values = [0, 1, -1, 99, 2 ** 31, 2 ** 53, 1e300, '', 'x', '\0', null, [], {}, true, digestOf(RANDOM)];
  let accepted = 0;
  for (let round = 0; round < 400; round++) {
    const layer =
      round % 2 === 0
        ? zstdChunked(TAR)
        : estargz(TAR, { chunkBytes: 7000, minMemberBytes: random(2) * 5000 });
    const { format } = await readToc(layer);
    const { entries } = layer.toc;
    for (let change = 0; change <= random(3); change++) {
      const row = entries[random(entries.length)]!;
      const keys = [...Object.keys(row), 'endOffset', 'innerOffset', 'chunkSize', 'chunkOffset'];
      row[keys[random(keys.length)]!] = values[random(values.length)];
      if (random(5) === 0) entries.push(entries.splice(random(entries.length), 1)[0]!);
    }
    try {
      const toc = parseToc(Buffer.from(JSON.stringify(layer.toc)), format, layer.blob.length - 51);
      let end = 0;
      for (const range of contentRanges(toc.entries)) {
        assert.ok(range.offset >= end && range.end > range.offset && range.end <= layer.blob.length);
        end = range.end;
      }
      await readContent(layer.blob, format, toc.entries, 1 + random(5000));
      accepted++;
    } catch (error) {
      assert.ok(error instanceof OciError, `round ${round}: ${(error as Error).stack}`);
      assert.match(error.code, /^(BAD_ARCHIVE|BAD_IMAGE|DIGEST_MISMATCH)$/, error.message);
    }
  }
  assert.ok(accepted > 20 && accepted < 390, String(accepted));
});
