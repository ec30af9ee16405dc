/** The walk of the setup script through trees that others wrote: run for real, by the shell that will. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { REACH } from '../../../src/unit/planted-mounts.ts';
import { shellWord } from '../../../src/unit/shell.ts';

const top = mkdtempSync(join(tmpdir(), 'reach-'));
after(() => rmSync(top, { recursive: true }));
const mnt = join(top, 'mnt');
for (const directory of ['mnt/tree/real', 'mnt/source', 'outside'])
  mkdirSync(join(top, directory), { recursive: true });
writeFileSync(join(mnt, 'file'), '');
symlinkSync('../../outside', join(mnt, 'tree/link'));
symlinkSync('../nowhere', join(mnt, 'tree/dangling'));
writeFileSync(join(mnt, 'tree/plain'), '');

function reach(path: string, what = 'source') {
  const script = `set -eu; BUNDLE=${shellWord(top)}; fail() { echo "$*" >&2; exit 1; }
cd "$BUNDLE/mnt"${REACH}
reach tree ${shellWord(path)} ${shellWord(what)}; pwd -P; printf %s "$part"`;
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('what is missing is made, whatever it is called', () => {
  for (const path of [
    'a b/c',
    'real/-rf',
    '$(touch x)/`id`',
    'it\'s/"q"',
    '-n',
    'l\nine/x',
    'end\n/x',
    'b\\c',
    '*',
  ]) {
    const parts = path.split('/');
    const last = parts.pop()!;
    assert.deepEqual(reach(path), {
      status: 0,
      stdout: `${join(mnt, 'tree', ...parts)}\n${last}`,
      stderr: '',
    });
    assert.ok(lstatSync(join(mnt, 'tree', path)).isDirectory(), path);
  }
  assert.equal(reach('real/f i', 'file').status, 0);
  assert.ok(lstatSync(join(mnt, 'tree/real/f i')).isFile());
  assert.equal(reach('real/host', '/etc/passwd').status, 0);
  assert.ok(lstatSync(join(mnt, 'tree/real/host')).isFile());
});

test('no link is followed', () => {
  for (const path of ['link', 'link/x', 'dangling', 'dangling/x', 'real/../link/x'])
    for (const what of ['source', 'file']) {
      const { status, stderr } = reach(path, what);
      assert.equal(status, 1, path);
      assert.match(stderr, /^nothing can be mounted (at|below) .*: a part of it is a symbolic link\n$/, path);
    }
  assert.notEqual(reach('plain/x').status, 0);
  assert.deepEqual(readdirSync(join(top, 'outside')), []);
  assert.equal(existsSync(join(mnt, 'nowhere')), false);
});
