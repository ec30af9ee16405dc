/** What waits for the teardown of a container: nothing but what only ended ones are in the way of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterTeardowns } from '../../src/ending-containers.ts';
import { OciError } from '../../src/oci/errors.ts';
import { rejectsOci } from './expect-error.ts';

/** Is busy so often, then done. */
function work(times: number, containers: readonly string[]) {
  const calls = { count: 0 };
  const run = async () => {
    if (calls.count++ < times) throw new OciError('BUSY', 'in use', { containers });
    return 'done';
  };
  return { calls, run };
}

test('containers that have ended are waited for, by their names', async () => {
  const { calls, run } = work(2, ['a', 'b']);
  const asked: string[][] = [];
  const states = (units: readonly string[]) => {
    asked.push([...units]);
    return ['inactive', 'failed'];
  };
  assert.equal(await afterTeardowns(run, states), 'done');
  assert.equal(calls.count, 3);
  assert.deepEqual(asked, [
    ['a.service', 'b.service'],
    ['a.service', 'b.service'],
  ]);
});

test('one that runs is not, nor what is no container, nor another error', async () => {
  for (const [containers, states] of [
    [
      ['a', 'b'],
      ['inactive', 'active'],
    ],
    [[], []],
  ] as const) {
    const { calls, run } = work(1, containers);
    await rejectsOci(
      afterTeardowns(run, () => [...states]),
      'BUSY',
      'in use',
    );
    assert.equal(calls.count, 1);
  }
  const missing = () => Promise.reject(new OciError('IMAGE_NOT_FOUND', 'no image'));
  await rejectsOci(
    afterTeardowns(missing, () => ['inactive']),
    'IMAGE_NOT_FOUND',
    'no image',
  );
});
