import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OciError } from '../../../src/oci/errors.ts';
import {
  atDomain,
  formatReference,
  parseDomain,
  parseName,
  parseReference,
  repositoryName,
  withDefaultTag,
} from '../../../src/oci/reference.ts';

const HEX = 'a'.repeat(64);

test('names are completed and formatted', () => {
  const table: [typed: string, full: string][] = [
    ['fedora', 'docker.io/library/fedora'],
    ['fedora:44', 'docker.io/library/fedora:44'],
    ['ns/app', 'docker.io/ns/app'],
    ['docker.io/fedora', 'docker.io/library/fedora'],
    ['index.docker.io/fedora', 'docker.io/library/fedora'],
    ['registry-1.docker.io/library/fedora', 'docker.io/library/fedora'],
    ['quay.io/x/y:v1', 'quay.io/x/y:v1'],
    ['Quay.IO/x/y', 'quay.io/x/y'],
    ['host:5000/foo', 'host:5000/foo'],
    ['host:5000/foo:1', 'host:5000/foo:1'],
    ['localhost/foo', 'localhost/foo'],
    ['localhost', 'docker.io/library/localhost'],
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    ['[::1]:5000/x', '[::1]:5000/x'],
    ['[fe80::1]/a/b:t', '[fe80::1]/a/b:t'],
    ['127.0.0.1/x', '127.0.0.1/x'],
    [`quay.io/x@sha256:${HEX}`, `quay.io/x@sha256:${HEX}`],
    [`quay.io/x:tag@sha256:${HEX}`, `quay.io/x:tag@sha256:${HEX}`],
    ['a__b/c.d/e--f:T_1.2-x', 'docker.io/a__b/c.d/e--f:T_1.2-x'],
    [`a:${'t'.repeat(128)}`, `docker.io/library/a:${'t'.repeat(128)}`],
  ];
  for (const [typed, full] of table) assert.equal(formatReference(parseReference(typed)), full, typed);
});

test('the parts', () => {
  assert.deepEqual(parseName('fedora'), { path: 'fedora' });
  assert.deepEqual(parseName('ns/fedora:44'), { path: 'ns/fedora', tag: '44' });
  assert.deepEqual(parseReference(`h:1/a/b:c@sha256:${HEX}`), {
    domain: 'h:1',
    path: 'a/b',
    tag: 'c',
    digest: `sha256:${HEX}`,
  });
  assert.equal(repositoryName(parseReference('h:1/a:b')), 'h:1/a');
  assert.equal(formatReference(withDefaultTag(parseReference('a'))), 'docker.io/library/a:latest');
  assert.equal(
    formatReference(withDefaultTag(parseReference(`a@sha256:${HEX}`))),
    `docker.io/library/a@sha256:${HEX}`,
  );
  assert.equal(formatReference(atDomain({ path: 'a' }, 'quay.io')), 'quay.io/a');
  assert.equal(formatReference(atDomain({ path: 'a' }, 'index.docker.io')), 'docker.io/library/a');
});

test('what is no reference', () => {
  const bad = [
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A',
    'a/B',
    'a:',
    ':a',
    'a:-x',
    `a:${'t'.repeat(129)}`,
    'a@',
    'a@sha256:abc',
    `a@sha256:${'A'.repeat(64)}`,
    `a@md5:${'a'.repeat(32)}`,
    'a b',
    'a\n',
    'a\0',
    '../a',
    'a/../b',
    './a',
    'a/.b',
    'a..b',
    'a___b',
    '-a',
    'a-',
    'a:b:c',
    'host:port/a',
    'host:99999/a',
    'host:5000/',
    '[::1]:5000',
    '[::g]/a',
    '[]/a',
    'ho_st.x/a',
    '-h.x/a',
    'h..x/a',
    'user@host/a',
    'http://a/b',
    'é/a',
    'a/é',
    `${'a'.repeat(256)}`,
    `h.x/${'a'.repeat(253)}`,
    'x'.repeat(601),
    'a%2fb',
    'a?b',
    'a#b',
    'a\\b',
  ];
  for (const text of bad)
    assert.throws(
      () => parseReference(text),
      (error: unknown) =>
        error instanceof OciError && error.code === 'USAGE' && !/[\x00-\x1f]/.test(error.message),
      JSON.stringify(text),
    );
  assert.throws(() => parseReference('quay.io/Fedora/X'), { hint: 'Write it in lower case: fedora/x' });
});

test('a long hostile name does not take long', () => {
  const started = performance.now();
  for (const text of [`${'a-'.repeat(300)}`, `${'a.'.repeat(120)}!/x`, `${'a'.repeat(599)}!`])
    assert.throws(() => parseReference(text), OciError);
  assert.ok(performance.now() - started < 5000);
});

test('domains', () => {
  for (const host of ['quay.io', 'h', 'h:5000', '[::1]', '[::1]:80', '10.0.0.1:1', 'xn--caf-dma.example'])
    assert.equal(parseDomain(host), host);
  for (const host of ['', 'a/b', 'https://a', 'a:', 'a:123456', '*.a', 'a b', '..'])
    assert.throws(() => parseDomain(host), { code: 'USAGE' }, host);
});
