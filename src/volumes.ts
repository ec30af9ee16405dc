/**
 * The named volumes of a store: directories that containers made with `-v NAME:…`, which stay until somebody removes
 * them.
 *
 * Invariant: a volume that a container or an installed service has is not removed. That is looked at under the store's
 * lock, which oci-run holds at a start.
 */
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { listContainers } from './containers.ts';
import { listDirectory } from './host/files.ts';
import type { Waiting } from './host/lock.ts';
import { OciError, quote } from './oci/errors.ts';
import type { RuntimeSpec } from './oci/runtime-spec.ts';
import { listServices, serviceSpecs } from './services.ts';
import { diskUsage } from './store/disk-usage.ts';
import { removeTree } from './store/remove-tree.ts';
import type { Store } from './store/store.ts';
import { isTemplate } from './unit/unit-name.ts';

export interface Volume {
  readonly name: string;
  readonly path: string;
  /** Bytes on the disk. */
  readonly bytes: number;
  /** Units of the containers and installed services that have it. */
  readonly users: readonly string[];
}

/** By name. `runRoot`: where the records of containers are. */
export function listVolumes(store: Store, runRoot: string): Volume[] {
  const directory = join(store.root, 'volumes');
  return namesIn(directory).map((name) => {
    const path = join(directory, name);
    return { name, path, bytes: diskUsage(path), users: usersOf(path, store, runRoot) };
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
    const users = usersOf(join(directory, name), store, runRoot);
    const [user] = users;
    if (user !== undefined)
      throw new OciError('BUSY', `volume ${quote(name)} is in use by ${quote(`${user}.service`)}`, {
        hint: isTemplate(user)
          ? `Uninstall it: ocictl uninstall ${user}.`
          : `Stop it with systemctl stop ${user}.service; an installed one: ocictl uninstall ${user}.`,
        containers: users,
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
  const isDirectory = (name: string) =>
    lstatSync(join(directory, name), { throwIfNoEntry: false })?.isDirectory() === true;
  return listDirectory(directory)
    .filter((name) => !name.startsWith('.') && isDirectory(name))
    .sort();
}

function usersOf(path: string, { root }: Store, runRoot: string): string[] {
  const has = (spec: RuntimeSpec) => spec.mounts.some(({ source }) => source === path);
  const running = listContainers(runRoot).filter(({ spec }) => has(spec));
  const installed = listServices(root).filter((service) => serviceSpecs(service).some(has));
  return [...new Set([...running.map(({ unit }) => unit), ...installed.map(({ name }) => name)])];
}
