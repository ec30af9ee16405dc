import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatReference, parseName } from '../../../src/oci/reference.ts';
import {
  applyOciRegistry,
  type OciRegistryRule,
  ociRegistryFileName,
  parseOciRegistry,
} from '../../../src/registry/oci-registry.ts';
import { mergeRegistriesConf, parseRegistriesConf } from '../../../src/registry/registries-conf.ts';
import { resolveShortName } from '../../../src/registry/short-name.ts';
import { candidateNames } from '../../../src/source/local-name.ts';

/** systemd's own files, as 262 ships them. */
const SYSTEMD: Record<string, OciRegistryRule> = {
  'default.oci-registry': { shortImagePrefix: 'library/', overrideRegistry: 'registry-1.docker.io' },
  'image.fedora.oci-registry': { overrideRegistry: 'registry.fedoraproject.org' },
  'image.debian.oci-registry': { shortImagePrefix: 'library/', overrideRegistry: 'registry-1.docker.io' },
};
const conf = (text: string, rules = SYSTEMD) =>
  mergeRegistriesConf([parseRegistriesConf(text, '/etc/r.conf')], (name) =>
    Object.hasOwn(rules, name) ? rules[name] : undefined,
  );
const resolve = (name: string, text: string, rules?: Record<string, OciRegistryRule>) =>
  resolveShortName(parseName(name), conf(text, rules)).map(formatReference);
const SEARCH = 'unqualified-search-registries = ["a.io", "docker.io"]\n';
const DIGEST = `sha256:${'a'.repeat(64)}`;

test('short names', () => {
  const table: [string, string, string[]][] = [
    ['quay.io/x', SEARCH, ['quay.io/x:latest']],
    ['fedora', '[aliases]\nfedora="corp.io/base/fedora"', ['corp.io/base/fedora:latest']],
    ['fedora:44', `${SEARCH}[aliases]\nfedora="corp.io/base/fedora"`, ['corp.io/base/fedora:44']],
    [`fedora@${DIGEST}`, '[aliases]\nfedora="corp.io/f"', [`corp.io/f@${DIGEST}`]],
    ['a/b', '[aliases]\n"a/b"="corp.io/ab"', ['corp.io/ab:latest']],
    ['debian', '[aliases]\ndebian="docker.io/debian"', ['docker.io/library/debian:latest']],
    ['fedora', SEARCH, ['registry.fedoraproject.org/fedora:latest']],
    ['debian:13', SEARCH, ['docker.io/library/debian:13']],
    ['app', SEARCH, ['a.io/app:latest', 'docker.io/library/app:latest']],
    ['ns/app:1', SEARCH, ['a.io/ns/app:1', 'docker.io/ns/app:1']],
    ['app', '', ['docker.io/library/app:latest']],
    ['ns/app', '', ['docker.io/ns/app:latest']],
  ];
  for (const [name, text, expected] of table) assert.deepEqual(resolve(name, text), expected, name);
  assert.throws(() => resolve('app', '', {}), {
    code: 'USAGE',
    message: "the short name 'app' names no registry, and none is configured",
  });
  assert.throws(() => resolve('x', '[aliases]\nx="y"'), {
    code: 'CONFIG',
    message: "'/etc/r.conf': alias 'x' is not a full name without tag",
  });
  assert.throws(() => resolve('x', 'unqualified-search-registries=["https://a"]'), { code: 'CONFIG' });
});

test('.oci-registry files', () => {
  assert.equal(ociRegistryFileName('image', 'fedora-minimal'), 'image.fedora-minimal.oci-registry');
  assert.equal(ociRegistryFileName('image', 'a/b_c'), 'image.a%2fb_c.oci-registry');
  assert.equal(ociRegistryFileName('registry', 'r.example:5000'), 'registry.r.example%3a5000.oci-registry');
  const parse = (text: string) => parseOciRegistry(Buffer.from(text), '/f');
  assert.deepEqual(parse('{"overrideRegistry":"r.io","defaultProtocol":"https","other":1}'), {
    overrideRegistry: 'r.io',
  });
  assert.throws(() => parse('{"overrideRegistry":1}'), {
    code: 'CONFIG',
    message: "'/f': overrideRegistry is not a string",
  });
  assert.throws(() => parse('{"defaultProtocol":"file"}'), {
    code: 'CONFIG',
    message: "'/f': the protocol 'file' is not supported",
  });
  assert.throws(() => parse('[]'), { code: 'CONFIG' });
  const apply = (rule: OciRegistryRule, name: string) => {
    const reference = applyOciRegistry(rule, parseName(name));
    return reference && formatReference(reference);
  };
  assert.equal(apply({}, 'x'), undefined);
  assert.equal(apply({ defaultRegistry: 'r.io', defaultTag: 'stable' }, 'x'), 'r.io/x:stable');
  assert.equal(apply({ defaultRegistry: 'r.io', defaultTag: 'stable' }, 'x:1'), 'r.io/x:1');
  assert.equal(
    apply(
      { defaultRegistry: 'd.io', overrideRegistry: 'o.io', overrideImage: 'y/z', shortImagePrefix: 'p/' },
      'x',
    ),
    'o.io/y/z',
  );
  assert.equal(apply({ defaultRegistry: 'r.io', shortImagePrefix: 'p/' }, 'a/x'), 'r.io/a/x');
  assert.throws(() => apply({ defaultRegistry: 'r.io', shortImagePrefix: '../' }, 'x'), { code: 'CONFIG' });
});

test('names in the store', () => {
  assert.deepEqual(candidateNames('fedora', conf(SEARCH)), [
    'registry.fedoraproject.org/fedora:latest',
    'a.io/fedora:latest',
    'docker.io/library/fedora:latest',
    'localhost/fedora:latest',
  ]);
  assert.deepEqual(candidateNames('x:1', conf('', {})), ['docker.io/library/x:1', 'localhost/x:1']);
  assert.deepEqual(candidateNames('quay.io/x', conf(SEARCH)), ['quay.io/x:latest']);
  assert.deepEqual(candidateNames('docker://x', conf(SEARCH)), ['docker.io/library/x:latest']);
  assert.throws(() => candidateNames('../x', conf('')), { code: 'USAGE' });
});
