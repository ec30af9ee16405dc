/** What of systemctl's words becomes part of an error. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wordsOf } from '../../../src/systemd/systemctl.ts';

test('why a job failed, without the advice', () => {
  const job =
    'Job for a.service failed because a timeout was exceeded.\nSee "systemctl status a.service" and "journalctl -xeu a.service" for details.\n';
  assert.equal(wordsOf(job), 'Job for a.service failed because a timeout was exceeded');
  assert.equal(
    wordsOf("A dependency job for a.service failed. See 'journalctl -xe' for details.\n"),
    'A dependency job for a.service failed',
  );
  assert.equal(
    wordsOf('Warning: one thing\nFailed to start a.service: Unit a.service not found.\n'),
    'Failed to start a.service: Unit a.service not found',
  );
  assert.equal(wordsOf('\n'), undefined);
});
