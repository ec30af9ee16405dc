import assert from 'node:assert/strict';
import { mkdtempSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { leadsTo, lockDirectory, lockFile, tryLock } from '../../../src/host/lock.ts';
import type { OciError } from '../../../src/oci/errors.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-lock-'));
after(() => rmSync(base, { recursive: true }));

test('shared locks stand beside each other and exclude an exclusive one', async () => {
  const path = join(base, 'a');
  const first = await lockFile(path, 'shared', 'the thing');
  const second = await lockFile(path, 'shared', 'the thing');
  await assert.rejects(lockFile(path, 'exclusive', 'the thing', { wait: false }), (error: OciError) => {
    assert.equal(error.code, 'BUSY');
    assert.match(error.message, new RegExp(`^the thing is in use by .*\\(pid ${process.pid}\\)`));
    return true;
  });
  first.release();
  second.release();
  second.release(); // idempotent
  (await lockFile(path, 'exclusive', 'the thing', { wait: false })).release();
});

test('a waiter is told once after a second, and gets the lock when it is free', async () => {
  const path = join(base, 'b');
  const held = await lockFile(path, 'exclusive', 'the thing');
  const told: string[] = [];
  const waiting = lockFile(path, 'exclusive', 'the thing', { onWait: (message) => told.push(message) });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(told.length, 1);
  assert.match(told[0]!, /^waiting for the thing, in use by /);
  held.release();
  (await waiting).release();
});

test('waiting ends with the reason of the signal', async () => {
  const path = join(base, 'c');
  using _held = await lockFile(path, 'exclusive', 'the thing');
  const controller = new AbortController();
  const waiting = lockFile(path, 'exclusive', 'the thing', { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
});

test('a directory that its holder renames away is locked anew', async () => {
  const path = join(base, 'd');
  const held = await lockDirectory(path, 'the work');
  assert.equal(statSync(path).mode & 0o7777, 0o700);
  const waiting = lockDirectory(path, 'the work');
  renameSync(path, join(base, 'done'));
  held.release();
  const lock = await waiting;
  assert.equal(leadsTo(path, lock.fd), true);
  const done = openSync(join(base, 'done'), 'r');
  assert.equal(tryLock(done, 'exclusive'), true);
  lock.release();
});
