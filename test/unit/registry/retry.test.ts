import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs, DEFAULT_RETRY, isTransientStatus, parseRetryAfter } from '../../../src/registry/retry.ts';

test('Retry-After: seconds, dates, nonsense', () => {
  const now = Date.parse('2024-05-01T12:00:00Z');
  const table: [string | undefined, number | undefined][] = [
    [undefined, undefined],
    ['0', 0],
    [' 7 ', 7000],
    ['86400', 86_400_000],
    ['999999999999', 999_999_999_999_000],
    ['Wed, 01 May 2024 12:00:20 GMT', 20_000],
    ['Wednesday, 01-May-24 12:00:20 GMT', 20_000],
    ['Wed, 01 May 2024 11:00:00 GMT', 0],
    ['-1', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['', undefined],
  ];
  for (const [value, expected] of table) assert.equal(parseRetryAfter(value, now), expected, value);
});

test('waits grow, are capped and jittered', () => {
  const waits = (random: number) => [1, 2, 3, 4, 5, 9].map((n) => backoffMs(n, DEFAULT_RETRY, () => random));
  assert.deepEqual(waits(1), [500, 1000, 2000, 4000, 8000, 10_000]);
  assert.deepEqual(waits(0), [250, 500, 1000, 2000, 4000, 5000]);
});

test('statuses that pass by themselves', () => {
  assert.deepEqual(
    [200, 400, 401, 403, 404, 408, 416, 429, 500, 501, 502, 503, 504].filter(isTransientStatus),
    [408, 429, 500, 502, 503, 504],
  );
});
