/** The loaders: which files of registries.conf, *.oci-registry and certs.d are read, in which order. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { hostCertificates, systemAuthorities } from '../../../src/registry/certificates.ts';
import { loadRegistriesConf } from '../../../src/registry/load-registries-conf.ts';
import { readSmallFile } from '../../../src/registry/small-file.ts';

const top = mkdtempSync(join(tmpdir(), 'ocictl-load-'));
after(() => rmSync(top, { recursive: true }));
const newRoot = (files: Record<string, string>) => {
  const root = mkdtempSync(join(top, 'root-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
};
const search = (host: string) => `unqualified-search-registries = ["${host}"]\n`;

test('registries.conf and its drop-ins', () => {
  const root = newRoot({
    'etc/containers/registries.conf': `${search('main.io')}[aliases]\na="main.io/a"\nb="main.io/b"\nc="main.io/c"`,
    'etc/containers/registries.conf.d/20-b.conf': '[aliases]\nb="twenty.io/b"',
    'etc/containers/registries.conf.d/10-a.conf': '[aliases]\nb="ten.io/b"\nd="ten.io/d"',
    'etc/containers/registries.conf.d/README': 'not TOML',
    'home/.config/containers/registries.conf.d/u.conf': '[aliases]\nc="user.io/c"',
    'explicit.conf': search('explicit.io'),
    'usr/share/containers/registries.conf': search('vendor.io'),
  });
  const env = { HOME: join(root, 'home') };
  const load = (more: NodeJS.ProcessEnv = {}) => loadRegistriesConf({ env: { ...env, ...more }, root });
  const targets = (conf: ReturnType<typeof load>) =>
    [...conf.aliases].map(([name, { target }]) => `${name}=${target}`).sort();
  assert.deepEqual(load().searchRegistries, ['main.io']);
  assert.deepEqual(targets(load()), ['a=main.io/a', 'b=twenty.io/b', 'c=user.io/c', 'd=ten.io/d']);
  const explicit = load({ CONTAINERS_REGISTRIES_CONF: join(root, 'explicit.conf') });
  assert.deepEqual(explicit.searchRegistries, ['explicit.io']);
  assert.deepEqual(targets(explicit), ['b=twenty.io/b', 'c=user.io/c', 'd=ten.io/d']);
  assert.throws(() => load({ CONTAINERS_REGISTRIES_CONF: '/nonexistent' }), { code: 'INPUT_NOT_FOUND' });
  writeFileSync(join(root, 'home/.config/containers/registries.conf'), search('user.io'));
  assert.deepEqual(load().searchRegistries, ['user.io']);
  assert.deepEqual(targets(load()), ['c=user.io/c']);
  rmSync(join(root, 'home'), { recursive: true });
  rmSync(join(root, 'etc/containers/registries.conf'));
  assert.deepEqual(load().searchRegistries, ['vendor.io']);
  assert.deepEqual(loadRegistriesConf({ env, root: newRoot({}) }).searchRegistries, []);
});

test('credential-helpers: the last list that names some; the files where nobody does', () => {
  const load = (...texts: string[]) => {
    const root = newRoot(
      Object.fromEntries(texts.map((text, i) => [`etc/containers/registries.conf.d/${i}.conf`, text])),
    );
    return loadRegistriesConf({ env: { HOME: root }, root }).credentialHelpers;
  };
  const set = (list: string) => `credential-helpers = ${list}`;
  assert.deepEqual(load(), ['containers-auth.json']);
  assert.deepEqual(load(set('["pass", "containers-auth.json"]'), set('[]')), [
    'pass',
    'containers-auth.json',
  ]);
  assert.deepEqual(load(set('["pass"]'), set('["secretservice"]')), ['secretservice']);
  for (const wrong of ['"pass"', '[1]']) assert.throws(() => load(set(wrong)), { code: 'CONFIG' });
});

test('.oci-registry files: /etc before /run before /usr, and masking', () => {
  const file = (host: string) => JSON.stringify({ overrideRegistry: host });
  const root = newRoot({
    'usr/lib/systemd/oci-registry/image.a.oci-registry': file('usr.io'),
    'usr/lib/systemd/oci-registry/image.b.oci-registry': file('usr.io'),
    'usr/lib/systemd/oci-registry/image.c.oci-registry': file('usr.io'),
    'run/systemd/oci-registry/image.b.oci-registry': file('run.io'),
    'etc/systemd/oci-registry/image.d.oci-registry': '{',
  });
  symlinkSync('/dev/null', join(root, 'etc/systemd/oci-registry/image.c.oci-registry'));
  const conf = loadRegistriesConf({ env: { HOME: root }, root });
  assert.deepEqual(conf.ociRegistryRule('image.a.oci-registry'), { overrideRegistry: 'usr.io' });
  assert.deepEqual(conf.ociRegistryRule('image.b.oci-registry'), { overrideRegistry: 'run.io' });
  assert.equal(conf.ociRegistryRule('image.c.oci-registry'), undefined);
  assert.throws(() => conf.ociRegistryRule('image.d.oci-registry'), { code: 'CONFIG' });
  assert.equal(conf.ociRegistryRule('image.e.oci-registry'), undefined);
  assert.equal(conf.ociRegistryRule(`image.${'x'.repeat(300)}.oci-registry`), undefined);
});

test('certs.d: the first directory only', () => {
  const root = newRoot({
    'etc/containers/certs.d/r.io:5000/b.crt': 'B',
    'etc/containers/certs.d/r.io:5000/a.crt': 'A',
    'etc/containers/certs.d/r.io:5000/client.cert': 'CERT',
    'etc/containers/certs.d/r.io:5000/client.key': 'KEY',
    'etc/docker/certs.d/r.io:5000/other.crt': 'X',
    'etc/docker/certs.d/d.io/ca.crt': 'D',
    'etc/docker/certs.d/k.io/x.cert': 'K',
    'own/o.crt': 'O',
  });
  const certificates = (host: string, certDir?: string) =>
    hostCertificates(host, { certDir, env: { HOME: root }, root });
  assert.deepEqual(certificates('r.io:5000'), { ca: ['A', 'B'], cert: 'CERT', key: 'KEY' });
  assert.deepEqual(certificates('r.io'), { ca: [] });
  assert.deepEqual(certificates('d.io'), { ca: ['D'] });
  assert.throws(() => certificates('k.io'), {
    code: 'CONFIG',
    hint: `Put its key into ${root}/etc/docker/certs.d/k.io/x.key`,
  });
  assert.deepEqual(certificates('r.io:5000', join(root, 'own')), { ca: ['O'] });
  assert.throws(() => certificates('r.io', join(root, 'none')), { code: 'INPUT_NOT_FOUND' });
  const bundle = join(root, 'own/o.crt');
  assert.equal(systemAuthorities({ SSL_CERT_FILE: bundle }), 'O');
  assert.equal(systemAuthorities({ SSL_CERT_FILE: '/nonexistent' }), undefined);
});

test('small files: no fifo, no directory, no more than allowed', () => {
  const root = newRoot({ file: '12345' });
  execFileSync('mkfifo', [join(root, 'fifo')]);
  assert.equal(readSmallFile(join(root, 'file'), 5)?.toString(), '12345');
  assert.equal(readSmallFile(join(root, 'none'), 5), undefined);
  assert.equal(readSmallFile(join(root, 'file/none'), 5), undefined);
  assert.equal(readSmallFile('/dev/null', 5)?.length, 0);
  assert.throws(() => readSmallFile(join(root, 'file'), 4), { code: 'CONFIG' });
  assert.throws(() => readSmallFile(join(root, 'fifo'), 5), {
    code: 'CONFIG',
    message: `'${root}/fifo' is not a regular file`,
  });
  assert.throws(() => readSmallFile(root, 5), { code: 'CONFIG' });
});
