/** What of `ocictl cp` needs no container: words, ids, and a tree that goes through a tar and back. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTarParser, type TarHandler } from '../../../src/archive/tar-parser.ts';
import { createTarWriter } from '../../../src/archive/tar-writer.ts';
import { parseEnds } from '../../../src/cli/copy-command.ts';
import { hostEnd } from '../../../src/copy/ends.ts';
import { parseIdMap } from '../../../src/copy/id-map.ts';
import { readTree } from '../../../src/copy/read-tree.ts';
import { createTreeWriter, type TreeWriter } from '../../../src/copy/write-tree.ts';
import { check, close, O_DIRECTORY, O_PATH } from '../../../src/host/syscalls.ts';
import { throwsOci } from '../expect-error.ts';

test('one end is in a container', () => {
  assert.deepEqual(parseEnds('web:/etc', '.'), {
    ...{ direction: 'out', unit: 'web', source: '/etc', destination: '.' },
  });
  assert.deepEqual(parseEnds('-', 'web@1.service:data:x'), {
    ...{ direction: 'in', unit: 'web@1.service', source: '-', destination: 'data:x' },
  });
  assert.equal(parseEnds('./a:b', 'web:/').source, './a:b');
  for (const [source, destination] of [
    ['a', 'b'],
    ['a:/x', 'b:/y'],
    ['web:', '.'],
    ['/a:b', '.'],
  ] as const)
    throwsOci(() => parseEnds(source, destination), 'USAGE', 'UNIT:PATH');
});

test('ids by the maps of the kernel', () => {
  const map = parseIdMap('         0     524288      65536\n     70000          5          2\n');
  assert.deepEqual([0, 65535, 65536, 70001].map(map.toHost), [524288, 589823, undefined, 6]);
  assert.deepEqual([524288, 589823, 589824, 0, 6].map(map.toInside), [0, 65535, undefined, undefined, 70001]);
});

function withDirectory(work: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'copy-'));
  try {
    work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function read(path: string, handler: TarHandler): number {
  const fd = check(hostEnd.open(path, O_PATH), 'open', path);
  try {
    return readTree(fd, 'top', ({ uid, gid }) => ({ uid, gid }), handler).leftOut;
  } finally {
    close(fd);
  }
}

function write(path: string, work: (writer: TreeWriter) => void): void {
  const fd = check(hostEnd.open(path, O_PATH | O_DIRECTORY), 'open', path);
  const writer = createTreeWriter({
    directory: (below) => hostEnd.directoryBelow(path, fd, below),
    owner: ({ uid, gid }) => ({ uid, gid }),
    mayWriteIn: () => true,
    modeMask: 0o777,
  });
  try {
    work(writer);
    writer.finish();
  } finally {
    writer.close();
    close(fd);
  }
}

test('the time of a directory is not given to what the container put in its place', () =>
  withDirectory((directory) => {
    const make = 'cd "$0"; mkdir -p host into; chown 7 host; touch -d @9 host';
    assert.equal(spawnSync('sh', ['-euc', make, directory]).status, 0);
    let places = { root: join(directory, 'into'), made: '' };
    const writer = createTreeWriter({
      directory: (below) => hostEnd.open(below === '' ? places.root : places.made, O_PATH | O_DIRECTORY),
      owner: () => ({ uid: 0, gid: 0 }),
      mayWriteIn: (uid) => uid === 0,
      modeMask: 0o777,
    });
    const mtime = { seconds: 5, nanoseconds: 0 };
    writer.entry({
      ...{ type: 'directory', path: 'made', linkPath: '', mode: 0o755, uid: 0, gid: 0, mtime, size: 0 },
      ...{ sparse: false, deviceMajor: 0, deviceMinor: 0, xattrs: undefined },
    });
    places = { ...places, made: join(directory, 'host') };
    writer.finish();
    writer.close();
    assert.equal(statSync(join(directory, 'host')).mtimeMs, 9000);
  }));

test('a tree through a tar and back is the same, but for what is left out', () =>
  withDirectory((directory) => {
    const make = `cd "$0"; mkdir -p a/b/c new; echo 1 >a/one; ln a/one a/b/same; ln -s /nowhere a/link
      printf '\\001\\377' >"a/b/$(printf 'n\\nl\\303\\244')"; chown 5:6 a/one; chmod 6751 a/b; mkfifo a/fifo
      truncate -s 100000 a/holes; echo end >>a/holes; touch -d @100.25 a/one; touch -d @50 a/b/c a/b a`;
    assert.equal(spawnSync('sh', ['-euc', make, directory]).status, 0);
    write(join(directory, 'new'), (writer) => {
      const parser = createTarParser(writer);
      const tar = createTarWriter((bytes) => parser.push(bytes));
      assert.equal(read(join(directory, 'a'), tar), 1);
      tar.finish();
      parser.end();
    });
    const list = (top: string, mask: string) =>
      String(
        spawnSync('sh', [
          ...[
            '-euc',
            `cd "$0/${top}"; find . ! -type p -printf '%p %y ${mask} %U:%G %l %n\\n' | sort; find . -type f -exec md5sum {} + | sort`,
          ],
          directory,
        ]).stdout,
      );
    assert.equal(list('new/top', ''), list('a', ''));
    assert.equal(statSync(join(directory, 'new/top/b')).mode & 0o7777, 0o751);
    assert.equal(statSync(join(directory, 'new/top/one')).mtimeMs, 100_000);
    assert.equal(statSync(join(directory, 'new/top/b')).mtimeMs, 50_000);
  }));

test('what is there is replaced, never followed or written through', () =>
  withDirectory((directory) => {
    mkdirSync(join(directory, 'to/top'), { recursive: true });
    mkdirSync(join(directory, 'from/dir'), { recursive: true });
    writeFileSync(join(directory, 'from/file'), 'new');
    writeFileSync(join(directory, 'victim'), 'old');
    writeFileSync(join(directory, 'from/dir/x'), 'x');
    spawnSync('ln', ['-s', '../../victim', join(directory, 'to/top/file')]);
    write(
      join(directory, 'to'),
      (writer) => void read(join(directory, 'from/file'), { ...renaming(writer, 'top/file') }),
    );
    assert.equal(readFileSync(join(directory, 'victim'), 'utf8'), 'old');
    assert.equal(readFileSync(join(directory, 'to/top/file'), 'utf8'), 'new');
    // a link where a directory is to be
    spawnSync('ln', ['-s', directory, join(directory, 'to/top/dir')]);
    assert.throws(
      () =>
        write(
          join(directory, 'to/top'),
          (writer) => void read(join(directory, 'from/dir'), renaming(writer, 'dir')),
        ),
      { code: 'ELOOP' },
    );
    assert.throws(() => readFileSync(join(directory, 'x')), { code: 'ENOENT' });
    throwsOci(
      () =>
        write(
          join(directory, 'to'),
          (writer) => void read(join(directory, 'from/file'), renaming(writer, '../x')),
        ),
      'BAD_ARCHIVE',
      'leads out of the directory',
    );
  }));

/** Entries of 'top' under another name. */
function renaming(writer: TreeWriter, name: string): TarHandler {
  return {
    entry: (entry) => writer.entry({ ...entry, path: entry.path.replace(/^top/, name) }),
    data: (bytes, offset) => writer.data(bytes, offset),
    end: () => writer.end(),
  };
}

test('files of the kernel are no files to copy', () => {
  throwsOci(
    () =>
      read(
        '/proc/self/status',
        createTarWriter(() => {}),
      ),
    'UNSUPPORTED',
    "is the kernel's",
  );
});
