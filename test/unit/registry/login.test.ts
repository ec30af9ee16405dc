/** ocictl login and logout against loopback registries: what is tried, what is written, and how. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import {
  authFilePath,
  eraseAllCredentials,
  eraseCredentials,
  storeCredentials,
} from '../../../src/registry/auth-file.ts';
import { findCredentials } from '../../../src/registry/load-credentials.ts';
import {
  isInsecureHost,
  mergeRegistriesConf,
  parseRegistriesConf,
} from '../../../src/registry/registries-conf.ts';
import { CHILD_ENVIRONMENT } from '../child-environment.ts';
import { type Handler, send, serve } from './fake-registry.ts';

const top = mkdtempSync(join(tmpdir(), 'ocictl-login-'));
after(() => rmSync(top, { recursive: true }));
const OCICTL = resolve(import.meta.dirname, '../../../src/cli/ocictl.ts');
const b64 = (text: string) => Buffer.from(text).toString('base64');
let count = 0;
const scratch = () => {
  const path = join(top, String(count++));
  mkdirSync(path);
  return path;
};

/** `user` with `se:cret` may come in. */
const basic: Handler = (q, r) => {
  if (q.headers.authorization === `Basic ${b64('user:se:cret')}`) send(r, 200, '{}');
  else send(r, 401, '{}', { 'www-authenticate': 'Basic realm="r"' });
};

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Not spawnSync(): the registry is in this process. */
function run(command: string, args: string[], env: NodeJS.ProcessEnv, input = ''): Promise<Ran> {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { env: { ...CHILD_ENVIRONMENT, ...env } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (status) => done({ status, stdout, stderr }));
    child.stdin.end(input);
  });
}
const ocictl = (args: string[], env: NodeJS.ProcessEnv, input?: string) =>
  run(process.execPath, [OCICTL, ...args], env, input);

test('login, read back, logout', async (t) => {
  const { host, requests } = await serve(t, basic);
  const dir = scratch();
  const env = { HOME: dir, XDG_RUNTIME_DIR: join(dir, 'run') };
  const path = join(dir, 'run/containers/auth.json');
  const login = ['login', '--tls-verify=false', '-u', 'user', '--password-stdin', host];
  const result = await ocictl(login, env, 'se:cret\n');
  assert.deepEqual(result, {
    status: 0,
    stdout: '',
    stderr: `ocictl: logged in to ${host}: kept in ${path}\n`,
  });
  assert.deepEqual(requests, ['GET /v2/', `GET /v2/ auth=Basic ${b64('user:se:cret')}`]);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), {
    auths: { [host]: { auth: b64('user:se:cret') } },
  });
  assert.equal(statSync(path).mode & 0o7777, 0o600);
  assert.equal(statSync(join(dir, 'run/containers')).mode & 0o7777, 0o700);
  assert.deepEqual(readdirSync(join(dir, 'run/containers')), ['auth.json']);
  assert.deepEqual(await findCredentials(host, 'x', { env, root: dir, warn: assert.fail }), {
    kind: 'basic',
    username: 'user',
    password: 'se:cret',
  });
  const out = await ocictl(['--json', 'logout', host], env);
  assert.deepEqual(
    [out.status, JSON.parse(out.stdout)],
    [0, { registry: host, erased: [{ path }], left: [] }],
  );
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { auths: {} });
  const again = await ocictl(['logout', host], env);
  assert.deepEqual(
    [again.status, again.stderr.split('\n')[0]],
    [66, `ocictl: no credentials for '${host}' in '${path}'`],
  );
});

test('what the registry refuses is not kept, and no secret is shown', async (t) => {
  const dir = scratch();
  const authfile = join(dir, 'auth.json');
  const table: [what: string, handler: Handler, status: number, message: RegExp][] = [
    ['wrong', basic, 77, /refuses the credentials of 'user'/],
    ['forbidden', (_q, r) => send(r, 403), 77, /refuses the credentials/],
    ['no registry', (_q, r) => send(r, 404), 76, /is not a registry \(HTTP 404/],
    ['page', (_q, r) => send(r, 200, '<html>', { 'content-type': 'text/html' }), 76, /web page/],
    ['no way', (_q, r) => send(r, 401), 77, /refuses the credentials/],
    ['loop', (_q, r) => send(r, 302, '', { location: '/v2/' }), 76, /redirects more than/],
  ];
  for (const [what, handler, status, message] of table) {
    const { host } = await serve(t, handler);
    const args = [
      '-v',
      'login',
      '--tls-verify=false',
      '--authfile',
      authfile,
      '-u',
      'user',
      '--password-stdin',
      host,
    ];
    const result = await ocictl(args, { HOME: dir }, 'SECRET');
    assert.deepEqual([result.status, result.stdout], [status, ''], what + result.stderr);
    assert.match(result.stderr, message, what);
    assert.ok(!/SECRET|U0VDUkVU/.test(result.stderr), what);
    assert.equal(existsSync(authfile), false, what);
  }
});

test('a token server tries the credentials; a registry that asks for none says so', async (t) => {
  const dir = scratch();
  const tokens = await serve(t, (q, r) =>
    q.headers.authorization === `Basic ${b64('user:pw')}` ? send(r, 200, '{"token":"t"}') : send(r, 401),
  );
  const { host } = await serve(t, (q, r) =>
    q.headers.authorization === 'Bearer t'
      ? send(r, 200)
      : send(r, 401, '', { 'www-authenticate': `Bearer realm="http://${tokens.host}/token",service="s"` }),
  );
  const open = await serve(t, (_q, r) => send(r, 200, '{}'));
  const authfile = join(dir, 'auth.json');
  const login = (where: string, password: string) =>
    ocictl(
      ['login', '--tls-verify=false', '--authfile', authfile, '-u', 'user', '--password-stdin', where],
      { HOME: dir },
      password,
    );
  const refused = await login(host, 'no');
  assert.deepEqual(
    [refused.status, refused.stderr.split('\n')[0]],
    [77, `ocictl: '${host}' refuses the credentials of 'user'`],
  );
  assert.equal((await login(host, 'pw')).status, 0);
  assert.deepEqual(tokens.requests.at(-1), `GET /token?service=s auth=Basic ${b64('user:pw')}`);
  const unasked = await login(open.host, 'pw');
  assert.equal(unasked.status, 0);
  assert.match(unasked.stderr, /asked for no credentials: they are kept without having been tried/);
});

test('plain http needs permission: of the option, or of registries.conf', async (t) => {
  const { host, requests } = await serve(t, basic);
  const dir = scratch();
  const result = await ocictl(
    ['login', '-u', 'user', '--password-stdin', host],
    { HOME: dir, XDG_RUNTIME_DIR: dir },
    'se:cret',
  );
  assert.equal(result.status, 76, result.stderr);
  assert.deepEqual(requests, []);
  const conf = mergeRegistriesConf([
    parseRegistriesConf(
      '[[registry]]\nlocation="a.io/x"\ninsecure=true\n[[registry.mirror]]\nlocation="m.io"\n[[registry]]\nprefix="p.io"\nlocation="b.io:5"\n[[registry.mirror]]\nlocation="n.io/y"\ninsecure=true',
      '/r',
    ),
  ]);
  assert.deepEqual(
    ['a.io', 'm.io', 'p.io', 'b.io:5', 'n.io', 'x.io'].filter((name) => isInsecureHost(name, conf)),
    ['a.io', 'n.io'],
  );
});

test('usage', async () => {
  const env = { HOME: top, XDG_RUNTIME_DIR: top };
  const cases: [args: string[], input: string, message: string][] = [
    [['login', 'r.io'], '', 'there is no user name, and no terminal to ask for it'],
    [['login', '-u', 'x', 'r.io'], '', 'there is no password, and no terminal to ask for it'],
    [
      ['login', '-u', 'x', '-p', 'y', '--password-stdin', 'r.io'],
      'z',
      '--password and --password-stdin exclude each other',
    ],
    [['login', '-u', 'x', '--password-stdin', 'r.io'], '\n', 'the password is empty'],
    [['login', '-u', 'a:b', '--password-stdin', 'r.io'], 'x', "'a:b' cannot be a user name"],
    [['login', '-u', 'x', '--password-stdin', 'https://r.io'], 'x', "'https://r.io' is not a registry host"],
    [
      ['login', '-u', 'x', '--password-stdin', 'r.io'],
      'x'.repeat(70_000),
      'standard input has more than 65536 bytes',
    ],
  ];
  for (const [args, input, message] of cases) {
    const { status, stderr } = await ocictl(args, env, input);
    const lines = stderr
      .trimEnd()
      .split('\n')
      .filter((line) => !line.includes('--password shows'));
    assert.deepEqual([status, lines[0]], [64, `ocictl: ${message}`]);
    assert.match(lines[1]!, /^hint: /);
  }
});

/** Types into a program on a terminal of its own (script(1)). */
async function onTerminal(
  t: TestContext,
  args: string[],
  env: NodeJS.ProcessEnv,
  answers: [RegExp, string][],
) {
  const words = [process.execPath, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qefc', words, '/dev/null'], {
    env: { ...CHILD_ENVIRONMENT, ...env },
  });
  t.after(() => child.kill('SIGKILL'));
  let screen = '';
  const left = [...answers];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text;
    if (left[0]?.[0].test(screen)) child.stdin.write(left.shift()![1]);
  });
  const status = await new Promise((done) => child.on('close', done));
  return { status, screen };
}

test('on a terminal it asks, and the password is not shown', async (t) => {
  const { host } = await serve(t, basic);
  const dir = scratch();
  const env = { HOME: dir, XDG_RUNTIME_DIR: dir };
  const login = [OCICTL, 'login', '--tls-verify=false', host];
  const { status, screen } = await onTerminal(t, login, env, [
    [/User name: $/, 'user\n'],
    [/Password: $/, 'wrong\x15se:crx\x7f\x1b[Aet\r'],
  ]);
  assert.equal(status, 0, screen);
  assert.match(screen, /User name: user\r\nPassword: \r?\nocictl: logged in to /);
  assert.ok(!screen.includes('cret') && !screen.includes('wrong'), screen);
  const stopped = await onTerminal(t, login, env, [
    [/User name: $/, 'user\n'],
    [/Password: $/, 'se\x03'],
  ]);
  assert.equal(stopped.status, 130, stopped.screen);
  const pull = [
    resolve(OCICTL, '../oci-pull.ts'),
    '--root',
    join(dir, 'store'),
    '--run-root',
    join(dir, 'run'),
    '--plain-http',
    '--creds',
    'user',
    `${host}/x`,
  ];
  const asked = await onTerminal(t, pull, env, [[/Password of user: $/, 'se:cret\r']]);
  assert.match(asked.screen, /Password of user: \r?\n/);
  assert.equal(asked.screen.includes('cret'), false);
  const piped = await run(process.execPath, pull, env);
  assert.deepEqual(
    [piped.status, piped.stderr.split('\n')[0]],
    [64, 'oci-pull: --creds has no password, and there is no terminal to ask for it'],
  );
});

test('logout wants a registry or --all', async () => {
  for (const args of [['logout'], ['logout', '--all', 'r.io']])
    assert.deepEqual(
      [await ocictl(args, { HOME: top, XDG_RUNTIME_DIR: top })].map(({ status, stderr }) => [
        status,
        stderr.split('\n')[0],
      ]),
      [[64, 'ocictl: logout wants a registry, or --all']],
    );
});

test('credentials of a namespace are for what lies below it', async (t) => {
  const { host } = await serve(t, basic);
  const dir = scratch();
  const env = { HOME: dir, XDG_RUNTIME_DIR: join(dir, 'run') };
  const path = join(dir, 'run/containers/auth.json');
  const login = (name: string) =>
    ocictl(['login', '--tls-verify=false', '-u', 'user', '--password-stdin', name], env, 'se:cret');
  const find = (repository: string) =>
    findCredentials(host, repository, { env, root: dir, warn: assert.fail });
  const first = await login(`${host}/ns/app`);
  assert.deepEqual(
    [first.status, first.stderr],
    [0, `ocictl: logged in to ${host}/ns/app: kept in ${path}\n`],
  );
  assert.equal((await find('ns/app'))?.kind, 'basic');
  assert.equal((await find('ns/app/deep'))?.kind, 'basic');
  assert.equal(await find('ns/apple'), undefined);
  assert.equal(await find('ns'), undefined);
  assert.equal((await login(host)).status, 0);
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(path, 'utf8')).auths), [`${host}/ns/app`, host]);
  assert.equal((await ocictl(['logout', host], env)).status, 0);
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(path, 'utf8')).auths), [`${host}/ns/app`]);
  assert.equal((await ocictl(['logout', `${host}/ns`], env)).status, 66);
  assert.equal((await login('docker.io/Bad')).status, 64);
  const all = await ocictl(['--json', 'logout', '--all'], env);
  assert.deepEqual([all.status, JSON.parse(all.stdout)], [0, { registries: [`${host}/ns/app`] }]);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { auths: {} });
  assert.equal((await ocictl(['logout', '-a'], env)).stderr, 'ocictl: there were no credentials\n');
});

const place = (authfile: string, env: NodeJS.ProcessEnv = {}) => ({ authfile, env, root: '' });
const user = { username: 'u', password: 'p' };

test('what we do not know stays; the host’s other spellings go', async () => {
  const path = join(scratch(), 'config.json');
  writeFileSync(
    path,
    JSON.stringify({
      auths: {
        'other.io': { auth: 'eDp5', email: 'e' },
        'https://r.io/v1/': { auth: b64('old:old') },
        'r.io/ns': { auth: b64('ns:ns') },
        'https://index.docker.io/v1/': { auth: b64('hub:old') },
      },
      HttpHeaders: { 'User-Agent': 'x' },
      currentContext: 'c',
    }),
    { mode: 0o644 },
  );
  await storeCredentials('r.io', user, place(path));
  await storeCredentials('docker.io', user, place(path));
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), {
    auths: {
      'other.io': { auth: 'eDp5', email: 'e' },
      'r.io/ns': { auth: b64('ns:ns') },
      'r.io': { auth: b64('u:p') },
      'https://index.docker.io/v1/': { auth: b64('u:p') },
    },
    HttpHeaders: { 'User-Agent': 'x' },
    currentContext: 'c',
  });
  assert.equal(statSync(path).mode & 0o7777, 0o600);
  const { ino } = statSync(path);
  assert.deepEqual(await eraseCredentials('gone.io', place(path)), []);
  assert.equal(statSync(path).ino, ino, 'nothing to change, nothing written');
  assert.deepEqual(await eraseCredentials('r.io', place(path)), [{ path, helper: undefined }]);
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(path, 'utf8')).auths), [
    'other.io',
    'r.io/ns',
    'https://index.docker.io/v1/',
  ]);
});

test('places', () => {
  const at = (env: NodeJS.ProcessEnv, authfile?: string) => authFilePath({ authfile, env, root: '/root' });
  assert.equal(at({ REGISTRY_AUTH_FILE: '/r', XDG_RUNTIME_DIR: '/x' }, '/a'), '/a');
  assert.equal(at({ REGISTRY_AUTH_FILE: '/r', XDG_RUNTIME_DIR: '/x' }), '/r');
  assert.equal(at({ XDG_RUNTIME_DIR: '/x' }), '/x/containers/auth.json');
  assert.equal(at({}), `/root/run/containers/${process.getuid!()}/auth.json`);
});

test('links, odd files and broken ones', async () => {
  const dir = scratch();
  const real = join(dir, 'real.json');
  const link = join(dir, 'link.json');
  symlinkSync('real.json', link);
  await storeCredentials('r.io', user, place(link)); // dangling: becomes a file
  assert.equal(lstatSync(link).isFile(), true);
  rmSync(link);
  writeFileSync(real, '');
  symlinkSync('real.json', link);
  await storeCredentials('r.io', user, place(link));
  assert.equal(readlinkSync(link), 'real.json');
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(real, 'utf8')).auths), ['r.io']);
  // Another name of the old file keeps the old secret-free content: we never write into a file in place.
  const other = join(dir, 'other.json');
  writeFileSync(other, '{"auths":{}}');
  linkSync(other, join(dir, 'second.json'));
  await storeCredentials('r.io', user, place(other));
  assert.equal(readFileSync(join(dir, 'second.json'), 'utf8'), '{"auths":{}}');
  for (const [name, text] of [
    ['array', '[]'],
    ['auths', '{"auths":[]}'],
    ['broken', '{'],
    ['twice', '{"auths":{},"auths":{}}'],
  ]) {
    const path = join(dir, `${name}.json`);
    writeFileSync(path, text!);
    await assert.rejects(storeCredentials('r.io', user, place(path)), { code: 'CONFIG' });
    assert.equal(readFileSync(path, 'utf8'), text);
  }
  // A device is never replaced by a file (as root, --authfile=/dev/null would be the end of it).
  symlinkSync('/dev/null', join(dir, 'null.json'));
  execFileSync('mkfifo', [join(dir, 'fifo.json')]);
  for (const name of ['null', 'fifo'])
    await assert.rejects(storeCredentials('r.io', user, place(join(dir, `${name}.json`))), {
      code: 'CONFIG',
      message: / is not a regular file$/,
    });
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.startsWith('.')),
    [],
  );
});

test('many at once: none is lost', async () => {
  const path = join(scratch(), 'auth.json');
  const hosts = Array.from({ length: 20 }, (_, i) => `h${i}.io`);
  await Promise.all(hosts.map((host) => storeCredentials(host, user, place(path))));
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(path, 'utf8')).auths).sort(), hosts.sort());
});

test('helpers keep the secret, the file does not', async () => {
  const dir = scratch();
  const bin = join(dir, 'bin');
  const log = join(dir, 'log');
  mkdirSync(bin);
  const helper = (name: string, script: string) => {
    writeFileSync(join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, `docker-credential-${name}`), 0o755);
  };
  helper(
    'ok',
    `input=$(cat); echo "$1 $input" >>${log}; [ $1 != get ] || echo '{"Username":"u","Secret":"p"}'`,
  );
  helper('empty', 'echo "credentials not found in native keychain"; exit 1');
  helper('broken', 'echo secret-text; exit 3');
  const path = join(dir, 'config.json');
  const document = {
    auths: { 'ok.io': { auth: b64('old:old') }, 'plain.io': { auth: b64('x:y') } },
    credHelpers: { 'ok.io': 'ok', 'broken.io': 'broken', 'empty.io': 'empty' },
    credsStore: 'ok',
  };
  writeFileSync(path, JSON.stringify(document));
  const at = place(path, { PATH: `${bin}:${process.env['PATH']}` });
  assert.deepEqual(await storeCredentials('ok.io', user, at), { path, helper: 'ok' });
  assert.deepEqual(await storeCredentials('docker.io', user, at), { path, helper: 'ok' });
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), {
    ...document,
    auths: { 'plain.io': document.auths['plain.io'] },
  });
  assert.deepEqual(await eraseCredentials('ok.io', at), [{ path, helper: 'ok' }]);
  assert.deepEqual(await eraseCredentials('empty.io', at), []);
  assert.deepEqual(readFileSync(log, 'utf8').trim().split('\n'), [
    'store {"ServerURL":"ok.io","Username":"u","Secret":"p"}',
    'store {"ServerURL":"https://index.docker.io/v1/","Username":"u","Secret":"p"}',
    'get ok.io',
    'erase ok.io',
  ]);
  await assert.rejects(storeCredentials('ok.io/ns', user, at), {
    code: 'UNSUPPORTED',
    message: "docker-credential-ok keeps the credentials of 'ok.io', and knows no namespaces",
  });
  await assert.rejects(storeCredentials('broken.io', user, at), {
    code: 'UNAVAILABLE',
    message: 'docker-credential-broken failed with status 3',
    hint: 'Run it by hand to see why: docker-credential-broken store',
  });
});

test('credential-helpers of registries.conf: the first keeps, all forget', async () => {
  const dir = scratch();
  const kept = join(dir, 'kept');
  mkdirSync(kept);
  writeFileSync(
    join(dir, 'docker-credential-dir'),
    `#!/bin/sh
cd ${kept}; read -r input
case $1 in
store) h=\${input#*'"ServerURL":"'}; printf '%s' "$input" >"\${h%%'"'*}" ;;
get) [ -f "$input" ] && cat "$input" || { echo 'credentials not found'; exit 1; } ;;
erase) rm "$input" ;;
list) printf '{'; s=; for f in *; do [ -f "$f" ] && printf '%s"%s":"u"' "$s" "$f" && s=,; done; printf '}' ;;
esac
`,
    { mode: 0o755 },
  );
  const path = join(dir, 'auth.json');
  const env = { PATH: `${dir}:${process.env['PATH']}` };
  const at = (...credentialHelpers: string[]) => ({ ...place(path, env), credentialHelpers });
  const find = (host: string, ...credentialHelpers: string[]) =>
    findCredentials(host, 'ns/x', { ...at(...credentialHelpers), warn: assert.fail });
  const known = { kind: 'basic', username: 'u', password: 'p' };

  assert.deepEqual(await storeCredentials('r.io', user, at('dir', 'containers-auth.json')), {
    path: undefined,
    helper: 'dir',
  });
  assert.deepEqual(await find('r.io', 'dir'), known);
  assert.equal(existsSync(path), false);
  // A namespace goes to the first place that knows such.
  assert.deepEqual(await storeCredentials('r.io/ns', user, at('dir', 'containers-auth.json')), {
    path,
    helper: undefined,
  });
  await assert.rejects(storeCredentials('r.io/ns', user, at('dir')), { code: 'UNSUPPORTED' });
  // A helper that fails is no reason to write the password elsewhere.
  await assert.rejects(storeCredentials('s.io', user, at('gone', 'containers-auth.json')), {
    code: 'UNAVAILABLE',
  });
  await storeCredentials('r.io', { username: 'file', password: 'p' }, place(path, env));
  await storeCredentials('t.io', user, at('dir'));
  assert.deepEqual(await find('r.io', 'dir', 'containers-auth.json'), known);
  assert.deepEqual(await find('r.io', 'containers-auth.json', 'dir'), known); // of r.io/ns
  assert.equal(await find('x.io', 'dir', 'containers-auth.json'), undefined);
  assert.deepEqual(await eraseCredentials('r.io', at('dir', 'containers-auth.json')), [
    { path: undefined, helper: 'dir' },
    { path, helper: undefined },
  ]);
  assert.deepEqual(await eraseAllCredentials(at('dir', 'containers-auth.json')), ['r.io/ns', 't.io']);
  assert.deepEqual(readdirSync(kept), []);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { auths: {} });
});

test('logout --all asks the helpers of the file, too', async () => {
  const dir = scratch();
  const log = join(dir, 'log');
  writeFileSync(
    join(dir, 'docker-credential-log'),
    `#!/bin/sh
input=$(cat); echo "$1 $input" >>${log}
case $1 in list) echo '{"https://index.docker.io/v1/":"u"}' ;; get) echo '{"Username":"u","Secret":"p"}' ;; esac
`,
    { mode: 0o755 },
  );
  const path = join(dir, 'config.json');
  const document = { auths: { 'a.io': {} }, credHelpers: { 'h.io': 'log' }, credsStore: 'log' };
  writeFileSync(path, JSON.stringify(document));
  const at = place(path, { PATH: `${dir}:${process.env['PATH']}` });
  assert.deepEqual(await eraseAllCredentials(at), ['a.io', 'h.io', 'https://index.docker.io/v1/']);
  assert.deepEqual(readFileSync(log, 'utf8').match(/^erase .*/gm), [
    'erase h.io',
    'erase https://index.docker.io/v1/',
  ]);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { ...document, auths: {} });
});
