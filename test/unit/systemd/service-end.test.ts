/** What systemd says of an ended main process → the status of oci-run --wait. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceEnd } from '../../../src/systemd/manager.ts';

test('the end of a service', () => {
  assert.deepEqual(serviceEnd(1, 0, 'success'), { status: 0, result: 'success' });
  assert.deepEqual(serviceEnd(1, 7, 'exit-code'), { status: 7, result: 'exit-code' });
  assert.deepEqual(serviceEnd(2, 9, 'signal'), { status: 137, result: 'signal' });
  assert.deepEqual(serviceEnd(3, 6, 'core-dump'), { status: 134, result: 'core-dump' });
  // no end was seen: neither a success nor "128 + signal 0"
  assert.deepEqual(serviceEnd(0, 0, 'success'), { status: 125, result: 'status-lost' });
  assert.deepEqual(serviceEnd(0, 0, 'timeout'), { status: 125, result: 'timeout' });
});
