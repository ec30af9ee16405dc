import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatRuntimeSpec, parseRuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import { throwsOci } from '../expect-error.ts';

const parse = (text: string) => parseRuntimeSpec(Buffer.from(text));
const SMALL =
  '{"ociVersion":"1.2.1","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"cwd":"/","args":null}}';

test('absent lists and maps are empty, null is absent', () => {
  const { spec, unknown } = parse(SMALL);
  assert.deepEqual(unknown, []);
  assert.deepEqual(spec, {
    ociVersion: '1.2.1',
    root: { path: 'rootfs' },
    process: { user: { uid: 0, gid: 0 }, args: [], env: [], cwd: '/' },
    mounts: [],
    annotations: {},
    linux: { namespaces: [], resources: {}, maskedPaths: [], readonlyPaths: [] },
  });
});

test('unknown fields are listed by their paths', () => {
  const more = SMALL.replace('"root":{', '"x":1,"mounts":[{"destination":"/a","y":2}],"root":{"z":{},');
  assert.deepEqual(parse(more).unknown, ['x', 'root.z', 'mounts[0].y']);
});

test('wrong types are refused by name', () => {
  const table: [string, string, string][] = [
    ['"uid":0', '"uid":"0"', 'process.user.uid is not a whole number'],
    ['"uid":0', '"uid":0.5', 'process.user.uid'],
    ['"cwd":"/"', '"cwd":7', 'process.cwd is not a string'],
    ['"args":null', '"args":["a",1]', 'process.args[1] is not a string'],
    ['"root":{"path":"rootfs"}', '"root":null', 'root.path is not a string'],
    ['"root":{', '"linux":[],"root":{', 'linux is not an object'],
    ['"root":{', '"annotations":{"a":1},"root":{', "annotations['a'] is not a string"],
    ['"root":{', '"root":{},"root":{', "the key 'root' twice"],
  ];
  for (const [part, instead, message] of table)
    throwsOci(() => parse(SMALL.replace(part, instead)), 'BAD_IMAGE', message);
  throwsOci(() => parse('[]'), 'BAD_IMAGE', 'the document is not an object');
  throwsOci(() => parse('{'), 'BAD_IMAGE', 'not valid JSON');
});

test('what is written reads the same, the largest limit too', () => {
  const limit = '"rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615}],';
  const { spec } = parse(SMALL.replace('"cwd"', `${limit}"cwd"`));
  const text = formatRuntimeSpec(spec);
  assert.match(text, /"hard": 18446744073709551615\n/);
  assert.deepEqual(parse(text).spec, spec);
});
