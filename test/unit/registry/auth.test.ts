/** The dance from a 401 to a token, on a loopback port. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import {
  type FakeServer,
  fakeImage,
  type Handler,
  options,
  readAll,
  send,
  serve,
  serveImage,
} from './fake-registry.ts';

const image = fakeImage();
const MANIFEST = 'GET /v2/app/manifests/v1';
const TOKEN = 'GET /token?service=fake&scope=repository%3Aapp%3Apull';
const BASIC = 'auth=Basic dXNlcjpwYXNz'; // user:pass
const authJson = (host: string, entry: object) => ({
  'home/auth.json': JSON.stringify({ auths: { [host]: entry } }),
});

interface Rules {
  /** Answers the token request; default: a token `t1`, `t2`, … . */
  token?: Handler;
  accepts?(authorization: string | undefined): boolean;
  challenge?(host: string): string;
}

/** A registry with its token server on another port. */
async function guarded(
  t: TestContext,
  rules: Rules = {},
): Promise<{ registry: FakeServer; tokens: FakeServer }> {
  let issued = 0;
  const tokens = await serve(
    t,
    rules.token ?? ((_q, r) => send(r, 200, JSON.stringify({ token: `t${++issued}` }))),
  );
  const accepts = rules.accepts ?? ((authorization) => authorization === `Bearer t${issued}`);
  const registry = await serve(t, (request, response) => {
    if (!accepts(request.headers.authorization)) {
      const realm = `Bearer realm="http://${tokens.host}/token",service="fake",scope="repository:app:pull"`;
      send(response, 401, '{}', { 'www-authenticate': rules.challenge?.(tokens.host) ?? realm });
    } else if (!serveImage(image, request, response)) send(response, 404);
  });
  return { registry, tokens };
}

async function sourceAt(t: TestContext, registry: FakeServer, more: SourceOptions = {}, files = {}) {
  const source = await openSource(`${registry.host}/app:v1`, options(t, more, files));
  t.after(() => source.close());
  return source;
}

test('anonymous: a token without credentials, once for all requests', async (t) => {
  const { registry, tokens } = await guarded(t);
  const source = await sourceAt(t, registry);
  assert.equal((await source.fetchManifest()).digest, image.manifestDigest);
  assert.deepEqual(await readAll((await source.openBlob(image.layerDescriptor)).body), image.layer);
  assert.deepEqual(tokens.requests, [TOKEN]);
  assert.deepEqual(registry.requests, [
    MANIFEST,
    `${MANIFEST} auth=Bearer t1`,
    `GET /v2/app/blobs/${image.layerDescriptor.digest} auth=Bearer t1`,
  ]);
});

test('many requests at once ask for one token', async (t) => {
  const { registry, tokens } = await guarded(t);
  const source = await sourceAt(t, registry);
  const bodies = await Promise.all(Array.from({ length: 8 }, () => source.openBlob(image.layerDescriptor)));
  for (const { body } of bodies) assert.deepEqual(await readAll(body), image.layer);
  assert.deepEqual(tokens.requests, [TOKEN]);
});

test('credentials go to the token server as Basic', async (t) => {
  for (const form of ['creds', 'authfile', 'access_token'] as const) {
    const token: Handler = (_q, r) =>
      send(r, 200, form === 'access_token' ? '{"token":"","access_token":"t0"}' : '{"token":"t0"}');
    const { registry, tokens } = await guarded(t, { token, accepts: (a) => a === 'Bearer t0' });
    const entry = { auth: Buffer.from('user:pass').toString('base64') };
    const authOptions = options(
      t,
      form === 'authfile' ? {} : { creds: 'user:pass' },
      authJson(registry.host, entry),
    );
    const authfile = form === 'authfile' ? { authfile: `${authOptions.configRoot}/home/auth.json` } : {};
    const source = await openSource(`${registry.host}/app:v1`, { ...authOptions, ...authfile });
    t.after(() => source.close());
    await source.fetchManifest();
    assert.deepEqual(tokens.requests, [`${TOKEN} ${BASIC}`], form);
    assert.deepEqual(registry.requests, [MANIFEST, `${MANIFEST} auth=Bearer t0`], form);
  }
});

test('an identity token is exchanged by POST', async (t) => {
  let form = '';
  const token: Handler = (request, response) => {
    request.on('data', (piece) => {
      form += piece;
    });
    request.on('end', () => send(response, 200, '{"access_token":"t0"}'));
  };
  const { registry, tokens } = await guarded(t, { token, accepts: (a) => a === 'Bearer t0' });
  const authOptions = options(t, {}, authJson(registry.host, { identitytoken: 'ID' }));
  const source = await openSource(`${registry.host}/app:v1`, {
    ...authOptions,
    authfile: `${authOptions.configRoot}/home/auth.json`,
  });
  t.after(() => source.close());
  await source.fetchManifest();
  assert.deepEqual(tokens.requests, ['POST /token']);
  assert.deepEqual(Object.fromEntries(new URLSearchParams(form)), {
    grant_type: 'refresh_token',
    client_id: 'ocictl',
    scope: 'repository:app:pull',
    refresh_token: 'ID',
    service: 'fake',
  });
});

test('Basic', async (t) => {
  const rules = {
    challenge: () => 'Basic realm="r"',
    accepts: (a: string | undefined) => a === 'Basic dXNlcjpwYXNz',
  };
  const { registry, tokens } = await guarded(t, rules);
  await (await sourceAt(t, registry, { creds: 'user:pass' })).fetchManifest();
  assert.deepEqual(registry.requests, [MANIFEST, `${MANIFEST} ${BASIC}`]);
  const anonymous = await guarded(t, rules);
  await assert.rejects((await sourceAt(t, anonymous.registry)).fetchManifest(), {
    code: 'DENIED',
    message: `'${anonymous.registry.host}' asks for credentials`,
    hint: `Run: ocictl login ${anonymous.registry.host}`,
  });
  assert.deepEqual(anonymous.registry.requests, [MANIFEST]);
  assert.deepEqual([...tokens.requests, ...anonymous.tokens.requests], []);
});

test('a token that ends is renewed once, a useless one is not asked for again', async (t) => {
  let valid = 't1';
  const { registry, tokens } = await guarded(t, { accepts: (a) => a === `Bearer ${valid}` });
  const source = await sourceAt(t, registry);
  await source.fetchManifest();
  valid = 't2';
  await readAll((await source.openBlob(image.layerDescriptor)).body);
  assert.equal(tokens.requests.length, 2);
  valid = 'none';
  await assert.rejects(source.fetchManifest(image.manifestDigest), {
    code: 'DENIED',
    message: /refuses these credentials \(HTTP 401\)$/,
  });
  assert.equal(tokens.requests.length, 3);
});

test('a token for too little is asked for again with the scope named', async (t) => {
  const tokens = await serve(t, (q, r) =>
    send(
      r,
      200,
      JSON.stringify({ token: new URL(q.url!, 'http://x').searchParams.getAll('scope').join('+') }),
    ),
  );
  const registry = await serve(t, (request, response) => {
    const { authorization } = request.headers;
    const realm = `Bearer realm="http://${tokens.host}/token"`;
    if (authorization === undefined) send(response, 401, '', { 'www-authenticate': realm });
    else if (authorization !== 'Bearer a+b')
      send(response, 403, '', { 'www-authenticate': `${realm},scope="a b",error="insufficient_scope"` });
    else serveImage(image, request, response);
  });
  const source = await sourceAt(t, registry);
  await source.fetchManifest().then(
    () => assert.fail('one renewal a request'),
    (e) => assert.equal(e.code, 'DENIED'),
  );
  assert.deepEqual(tokens.requests, ['GET /token?scope=repository%3Aapp%3Apull']);
  await readAll((await source.openBlob(image.layerDescriptor)).body);
  assert.deepEqual(tokens.requests[1], 'GET /token?scope=a&scope=b');
});

test('token servers that misbehave', async (t) => {
  const html = { 'content-type': 'text/html' };
  const table: [string, Handler, object][] = [
    [
      'no token',
      (_q, r) => send(r, 200, '{}'),
      { code: 'PROTOCOL', message: /the answer has no usable token$/ },
    ],
    [
      'header injection',
      (_q, r) => send(r, 200, '{"token":"a\\r\\nX: y"}'),
      { code: 'PROTOCOL', message: /no usable token$/ },
    ],
    ['not JSON', (_q, r) => send(r, 200, 'token'), { code: 'PROTOCOL', message: /is not valid JSON$/ }],
    ['null', (_q, r) => send(r, 200, 'null'), { code: 'PROTOCOL', message: /no usable token$/ }],
    [
      'page',
      (_q, r) => send(r, 200, '<html>', html),
      { code: 'PROTOCOL', message: /answers with a web page$/ },
    ],
    [
      'long',
      (_q, r) => send(r, 200, Buffer.alloc(1024 * 1024 + 1, 32)),
      { code: 'PROTOCOL', message: /the answer is too long$/ },
    ],
    ['denied', (_q, r) => send(r, 401), { code: 'DENIED' }],
    ['broken', (_q, r) => send(r, 500), { code: 'TEMPORARY' }],
  ];
  for (const [what, token, error] of table) {
    const { registry } = await guarded(t, { token });
    const source = await sourceAt(t, registry, { creds: 'user:pass' });
    const seen = await source.fetchManifest().catch((e: { message: string; detail?: string }) => e);
    assert.ok(!JSON.stringify([seen, (seen as { message?: string }).message]).includes('pass'), what);
    await assert.rejects(Promise.reject(seen), error, what);
  }
});

test('challenges that lead nowhere', async (t) => {
  const table: [string, object][] = [
    ['', { code: 'DENIED', message: /names no way to authenticate$/ }],
    ['Negotiate', { code: 'DENIED', message: /names no way to authenticate$/ }],
    ['Bearer service="x"', { code: 'PROTOCOL', message: /^refusing the token server ''/ }],
    ['Bearer realm="ftp://x/t"', { code: 'PROTOCOL', message: /^refusing the token server 'ftp:\/\/x\/t'/ }],
    ['Bearer realm="/token"', { code: 'PROTOCOL', message: /^refusing the token server '\/token'/ }],
    ['Bearer realm="http://u:p@x/t"', { code: 'PROTOCOL', message: /^refusing the token server/ }],
  ];
  for (const [challenge, error] of table) {
    const { registry, tokens } = await guarded(t, { challenge: () => challenge });
    await assert.rejects((await sourceAt(t, registry, { creds: 'user:pass' })).fetchManifest(), error);
    assert.deepEqual(tokens.requests, []);
  }
});

test('a redirect drops Authorization at another origin, keeps it at its own', async (t) => {
  const storage = await serve(t, (q, r) => {
    if (q.url === '/back')
      send(r, 302, '', {
        location: `http://${registry.host}/v2/app/blobs/${image.layerDescriptor.digest}?again`,
      });
    else if (q.url === '/asks') send(r, 401, '', { 'www-authenticate': `Basic realm="give me"` });
    else send(r, 200, image.layer);
  });
  let target = '/own';
  const registry = await serve(t, (q, r) => {
    if (q.headers.authorization === undefined && !q.url!.endsWith('?again'))
      send(r, 401, '', { 'www-authenticate': 'Basic realm="r"' });
    else if (q.url!.startsWith('/v2/app/blobs/') && !q.url!.endsWith('?again'))
      send(r, 307, '', { location: target });
    else send(r, 200, image.layer);
  });
  const source = await sourceAt(t, registry, { creds: 'user:pass' });
  const blob = `GET /v2/app/blobs/${image.layerDescriptor.digest}`;
  const fetch = async () => readAll((await source.openBlob(image.layerDescriptor)).body);
  assert.deepEqual(await fetch(), image.layer);
  assert.deepEqual(registry.requests.splice(0), [blob, `${blob} ${BASIC}`, `GET /own ${BASIC}`]);
  target = `http://${storage.host}/layer?signature=1`;
  assert.deepEqual(await fetch(), image.layer);
  assert.deepEqual(storage.requests.splice(0), ['GET /layer?signature=1']);
  target = `http://localhost:${registry.port}/other-host`;
  registry.requests.splice(0);
  await assert.rejects(fetch(), { code: 'DENIED' });
  assert.deepEqual(registry.requests.splice(0), [`${blob} ${BASIC}`, 'GET /other-host']);
  target = `http://${storage.host}/back`;
  assert.deepEqual(await fetch(), image.layer);
  assert.deepEqual(storage.requests.splice(0), ['GET /back']);
  assert.deepEqual(registry.requests.splice(0), [`${blob} ${BASIC}`, `${blob}?again`]);
  target = `http://${storage.host}/asks`;
  await assert.rejects(fetch(), { code: 'DENIED' });
  assert.deepEqual(storage.requests, ['GET /asks']);
});

test('--creds', async (t) => {
  await assert.rejects(openSource('r.example/x', options(t, { creds: 'user' })), { code: 'USAGE' });
  const files = {
    'etc/containers/registries.conf': 'unqualified-search-registries=["a.example","b.example"]',
  };
  await assert.rejects(openSource('x', options(t, { creds: 'u:p' }, files)), {
    code: 'USAGE',
    message: "--creds with the short name 'x' would go to several registries",
    hint: 'Write the registry too, for example a.example/x',
  });
});
