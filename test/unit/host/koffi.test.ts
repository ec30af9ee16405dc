/** koffi without its JavaScript. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { koffi } from '../../../src/host/koffi.ts';

test('the binary itself is loaded, and calls functions', () => {
  assert.equal(koffi().load('libc.so.6').func('getpid', 'int', [])(), process.pid);
  const { cache } = createRequire(import.meta.url);
  assert.deepEqual(
    Object.keys(cache).map((path) => /koffi.*\/([^/]+)$/.exec(path)?.[1]),
    ['koffi.node'],
  );
});
