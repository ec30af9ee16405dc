/** From HEALTHCHECK and --health options to one check, and the annotation that carries it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HealthTexts, healthCheck, parseHealthOptions } from '../../../src/bundle/health.ts';
import { parseDuration } from '../../../src/bundle/quantity.ts';
import { parseHealthCheck, verdictMaxSeconds } from '../../../src/oci/health-check.ts';
import type { Healthcheck } from '../../../src/oci/image-config.ts';
import { throwsOci } from '../expect-error.ts';

const of = (texts: HealthTexts, image?: Healthcheck, Shell?: string[]) =>
  healthCheck(
    { ...(image === undefined ? {} : { Healthcheck: image }), ...(Shell === undefined ? {} : { Shell }) },
    parseHealthOptions(texts),
  );
const DEFAULTS = {
  interval: 30,
  timeout: 30,
  retries: 3,
  startPeriod: 0,
  startInterval: 5,
  onFailure: 'none',
};

test("the image's, with docker's defaults for what it leaves out", () => {
  assert.deepEqual(of({}, { Test: ['CMD', 'a', 'b c'] }), { ...DEFAULTS, args: ['a', 'b c'] });
  const image = { Test: ['CMD-SHELL', 'x | y'], Interval: 2e9, Timeout: 0, StartPeriod: 1.5e9, Retries: 7 };
  assert.deepEqual(of({}, image), {
    ...DEFAULTS,
    ...{ args: ['/bin/sh', '-c', 'x | y'], interval: 2, startPeriod: 1.5, retries: 7 },
  });
  for (const Test of [[], ['NONE']]) assert.equal(of({}, { Test }), undefined);
  assert.equal(of({}), undefined);
  for (const Test of [['CMD'], ['CMD', ''], ['CMD-SHELL'], ['CMD-SHELL', 'a', 'b'], ['curl']])
    throwsOci(() => of({}, { Test }), 'BAD_IMAGE', /health check .* is none/);
});

test('a line of shell is for the shell that the image was built with', () => {
  const args = (Shell: string[], Test: string[] = ['CMD-SHELL', 'x']) => of({}, { Test }, Shell)?.args;
  assert.deepEqual(args(['/bin/bash', '-eo', 'pipefail', '-c']), ['/bin/bash', '-eo', 'pipefail', '-c', 'x']);
  for (const none of [[], ['']]) assert.deepEqual(args(none), ['/bin/sh', '-c', 'x']);
  assert.deepEqual(args(['/bin/bash', '-c'], ['CMD', 'x']), ['x']);
  assert.deepEqual(of({ healthCmd: 'y' }, undefined, ['/bin/bash', '-c'])?.args, ['/bin/sh', '-c', 'y']);
});

test('options go before the image', () => {
  const image = { Test: ['CMD', 'a'], Interval: 2e9, Retries: 7 };
  assert.deepEqual(of({ healthRetries: '2', healthOnFailure: 'restart', healthTimeout: '1m30s' }, image), {
    ...DEFAULTS,
    ...{ args: ['a'], interval: 2, retries: 2, timeout: 90, onFailure: 'restart' },
  });
  assert.deepEqual(of({ healthCmd: 'b c' }, image)?.args, ['/bin/sh', '-c', 'b c']);
  assert.deepEqual(of({ healthCmd: '["b", "c d"]' }, image)?.args, ['b', 'c d']);
  assert.deepEqual(of({ healthCmd: '["CMD-SHELL", "c d"]' })?.args, ['/bin/sh', '-c', 'c d']);
  const none: HealthTexts[] = [
    { healthcheck: false },
    { healthCmd: 'none' },
    { healthCmd: '["NONE"]' },
    { healthInterval: 'disable' },
  ];
  for (const texts of none) assert.equal(of(texts, image), undefined);
});

test('what is no health check', () => {
  for (const healthCmd of ['', ' ', '[]', '[""]', '[1]', '["a"', '["CMD"]'])
    throwsOci(() => of({ healthCmd }), 'USAGE', '--health-cmd');
  throwsOci(() => of({ healthOnFailure: 'reboot' }), 'USAGE', '--health-on-failure');
  throwsOci(() => of({ healthRetries: '0' }), 'USAGE', '--health-retries');
  throwsOci(() => of({ healthInterval: '0' }), 'USAGE', '--health-interval');
  throwsOci(() => of({ healthTimeout: '10ms' }), 'USAGE', '--health-timeout');
});

test('durations', () => {
  const parse = (text: string) => parseDuration('--x', text, 0, 3600);
  for (const [text, seconds] of [
    ['0', 0],
    ['30', 30],
    ['30s', 30],
    ['1m30s', 90],
    ['1.5m', 90],
    ['500ms', 0.5],
    ['1h', 3600],
  ] as const)
    assert.equal(parse(text), seconds, text);
  for (const text of ['', 's', '-1s', '1 s', '2h', '1d', '1s1', 'infinity', '1e3'])
    throwsOci(() => parse(text), 'USAGE', '--x');
});

test('an annotation may come from anybody', () => {
  assert.deepEqual(parseHealthCheck('{"args":["a"]}'), { ...DEFAULTS, args: ['a'] });
  const greedy = {
    args: ['a'],
    interval: 1e-9,
    timeout: 0,
    retries: 0.1,
    startInterval: 0,
    startPeriod: 1e300,
  };
  assert.deepEqual(parseHealthCheck(JSON.stringify(greedy)), {
    ...DEFAULTS,
    ...{ args: ['a'], interval: 1, timeout: 1, retries: 1, startInterval: 1, startPeriod: 31_536_000 },
  });
  for (const text of [
    '',
    'null',
    '[]',
    '{}',
    '{"args":[]}',
    '{"args":[""]}',
    '{"args":["a",1]}',
    '{"args":["a\\u0000"]}',
    '{"args":["a"],"onFailure":"reboot"}',
    '{"args":["a"],"interval":"1; rm -rf /"}',
    '{"args":["a"],"retries":-1}',
  ])
    throwsOci(() => parseHealthCheck(text), 'BAD_IMAGE', /health check/);
  assert.equal(verdictMaxSeconds(parseHealthCheck('{"args":["a"],"startPeriod":10}')), 10 + 4 * 60);
});
