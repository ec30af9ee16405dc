/** What a container may have put where its terminals are. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openTerminal } from '../../../src/host/terminal.ts';
import { throwsOci } from '../expect-error.ts';

const work = mkdtempSync(join(tmpdir(), 'devpts-'));
after(() => rmSync(work, { recursive: true }));
const place = (name: string) => {
  mkdirSync(join(work, name));
  return join(work, name, 'ptmx');
};

test('only a terminal of a devpts is opened, and no link is followed', () => {
  writeFileSync(place('file'), '');
  execFileSync('mkfifo', [place('fifo')]);
  for (const name of ['file', 'fifo'])
    throwsOci(() => openTerminal(join(work, name), { uid: 0 }), 'UNAVAILABLE', 'no terminals');
  symlinkSync('/dev/ptmx', place('link'));
  assert.throws(() => openTerminal(join(work, 'link'), { uid: 0 }), { code: 'ELOOP' });
});
