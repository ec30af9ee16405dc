/** Who enters the payload's working directory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RootEntry } from '../../../src/bundle/scaffold.ts';
import { whoEntersDirectory } from '../../../src/bundle/working-directory.ts';
import { throwsOci } from '../expect-error.ts';

const BASE = 1000;
const entries: Record<string, RootEntry> = {
  '/open': { kind: 'directory', mode: 0o755, uid: BASE + 5, gid: BASE },
  '/shut': { kind: 'directory', mode: 0o700, uid: BASE + 5, gid: BASE + 5 },
  '/own': { kind: 'directory', mode: 0o700, uid: BASE, gid: BASE },
  '/group': { kind: 'directory', mode: 0o710, uid: BASE + 5, gid: BASE },
  '/link': { kind: 'symlink', mode: 0o777, uid: BASE, gid: BASE, target: Buffer.from('shut/x') },
  '/file': { kind: 'file', mode: 0o755, uid: BASE, gid: BASE },
};
const who = (cwd: string) =>
  whoEntersDirectory({
    cwd,
    idBase: BASE,
    lookup: (path) => entries[path],
    covered: (path) => path === '/mnt',
  });

test('systemd enters what the id of the container’s root may enter, and what it can name', () => {
  for (const cwd of ['/', '/open', '/own', '/group', '/new/one', '/open/new', '/mnt/x', '/a b', '/%n$"'])
    assert.equal(who(cwd), 'unit', cwd);
  for (const cwd of [
    '/shut',
    '/shut/x',
    '/link',
    '/proc',
    '//proc/1',
    '/./dev/shm',
    '/sys/',
    '/a\nb',
    '/a ',
    '/a\\',
  ])
    assert.equal(who(cwd), 'shim', cwd);
  throwsOci(() => who('/file'), 'BAD_IMAGE', "working directory '/file': it is a file");
  throwsOci(() => who('/file/d'), 'BAD_IMAGE', "'/file' is a file");
});
