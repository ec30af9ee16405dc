/** ocictl install: options may stand on both sides of IMAGE; what follows belongs to the payload. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOptionsAtCommand } from '../../../src/cli/install-command.ts';

const split = (words: string) => endOptionsAtCommand(words === '' ? [] : words.split(' ')).join(' ');

test('the command begins at the second word that is no option and no value of one', () => {
  for (const [words, expected] of [
    ['', ''],
    ['nginx --name web', 'nginx --name web'],
    ['--name web nginx sleep -v 5', '--name web nginx -- sleep -v 5'],
    ['nginx --name web --now sleep --now', 'nginx --name web --now -- sleep --now'],
    ['-v a:/b -e X=y -p 80:80 nginx ls', '-v a:/b -e X=y -p 80:80 nginx -- ls'],
    ['--name=web -eX=y nginx ls -e', '--name=web -eX=y nginx -- ls -e'],
    ['--root /x --json --read-only nginx -- --odd', '--root /x --json --read-only nginx -- --odd'],
  ] as const)
    assert.equal(split(words), expected);
});
