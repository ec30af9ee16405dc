/**
 * The story of `ocictl gc`: what nothing uses goes, in the store and in the run root.
 *
 * Invariant: in doubt it stays. Everything happens under the store's exclusive lock (the shared one for a dry run), so
 * nobody begins to use an image meanwhile; only systemd can say that a container has ended.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tryLock, type Waiting } from './host/lock.ts';
import { toOciError } from './oci/errors.ts';
import { diskUsage } from './store/disk-usage.ts';
import type { Garbage } from './store/garbage.ts';
import { bootID, type UseRecord } from './store/image-users.ts';
import { listDirectory } from './store/layout.ts';
import { removeAny } from './store/remove-tree.ts';
import type { Store } from './store/store.ts';
import { helperName } from './unit/unit-name.ts';

export interface GarbageRequest {
  readonly runRoot: string;
  readonly graceMs: number;
  readonly dryRun: boolean;
  readonly waiting?: Waiting;
  /** Whether systemd knows that nothing of the container runs. */
  readonly isGone?: (container: string) => boolean;
}

/** What was found; without an `error`, it is gone unless this is a dry run. */
export async function collectGarbage(store: Store, request: GarbageRequest): Promise<Garbage[]> {
  const { runRoot, graceMs, dryRun, waiting = {}, isGone = unitsAreGone } = request;
  using _lock = await store.lock(dryRun ? 'shared' : 'exclusive', waiting);
  const records = [
    ...leftOvers(store.root, join(runRoot, 'containers'), 'image.json')
      .filter(({ name, isOfEarlierBoot }) => isOfEarlierBoot || isGone(name))
      .map(({ path, name }) => take('container', path, name, dryRun, removeContainer)),
    ...leftOvers(store.root, join(runRoot, 'mounts'), 'mount.json')
      .filter(({ isOfEarlierBoot }) => isOfEarlierBoot)
      .map(({ path, name }) => take('mount', path, name, dryRun, removeAny)),
  ];
  const garbage = store.collectGarbage(runRoot, { graceMs, dryRun, isGone });
  if (!dryRun) await store.settleNames();
  return [...records, ...garbage];
}

interface LeftOver {
  readonly path: string;
  readonly name: string;
  readonly isOfEarlierBoot: boolean;
}

/** Directories of the run root that nobody holds, and that are of this store as far as they tell. */
function leftOvers(root: string, directory: string, file: string): LeftOver[] {
  return listDirectory(directory).flatMap((name) => {
    const path = join(directory, name);
    if (!isFree(path)) return [];
    const record = readRecord(join(path, file));
    if (record?.root !== undefined && record.root !== root) return [];
    const isOfEarlierBoot = record?.boot !== undefined && record.boot !== bootID();
    return [{ path, name, isOfEarlierBoot }];
  });
}

function isFree(path: string): boolean {
  try {
    const fd = openSync(path, 'r');
    try {
      return tryLock(fd, 'exclusive');
    } finally {
      closeSync(fd);
    }
  } catch {
    return false; // gone meanwhile
  }
}

function readRecord(path: string): Partial<UseRecord> | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Partial<UseRecord>;
  } catch {
    return undefined; // its maker was killed before it could write it
  }
}

function take(
  kind: Garbage['kind'],
  path: string,
  name: string,
  dryRun: boolean,
  remove: (path: string) => void,
): Garbage {
  const item = { kind, name, bytes: diskUsage(path) };
  try {
    if (!dryRun) remove(path);
    return item;
  } catch (error) {
    return { ...item, error: toOciError(error).message };
  }
}

/** Its own script knows what it mounted and made; what that leaves is files. */
function removeContainer(bundle: string): void {
  const teardown = join(bundle, 'teardown');
  if (existsSync(teardown)) spawnSync('/bin/sh', [teardown], { stdio: 'ignore' });
  removeAny(bundle);
}

/** False also where there is no systemd to ask. */
function unitsAreGone(container: string): boolean {
  const units = [`${container}.service`, `${helperName(container, 'setup')}.service`];
  const { status, stdout } = spawnSync('systemctl', ['show', '--property=ActiveState', '--value', ...units], {
    encoding: 'utf8',
  });
  const states = status === 0 ? stdout.split('\n').filter((state) => state !== '') : [];
  return (
    states.length === units.length && states.every((state) => state === 'inactive' || state === 'failed')
  );
}
