/** Freed memory goes back to the kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { koffi } from '../../../src/host/koffi.ts';
import { returnFreedMemory } from '../../../src/host/malloc.ts';

test('glibc is asked again and again, until that is stopped', (context) => {
  const calls: unknown[][] = [];
  const func =
    (name: string) =>
    (...values: unknown[]) =>
      calls.push([name, ...values]);
  context.mock.method(koffi(), 'load', () => ({ func }));
  context.mock.timers.enable({ apis: ['setInterval'] });
  const stop = returnFreedMemory();
  assert.deepEqual(calls.splice(0), [
    ['mallopt', -1, 128 * 1024],
    ['mallopt', -3, 64 * 1024],
  ]);
  context.mock.timers.tick(600);
  assert.deepEqual(calls.splice(0), Array(3).fill(['malloc_trim', 0]));
  stop();
  context.mock.timers.tick(600);
  assert.deepEqual(calls, []);
});

test('the functions are those of the C library', () => {
  const libc = koffi().load('libc.so.6');
  assert.equal(libc.func('mallopt', 'int', ['int', 'int'])(-1, 128 * 1024), 1);
  const trimmed = libc.func('malloc_trim', 'int', ['size_t'])(0);
  assert.ok(trimmed === 0 || trimmed === 1);
});

test('another C library is left as it is', (context) => {
  context.mock.method(koffi(), 'load', () => {
    throw new Error('libc.so.6: cannot open shared object file');
  });
  assert.doesNotThrow(returnFreedMemory());
});
