import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseImageConfig } from '../../../src/oci/image-config.ts';

const diffID = `sha256:${'d'.repeat(64)}`;
const rootfs = { type: 'layers', diff_ids: [diffID] };
const parse = (document: unknown) => parseImageConfig(Buffer.from(JSON.stringify(document)));
const EMPTY = { Env: [], Entrypoint: [], Cmd: [], Volumes: [], Labels: {}, ExposedPorts: [], Shell: [] };

test('everything a builder may write', () => {
  const parsed = parse({
    os: 'linux',
    architecture: 'arm64',
    variant: 'v8',
    created: '2024-01-01T00:00:00Z',
    author: 'nobody',
    config: {
      User: '1000:1000',
      Env: ['PATH=/bin', 'A=line\nbreak'],
      Entrypoint: ['/e'],
      Cmd: ['a', ''],
      WorkingDir: '/w',
      Volumes: { '/data': {}, '/v2': null },
      Labels: { a: 'b' },
      StopSignal: 'SIGINT',
      ExposedPorts: { '80/tcp': {} },
      Healthcheck: { Test: ['CMD', 'x'], Interval: 30e9, Retries: 3 },
      Shell: ['/bin/bash', '-c'],
    },
    rootfs,
    history: [{ created_by: 'RUN x', empty_layer: true }, { comment: null }],
  });
  assert.deepEqual(parsed, {
    os: 'linux',
    architecture: 'arm64',
    variant: 'v8',
    created: '2024-01-01T00:00:00Z',
    author: 'nobody',
    config: {
      User: '1000:1000',
      Env: ['PATH=/bin', 'A=line\nbreak'],
      Entrypoint: ['/e'],
      Cmd: ['a', ''],
      WorkingDir: '/w',
      Volumes: ['/data', '/v2'],
      Labels: { a: 'b' },
      StopSignal: 'SIGINT',
      ExposedPorts: ['80/tcp'],
      Healthcheck: { Test: ['CMD', 'x'], Interval: 30_000_000_000, Retries: 3 },
      Shell: ['/bin/bash', '-c'],
    },
    diffIDs: [diffID],
    history: [{ created_by: 'RUN x', empty_layer: true }, {}],
  });
});

test('null and absent are empty', () => {
  const nulls = Object.fromEntries(
    [
      'User',
      'Env',
      'Entrypoint',
      'Cmd',
      'WorkingDir',
      'Volumes',
      'Labels',
      'StopSignal',
      'ExposedPorts',
      'Healthcheck',
      'Shell',
    ].map((key) => [key, null]),
  );
  for (const config of [undefined, null, {}, nulls, { User: '', WorkingDir: '' }])
    assert.deepEqual(parse({ config, rootfs, history: null }), {
      os: '',
      architecture: '',
      config: EMPTY,
      diffIDs: [diffID],
      history: [],
    });
  assert.deepEqual(parse({ rootfs: { type: 'layers', diff_ids: null } }).diffIDs, []);
});

test('wrong types are refused', () => {
  const bad: [unknown, string][] = [
    [{}, 'image configuration rootfs is not an object'],
    [{ rootfs: { type: 'x', diff_ids: [] } }, "image configuration rootfs type is not 'layers'"],
    [{ rootfs: { type: 'layers', diff_ids: {} } }, 'image configuration diff_ids is not an array'],
    [{ rootfs, os: 1 }, 'image configuration os is not a string'],
    [{ rootfs, config: [] }, 'image configuration config is not an object'],
    [{ rootfs, config: { Env: 'A=b' } }, 'image configuration config Env is not an array'],
    [{ rootfs, config: { Env: [1] } }, 'image configuration config Env[0] is not a string'],
    [{ rootfs, config: { Cmd: ['a', null] } }, 'image configuration config Cmd[1] is not a string'],
    [{ rootfs, config: { User: 0 } }, 'image configuration config User is not a string'],
    [{ rootfs, config: { Volumes: ['/x'] } }, 'image configuration config Volumes is not an object'],
    [{ rootfs, config: { Labels: { a: 1 } } }, "image configuration config Labels['a'] is not a string"],
    [
      { rootfs, config: { Healthcheck: { Interval: -1 } } },
      'image configuration config Healthcheck Interval is not a non-negative integer',
    ],
    [{ rootfs, config: { Env: ['A=\0'] } }, "image configuration config Env has a NUL character: 'A=\\x00'"],
    [
      { rootfs, config: { Volumes: { '/a\0b': {} } } },
      "image configuration config Volumes has a NUL character: '/a\\x00b'",
    ],
    [
      { rootfs, config: { WorkingDir: '/\0' } },
      "image configuration config WorkingDir has a NUL character: '/\\x00'",
    ],
    [{ rootfs, history: {} }, 'image configuration history is not an array'],
    [{ rootfs, history: ['x'] }, 'image configuration history 1 is not an object'],
  ];
  for (const [document, message] of bad) assert.throws(() => parse(document), { code: 'BAD_IMAGE', message });
  assert.throws(() => parse({ rootfs: { type: 'layers', diff_ids: ['sha256:x'] } }), { code: 'BAD_IMAGE' });
  assert.throws(() => parse({ rootfs: { type: 'layers', diff_ids: Array(501).fill(diffID) } }), {
    message: 'image configuration has 501 diff_ids, more than the 500 allowed',
  });
});
