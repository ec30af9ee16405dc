/** Files that may be missing, and files that are written anew whole or not at all. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { listDirectory, readTextIfThere, replaceFile } from '../../../src/host/files.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-files-'));
after(() => rmSync(base, { recursive: true }));

test('what is not there is nothing; what cannot be read is an error', () => {
  const file = join(base, 'file');
  writeFileSync(file, 'text');
  assert.equal(readTextIfThere(file), 'text');
  for (const missing of [join(base, 'missing'), join(file, 'below')])
    assert.equal(readTextIfThere(missing), undefined);
  assert.throws(() => readTextIfThere(base), { code: 'EISDIR' });
  assert.deepEqual(listDirectory(base), ['file']);
  assert.deepEqual(listDirectory(join(base, 'missing')), []);
  assert.throws(() => listDirectory(file), { code: 'ENOTDIR' });
});

test('a file is replaced, with its mode and owner, whatever a killed call left', () => {
  const directory = join(base, 'replace');
  mkdirSync(directory);
  const [file, victim] = [join(directory, 'unit'), join(base, 'victim')];
  writeFileSync(file, 'old', { mode: 0o600 });
  writeFileSync(victim, 'kept');
  symlinkSync(victim, join(directory, '.unit.new'));
  if (process.geteuid!() === 0) chownSync(file, 7, 8);
  const { uid, gid } = statSync(file);
  replaceFile(file, 'new', 0o640, { uid, gid });
  assert.equal(readFileSync(file, 'utf8'), 'new');
  const { mode, uid: owner, gid: group } = statSync(file);
  assert.deepEqual([mode & 0o7777, owner, group], [0o640, uid, gid]);
  assert.equal(readFileSync(victim, 'utf8'), 'kept');
  assert.deepEqual(readdirSync(directory), ['unit']);
});

test('on a full disk the old file stays, and nothing else', () => {
  // write(2) writes what fits and calls that a success
  const script = `
    import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
    import { replaceFile } from '${join(import.meta.dirname, '../../../src/host/files.ts')}';
    process.chdir(process.argv[1]);
    writeFileSync('unit', 'old');
    try { replaceFile('unit', 'x'.repeat(100_000), 0o644); } catch (error) { console.log(error.code); }
    console.log(readFileSync('unit', 'utf8'), readdirSync('.'));`;
  const mount = 'mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$1"';
  const directory = join(base, 'full');
  mkdirSync(directory);
  const args = ['--map-root-user', '--mount', 'sh', '-c', mount, 'sh', directory, process.execPath, script];
  assert.equal(execFileSync('unshare', args, { encoding: 'utf8' }), "ENOSPC\nold [ 'unit' ]\n");
});
