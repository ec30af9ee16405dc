/** Mirrors, search registries and name resolution, over loopback registries. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import {
  fakeImage,
  type Handler,
  options,
  readAll,
  send,
  serve,
  serveImage,
} from '../registry/fake-registry.ts';

const image = fakeImage();
const good: Handler = (request, response) => {
  if (!serveImage(image, request, response)) send(response, 404);
};
const status =
  (code: number): Handler =>
  (_q, r) =>
    send(r, code);
const withConf = (t: TestContext, text: string, more: SourceOptions = {}) =>
  options(t, { plainHttp: false, ...more }, { 'etc/containers/registries.conf': text });
const mirrorOf = (prefix: string, location: string, mirrors: string[]) =>
  `[[registry]]\nprefix="${prefix}"\nlocation="${location}"\ninsecure=true\n` +
  mirrors.map((host) => `[[registry.mirror]]\nlocation="${host}"\ninsecure=true\n`).join('');

test('mirrors in order, then the registry; the name stays', async (t) => {
  const [first, second, own] = [await serve(t, status(404)), await serve(t, good), await serve(t, good)];
  const notices: string[] = [];
  const conf = mirrorOf('r.example', own.host, [first.host, second.host]);
  const source = await openSource('r.example/app:v1', withConf(t, conf, { notice: (m) => notices.push(m) }));
  t.after(() => source.close());
  assert.equal(source.localName, 'r.example/app:v1');
  assert.equal(source.description, 'docker://r.example/app:v1');
  assert.equal((await source.fetchManifest()).digest, image.manifestDigest);
  assert.deepEqual(await readAll((await source.openBlob(image.layerDescriptor)).body), image.layer);
  assert.equal(first.requests.length, 1);
  assert.equal(second.requests.length, 2);
  assert.deepEqual(own.requests, []);
  assert.equal(notices.length, 1);
  assert.match(notices[0]!, new RegExp(`^mirror ${first.host}: .* no such image or tag at '${first.host}'$`));
});

test('a blob that the mirror lacks comes from the registry', async (t) => {
  const mirror = await serve(t, (q, r) => (q.url!.includes('/blobs/') ? send(r, 404) : good(q, r)));
  const own = await serve(t, good);
  const source = await openSource(
    'r.example/app:v1',
    withConf(t, mirrorOf('r.example', own.host, [mirror.host])),
  );
  t.after(() => source.close());
  await source.fetchManifest();
  assert.deepEqual(await readAll((await source.openBlob(image.layerDescriptor)).body), image.layer);
  assert.deepEqual(own.requests, [`GET /v2/app/blobs/${image.layerDescriptor.digest}`]);
});

test('when all fail, the registry speaks and the mirrors are told', async (t) => {
  const [mirror, own] = [await serve(t, status(404)), await serve(t, status(403))];
  const source = await openSource(
    'r.example/app:v1',
    withConf(t, mirrorOf('r.example', own.host, [mirror.host])),
  );
  t.after(() => source.close());
  await assert.rejects(source.fetchManifest(), (e: { code: string; detail: string }) => {
    assert.equal(e.code, 'DENIED');
    assert.deepEqual(e.detail.split('\n').length, 2);
    return true;
  });
});

test('--creds go to the registry, never to its mirror', async (t) => {
  const ask: Handler = (q, r) =>
    q.headers.authorization === undefined
      ? send(r, 401, '', { 'www-authenticate': 'Basic realm="r"' })
      : good(q, r);
  const [mirror, own] = [await serve(t, ask), await serve(t, ask)];
  const conf = mirrorOf('r.example', own.host, [mirror.host]);
  const source = await openSource('r.example/app:v1', withConf(t, conf, { creds: 'u:p' }));
  t.after(() => source.close());
  await source.fetchManifest();
  assert.deepEqual(mirror.requests, ['GET /v2/app/manifests/v1']);
  assert.deepEqual(own.requests, ['GET /v2/app/manifests/v1', 'GET /v2/app/manifests/v1 auth=Basic dTpw']);
});

const search = (...hosts: string[]) =>
  `unqualified-search-registries=[${hosts.map((host) => `"${host}"`).join()}]\n` +
  hosts.map((host) => `[[registry]]\nlocation="${host}"\ninsecure=true\n`).join('');

test('a short name goes to the first registry that has it', async (t) => {
  const [none, denies, has, last] = [
    await serve(t, status(404)),
    await serve(t, status(401)),
    await serve(t, good),
    await serve(t, good),
  ];
  const source = await openSource('app:v1', withConf(t, search(none.host, denies.host, has.host, last.host)));
  t.after(() => source.close());
  assert.equal(source.localName, `${has.host}/app:v1`);
  assert.equal((await source.fetchManifest()).digest, image.manifestDigest);
  assert.equal(has.requests.length, 1); // the manifest of the search is kept
  assert.deepEqual(last.requests, []);
});

test('a registry that cannot answer does not let the next one answer for it', async (t) => {
  const [down, other] = [await serve(t, status(503)), await serve(t, good)];
  await assert.rejects(openSource('app:v1', withConf(t, search(down.host, other.host))), {
    code: 'TEMPORARY',
  });
  assert.deepEqual(other.requests, []);
});

test('nobody has it', async (t) => {
  const [a, b, denies] = [
    await serve(t, status(404)),
    await serve(t, status(404)),
    await serve(t, status(403)),
  ];
  await assert.rejects(openSource('app:v1', withConf(t, search(a.host, b.host))), {
    code: 'IMAGE_NOT_FOUND',
    message: "no configured registry gives us 'app:v1'",
  });
  await assert.rejects(openSource('app:v1', withConf(t, search(a.host, denies.host))), {
    code: 'DENIED',
    hint: `Check the name, or run: ocictl login ${denies.host}`,
  });
});

test('names', async (t) => {
  const blocked = '[[registry]]\nprefix="bad.example"\nblocked=true\n';
  await assert.rejects(openSource('bad.example/x', withConf(t, blocked)), { code: 'DENIED' });
  const table: [string, string][] = [
    ['docker://fedora', 'docker.io/library/fedora:latest'],
    ['docker://quay.io/x/y', 'quay.io/x/y:latest'],
    ['quay.io/x/y:z', 'quay.io/x/y:z'],
    [`quay.io/x@sha256:${'a'.repeat(64)}`, `quay.io/x@sha256:${'a'.repeat(64)}`],
    ['short', 'alias.example/short:latest'],
  ];
  for (const [typed, full] of table) {
    const source = await openSource(typed, withConf(t, '[aliases]\nshort="alias.example/short"'));
    await source.close();
    assert.equal(source.localName, full, typed);
  }
  for (const prefix of ['docker-daemon:', 'containers-storage:', 'dir:'])
    await assert.rejects(openSource(`${prefix}/x`, withConf(t, '')), {
      code: 'UNSUPPORTED',
      message: `'${prefix}/x': images cannot come from ${prefix}`,
    });
  await assert.rejects(openSource('UPPER', withConf(t, '')), {
    code: 'USAGE',
    hint: 'Write it in lower case: upper',
  });
  await assert.rejects(openSource('unknown', withConf(t, '')), { code: 'USAGE' });
});
