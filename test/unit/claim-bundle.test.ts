import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { claimBundle, type LeftOver } from '../../src/claim-bundle.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-claim-'));
after(() => rmSync(base, { recursive: true }));

const leftOver = (directory: string, hasEnded: LeftOver['hasEnded']): LeftOver => ({
  hasEnded,
  clear: () => rmSync(directory, { recursive: true }),
});

const neverAsked: LeftOver = {
  hasEnded: () => assert.fail('somebody holds it'),
  clear: () => assert.fail('somebody holds it'),
};

test('a name is taken while its claim lasts', () => {
  const directory = join(base, 'containers/free');
  {
    using claim = claimBundle(directory, neverAsked);
    assert.ok(claim);
    assert.equal(statSync(directory).mode & 0o7777, 0o700);
    assert.equal(claimBundle(directory, neverAsked), undefined);
  }
  const running = leftOver(directory, () => false);
  assert.equal(claimBundle(directory, running), undefined);
  assert.ok(existsSync(directory));
});

test('a bundle that was left over is cleared away and made anew', () => {
  const directory = join(base, 'stale');
  mkdirSync(join(directory, 'mnt'), { recursive: true });
  using claim = claimBundle(
    directory,
    leftOver(directory, () => true),
  );
  assert.ok(claim);
  assert.ok(existsSync(directory));
  assert.ok(!existsSync(join(directory, 'mnt')));
});

test('of two who find a left-over one gets the name', () => {
  const directory = join(base, 'both');
  mkdirSync(directory);
  const others: unknown[] = [];
  const other = () => {
    others.push(claimBundle(directory, neverAsked));
    return true;
  };
  using first = claimBundle(directory, leftOver(directory, other));
  assert.ok(first);
  assert.deepEqual(others, [undefined]);
});

test('who loses the race for a cleared name does not touch the winner’s bundle', () => {
  const directory = join(base, 'cleared');
  mkdirSync(directory);
  let winner: Disposable | undefined;
  const loser = claimBundle(directory, {
    hasEnded: () => true,
    clear: () => {
      rmSync(directory, { recursive: true });
      winner = claimBundle(directory, neverAsked);
    },
  });
  assert.ok(winner);
  assert.equal(loser, undefined);
  assert.ok(existsSync(directory));
  winner[Symbol.dispose]();
});
