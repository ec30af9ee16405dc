/** Which lines two texts do not share. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffLines } from '../../src/service-diff.ts';

test('lines that only one of them has, in order', () => {
  const diff = (before: string, after: string) => diffLines([...before], [...after]).join(' ');
  for (const [before, after, lines] of [
    ['', '', ''],
    ['abc', 'abc', ''],
    ['abc', 'axc', '-b +x'],
    ['', 'ab', '+a +b'],
    ['ab', '', '-a -b'],
    ['abcd', 'bd', '-a -c'],
    ['aab', 'aba', '-a +a'],
  ] as const)
    assert.equal(diff(before, after), lines, `${before} ${after}`);
});

test('texts of a hundred thousand lines, which would take forty gigabytes to be compared one by one', () => {
  const lines = (name: string) => Array.from({ length: 100_000 }, (_, i) => `${name}${i}`);
  const diff = diffLines(['first', ...lines('a'), 'last'], ['first', ...lines('b'), 'last']);
  assert.deepEqual(diff, [...lines('-a'), ...lines('+b')]);
});
