import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOptionsOfExec } from '../../../src/cli/exec-words.ts';

test('the words of exec after the unit are the command’s', () => {
  const table: [string, string][] = [
    ['exec web ls -l', 'exec -- web ls -l'],
    ['exec -u 0 -e A=1 web sh -c x', 'exec -u 0 -e A=1 -- web sh -c x'],
    ['--root /r --json exec -i web env -i', '--root /r --json exec -i -- web env -i'],
    ['exec --user=0 web id', 'exec --user=0 -- web id'],
    ['exec -- web ls', 'exec -- web ls'],
    ['exec', 'exec'],
    ['exec -u', 'exec -u'],
    ['rm exec', 'rm exec'],
    ['--root exec images', '--root exec images'],
    ['ps --json', 'ps --json'],
  ];
  for (const [given, expected] of table)
    assert.equal(endOptionsOfExec(given.split(' ')).join(' '), expected, given);
});
