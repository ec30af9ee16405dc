/**
 * The story of `ocictl gc`: what nothing uses goes, in the store and in the run root.
 *
 * Invariant: in doubt it stays. Everything happens under the store's exclusive lock (the shared one for a dry run), so
 * nobody begins to use an image meanwhile; only systemd can say that a container has ended.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory } from './host/files.ts';
import { tryLockDirectory, type Waiting } from './host/lock.ts';
import { toOciError } from './oci/errors.ts';
import { diskUsage } from './store/disk-usage.ts';
import type { Garbage } from './store/garbage.ts';
import { bootID, type UseRecord } from './store/image-users.ts';
import { removeAny } from './store/remove-tree.ts';
import type { Store } from './store/store.ts';
import { haveEnded } from './systemd/systemctl.ts';
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
    ...clearRecords(store.root, dryRun, {
      kind: 'container',
      directory: join(runRoot, 'containers'),
      file: 'image.json',
      isLeftOver: (name, isOfEarlierBoot) => isOfEarlierBoot || isGone(name),
      remove: removeContainer,
    }),
    ...clearRecords(store.root, dryRun, {
      kind: 'mount',
      directory: join(runRoot, 'mounts'),
      file: 'mount.json',
      isLeftOver: (_name, isOfEarlierBoot) => isOfEarlierBoot,
      remove: removeAny,
    }),
  ];
  const garbage = store.collectGarbage(runRoot, { graceMs, dryRun, isGone });
  if (!dryRun) await store.settleNames();
  return [...records, ...garbage];
}

/** A folder of the run root with a directory for each container, or for each mount, whose lock its maker holds. */
interface Records {
  readonly kind: Garbage['kind'];
  readonly directory: string;
  /** In each: what it uses. */
  readonly file: string;
  isLeftOver(name: string, isOfEarlierBoot: boolean): boolean;
  remove(path: string): void;
}

/**
 * Those that are left over and of this store as far as they tell. Each stays locked until it is removed, lest a new
 * container of its name lose its own.
 */
function clearRecords(root: string, dryRun: boolean, records: Records): Garbage[] {
  const { kind, directory, file, isLeftOver, remove } = records;
  return listDirectory(directory).flatMap((name) => {
    const path = join(directory, name);
    using lock = tryLockDirectory(path);
    if (lock === undefined) return [];
    const record = readRecord(join(path, file));
    if (record?.root !== undefined && record.root !== root) return [];
    const isOfEarlierBoot = record?.boot !== undefined && record.boot !== bootID();
    return isLeftOver(name, isOfEarlierBoot) ? [take(kind, path, name, dryRun, remove)] : [];
  });
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

function unitsAreGone(container: string): boolean {
  return haveEnded([`${container}.service`, `${helperName(container, 'setup')}.service`]);
}
