/**
 * A registry that lies, drips, breaks off and speaks bad HTTP, byte by byte: every fault ends soon, with the right
 * code and a hint, and shows no secret. Small answers go through Node's HTTP client, large blobs through undici, so
 * blobs are tried in both sizes.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { type ErrorCode, OciError } from '../../../src/oci/errors.ts';
import { DOCKER_LIST, OCI_INDEX, OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import { resolveImage } from '../../../src/source/resolve-image.ts';
import {
  type FakeServer,
  fakeImage,
  type Handler,
  options,
  readAll,
  send,
  sendRange,
  serve,
  serveImage,
} from './fake-registry.ts';

const image = fakeImage();
const SECRET = 's3cr3t-Pa55';
const CREDS = `user:${SECRET}`;
const BASIC = Buffer.from(CREDS).toString('base64');
const FAST: SourceOptions = {
  creds: CREDS,
  retry: { attempts: 2, baseDelayMs: 5, maxDelayMs: 5, budgetMs: 5000 },
  timeouts: { connectMs: 5000, stallMs: 300, documentMs: 600, rateWindowMs: 400 },
};
/** No fault may hold us longer than this, with the time-outs above and on a slow machine. */
const SOON_MS = 30_000;

/** Runs `work` to its error; checks its code, its time and that it tells no secret. Returns it. */
async function fault(what: string, code: ErrorCode, work: () => Promise<unknown>): Promise<OciError> {
  const started = Date.now();
  const error = await work().then(
    () => assert.fail(`${what}: no error`),
    (caught: unknown) => caught,
  );
  assert.ok(Date.now() - started < SOON_MS, `${what}: took ${Date.now() - started} ms`);
  assert.ok(error instanceof OciError, `${what}: ${error}`);
  assert.equal(error.code, code, `${what}: ${error.message}`);
  const told = `${error.message}\n${error.hint}\n${error.detail}`;
  for (const secret of [SECRET, BASIC, 'top-secret-token'])
    assert.ok(!told.includes(secret), `${what}: ${told}`);
  assert.match(error.hint, /^[A-Z].*[^ ]$/, what);
  return error;
}

/** A server that writes whatever bytes the test wants to each request's socket. */
async function serveRaw(t: TestContext, answer: (socket: Socket, head: string) => void): Promise<FakeServer> {
  const sockets = new Set<Socket>();
  const requests: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let head = '';
    socket.on('data', (piece) => {
      head += piece.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      requests.push(head.split(' HTTP/', 1)[0]!);
      const request = head;
      head = '';
      answer(socket, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { host: `127.0.0.1:${port}`, port, requests };
}

/** Writes a byte every so often until the peer has gone. */
function drip(socket: Socket, bytes: () => string | Uint8Array, everyMs: number): void {
  const timer = setInterval(() => {
    if (socket.destroyed || !socket.writable) clearInterval(timer);
    else socket.write(bytes());
  }, everyMs);
  socket.on('close', () => clearInterval(timer));
}

async function sourceAt(t: TestContext, host: string, more: SourceOptions = {}) {
  const source = await openSource(`${host}/app:v1`, options(t, { ...FAST, ...more }));
  t.after(() => source.close());
  return source;
}

const manifestAt = async (t: TestContext, host: string, more?: SourceOptions) =>
  (await sourceAt(t, host, more)).fetchManifest();

const SMALL = randomBytes(300_000);
const LARGE = randomBytes(3_000_000);
const describe = (blob: Buffer): Descriptor => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: digestOf(blob),
  size: blob.length,
});
const blobAt = async (t: TestContext, host: string, blob: Buffer, more?: SourceOptions) =>
  readAll((await (await sourceAt(t, host, more)).openBlob(describe(blob))).body);

test('bad HTTP in answer to a manifest', async (t) => {
  const body = image.manifest.toString();
  const ok = `HTTP/1.1 200 OK\r\nContent-Type: ${OCI_MANIFEST}\r\n`;
  const table: [what: string, bytes: string, code: ErrorCode][] = [
    ['not HTTP', '220 smtp ready\r\n\r\n', 'PROTOCOL'],
    ['HTTP/3', 'HTTP/3.0 200 OK\r\n\r\n', 'PROTOCOL'],
    ['status of letters', 'HTTP/1.1 abc OK\r\n\r\n', 'PROTOCOL'],
    ['nothing at all', '', 'TEMPORARY'],
    ['half a head', 'HTTP/1.1 200 OK\r\nContent-', 'TEMPORARY'],
    ['length of letters', `${ok}Content-Length: many\r\n\r\n${body}`, 'PROTOCOL'],
    ['negative length', `${ok}Content-Length: -1\r\n\r\n${body}`, 'PROTOCOL'],
    ['two lengths', `${ok}Content-Length: 1\r\nContent-Length: 2\r\n\r\n${body}`, 'PROTOCOL'],
    [
      'length and chunks',
      `${ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      'PROTOCOL',
    ],
    ['chunk size of letters', `${ok}Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n`, 'PROTOCOL'],
    ['chunk longer than said', `${ok}Transfer-Encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n`, 'PROTOCOL'],
    ['no last chunk', `${ok}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n`, 'TEMPORARY'],
    ['cut short', `${ok}Content-Length: ${body.length}\r\n\r\n${body.slice(0, 20)}`, 'TEMPORARY'],
    ['a header without end', `${ok}X-Long: ${'x'.repeat(200_000)}\r\n\r\n`, 'PROTOCOL'],
    ['a NUL in a header', `${ok}X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n`, 'PROTOCOL'],
    [
      'headers without end',
      `${ok}${Array.from({ length: 5000 }, (_, i) => `X-${i}: y`).join('\r\n')}\r\n\r\n`,
      'PROTOCOL',
    ],
    ['no content', 'HTTP/1.1 204 No Content\r\n\r\n', 'PROTOCOL'],
    ['partial content', `HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\n{}`, 'PROTOCOL'],
    ['not modified', 'HTTP/1.1 304 Not Modified\r\n\r\n', 'PROTOCOL'],
    [
      'another protocol',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'TEMPORARY',
    ],
    ['an empty document', `${ok}Content-Length: 0\r\n\r\n`, 'BAD_IMAGE'],
    ['HTTP/1.0, cut: then it is short', `HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{`, 'TEMPORARY'],
  ];
  for (const [what, bytes, code] of table) {
    const { host } = await serveRaw(t, (socket) => socket.end(bytes));
    await fault(what, code, async () => {
      const source = await sourceAt(t, host);
      await resolveImage(source, parsePlatform('linux/amd64'));
    });
  }
});

test('HTTP/1.0, and bodies that end with the connection', async (t) => {
  for (const blob of [SMALL, LARGE]) {
    const { host } = await serveRaw(t, (socket, head) => {
      const [, path] = head.split(' ');
      socket.write('HTTP/1.0 200 OK\r\nServer: old\r\n\r\n');
      socket.end(path!.includes('/blobs/') ? blob : image.manifest);
    });
    assert.equal((await manifestAt(t, host)).digest, image.manifestDigest);
    assert.deepEqual(await blobAt(t, host, blob), blob);
  }
});

test('what comes after the body, and before the answer', async (t) => {
  const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${image.manifest.length}\r\n\r\n${image.manifest}`;
  const more = await serveRaw(t, (socket) =>
    socket.end(`${answer}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}`),
  );
  assert.equal((await manifestAt(t, more.host)).digest, image.manifestDigest);
  const early = await serveRaw(t, (socket) =>
    socket.end(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${answer}`),
  );
  assert.equal((await manifestAt(t, early.host)).digest, image.manifestDigest);
});

test('drips end', async (t) => {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n`;
  const table: [what: string, answer: (socket: Socket) => void][] = [
    [
      'of the manifest',
      (socket) => {
        socket.write(head);
        drip(socket, () => ' ', 50);
      },
    ],
    [
      'of the headers',
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\n');
        drip(socket, () => 'X: y\r\n', 50);
      },
    ],
    ['of interim answers', (socket) => drip(socket, () => 'HTTP/1.1 102 Processing\r\n\r\n', 50)],
    [
      'of an error’s text',
      (socket) => {
        socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n');
        drip(socket, () => 'x', 50);
      },
    ],
    [
      'of a redirect’s text',
      (socket) => {
        socket.write('HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 60000\r\n\r\n');
        drip(socket, () => 'x', 50);
      },
    ],
  ];
  for (const [what, answer] of table) {
    const { host } = await serveRaw(t, answer);
    const code = what.includes('error')
      ? 'IMAGE_NOT_FOUND'
      : what.includes('redirect')
        ? 'PROTOCOL'
        : 'TEMPORARY';
    await fault(what, code, () => manifestAt(t, host));
    // The same for a blob, whose body alone may take its time.
    if (!what.includes('manifest')) await fault(`${what}, blob`, code, () => blobAt(t, host, LARGE));
  }
});

test('a blob below the least rate has stalled, a slow one above it has not', async (t) => {
  for (const blob of [SMALL, LARGE]) {
    const slow = await serveRaw(t, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${blob.length}\r\n\r\n`);
      drip(socket, () => 'x', 20);
    });
    const error = await fault('drip of a blob', 'TEMPORARY', () => blobAt(t, slow.host, blob));
    assert.match(error.message, /sends fewer than 1024 bytes a second$/);
    assert.equal(slow.requests.length, 2, 'asked again for the rest, once');
  }
  const steady = randomBytes(40_000);
  const { host, requests } = await serve(t, (_q, r) => {
    r.writeHead(200, { 'content-length': String(steady.length) });
    let at = 0;
    const timer = setInterval(() => {
      r.write(steady.subarray(at, at + 1000));
      at += 1000;
      if (at >= steady.length) {
        clearInterval(timer);
        r.end();
      }
    }, 50);
  });
  const timeouts = { connectMs: 10_000, stallMs: 1500, documentMs: 30_000, rateWindowMs: 1000 };
  assert.deepEqual(await blobAt(t, host, steady, { timeouts }), steady);
  assert.equal(requests.length, 1);
});

test('lies in the headers of a blob', async (t) => {
  for (const blob of [SMALL, LARGE]) {
    const at = (handler: Handler) => async () => blobAt(t, (await serve(t, handler)).host, blob);
    const raw = (bytes: Buffer) => async () =>
      blobAt(t, (await serveRaw(t, (socket) => socket.end(bytes))).host, blob);
    const head = (text: string) => Buffer.from(`HTTP/1.1 200 OK\r\n${text}\r\n\r\n`);
    await fault(
      'length too small',
      'SIZE_MISMATCH',
      at((_q, r) => send(r, 200, blob.subarray(9))),
    );
    await fault(
      'length too large',
      'SIZE_MISMATCH',
      at((_q, r) => send(r, 200, Buffer.concat([blob, blob]))),
    );
    await fault(
      'length right, body short',
      'TEMPORARY',
      raw(Buffer.concat([head(`Content-Length: ${blob.length}`), blob.subarray(0, 1000)])),
    );
    const longer = await serveRaw(t, (socket) =>
      socket.end(Buffer.concat([head(`Content-Length: ${blob.length}`), blob, Buffer.from('and more')])),
    );
    assert.deepEqual(await blobAt(t, longer.host, blob), blob);
    await fault(
      'portal with a length',
      'PROTOCOL',
      at((_q, r) => send(r, 200, '<html>', { 'content-type': 'text/html' })),
    );
    await fault(
      'portal without one',
      'PROTOCOL',
      raw(Buffer.concat([head('Content-Type: text/html; charset=x'), Buffer.from('<html>')])),
    );
    await fault(
      '206 to a request for all',
      'PROTOCOL',
      at((_q, r) => send(r, 206, blob, { 'content-range': `bytes 0-${blob.length - 1}/${blob.length}` })),
    );
    await fault(
      '416 to a request for all',
      'PROTOCOL',
      at((_q, r) => send(r, 416)),
    );
    await fault(
      'nothing',
      'PROTOCOL',
      at((_q, r) => send(r, 204)),
    );
    await fault(
      'chunks without end',
      'TEMPORARY',
      raw(Buffer.concat([head('Transfer-Encoding: chunked'), Buffer.from('5\r\nhello\r\n')])),
    );
    // A blob that is gzip itself is often sent as "encoded" by it: its bytes are right, and so it is taken.
    const gzipped = gzipSync(blob);
    const mislabelled = await serve(t, (q, r) => {
      assert.equal(q.headers['accept-encoding'], 'identity');
      r.setHeader('content-encoding', 'gzip');
      sendRange(q, r, gzipped);
    });
    assert.deepEqual(await blobAt(t, mislabelled.host, gzipped), gzipped);
    // One that really is encoded is too long, or ends early: never decoded behind the digest's back.
    const encoded = await serve(t, (_q, r) => send(r, 200, gzipped, { 'content-encoding': 'gzip' }));
    const got = await blobAt(t, encoded.host, blob).catch((error: OciError) => error.code);
    assert.ok(got === 'TEMPORARY' || (Buffer.isBuffer(got) && digestOf(got) !== digestOf(blob)));
  }
});

test('lies in the headers of a manifest', async (t) => {
  const at =
    (headers: Record<string, string>, body: Buffer = image.manifest) =>
    async () => {
      const { host } = await serve(t, (q, r) => {
        if (q.url!.includes('/manifests/')) send(r, 200, body, headers);
        else serveImage(image, q, r);
      });
      return resolveImage(await sourceAt(t, host), parsePlatform('linux/amd64'));
    };
  for (const type of ['text/plain', 'application/json', `${OCI_MANIFEST}; charset=utf-8`, ''])
    await at(type === '' ? {} : { 'content-type': type })();
  for (const type of [OCI_INDEX, DOCKER_LIST]) await fault(type, 'BAD_IMAGE', at({ 'content-type': type }));
  await fault(
    'schema 1',
    'UNSUPPORTED',
    at({ 'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' }),
  );
  await fault('digest', 'DIGEST_MISMATCH', at({ 'docker-content-digest': digestOf(Buffer.from('x')) }));
  await fault('encoding', 'PROTOCOL', at({ 'content-encoding': 'gzip' }, gzipSync(image.manifest)));
  await at({ 'content-encoding': 'identity' })();
});

test('a gigabyte for a manifest, an error or a redirect is not read', async (t) => {
  const mebibyte = Buffer.alloc(1024 * 1024, 0x20);
  for (const [status, code, blob] of [
    ['200 OK', 'BAD_IMAGE', false],
    ['404 Not Found', 'IMAGE_NOT_FOUND', false],
    ['403 Forbidden', 'DENIED', true],
    ['302 Found\r\nLocation: /v2/', 'PROTOCOL', true],
  ] as const) {
    let sent = 0;
    const { host } = await serveRaw(t, (socket) => {
      socket.write(`HTTP/1.1 ${status}\r\nContent-Length: ${1024 ** 3}\r\n\r\n`);
      const more = () => {
        while (!socket.destroyed && sent < 1024 ** 3) {
          sent += mebibyte.length;
          if (!socket.write(mebibyte)) return;
        }
      };
      socket.on('drain', more);
      more();
    });
    await fault(status, code, () => (blob ? blobAt(t, host, LARGE) : manifestAt(t, host)));
    assert.ok(sent < 64 * 1024 * 1024, `${status}: ${sent} bytes`);
  }
});

test('asked to wait, and faults that stay', async (t) => {
  const table: [what: string, status: number, headers: Record<string, string>, requests: number][] = [
    ['a day', 429, { 'retry-after': '86400' }, 1],
    ['a date in ten years', 429, { 'retry-after': 'Fri, 31 Dec 2038 23:59:59 GMT' }, 1],
    ['for ever', 503, { 'retry-after': '999999999999' }, 1],
    ['nonsense', 429, { 'retry-after': '-5 minutes' }, 2],
    ['no word', 503, {}, 2],
    ['504', 504, {}, 2],
  ];
  for (const [what, status, headers, count] of table)
    for (const blob of [undefined, SMALL, LARGE]) {
      const { host, requests } = await serve(t, (_q, r) => send(r, status, '', headers));
      await fault(what, 'TEMPORARY', () => (blob ? blobAt(t, host, blob) : manifestAt(t, host)));
      assert.equal(requests.length, count, what);
    }
});

test('what the peer says is shown without our credentials', async (t) => {
  for (const status of [403, 404, 500, 418]) {
    const { host } = await serve(t, (q, r) => {
      if (q.headers.authorization === undefined) send(r, 401, '', { 'www-authenticate': 'Basic realm="x"' });
      else
        send(
          r,
          status,
          `Not good:\u001b[2J Authorization: ${q.headers.authorization} (bearer top-secret-token)`,
        );
    });
    const error = await fault(
      `echo ${status}`,
      ({ 403: 'DENIED', 404: 'IMAGE_NOT_FOUND', 500: 'TEMPORARY' } as const)[status as 403] ?? 'PROTOCOL',
      () => manifestAt(t, host),
    );
    assert.equal(error.detail, 'Not good:\\x1b[2J Authorization: Basic … (bearer …)');
  }
});

/** A registry whose token server misbehaves. */
async function withTokens(t: TestContext, tokens: Handler, realm = (host: string) => `http://${host}/token`) {
  const server = await serve(t, tokens);
  const registry = await serve(t, (q, r) => {
    if (q.headers.authorization === 'Bearer t') serveImage(image, q, r);
    else send(r, 401, '', { 'www-authenticate': `Bearer realm="${realm(server.host)}",service="s"` });
  });
  return { registry, server };
}

test('token servers', async (t) => {
  const away = await serve(t, (_q, r) => send(r, 200, '{"token":"t"}'));
  const html = { 'content-type': 'text/html' };
  const table: [what: string, tokens: Handler, code: ErrorCode][] = [
    ['portal', (_q, r) => send(r, 200, '<html>', html), 'PROTOCOL'],
    ['oversized', (_q, r) => send(r, 200, `{"token":"${'t'.repeat(2_000_000)}"}`), 'PROTOCOL'],
    [
      'huge by its header',
      (_q, r) => {
        r.writeHead(200, { 'content-length': '99999999999' });
        r.flushHeaders();
      },
      'PROTOCOL',
    ],
    ['loop', (_q, r) => send(r, 307, '', { location: '/token' }), 'PROTOCOL'],
    ['to a file', (_q, r) => send(r, 307, '', { location: 'file:///etc/shadow' }), 'PROTOCOL'],
    ['503', (_q, r) => send(r, 503), 'TEMPORARY'],
    ['429', (_q, r) => send(r, 429, '', { 'retry-after': '86400' }), 'TEMPORARY'],
    ['404', (_q, r) => send(r, 404), 'IMAGE_NOT_FOUND'],
    ['silence', () => {}, 'TEMPORARY'],
    ['break', (q) => q.socket.destroy(), 'TEMPORARY'],
    ['duplicate keys', (_q, r) => send(r, 200, '{"token":"t","token":"u"}'), 'PROTOCOL'],
    ['an array', (_q, r) => send(r, 200, '[]'), 'PROTOCOL'],
    ['a number', (_q, r) => send(r, 200, '{"token":5}'), 'PROTOCOL'],
    ['deep', (_q, r) => send(r, 200, '['.repeat(500_000)), 'PROTOCOL'],
    [
      'encoded',
      (_q, r) => send(r, 200, gzipSync('{"token":"t"}'), { 'content-encoding': 'gzip' }),
      'PROTOCOL',
    ],
    ['echo', (q, r) => send(r, 403, q.headers.authorization), 'DENIED'],
  ];
  for (const [what, tokens, code] of table) {
    const { registry } = await withTokens(t, tokens);
    await fault(what, code, () => manifestAt(t, registry.host));
  }
  // A realm that redirects elsewhere gets there without the credentials.
  const { registry, server } = await withTokens(t, (_q, r) =>
    send(r, 302, '', { location: `http://${away.host}/other?x=1` }),
  );
  assert.equal((await manifestAt(t, registry.host)).digest, image.manifestDigest);
  assert.deepEqual(server.requests, [
    `GET /token?service=s&scope=repository%3Aapp%3Apull auth=Basic ${BASIC}`,
  ]);
  assert.deepEqual(away.requests, ['GET /other?x=1']);
  for (const realm of [
    'ftp://x/t',
    'file:///x',
    'javascript:1',
    '//x/t',
    'http://u:p@x/t',
    'http://[::1',
    '',
  ])
    await fault(realm, 'PROTOCOL', async () =>
      manifestAt(
        t,
        (
          await withTokens(
            t,
            () => assert.fail('asked'),
            () => realm,
          )
        ).registry.host,
      ),
    );
});

test('redirects of blobs', async (t) => {
  const storage = await serve(t, (q, r) => sendRange(q, r, LARGE));
  for (const blob of [SMALL, LARGE]) {
    const to = (location: string | undefined) => async () => {
      const { host } = await serve(t, (q, r) =>
        q.headers.authorization === undefined
          ? send(r, 401, '', { 'www-authenticate': 'Basic realm="x"' })
          : send(r, 307, '', location === undefined ? {} : { location }),
      );
      return blobAt(t, host, blob);
    };
    await fault('nowhere', 'PROTOCOL', to(undefined));
    await fault('another scheme', 'PROTOCOL', to('gopher://x/y'));
    await fault('nobody there', 'UNAVAILABLE', to('http://127.0.0.1:1/x'));
    await fault('no such host', 'UNAVAILABLE', to('http://no.such.host.invalid/x'));
  }
  const { host } = await serve(t, (q, r) =>
    q.headers.authorization === undefined
      ? send(r, 401, '', { 'www-authenticate': 'Basic realm="x"' })
      : send(r, 307, '', { location: `http://user:pw@${storage.host}/blob?signature=1` }),
  );
  assert.deepEqual(await blobAt(t, host, LARGE), LARGE);
  assert.deepEqual(storage.requests, ['GET /blob?signature=1']);
});

test('a mirror that breaks off: the rest comes from the next', async (t) => {
  for (const blob of [SMALL, LARGE])
    for (const ranges of [true, false]) {
      const half = Math.floor(blob.length / 2);
      const mirror = await serve(t, (q, r) => {
        const from = Number(/^bytes=([0-9]+)-$/.exec(q.headers.range ?? '')?.[1] ?? 0);
        r.writeHead(from === 0 ? 200 : 206, {
          'content-length': String(blob.length - from),
          'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}`,
        });
        if (from === 0) r.write(blob.subarray(0, half), () => setTimeout(() => r.destroy(), 20));
        else r.flushHeaders();
      });
      const own = await serve(t, (q, r) => (ranges ? sendRange(q, r, blob) : send(r, 200, blob)));
      const conf = `[[registry]]\nprefix="r.example"\nlocation="${own.host}"\ninsecure=true\n[[registry.mirror]]\nlocation="${mirror.host}"\ninsecure=true\n`;
      const notices: string[] = [];
      const source = await openSource(
        'r.example/app:v1',
        options(
          t,
          { ...FAST, plainHttp: false, notice: (m) => notices.push(m) },
          { 'etc/containers/registries.conf': conf },
        ),
      );
      t.after(() => source.close());
      const { offset, body } = await source.openBlob(describe(blob));
      assert.equal(offset, 0);
      assert.deepEqual(await readAll(body), blob);
      assert.deepEqual(own.requests, [`GET /v2/app/blobs/${digestOf(blob)} bytes=${half}-`]);
      assert.match(notices.at(-1)!, new RegExp(`^mirror ${mirror.host}: `));
      // All gone: the registry's own fault is told.
      const gone = await openSource(
        'r.example/app:v1',
        options(
          t,
          { ...FAST, plainHttp: false },
          { 'etc/containers/registries.conf': conf.replaceAll(own.host, '127.0.0.1:1') },
        ),
      );
      t.after(() => gone.close());
      await fault('mirror and registry', 'UNAVAILABLE', async () =>
        readAll((await gone.openBlob(describe(blob))).body),
      );
    }
});

test('systemd’s registry files say where a registry is', async (t) => {
  const { host, requests } = await serve(t, (q, r) => {
    if (!serveImage(image, q, r)) send(r, 404);
  });
  const files = {
    'usr/lib/systemd/oci-registry/registry.r.example%3a5000.oci-registry': JSON.stringify({
      overrideRegistry: host,
      defaultTag: 'v1',
    }),
  };
  const open = async (name: string, more: Record<string, string> = {}) => {
    const source = await openSource(name, options(t, {}, { ...files, ...more }));
    t.after(() => source.close());
    return source;
  };
  for (const name of ['r.example:5000/app', 'docker://r.example:5000/app', 'r.example:5000/app:v1']) {
    const source = await open(name);
    assert.equal(source.localName, 'r.example:5000/app:v1');
    assert.equal((await source.fetchManifest()).digest, image.manifestDigest);
  }
  assert.deepEqual(requests.splice(0), Array(3).fill('GET /v2/app/manifests/v1'));
  // registries.conf knows better.
  const conf = '[[registry]]\nlocation="r.example:5000"\nblocked=true\n';
  await fault('blocked', 'DENIED', () =>
    open('r.example:5000/app', { 'etc/containers/registries.conf': conf }),
  );
});
