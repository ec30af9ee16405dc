/** Ranges of a blob, from registries that give several at once, one each or none, break off, or lie. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { ByteRange } from '../../../src/oci/content.ts';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import { byteranges, type Handler, options, send, sendRanges, serve } from './fake-registry.ts';

const BLOB = randomBytes(1_000_000);
const descriptor: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd',
  digest: digestOf(BLOB),
  size: BLOB.length,
};
const PATH = `GET /v2/app/blobs/${descriptor.digest}`;
const range = (offset: number, length: number): ByteRange => ({ offset, end: offset + length });
const FAR = [range(10, 5), range(200_000, 100_000), range(999_990, 10)];
const FAR_ASKED = 'bytes=10-14,200000-299999,999990-999999';

async function open(t: TestContext, handler: Handler, more: SourceOptions = {}) {
  const server = await serve(t, handler);
  const source = await openSource(`${server.host}/app:v1`, options(t, more));
  t.after(() => source.close());
  return {
    server,
    /** Checks that exactly these bytes come. */
    async read(ranges: readonly ByteRange[], signal?: AbortSignal) {
      const pieces: Buffer[] = [];
      let at = 0;
      for await (const { offset, bytes } of source.readRanges!(descriptor, ranges, signal)) {
        assert.ok(offset >= at && bytes.length > 0, `piece at ${offset} after ${at}`);
        at = offset + bytes.length;
        assert.ok(ranges.some((wanted) => wanted.offset <= offset && at <= wanted.end));
        pieces.push(Buffer.from(bytes));
      }
      const expected = ranges.map(({ offset, end }) => BLOB.subarray(offset, end));
      assert.ok(Buffer.concat(pieces).equals(Buffer.concat(expected)));
    },
    /** The ranges that were asked for since the last look. */
    asked: () => server.requests.splice(0).map((line) => line.replace(`${PATH} `, '')),
  };
}

test('several ranges in one request', async (t) => {
  const { read, asked } = await open(t, (q, r) => sendRanges(q, r, BLOB));
  await read(FAR);
  assert.deepEqual(asked(), [FAR_ASKED]);
  await read([range(5, 10)]);
  assert.deepEqual(asked(), ['bytes=5-14']);
  await read([]);
  assert.deepEqual(asked(), []);
});

test('what lies close together is one range, and what lies between does not come out', async (t) => {
  const { read, asked } = await open(t, (q, r) => sendRanges(q, r, BLOB));
  await read([range(0, 10), range(10, 10), range(200, 10), range(600, 10)]);
  assert.deepEqual(asked(), ['bytes=0-209,600-609']);
});

test('no request has more ranges than servers take', async (t) => {
  const { read, asked } = await open(t, (q, r) => sendRanges(q, r, BLOB));
  await read(Array.from({ length: 300 }, (_, i) => range(i * 3000, 100)));
  const counts = asked().map((header) => header.split(',').length);
  assert.deepEqual(counts, [128, 128, 44]);
});

test('as many ranges as a table of contents can name take no time', { timeout: 120_000 }, async (t) => {
  const server = await serve(t, (q, r) => sendRanges(q, r, BLOB));
  const source = await openSource(`${server.host}/app:v1`, options(t));
  t.after(() => source.close());
  const ranges = Array.from({ length: 100_000 }, (_, i) => range(i * 10, 1));
  let count = 0;
  for await (const { bytes } of source.readRanges!(descriptor, ranges)) count += bytes.length;
  assert.equal(count, ranges.length);
});

test('a registry that cannot do several gets single requests, also for the next layer', async (t) => {
  const whole = (r: ServerResponse) => send(r, 200, BLOB);
  const answers: Record<string, (r: ServerResponse) => void> = {
    '200': whole,
    '400': (r) => send(r, 400, 'bad request'),
    '413': (r) => send(r, 413),
    '416': (r) => send(r, 416, '', { 'content-range': `bytes */${BLOB.length}` }),
    '431': (r) => send(r, 431),
    '501': (r) => send(r, 501),
  };
  for (const [name, refuse] of Object.entries(answers)) {
    const { read, asked } = await open(t, (q, r) =>
      q.headers.range?.includes(',') ? refuse(r) : sendRanges(q, r, BLOB),
    );
    const singles = ['bytes=10-14', 'bytes=200000-299999', 'bytes=999990-999999'];
    await read(FAR);
    assert.deepEqual(asked(), [FAR_ASKED, ...singles], name);
    await read(FAR);
    assert.deepEqual(asked(), singles, name);
    // A request costs more than a gap.
    await read([range(0, 10), range(60_000, 10), range(200_000, 10)]);
    assert.deepEqual(asked(), ['bytes=0-60009', 'bytes=200000-200009'], name);
  }
});

test('a registry that cannot do any says so', async (t) => {
  for (const [status, body] of [
    [200, BLOB],
    [400, ''],
    [416, ''],
  ] as const) {
    const { read, asked } = await open(t, (_q, r) => send(r, status, body));
    await assert.rejects(read(FAR), {
      code: 'UNSUPPORTED',
      message: new RegExp(`the registry sends it only whole \\(HTTP ${status}\\)$`),
    });
    assert.deepEqual(asked(), [FAR_ASKED, 'bytes=10-14']);
  }
});

/** Answers to several ranges that are not what was asked for; singles are right. */
const LIES: Record<string, (r: ServerResponse) => void> = {
  'no boundary': (r) => send(r, 206, byteranges(BLOB, FAR, 'B'), { 'content-type': 'multipart/byteranges' }),
  'another boundary': (r) => multipart(r, byteranges(BLOB, FAR, 'B'), 'C'),
  'a boundary of 71 characters': (r) => multipart(r, byteranges(BLOB, FAR, 'B'.repeat(71)), 'B'.repeat(71)),
  'only a preamble': (r) => multipart(r, Buffer.alloc(100_000, 'x')),
  'nothing at all': (r) => multipart(r, Buffer.alloc(0)),
  'the end at once': (r) => multipart(r, Buffer.from('--B--\r\n')),
  'a header without end': (r) => multipart(r, Buffer.from(`--B\r\nx: ${'y'.repeat(10_000)}`)),
  'no Content-Range': (r) => multipart(r, replaced(/Content-Range/g, 'Content-Length')),
  'two Content-Ranges': (r) => multipart(r, replaced(/(Content-Range:[^\r]*\r\n)/, '$1$1')),
  'a range that was not asked for': (r) =>
    multipart(r, byteranges(BLOB, [range(500, 5), ...FAR.slice(1)], 'B')),
  'another size of the blob': (r) => multipart(r, replaced(/\/1000000/g, '/1000001')),
  'a range beyond the end': (r) => multipart(r, replaced(/999990-999999/, '999990-1000000')),
  'a backward range': (r) => multipart(r, replaced(/ 10-14/, ' 14-10')),
  'a huge number': (r) => multipart(r, replaced(/ 10-14/, ` 10-${'9'.repeat(30)}`)),
  'not in order': (r) => multipart(r, byteranges(BLOB, [...FAR].reverse(), 'B')),
  'the same again and again': (r) => multipart(r, byteranges(BLOB, Array(50).fill(FAR[0]!), 'B')),
  'a part too few': (r) => multipart(r, byteranges(BLOB, [FAR[0]!, FAR[2]!], 'B')),
  'the last part missing': (r) => multipart(r, byteranges(BLOB, FAR.slice(0, 2), 'B')),
  'one range only': (r) =>
    send(r, 206, BLOB.subarray(10, 15), { 'content-range': `bytes 10-14/${BLOB.length}` }),
  'another range only': (r) =>
    send(r, 206, BLOB.subarray(20, 25), { 'content-range': `bytes 20-24/${BLOB.length}` }),
  'no range at all': (r) => send(r, 206, BLOB.subarray(0, 100)),
  'cut in a part': (r) => multipart(r, byteranges(BLOB, FAR, 'B').subarray(0, 50_000)),
  'cut in a header': (r) => multipart(r, byteranges(BLOB, FAR, 'B').subarray(0, 100)),
  'a part longer than it says': (r) => multipart(r, replaced(/ 10-14/, ' 10-13')),
};

function multipart(response: ServerResponse, body: Buffer, boundary = 'B'): void {
  send(response, 206, body, { 'content-type': `multipart/byteranges; boundary=${boundary}` });
}

function replaced(pattern: RegExp, text: string): Buffer {
  return Buffer.from(byteranges(BLOB, FAR, 'B').toString('latin1').replace(pattern, text), 'latin1');
}

test('answers that lie give way to single requests, and never to wrong bytes', async (t) => {
  for (const [name, lie] of Object.entries(LIES)) {
    const { read, asked } = await open(t, (q, r) =>
      q.headers.range?.includes(',') ? lie(r) : sendRanges(q, r, BLOB),
    );
    await read(FAR).catch((error) => assert.fail(`${name}: ${error}`));
    const requests = asked();
    assert.equal(requests[0], FAR_ASKED, name);
    assert.ok(requests.length > 1 && requests.length <= 4, `${name}: ${requests}`);
    assert.ok(
      requests.slice(1).every((header) => !header.includes(',')),
      `${name}: ${requests}`,
    );
  }
});

test('answers in other words', async (t) => {
  const parts = byteranges(BLOB, FAR, 'B').toString('latin1');
  const words: Record<string, (r: ServerResponse) => void> = {
    'a quoted boundary': (r) => multipart(r, byteranges(BLOB, FAR, "a b:c'?"), `"a b:c'?"`),
    'more parameters': (r) => multipart(r, byteranges(BLOB, FAR, 'B'), 'B; charset=x'),
    'a line before the first part': (r) => multipart(r, Buffer.from(`\r\n${parts}`, 'latin1')),
    'white space after a boundary': (r) =>
      multipart(r, Buffer.from(parts.replace(/--B\r/g, '--B \t\r'), 'latin1')),
    'other case': (r) =>
      multipart(r, Buffer.from(parts.replace(/Content-Range/g, 'CONTENT-RANGE'), 'latin1')),
    'text at the end': (r) => multipart(r, Buffer.from(`${parts}some more\r\n\r\n`, 'latin1')),
    'sizes unknown': (r) => multipart(r, replaced(/\/1000000/g, '/*')),
    'ranges joined': (r) => multipart(r, byteranges(BLOB, [range(0, 300_000), range(900_000, 100_000)], 'B')),
    'all of it as one range': (r) =>
      send(r, 206, BLOB, { 'content-range': `bytes 0-${BLOB.length - 1}/${BLOB.length}` }),
  };
  for (const [name, answer] of Object.entries(words)) {
    const { read, asked } = await open(t, (_q, r) => answer(r));
    await read(FAR).catch((error) => assert.fail(`${name}: ${error}`));
    assert.deepEqual(asked(), [FAR_ASKED], name);
  }
});

test('in the smallest pieces', async (t) => {
  const few = [range(10, 5), range(1000, 3), range(2000, 50)];
  const { read, asked } = await open(t, (_q, r) => {
    r.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=B' });
    const body = byteranges(BLOB, few, 'B');
    const next = (at: number) => {
      if (at >= body.length) r.end();
      else r.write(body.subarray(at, at + 1), () => setImmediate(next, at + 1));
    };
    r.socket!.setNoDelay(true);
    next(0);
  });
  await read(few);
  assert.equal(asked().length, 1);
});

test('after a reset only the rest is asked for', async (t) => {
  let breaks = 1;
  const notices: string[] = [];
  const { read, asked } = await open(
    t,
    (q, r) => {
      if (breaks-- <= 0) return sendRanges(q, r, BLOB);
      r.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=B', 'content-length': '100400' });
      r.write(byteranges(BLOB, FAR, 'B').subarray(0, 50_000), () => setTimeout(() => r.destroy(), 20));
    },
    { notice: (message) => notices.push(message) },
  );
  await read(FAR);
  const [first, second, ...more] = asked();
  assert.equal(first, FAR_ASKED);
  const [, from] = /^bytes=(\d+)-299999,999990-999999$/.exec(second!)!;
  assert.ok(Number(from) > 240_000 && Number(from) < 260_000, from);
  assert.deepEqual(more, []);
  assert.equal(notices.length, 1);
  assert.ok(notices[0]!.endsWith(`going on from byte ${from}`), notices[0]);
});

test('no progress is given up', async (t) => {
  const { read, asked } = await open(t, (q, r) => {
    const at = Number(/^bytes=(\d+)/.exec(q.headers.range!)![1]);
    r.writeHead(206, { 'content-range': `bytes ${at}-299999/${BLOB.length}` });
    r.write(BLOB.subarray(at, at + 10), () => setTimeout(() => r.destroy(), 20));
  });
  await assert.rejects(read([range(200_000, 100_000)]), {
    code: 'TEMPORARY',
    message: /broke the connection/,
  });
  assert.deepEqual(asked(), ['bytes=200000-299999', 'bytes=200010-299999', 'bytes=200020-299999']);
  const short = await open(t, (_q, r) =>
    send(r, 206, BLOB.subarray(5, 6), { 'content-range': `bytes 5-9/${BLOB.length}` }),
  );
  await assert.rejects(short.read([range(5, 5)]), { code: 'TEMPORARY', message: /ends before byte 6$/ });
  assert.deepEqual(short.asked(), ['bytes=5-9', 'bytes=6-9', 'bytes=6-9']);
});

test('a header of a part that comes byte by byte is given up', { timeout: 60_000 }, async (t) => {
  const large = { ...descriptor, size: 10_000_000 };
  const { server } = await open(t, (_q, r) => {
    r.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=B' });
    const drip = setInterval(() => r.write('x'), 20);
    r.on('close', () => clearInterval(drip));
  });
  const timeouts = { connectMs: 10_000, stallMs: 10_000, documentMs: 10_000, rateWindowMs: 200 };
  const source = await openSource(`${server.host}/app:v1`, options(t, { timeouts }));
  t.after(() => source.close());
  const pieces = source.readRanges!(large, [range(0, 2_000_000), range(4_000_000, 10)]);
  await assert.rejects(
    async () => {
      for await (const _ of pieces);
    },
    { code: 'TEMPORARY', message: /fewer than 1024 bytes a second$/ },
  );
});

test('a single answer that lies is an error', async (t) => {
  const answers: [string, (r: ServerResponse) => void, RegExp][] = [
    [
      'another range',
      (r) => send(r, 206, BLOB.subarray(20, 30), { 'content-range': `bytes 20-29/${BLOB.length}` }),
      /leaves out byte 5,/,
    ],
    ['no range', (r) => send(r, 206, BLOB.subarray(5, 15)), /does not say which range it has$/],
    [
      'another size',
      (r) => send(r, 206, BLOB.subarray(5, 15), { 'content-range': 'bytes 5-14/99' }),
      /does not say/,
    ],
  ];
  for (const [name, answer, message] of answers) {
    const { read, asked } = await open(t, (_q, r) => answer(r));
    await assert.rejects(read([range(5, 10)]), { code: 'PROTOCOL', message }, name);
    assert.equal(asked().length, 1, name);
  }
});

test('more than was asked for is not read', async (t) => {
  let sent = 0;
  const { read } = await open(t, (_q, r) => {
    r.writeHead(206, { 'content-range': `bytes 0-${BLOB.length - 1}/*` });
    const more = () => {
      while (!r.destroyed && sent < BLOB.length && r.write(BLOB.subarray(sent, sent + 10_000)))
        sent += 10_000;
    };
    r.on('drain', () => setTimeout(more, 5));
    more();
  });
  await read([range(0, 10)]);
  assert.ok(sent < BLOB.length, String(sent));
});

test('an abort ends it at once', async (t) => {
  const abort = new AbortController();
  const { read, asked } = await open(t, (_q, r) => {
    r.writeHead(206, { 'content-range': `bytes 0-999/${BLOB.length}` });
    r.write(BLOB.subarray(0, 10), () => setTimeout(() => abort.abort(), 50));
  });
  await assert.rejects(read([range(0, 1000)], abort.signal), { name: 'AbortError' });
  assert.equal(asked().length, 1);
});

test('an unknown blob and missing rights are what they are for a whole one', async (t) => {
  const missing = await open(t, (_q, r) => send(r, 404));
  await assert.rejects(missing.read(FAR), { code: 'IMAGE_NOT_FOUND' });
  const denied = await open(t, (_q, r) => send(r, 403));
  await assert.rejects(denied.read(FAR), { code: 'DENIED' });
  const faulty = await open(t, (_q, r) => send(r, 503));
  await assert.rejects(faulty.read(FAR), { code: 'TEMPORARY' });
});

test('credentials are renewed on the way', async (t) => {
  const { read, server } = await open(
    t,
    (q, r) =>
      q.headers.authorization === undefined
        ? send(r, 401, '', { 'www-authenticate': 'Basic realm="x"' })
        : sendRanges(q, r, BLOB),
    { creds: 'u:p' },
  );
  await read(FAR);
  assert.deepEqual(server.requests, [`${PATH} ${FAR_ASKED}`, `${PATH} auth=Basic dTpw ${FAR_ASKED}`]);
});
