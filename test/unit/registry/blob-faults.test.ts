/** Blobs from a registry that breaks off, restarts, lies about ranges and sizes. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import { type Handler, options, readAll, send, sendRange, serve } from './fake-registry.ts';

const BLOB = randomBytes(300_000);
const descriptor: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  digest: digestOf(BLOB),
  size: BLOB.length,
};
const PATH = `GET /v2/app/blobs/${descriptor.digest}`;

async function open(
  t: TestContext,
  handler: Handler,
  more: SourceOptions = {},
  wanted: Descriptor = descriptor,
) {
  const server = await serve(t, handler);
  const source = await openSource(`${server.host}/app:v1`, options(t, more));
  t.after(() => source.close());
  return {
    server,
    blob: (offset = 0, signal?: AbortSignal) =>
      source.openBlob(wanted, { offset, ...(signal ? { signal } : {}) }),
  };
}

/** Sends the bytes and then breaks the connection. */
function breakAfter(response: ServerResponse, bytes: Buffer): void {
  response.write(bytes, () => setTimeout(() => response.destroy(), 20));
}

/** Every range in order: where the bytes asked for begin, and the last of each answer is cut at `cut`. */
const from = (range: string | undefined) => Number(/^bytes=([0-9]+)-$/.exec(range ?? '')?.[1] ?? 0);

test('a whole blob, and one from an offset', async (t) => {
  const { blob, server } = await open(t, (q, r) => sendRange(q, r, BLOB));
  const whole = await blob();
  assert.equal(whole.offset, 0);
  assert.deepEqual(await readAll(whole.body), BLOB);
  const rest = await blob(1000);
  assert.equal(rest.offset, 1000);
  assert.deepEqual(await readAll(rest.body), BLOB.subarray(1000));
  const nothing = await blob(BLOB.length);
  assert.equal(nothing.offset, BLOB.length);
  assert.equal((await readAll(nothing.body)).length, 0);
  assert.deepEqual(server.requests, [PATH, `${PATH} bytes=1000-`]);
});

test('a reset in the middle is continued by a range', async (t) => {
  const notices: string[] = [];
  const { blob, server } = await open(
    t,
    (q, r) => {
      const at = from(q.headers.range);
      if (at === 0) {
        r.writeHead(200, { 'content-length': String(BLOB.length) });
        breakAfter(r, BLOB.subarray(0, 100_000));
      } else if (at === 100_000) {
        r.writeHead(206, { 'content-range': `bytes ${at}-${BLOB.length - 1}/*` });
        breakAfter(r, BLOB.subarray(at, at + 50_000));
      } else sendRange(q, r, BLOB);
    },
    { notice: (m) => notices.push(m) },
  );
  const { offset, body } = await blob();
  assert.equal(offset, 0);
  assert.deepEqual(await readAll(body), BLOB);
  assert.deepEqual(server.requests, [PATH, `${PATH} bytes=100000-`, `${PATH} bytes=150000-`]);
  assert.equal(notices.length, 2);
  assert.match(notices[1]!, /going on from byte 150000$/);
});

test('a registry without ranges sends again what is skipped', async (t) => {
  const answers: Record<string, (r: ServerResponse) => void> = {
    'no range support': (r) => send(r, 200, BLOB),
    'wrong start': (r) =>
      send(r, 206, BLOB.subarray(5), { 'content-range': `bytes 5-${BLOB.length - 1}/${BLOB.length}` }),
    'wrong total': (r) =>
      send(r, 206, BLOB.subarray(1000), { 'content-range': `bytes 1000-${BLOB.length - 1}/999999` }),
    'end beyond': (r) =>
      send(r, 206, BLOB.subarray(1000), { 'content-range': `bytes 1000-${BLOB.length}/*` }),
    'no Content-Range': (r) => send(r, 206, BLOB.subarray(1000)),
    'not satisfiable': (r) => send(r, 416),
  };
  for (const [what, answer] of Object.entries(answers)) {
    let broken = false;
    const { blob } = await open(t, (q, r) => {
      if (q.headers.range !== undefined) answer(r);
      else if (broken) send(r, 200, BLOB);
      else {
        broken = true;
        r.writeHead(200, { 'content-length': String(BLOB.length) });
        breakAfter(r, BLOB.subarray(0, 1000));
      }
    });
    const { offset, body } = await blob();
    assert.equal(offset, 0, what);
    assert.deepEqual(await readAll(body), BLOB, what);
    const restarted = await blob(1000);
    assert.equal(restarted.offset, 0, what);
    assert.deepEqual(await readAll(restarted.body), BLOB, what);
  }
});

test('no progress is given up', async (t) => {
  const { blob, server } = await open(t, (q, r) => {
    const at = from(q.headers.range);
    r.writeHead(at === 0 ? 200 : 206, { 'content-range': `bytes ${at}-${BLOB.length - 1}/${BLOB.length}` });
    breakAfter(r, BLOB.subarray(at, at + 10));
  });
  const { body } = await blob();
  await assert.rejects(readAll(body), { code: 'TEMPORARY', message: /broke the connection/ });
  assert.deepEqual(server.requests, [PATH, `${PATH} bytes=10-`, `${PATH} bytes=20-`]);
});

test('a stalled body is continued, then given up', async (t) => {
  let stalls = 1;
  const handler: Handler = (q, r) => {
    if (stalls-- <= 0) return sendRange(q, r, BLOB);
    const at = from(q.headers.range);
    r.writeHead(at === 0 ? 200 : 206, { 'content-range': `bytes ${at}-${BLOB.length - 1}/${BLOB.length}` });
    r.write(BLOB.subarray(at, at + 10));
  };
  const { blob, server } = await open(t, handler, { timeouts: { stallMs: 150 } });
  assert.deepEqual(await readAll((await blob()).body), BLOB);
  assert.deepEqual(server.requests, [PATH, `${PATH} bytes=10-`]);
  stalls = 100;
  await assert.rejects(readAll((await blob()).body), {
    code: 'TEMPORARY',
    message: /does not answer in time/,
  });
});

test('a reader that pauses is not a stall, and does not fill the memory', async (t) => {
  const big = Buffer.alloc(24 * 1024 * 1024, 7);
  const wanted = { ...descriptor, digest: digestOf(big), size: big.length };
  let drained = false;
  const handler: Handler = (_q, r) => {
    r.writeHead(200, { 'content-length': String(big.length) });
    r.end(big, () => {
      drained = true;
    });
  };
  const { blob } = await open(t, handler, { timeouts: { stallMs: 700 } }, wanted);
  let length = 0;
  for await (const piece of (await blob()).body) {
    if (length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1800));
      assert.equal(drained, false, 'all of the blob was taken while nobody read');
    }
    length += piece.length;
  }
  assert.equal(length, big.length);
});

test('sizes that do not fit', async (t) => {
  const short = await open(t, (_q, r) => send(r, 200, BLOB.subarray(1)));
  await assert.rejects(short.blob(), {
    code: 'SIZE_MISMATCH',
    message: `blob ${descriptor.digest} of '${short.server.host}/app': the registry has 299999 bytes, the manifest says 300000`,
  });
  const page = await open(t, (_q, r) => send(r, 200, '<html>', { 'content-type': 'text/html' }));
  await assert.rejects(page.blob(), { code: 'PROTOCOL', message: /answers with a web page$/ });
  const endless = await open(t, (_q, r) => {
    r.writeHead(200);
    const more = () => {
      while (!r.destroyed && r.write(BLOB));
    };
    r.on('drain', more);
    more();
  });
  assert.equal((await readAll((await endless.blob()).body)).length, BLOB.length + 1);
  // An end without a length may be a cut: it is asked once more, and the whole answer settles it.
  const cut = await open(t, (q, r) => {
    if (q.headers.range) return send(r, 416);
    r.writeHead(200, { 'transfer-encoding': 'chunked' });
    r.end(BLOB.subarray(0, 100));
  });
  await assert.rejects(readAll((await cut.blob()).body), {
    code: 'TEMPORARY',
    message: /the stream ends after 100 of 300000 bytes$/,
  });
});

test('an empty blob', async (t) => {
  const empty = { ...descriptor, digest: digestOf(Buffer.alloc(0)), size: 0 };
  const { blob } = await open(t, (_q, r) => send(r, 200), {}, empty);
  assert.equal((await readAll((await blob()).body)).length, 0);
});

test('an abort ends it at once', async (t) => {
  const { blob, server } = await open(t, (_q, r) => {
    r.writeHead(200, { 'content-length': String(BLOB.length) });
    r.write(BLOB.subarray(0, 1000));
  });
  const abort = new AbortController();
  const { body } = await blob(0, abort.signal);
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(readAll(body), { name: 'AbortError' });
  await assert.rejects(blob(0, abort.signal), { name: 'AbortError' });
  assert.deepEqual(server.requests, [PATH]);
});

test('a missing layer comes from its foreign URLs, without our credentials', async (t) => {
  const foreign = await serve(t, (q, r) => (q.url === '/gone' ? send(r, 404) : sendRange(q, r, BLOB)));
  const urls = ['ftp://x/y', 'not a url', `http://${foreign.host}/gone`, `http://${foreign.host}/layer`];
  const wanted = {
    ...descriptor,
    mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    urls,
  };
  const denyOnce: Handler = (q, r) =>
    q.headers.authorization === undefined
      ? send(r, 401, '', { 'www-authenticate': 'Basic realm="x"' })
      : send(r, 404);
  const { blob, server } = await open(t, denyOnce, { creds: 'u:p' }, wanted);
  assert.deepEqual(await readAll((await blob()).body), BLOB);
  assert.deepEqual(server.requests, [PATH, `${PATH} auth=Basic dTpw`]);
  assert.deepEqual(foreign.requests, ['GET /gone', 'GET /layer']);
  const ordinary = await open(t, denyOnce, { creds: 'u:p' }, { ...descriptor, urls });
  await assert.rejects(ordinary.blob(), { code: 'IMAGE_NOT_FOUND' });
});
