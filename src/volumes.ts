/**
 * The named volumes of a store: directories that containers made with `-v NAME:…`, which stay until somebody removes
 * them.
 *
 * Invariant: a volume that a container has is not removed. Both are told apart under the store's lock, which a start
 * holds, too.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { listContainers } from './containers.ts';
import type { Waiting } from './host/lock.ts';
import { OciError, quote } from './oci/errors.ts';
import { diskUsage } from './store/disk-usage.ts';
import { removeTree } from './store/remove-tree.ts';
import type { Store } from './store/store.ts';

export interface Volume {
  readonly name: string;
  readonly path: string;
  /** Bytes on the disk. */
  readonly bytes: number;
  /** Units of the containers that have it. */
  readonly users: readonly string[];
}

/** By name. `runRoot`: where the records of containers are. */
export function listVolumes(store: Store, runRoot: string): Volume[] {
  const directory = join(store.root, 'volumes');
  return namesIn(directory).map((name) => {
    const path = join(directory, name);
    return { name, path, bytes: diskUsage(path), users: usersOf(path, runRoot) };
  });
}

/** Removes them, or none: throws INPUT_NOT_FOUND for one that is not there, BUSY for one that a container has. */
export async function removeVolumes(
  store: Store,
  runRoot: string,
  names: readonly string[],
  waiting: Waiting,
): Promise<void> {
  using _lock = await store.lock('exclusive', waiting);
  const directory = join(store.root, 'volumes');
  const there = new Set(namesIn(directory));
  for (const name of names) {
    if (!there.has(name)) throw noSuchVolume(name);
    const [user] = usersOf(join(directory, name), runRoot);
    if (user !== undefined)
      throw new OciError('BUSY', `volume ${quote(name)} is in use by ${quote(`${user}.service`)}`, {
        hint: `Stop it with: systemctl stop ${user}.service.`,
      });
  }
  for (const name of names) removeTree(join(directory, name));
}

export function noSuchVolume(name: string): OciError {
  return new OciError('INPUT_NOT_FOUND', `no volume ${quote(name)}`, {
    hint: 'List the volumes with: ocictl volume ls.',
  });
}

/** Names with a dot in front are volumes that are being made. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => !name.startsWith('.') && lstatSync(join(directory, name)).isDirectory())
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function usersOf(path: string, runRoot: string): string[] {
  return listContainers(runRoot)
    .filter(({ spec }) => spec.mounts.some(({ source }) => source === path))
    .map(({ unit }) => unit);
}
