import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Point, planScaffold, type RootEntry } from '../../../src/bundle/scaffold.ts';
import { throwsOci } from '../expect-error.ts';

/** `link → target` or a kind, by path. */
function plan(tree: Record<string, string>, ...points: [string, Point['kind']][]) {
  return planOver([], tree, ...points);
}

/** `removed`: what a layer of the image took away. */
function planOver(removed: string[], tree: Record<string, string>, ...points: [string, Point['kind']][]) {
  const lookup = (path: string): RootEntry | undefined => {
    const found = tree[path];
    if (found === undefined) return undefined;
    const link = found.startsWith('-> ');
    const kind = link ? 'symlink' : found;
    return { kind, mode: 0o700, uid: 7, gid: 8, ...(link ? { target: Buffer.from(found.slice(3)) } : {}) };
  };
  return planScaffold(
    points.map(([path, kind]) => ({ path, kind })),
    lookup,
    (path) => removed.some((each) => `${path}/`.startsWith(`${each}/`)),
  );
}

const OWN = ['/proc', '/sys', '/dev', '/run'];

test('what is missing is made below', () => {
  assert.deepEqual(plan({}, ['/a/b/', 'directory'], ['/etc/hosts', 'file'], ['/v', 'any']), {
    directories: [...OWN, '/a/b', '/v'],
    files: ['/etc/hosts'],
    cover: [],
  });
  // the container's own are none of the image's business
  assert.deepEqual(plan({}, ['/dev/x', 'file'], ['/proc/y', 'directory'], ['/', 'directory']).files, []);
});

test('links are resolved inside, also dangling ones', () => {
  const tree = { '/etc': 'directory', '/etc/resolv.conf': '-> ../../run/x/r', '/tmp': '-> /var/t' };
  assert.deepEqual(plan(tree, ['/etc/resolv.conf', 'file'], ['/tmp/x', 'directory']), {
    directories: [...OWN, '/var/t/x'],
    files: ['/run/x/r'],
    cover: [],
  });
});

test('what is in the way is covered, parents keep their attributes', () => {
  const made = (path: string, kind: 'directory' | 'file' = 'directory') => ({
    path,
    kind,
    mode: kind === 'file' ? 0o644 : 0o755,
  });
  const kept = (path: string) => ({ path, kind: 'directory', mode: 0o700, owner: { uid: 7, gid: 8 } });
  const tree = {
    '/proc': '-> /etc',
    '/run': 'fifo',
    '/etc': 'directory',
    '/etc/hosts': 'directory',
    '/srv': 'file',
    '/loop': '-> loop',
  };
  assert.deepEqual(
    plan(
      tree,
      ['/run/.oci', 'directory'],
      ['/etc/hosts', 'file'],
      ['/srv/a', 'directory'],
      ['/srv/b', 'file'],
      ['/loop', 'file'],
    ),
    {
      directories: ['/sys', '/dev'],
      files: [],
      cover: [
        made('/proc'),
        made('/run'),
        made('/run/.oci'),
        kept('/etc'),
        made('/etc/hosts', 'file'),
        made('/srv'),
        made('/srv/a'),
        made('/srv/b', 'file'),
        made('/loop', 'file'),
      ],
    },
  );
  // nobody mounts anything there
  assert.deepEqual(plan({ '/tmp': 'file' }, ['/tmp', 'any']).cover, []);
  // what leads round is covered also where it is a parent
  assert.deepEqual(
    plan({ '/loop': '-> loop' }, ['/loop/x', 'file']).cover.map(({ path, kind }) => [path, kind]),
    [
      ['/loop', 'directory'],
      ['/loop/x', 'file'],
    ],
  );
});

test('what a layer removed is made above it', () => {
  const { directories, cover } = planOver(
    ['/run', '/srv/a', '/tmp'],
    { '/srv': 'directory' },
    ['/srv/a/b', 'any'],
    ['/tmp', 'any'],
    ['/run/f', 'file'],
  );
  assert.deepEqual(directories, ['/proc', '/sys', '/dev']);
  assert.deepEqual(
    cover.map(({ path, kind, mode }) => [path, kind, mode]),
    [
      ['/run', 'directory', 0o755],
      ['/srv', 'directory', 0o700],
      ['/srv/a', 'directory', 0o755],
      ['/srv/a/b', 'directory', 0o755],
      ['/tmp', 'directory', 0o1777],
      ['/run/f', 'file', 0o644],
    ],
  );
});

test('a file is where a file was asked for, and paths have an end', () => {
  const { directories, files } = plan(
    {},
    ['/etc/hosts', 'any'],
    ['/etc/hosts/x', 'any'],
    ['/etc/hosts', 'file'],
  );
  assert.deepEqual([directories, files], [OWN, ['/etc/hosts']]);
  for (const path of ['/a'.repeat(101), `/${'n'.repeat(256)}`])
    throwsOci(() => plan({}, [path, 'directory']), 'BAD_IMAGE', 'is too long to be made');
});
