/** https, certificates, http where it is allowed, proxies: on loopback ports, with certificates made here. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { networkFault } from '../../../src/registry/http-errors.ts';
import { openSource, type SourceOptions } from '../../../src/source/open-source.ts';
import { fakeImage, type Handler, options, send, serve, serveImage } from './fake-registry.ts';

const image = fakeImage();
const directory = mkdtempSync(join(tmpdir(), 'ocictl-tls-'));
after(() => rmSync(directory, { recursive: true }));
const file = (name: string) => join(directory, name);
const text = (name: string) => readFileSync(file(name), 'utf8');
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' });
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
openssl(
  'req',
  '-x509',
  ...newKey,
  '-keyout',
  file('ca.key'),
  '-out',
  file('ca.crt'),
  '-subj',
  '/CN=test authority',
  '-days',
  '2',
);
for (const name of ['server', 'client']) {
  openssl(
    'req',
    ...newKey,
    '-keyout',
    file(`${name}.key`),
    '-out',
    file(`${name}.csr`),
    '-subj',
    `/CN=${name}`,
  );
  writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1');
  openssl(
    'x509',
    '-req',
    '-in',
    file(`${name}.csr`),
    '-CA',
    file('ca.crt'),
    '-CAkey',
    file('ca.key'),
    '-CAcreateserial',
    '-out',
    file(`${name}.crt`),
    '-days',
    '2',
    '-extfile',
    file('extensions'),
  );
}
const TLS = { key: text('server.key'), cert: text('server.crt') };
const MUTUAL = { ...TLS, ca: text('ca.crt'), requestCert: true, rejectUnauthorized: true };

const good: Handler = (request, response) => {
  if (!serveImage(image, request, response)) send(response, 404);
};
const insecure = (host: string) => ({
  'etc/containers/registries.conf': `[[registry]]\nlocation="${host}"\ninsecure=true`,
});

async function fetchManifest(
  t: TestContext,
  host: string,
  more: SourceOptions,
  files: Record<string, string> = {},
) {
  const source = await openSource(`${host}/app:v1`, options(t, { plainHttp: false, ...more }, files));
  t.after(() => source.close());
  return (await source.fetchManifest()).digest;
}

test('an unknown authority is refused, a known one is taken', async (t) => {
  const { host } = await serve(t, good, TLS);
  await assert.rejects(fetchManifest(t, host, {}), {
    code: 'UNAVAILABLE',
    message: /^the certificate of '127\.0\.0\.1:[0-9]+' is not trusted: /,
    hint: `Put its authority's certificate into /etc/containers/certs.d/${host}/ca.crt`,
  });
  for (const where of ['etc/containers', 'etc/docker', '.config/containers'])
    assert.equal(
      await fetchManifest(t, host, {}, { [`${where}/certs.d/${host}/ca.crt`]: text('ca.crt') }),
      image.manifestDigest,
    );
  assert.equal(await fetchManifest(t, host, { certDir: directory }), image.manifestDigest);
  assert.equal(
    await fetchManifest(t, host, { env: { HOME: directory, SSL_CERT_FILE: file('ca.crt') } }),
    image.manifestDigest,
  );
  assert.equal(await fetchManifest(t, host, { tlsVerify: false }), image.manifestDigest);
  assert.equal(await fetchManifest(t, host, {}, insecure(host)), image.manifestDigest);
  await assert.rejects(
    fetchManifest(t, host, {
      plainHttp: true,
      retry: { attempts: 1, baseDelayMs: 1, maxDelayMs: 1, budgetMs: 1 },
    }),
    (e: { code: string }) => {
      assert.ok(['PROTOCOL', 'TEMPORARY'].includes(e.code), e.code);
      return true;
    },
  );
});

test('a name that is not in the certificate', async (t) => {
  const { port } = await serve(t, good, TLS);
  const files = { [`etc/containers/certs.d/localhost:${port}/ca.crt`]: text('ca.crt') };
  await assert.rejects(fetchManifest(t, `localhost:${port}`, {}, files), {
    code: 'UNAVAILABLE',
    message: /is not trusted/,
  });
});

test('client certificates', async (t) => {
  const { host } = await serve(t, good, MUTUAL);
  const ca = { [`etc/containers/certs.d/${host}/ca.crt`]: text('ca.crt') };
  const retry = { attempts: 1, baseDelayMs: 1, maxDelayMs: 1, budgetMs: 1 };
  // TLS 1.3 tells after the handshake: the alert and the closing race.
  await assert.rejects(fetchManifest(t, host, { retry }, ca), (e: { code: string }) =>
    ['DENIED', 'TEMPORARY'].includes(e.code),
  );
  const pair = {
    [`etc/containers/certs.d/${host}/me.cert`]: text('client.crt'),
    [`etc/containers/certs.d/${host}/me.key`]: text('client.key'),
  };
  assert.equal(await fetchManifest(t, host, { retry }, { ...ca, ...pair }), image.manifestDigest);
  // A redirect to another origin is not shown the certificate, but the authority holds there.
  const away = await serve(
    t,
    (q, r) =>
      send(
        r,
        (q.socket as unknown as { getPeerCertificate(): object }).getPeerCertificate &&
          Object.keys((q.socket as unknown as { getPeerCertificate(): object }).getPeerCertificate()).length >
            0
          ? 500
          : 200,
        image.manifest,
      ),
    { ...MUTUAL, rejectUnauthorized: false },
  );
  const registry = await serve(
    t,
    (_q, r) => send(r, 307, '', { location: `https://${away.host}/x` }),
    MUTUAL,
  );
  const moved = Object.fromEntries(
    Object.entries({ ...ca, ...pair }).map(([k, v]) => [k.replace(host, registry.host), v]),
  );
  assert.equal(await fetchManifest(t, registry.host, { retry }, moved), image.manifestDigest);
});

test('https never becomes http', async (t) => {
  const plain = await serve(t, good);
  const { host } = await serve(
    t,
    (_q, r) => send(r, 302, '', { location: `http://${plain.host}/login?from=x` }),
    TLS,
  );
  await assert.rejects(fetchManifest(t, host, { certDir: directory }), {
    code: 'PROTOCOL',
    message: `refusing the redirect of 'https://${host}/v2/app/manifests/v1' from https to http, at '${plain.host}'`,
  });
  const realm = await serve(
    t,
    (_q, r) => send(r, 401, '', { 'www-authenticate': `Bearer realm="http://${plain.host}/token"` }),
    TLS,
  );
  await assert.rejects(fetchManifest(t, realm.host, { certDir: directory, creds: 'u:p' }), {
    code: 'PROTOCOL',
    message: `refusing the token server 'http://${plain.host}/token' that '${realm.host}' names`,
  });
  assert.deepEqual(plain.requests, []);
});

test('plain http only where it is allowed; loopback is not special', async (t) => {
  const { host, requests } = await serve(t, good);
  await assert.rejects(fetchManifest(t, host, {}), {
    code: 'PROTOCOL',
    message: `'${host}' does not speak TLS as expected`,
    hint: 'If it is a plain HTTP registry, set insecure=true for it in registries.conf, or give --plain-http.',
  });
  assert.deepEqual(requests, []);
  assert.equal(await fetchManifest(t, host, { plainHttp: true }), image.manifestDigest);
  assert.equal(await fetchManifest(t, host, { tlsVerify: false }), image.manifestDigest);
  assert.equal(await fetchManifest(t, host, {}, insecure(host)), image.manifestDigest);
  assert.equal(requests.length, 3);
});

test('an insecure registry that answered by https is not asked by http', async (t) => {
  const { host, requests } = await serve(t, (_q, r) => send(r, 503), TLS);
  await assert.rejects(fetchManifest(t, host, {}, insecure(host)), { code: 'TEMPORARY' });
  assert.equal(requests.length, 3);
});

test('proxies', async (t) => {
  const registry = await serve(t, good);
  const proxy = await serve(t, (request, response) => {
    httpRequest(request.url!, { headers: { accept: request.headers.accept } }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    }).end();
  });
  const through = (env: NodeJS.ProcessEnv) =>
    fetchManifest(t, registry.host, { plainHttp: true, env: { HOME: directory, ...env } });
  assert.equal(await through({ http_proxy: `http://${proxy.host}` }), image.manifestDigest);
  assert.deepEqual(proxy.requests.splice(0), [`GET http://${registry.host}/v2/app/manifests/v1`]);
  assert.equal(
    await through({ HTTP_PROXY: `http://${proxy.host}`, NO_PROXY: 'example.org,127.0.0.1' }),
    image.manifestDigest,
  );
  assert.equal(await through({ https_proxy: `http://${proxy.host}` }), image.manifestDigest);
  assert.deepEqual(proxy.requests, []);
});

test('network errors get words', () => {
  const url = new URL('https://u:secret@r.example/v2/x?sig=secret');
  const table: [string, string, boolean, RegExp][] = [
    ['ENOTFOUND', 'UNAVAILABLE', false, /^'r\.example' is not a known host$/],
    ['ECONNREFUSED', 'UNAVAILABLE', false, /^'r\.example' refuses the connection$/],
    ['EHOSTUNREACH', 'UNAVAILABLE', false, /cannot be reached$/],
    ['EAI_AGAIN', 'TEMPORARY', true, /broke the connection/],
    ['ECONNRESET', 'TEMPORARY', true, /broke the connection/],
    ['UND_ERR_SOCKET', 'TEMPORARY', true, /broke the connection/],
    ['UND_ERR_CONNECT_TIMEOUT', 'TEMPORARY', true, /does not answer in time$/],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'UNAVAILABLE', false, /is not trusted/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'UNAVAILABLE', false, /is not trusted/],
    ['CERT_HAS_EXPIRED', 'UNAVAILABLE', false, /is not trusted/],
    ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNAVAILABLE', false, /is not trusted/],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'PROTOCOL', false, /does not speak TLS as expected$/],
    ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'PROTOCOL', false, /does not speak TLS as expected$/],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'DENIED', false, /asks for a client certificate$/],
    ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'DENIED', false, /asks for a client certificate$/],
    ['EPROTO', 'PROTOCOL', false, /does not speak TLS as expected$/],
    ['EWHATEVER', 'UNAVAILABLE', false, /^the connection to 'r\.example' failed: x\\x1b\[2J$/],
  ];
  for (const [code, kind, transient, message] of table) {
    const fault = networkFault(Object.assign(new Error('x\u001b[2J'), { code }), url);
    assert.deepEqual([fault.error.code, fault.transient], [kind, transient], code);
    assert.match(fault.error.message, message, code);
    assert.ok(!`${fault.error.message}${fault.error.hint}${fault.error.detail}`.includes('secret'));
  }
});
