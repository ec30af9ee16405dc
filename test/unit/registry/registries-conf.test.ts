import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseReference } from '../../../src/oci/reference.ts';
import {
  endpointsFor,
  mergeRegistriesConf,
  parseRegistriesConf,
} from '../../../src/registry/registries-conf.ts';

const conf = (...texts: string[]) =>
  mergeRegistriesConf(texts.map((text, i) => parseRegistriesConf(text, `/etc/${i}.conf`)));
const where = (text: string, name: string) =>
  endpointsFor(parseReference(name), conf(text)).map(
    ({ host, repository, insecure, isMirror }) =>
      `${isMirror ? 'mirror ' : ''}${host}/${repository}${insecure ? ' insecure' : ''}`,
  );
const DIGEST = `sha256:${'a'.repeat(64)}`;

test('without a rule the reference is the place', () => {
  assert.deepEqual(where('', 'quay.io/a/b:c'), ['quay.io/a/b']);
  assert.deepEqual(where('', 'fedora'), ['docker.io/library/fedora']);
});

test('the longest prefix wins, whole components only', () => {
  const text = `
[[registry]]
prefix = "r.io"
location = "one.io"
[[registry]]
prefix = "r.io/ns"
location = "two.io/deep/er"
insecure = true
[[registry]]
prefix = "r.io/ns/app:special"
location = "three.io/x"
[[registry]]
prefix = "*.wild.io"
location = "four.io"
[[registry]]
prefix = "a.wild.io"
location = "five.io"
[[registry]]
prefix = "*.plain.io"
insecure = true
`;
  const table: [string, string][] = [
    ['r.io/x', 'one.io/x'],
    ['r.io/ns/x', 'two.io/deep/er/x insecure'],
    ['r.io/ns/x:t', 'two.io/deep/er/x insecure'],
    ['r.io/nsx/x', 'one.io/nsx/x'],
    ['r.io/ns/app:special', 'three.io/x'],
    ['r.io/ns/app:other', 'two.io/deep/er/app insecure'],
    ['r.io:5000/x', 'r.io:5000/x'],
    ['xr.io/x', 'xr.io/x'],
    ['b.wild.io/x', 'four.io/x'],
    ['c.b.wild.io/x/y', 'four.io/x/y'],
    ['a.wild.io/x', 'five.io/x'],
    ['wild.io/x', 'wild.io/x'],
    ['notwild.io/x', 'notwild.io/x'],
    ['q.plain.io/x', 'q.plain.io/x insecure'],
  ];
  for (const [name, expected] of table) assert.deepEqual(where(text, name), [expected], name);
});

test('mirrors come first, where they take this kind of reference', () => {
  const text = `
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "all.io/hub"
insecure = true
[[registry.mirror]]
location = "digest.io"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tag.io"
pull-from-mirror = "tag-only"
`;
  assert.deepEqual(where(text, 'fedora:1'), [
    'mirror all.io/hub/library/fedora insecure',
    'mirror tag.io/library/fedora',
    'docker.io/library/fedora',
  ]);
  assert.deepEqual(where(text, `fedora@${DIGEST}`), [
    'mirror all.io/hub/library/fedora insecure',
    'mirror digest.io/library/fedora',
    'docker.io/library/fedora',
  ]);
  const byDigest = `[[registry]]\nlocation = "r.io"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.io"`;
  assert.deepEqual(where(byDigest, 'r.io/x'), ['r.io/x']);
  assert.deepEqual(where(byDigest, `r.io/x@${DIGEST}`), ['mirror m.io/x', 'r.io/x']);
});

test('Docker Hub keeps its rules as a location', () => {
  assert.deepEqual(where('[[registry]]\nprefix="h.io"\nlocation="registry-1.docker.io"', 'h.io/x'), [
    'docker.io/library/x',
  ]);
  assert.deepEqual(where('[[registry]]\nprefix="h.io/a"\nlocation="docker.io/b"', 'h.io/a/x'), [
    'docker.io/b/x',
  ]);
});

test('blocked', () => {
  assert.throws(() => where('[[registry]]\nprefix="r.io"\nblocked=true', 'r.io/x'), {
    code: 'DENIED',
    message: "'r.io/x' is blocked in registries.conf",
  });
});

test('drop-ins', () => {
  const merged = conf(
    'unqualified-search-registries = ["a.io", "b.io"]\n[[registry]]\nlocation="r.io"\nblocked=true\n[aliases]\nx="a.io/x"\ny="a.io/y"',
    '[[registry]]\nlocation="r.io"\n[aliases]\nx="b.io/x"\ny=""',
    'unqualified-search-registries = ["c.io"]',
  );
  assert.deepEqual(merged.searchRegistries, ['c.io']);
  assert.deepEqual([...merged.aliases], [['x', { target: 'b.io/x', path: '/etc/1.conf' }]]);
  assert.deepEqual(merged.registries, [
    { prefix: 'r.io', location: 'r.io', insecure: false, blocked: false, mirrors: [] },
  ]);
  assert.deepEqual(
    conf('unqualified-search-registries = ["a.io"]', 'unqualified-search-registries = []').searchRegistries,
    [],
  );
});

test('what is wrong is told with its file', () => {
  const table: [string, string][] = [
    ['x', "'/etc/0.conf' is not valid TOML"],
    ['[registries.search]\nregistries=["a"]', "'/etc/0.conf': this is version 1 of the format"],
    ['registry = 1', "'/etc/0.conf': registry is not an array"],
    ['[[registry]]', "'/etc/0.conf': a registry has neither prefix nor location"],
    ['[[registry]]\nlocation=1', "'/etc/0.conf': location is not a string"],
    ['[[registry]]\nlocation="a"\ninsecure="yes"', "'/etc/0.conf': insecure is not true or false"],
    ['[[registry]]\nlocation="a"\n[[registry.mirror]]', "'/etc/0.conf': a mirror of 'a' has no location"],
    [
      '[[registry]]\nlocation="a"\n[[registry.mirror]]\nlocation="b"\npull-from-mirror="x"',
      "'/etc/0.conf': pull-from-mirror is 'x'",
    ],
    ['unqualified-search-registries="a"', "'/etc/0.conf': unqualified-search-registries is not an array"],
    ['[aliases]\nx=1', "'/etc/0.conf': alias 'x' is not a string"],
  ];
  for (const [text, message] of table) assert.throws(() => conf(text), { code: 'CONFIG', message });
  assert.throws(() => where('[[registry]]\nprefix="r.io"\nlocation="https://x"', 'r.io/x'), {
    code: 'CONFIG',
    message: "registries.conf leads to 'https://x/x': 'https:' is not a registry host",
  });
});
