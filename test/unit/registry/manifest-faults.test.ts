/** Manifests from a registry that does everything wrong, on a loopback port. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { MANIFEST_TYPES_ACCEPTED, OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import { fakeImage, type Handler, options, send, serve, serveImage } from './fake-registry.ts';

const image = fakeImage();
const PATH = 'GET /v2/app/manifests/v1';

async function fetchFrom(t: TestContext, handler: Handler, more: SourceOptions = {}, suffix = ':v1') {
  const server = await serve(t, handler);
  const source = await openSource(`${server.host}/app${suffix}`, options(t, more));
  t.after(() => source.close());
  return { server, result: source.fetchManifest() };
}

test('a manifest by tag and by digest', async (t) => {
  let accept: string | undefined;
  const handler: Handler = (request, response) => {
    accept = request.headers.accept;
    serveImage(image, request, response);
  };
  const { result, server } = await fetchFrom(t, handler);
  assert.deepEqual(await result, {
    bytes: image.manifest,
    mediaType: OCI_MANIFEST,
    digest: image.manifestDigest,
  });
  assert.equal(accept, MANIFEST_TYPES_ACCEPTED.join(', '));
  assert.deepEqual(server.requests, [PATH]);
  const pinned = await fetchFrom(t, handler, {}, `:gone@${image.manifestDigest}`);
  assert.equal((await pinned.result).digest, image.manifestDigest);
  assert.deepEqual(pinned.server.requests, [`GET /v2/app/manifests/${image.manifestDigest}`]);
});

test('bytes that do not match their digest', async (t) => {
  const other = fakeImage(Buffer.from('other'));
  const byDigest = await fetchFrom(
    t,
    (_q, r) => send(r, 200, other.manifest),
    {},
    `@${image.manifestDigest}`,
  );
  await assert.rejects(byDigest.result, {
    code: 'DIGEST_MISMATCH',
    message: `manifest '${image.manifestDigest}' of '${byDigest.server.host}/app': got ${other.manifestDigest}, expected ${image.manifestDigest}`,
  });
  const stated = { 'docker-content-digest': image.manifestDigest };
  const byTag = await fetchFrom(t, (_q, r) => send(r, 200, other.manifest, stated));
  await assert.rejects(byTag.result, { code: 'DIGEST_MISMATCH' });
  const nonsense = await fetchFrom(t, (_q, r) =>
    send(r, 200, other.manifest, { 'docker-content-digest': 'x' }),
  );
  await assert.rejects(nonsense.result, { code: 'BAD_IMAGE' });
});

test('404, 403 and unknown statuses', async (t) => {
  const errors = JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message: 'no\u001b[31m tag' }] });
  const gone = await fetchFrom(t, (_q, r) => send(r, 404, errors));
  await assert.rejects(gone.result, {
    code: 'IMAGE_NOT_FOUND',
    message: `manifest 'v1' of '${gone.server.host}/app': no such image or tag at '${gone.server.host}'`,
    detail: 'MANIFEST_UNKNOWN: no\\x1b[31m tag',
  });
  assert.deepEqual(gone.server.requests, [PATH]);
  const forbidden = await fetchFrom(t, (_q, r) => send(r, 403, 'x'.repeat(5000)));
  await assert.rejects(forbidden.result, (e: { code: string; hint: string; detail: string }) => {
    assert.deepEqual([e.code, e.detail.length], ['DENIED', 1000]);
    assert.equal(e.hint, `Check the name, or run: ocictl login ${forbidden.server.host}`);
    return true;
  });
  await assert.rejects((await fetchFrom(t, (_q, r) => send(r, 418))).result, { code: 'PROTOCOL' });
  await assert.rejects((await fetchFrom(t, (_q, r) => send(r, 206, image.manifest))).result, {
    code: 'PROTOCOL',
  });
});

test('an HTTPS port asked by plain HTTP', async (t) => {
  const { result } = await fetchFrom(t, (_q, r) =>
    send(r, 400, 'Client sent an HTTP request to an HTTPS server.'),
  );
  await assert.rejects(result, { code: 'PROTOCOL', hint: 'Leave out --plain-http.' });
});

test('faults that pass are waited for', async (t) => {
  for (const [status, headers] of [
    [500, {}],
    [503, { 'retry-after': 'nonsense' }],
    [429, { 'retry-after': '0' }],
    [408, {}],
  ] as [number, Record<string, string>][]) {
    const notices: string[] = [];
    let count = 0;
    const { result, server } = await fetchFrom(
      t,
      (request, response) =>
        ++count < 3 ? send(response, status, '', headers) : serveImage(image, request, response),
      { notice: (m) => notices.push(m) },
    );
    assert.equal((await result).digest, image.manifestDigest);
    assert.deepEqual(server.requests, [PATH, PATH, PATH]);
    assert.equal(notices.length, 2);
    assert.match(
      notices[0]!,
      new RegExp(`\\(HTTP ${status}\\)|limits requests`).source.length > 0 ? /HTTP/ : /x/,
    );
  }
});

test('Retry-After is obeyed', async (t) => {
  let count = 0;
  const started = performance.now();
  const { result } = await fetchFrom(t, (request, response) =>
    ++count < 2 ? send(response, 429, '', { 'retry-after': '1' }) : serveImage(image, request, response),
  );
  await result;
  const tookMs = performance.now() - started;
  assert.ok(tookMs >= 950 && tookMs < 30_000, `${tookMs} ms`);
});

test('faults that stay are given up', async (t) => {
  const busy = await fetchFrom(t, (_q, r) => send(r, 429));
  await assert.rejects(busy.result, { code: 'TEMPORARY' });
  assert.equal(busy.server.requests.length, 3);
  const broken = await fetchFrom(t, (_q, r) => send(r, 502, 'bad gateway'));
  await assert.rejects(broken.result, { code: 'TEMPORARY', detail: 'bad gateway' });
  assert.equal(broken.server.requests.length, 3);
  const day = await fetchFrom(t, (_q, r) => send(r, 429, '', { 'retry-after': '86400' }));
  await assert.rejects(day.result, { code: 'TEMPORARY', message: /asks to wait 86400 s$/ });
  assert.equal(day.server.requests.length, 1);
});

test('a reset is tried again', async (t) => {
  let count = 0;
  const { result, server } = await fetchFrom(t, (request, response) =>
    ++count < 3 ? request.socket.destroy() : serveImage(image, request, response),
  );
  assert.equal((await result).digest, image.manifestDigest);
  assert.equal(server.requests.length, 3);
});

test('a web page is not a manifest', async (t) => {
  const html = { 'content-type': 'text/html; charset=utf-8' };
  const portal = await fetchFrom(t, (_q, r) => send(r, 200, '<html>Welcome to the hotel', html));
  await assert.rejects(portal.result, {
    code: 'PROTOCOL',
    message: `manifest 'v1' of '${portal.server.host}/app': '${portal.server.host}' answers with a web page`,
    hint: 'Log in to the network first if it has a sign-in page, else check the host: it may not be a registry.',
  });
  const server = await fetchFrom(t, (_q, r) => send(r, 404, '<html>', html));
  await assert.rejects(server.result, {
    code: 'IMAGE_NOT_FOUND',
    hint: 'Check the host: it may not be a registry.',
  });
});

test('too long a manifest is not read', async (t) => {
  const message = /has more than the 4194304 bytes allowed$/;
  const announced = await fetchFrom(t, (_q, r) => {
    r.writeHead(200, { 'content-length': '9000000000' });
    r.flushHeaders();
  });
  await assert.rejects(announced.result, { code: 'BAD_IMAGE', message });
  let sent = 0;
  const endless = await fetchFrom(t, (_q, r) => {
    r.writeHead(200);
    const more = () => {
      while (!r.destroyed && r.write(Buffer.alloc(65536))) sent += 65536;
    };
    r.on('drain', more);
    more();
  });
  await assert.rejects(endless.result, { code: 'BAD_IMAGE', message });
  assert.ok(sent < 32 * 1024 * 1024, `${sent} bytes were sent`);
});

test('silence is not waited for', async (t) => {
  const timeouts = { stallMs: 150 };
  const retry = { attempts: 2, baseDelayMs: 1, maxDelayMs: 1, budgetMs: 10_000 };
  const noHeaders = await fetchFrom(t, () => {}, { timeouts, retry });
  await assert.rejects(noHeaders.result, {
    code: 'TEMPORARY',
    message: `'${noHeaders.server.host}' does not answer in time`,
  });
  assert.equal(noHeaders.server.requests.length, 2);
  const noBody = await fetchFrom(
    t,
    (_q, r) => {
      r.writeHead(200, { 'content-length': '100' });
      r.write('{');
    },
    { timeouts, retry },
  );
  await assert.rejects(noBody.result, { code: 'TEMPORARY', message: /does not answer in time/ });
});

test('what is not HTTP', async (t) => {
  const { result } = await fetchFrom(t, (request) => request.socket.end('220 smtp ready\r\n\r\n'));
  await assert.rejects(result, { code: 'PROTOCOL', message: /does not speak HTTP as expected/ });
});

test('nobody listens', async (t) => {
  const source = await openSource('127.0.0.1:1/app:v1', options(t));
  t.after(() => source.close());
  await assert.rejects(source.fetchManifest(), {
    code: 'UNAVAILABLE',
    message: "'127.0.0.1:1' refuses the connection",
    hint: 'Check the name, the network and the proxy settings.',
  });
});

test('redirects', async (t) => {
  const away = await serve(t, (_q, r) => send(r, 200, image.manifest));
  const follow = (location: (host: string) => string, status = 307) => {
    const handler: Handler = (request, response) =>
      request.url === '/v2/app/manifests/v1'
        ? send(response, status, '', { location: location(request.headers.host!) })
        : send(response, 200, image.manifest);
    return fetchFrom(t, handler);
  };
  for (const status of [301, 302, 303, 307, 308]) {
    const same = await follow(() => '../x?y', status);
    assert.equal((await same.result).digest, digestOf(image.manifest));
    assert.deepEqual(same.server.requests, [PATH, 'GET /v2/app/x?y']);
  }
  await (await follow(() => `http://user:pw@${away.host}/z?sig=1`)).result;
  assert.deepEqual(away.requests, ['GET /z?sig=1']);
  const loop = await follow(() => '/v2/app/manifests/v1');
  await assert.rejects(loop.result, { code: 'PROTOCOL', message: /redirects more than 5 times$/ });
  assert.equal(loop.server.requests.length, 6);
  await assert.rejects((await follow(() => 'file:///etc/passwd')).result, {
    code: 'PROTOCOL',
    message: /redirects to a URL of the scheme 'file:'$/,
  });
  await assert.rejects((await follow(() => 'http://')).result, {
    code: 'PROTOCOL',
    message: /redirects to nowhere/,
  });
});
