import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { credentialKeys, findAuth, parseAuthFile, splitPair } from '../../../src/registry/credentials.ts';
import { findCredentials } from '../../../src/registry/load-credentials.ts';

const root = mkdtempSync(join(tmpdir(), 'ocictl-credentials-'));
after(() => rmSync(root, { recursive: true }));
const b64 = (text: string) => Buffer.from(text).toString('base64');
const basic = (username: string, password = 'pw') => ({ kind: 'basic', username, password });
const auths = (map: Record<string, string>) =>
  JSON.stringify({
    auths: Object.fromEntries(Object.entries(map).map(([key, user]) => [key, { auth: b64(`${user}:pw`) }])),
  });
const write = (path: string, text: string) => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
  return join(root, path);
};

test('the more exact key wins', () => {
  assert.deepEqual(credentialKeys('r.io', 'a/b'), ['r.io/a/b', 'r.io/a', 'r.io']);
  const file = parseAuthFile(
    Buffer.from(
      auths({
        'r.io': 'host',
        'r.io/ns': 'ns',
        'r.io/ns/app': 'app',
        'https://index.docker.io/v1/': 'hub',
        'https://old.io/v2/': 'old',
        'p.io:5000': 'port',
      }),
    ),
    '/a',
  );
  const table: [string, string, string | undefined][] = [
    ['r.io', 'x', 'host'],
    ['r.io', 'ns/x', 'ns'],
    ['r.io', 'ns/app', 'app'],
    ['r.io', 'nsx/app', 'host'],
    ['docker.io', 'library/x', 'hub'],
    ['old.io', 'x', 'old'],
    ['p.io:5000', 'x', 'port'],
    ['p.io', 'x', undefined],
    ['r.io:443', 'x', undefined],
    ['evil-r.io', 'x', undefined],
  ];
  for (const [host, repository, user] of table)
    assert.deepEqual(
      findAuth(file, host, repository),
      user === undefined ? undefined : basic(user),
      `${host}/${repository}`,
    );
});

test('entries', () => {
  const entry = (text: string, legacy = false) =>
    findAuth(parseAuthFile(Buffer.from(text), '/a', legacy), 'r.io', 'x');
  assert.deepEqual(entry(`{"auths":{"r.io":{"auth":"${b64('u:p:w')}"}}}`), basic('u', 'p:w'));
  assert.deepEqual(entry(`{"auths":{"r.io":{"auth":"${b64('u:p\0\0')}"}}}`), basic('u', 'p'));
  assert.deepEqual(entry(`{"auths":{"r.io":{"auth":"${b64('u:')}","identitytoken":"T"}}}`), {
    kind: 'identity',
    token: 'T',
  });
  assert.deepEqual(entry('{"auths":{"r.io":{"username":"u","password":"pw"}}}'), basic('u'));
  assert.deepEqual(entry(`{"r.io":{"auth":"${b64('u:pw')}"}}`, true), basic('u'));
  for (const empty of [
    '{}',
    '{"auths":null}',
    '{"auths":{}}',
    '{"auths":{"r.io":{}}}',
    '{"auths":{"r.io":null}}',
  ])
    assert.equal(entry(empty), undefined);
  for (const [text, message] of [
    ['[]', "authentication file '/a' does not have the form of an auth.json"],
    ['{', "authentication file '/a' is not valid JSON"],
    [
      `{"auths":{"r.io":{"auth":"${b64('secret')}"}}}`,
      "authentication file '/a' has an entry that is not user:password",
    ],
  ])
    assert.throws(() => entry(text!), { code: 'CONFIG', message });
  assert.deepEqual(splitPair('u:p:q'), basic('u', 'p:q'));
  assert.equal(splitPair('u'), undefined);
  assert.equal(splitPair(':p'), undefined);
});

test('files are asked in order, a named one alone', async () => {
  const warnings: string[] = [];
  const find = (env: NodeJS.ProcessEnv, host = 'r.io', authfile?: string) =>
    findCredentials(host, 'x', {
      authfile,
      env: { HOME: join(root, 'home'), ...env },
      root,
      warn: (m) => warnings.push(m),
    });
  assert.equal(await find({}), undefined);
  write('home/.dockercfg', `{"r.io":{"auth":"${b64('dockercfg:pw')}"}}`);
  assert.deepEqual(await find({}), basic('dockercfg'));
  write('home/.docker/config.json', auths({ 'r.io': 'docker' }));
  assert.deepEqual(await find({}), basic('docker'));
  write('docker/config.json', auths({ 'r.io': 'docker-config' }));
  assert.deepEqual(await find({ DOCKER_CONFIG: join(root, 'docker') }), basic('docker-config'));
  write('home/.config/containers/auth.json', auths({ 'r.io': 'config' }));
  assert.deepEqual(await find({}), basic('config'));
  write(`run/containers/${process.getuid!()}/auth.json`, auths({ 'r.io': 'run' }));
  assert.deepEqual(await find({}), basic('run'));
  write('xdg/containers/auth.json', auths({ 'r.io': 'runtime' }));
  assert.deepEqual(await find({ XDG_RUNTIME_DIR: join(root, 'xdg') }), basic('runtime'));
  write('creds/oci.auth.json', auths({ 'r.io': 'credential' }));
  assert.deepEqual(
    await find({ CREDENTIALS_DIRECTORY: join(root, 'creds'), XDG_RUNTIME_DIR: join(root, 'xdg') }),
    basic('credential'),
  );
  const named = write('named.json', auths({ 'n.io': 'named' }));
  assert.equal(await find({ REGISTRY_AUTH_FILE: named }), undefined);
  assert.deepEqual(await find({ REGISTRY_AUTH_FILE: '/nonexistent' }, 'n.io', named), basic('named'));
  await assert.rejects(find({ REGISTRY_AUTH_FILE: '/nonexistent' }), {
    code: 'INPUT_NOT_FOUND',
    message: "no authentication file '/nonexistent'",
  });
  assert.deepEqual(warnings, []);
});

test('helpers', async () => {
  const bin = join(root, 'bin');
  const helper = (name: string, script: string) => {
    const path = write(`bin/docker-credential-${name}`, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  };
  helper(
    'ok',
    `read server; [ "$1" = get ] && printf '{"ServerURL":"x","Username":"%s","Secret":"pw"}' "$server"`,
  );
  helper('token', `printf '{"Username":"<token>","Secret":"T"}'`);
  helper('none', `echo 'credentials not found in native keychain'; exit 1`);
  helper('broken', 'echo secret-text; exit 3');
  helper('junk', 'echo secret-text');
  const config = write(
    'helpers.json',
    JSON.stringify({
      auths: {
        'ok.io': { auth: b64('file:pw') },
        'none.io': { auth: b64('file:pw') },
        'store.io': {},
        'auth.io': { auth: b64('file:pw') },
      },
      credHelpers: {
        'ok.io': 'ok',
        'token.io': 'token',
        'none.io': 'none',
        'broken.io': 'broken',
        'junk.io': 'junk',
        'gone.io': 'gone',
        'bad.io': '../x',
        'docker.io': 'ok',
      },
      credsStore: 'ok',
    }),
  );
  const warnings: string[] = [];
  const find = (host: string) =>
    findCredentials(host, 'x', {
      authfile: config,
      env: { PATH: `${bin}:${process.env['PATH']}` },
      root,
      warn: (m) => warnings.push(m),
    });
  assert.deepEqual(await find('ok.io'), basic('ok.io'));
  assert.deepEqual(await find('docker.io'), basic('https://index.docker.io/v1/'));
  assert.deepEqual(await find('token.io'), { kind: 'identity', token: 'T' });
  assert.deepEqual(await find('none.io'), basic('file'));
  assert.deepEqual(await find('auth.io'), basic('file'));
  assert.deepEqual(await find('store.io'), basic('store.io'));
  assert.deepEqual(warnings, []);
  for (const host of ['broken.io', 'junk.io', 'gone.io', 'bad.io']) assert.equal(await find(host), undefined);
  const where = `(a credential helper of '${config}')`;
  assert.deepEqual(warnings, [
    `docker-credential-broken failed with status 3 ${where}`,
    `answer of docker-credential-junk is not valid JSON ${where}`,
    `cannot run docker-credential-gone ${where}`,
    `'../x' is not the name of a credential helper ${where}`,
  ]);
});
