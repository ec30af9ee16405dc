/**
 * Where one booted machine keeps what it needs on the development machine, and how that is removed.
 *
 *   <cache>/machines/NAME.lock   held by the machine's outermost process for as long as the machine lives
 *   <cache>/machines/NAME.reboot held while a machine that is off is about to be booted again
 *   <cache>/machines/NAME/       root (mount point), upper, work, var, registry-upper, registry-work, pid, boot.log
 *   <cgroup2>/ocictl-<hex>/      the machine's cgroup tree
 *
 * Mounts and processes end with the machine's namespaces; the directory and the cgroup are all that can be left.
 * Invariant: whoever holds the lock may remove both, so the next boot sweeps what a killed runner left behind; but for
 * a machine between two boots.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TaskFailed } from '../../scripts/step.ts';
import { cacheDir, type Lock, recipeKey, removeTree, tryLock } from './cache.ts';

export interface MachineDir {
  readonly name: string;
  readonly path: string;
  readonly lockPath: string;
  readonly rebootLockPath: string;
  readonly cgroup: string;
}

function machinesDir(): string {
  return join(cacheDir(), 'machines');
}

export function machineDir(name: string): MachineDir {
  if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(name)) throw new TaskFailed(`'${name}' cannot name a machine`);
  const path = join(machinesDir(), name);
  return {
    name,
    path,
    lockPath: `${path}.lock`,
    rebootLockPath: `${path}.reboot`,
    cgroup: join(cgroup2Mount(), `ocictl-${recipeKey(path)}`),
  };
}

/** Where cgroup v2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1. */
function cgroup2Mount(): string {
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((mount) => mount.split(' ')[2] === 'cgroup2');
  const path = line?.split(' ')[1];
  if (path === undefined) throw new TaskFailed('the test machine needs cgroup v2, and none is mounted here');
  return path;
}

/** Makes the empty directory and cgroup of a machine whose lock is held. */
export function makeMachineDir(dir: MachineDir): void {
  mkdirSync(dir.cgroup);
  for (const part of ['root', 'upper', 'work', 'var', 'registry-upper', 'registry-work'])
    mkdirSync(join(dir.path, part), { recursive: true, mode: 0o755 });
}

/** Ends what is left in the cgroup of a machine whose lock is held, and removes the cgroup. */
export async function endCgroup(dir: MachineDir): Promise<void> {
  for (let tries = 0; existsSync(dir.cgroup); tries++) {
    if (tries > 100) throw new Error(`processes in ${dir.cgroup} do not end`);
    writeFileSync(join(dir.cgroup, 'cgroup.kill'), '1');
    if (!removeCgroup(dir.cgroup)) await sleep(50);
  }
}

/** Removes what a machine whose lock is held has left: processes, cgroup, directory and the files of the locks. */
export async function removeMachineDir(dir: MachineDir): Promise<void> {
  await endCgroup(dir);
  removeTree(dir.path);
  rmSync(dir.rebootLockPath, { force: true });
  rmSync(dir.lockPath, { force: true });
}

/** Removes a cgroup with everything below it; false when it still has processes. */
export function removeCgroup(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory() && !removeCgroup(join(path, entry.name))) return false;
    rmdirSync(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return true;
    if (code === 'EBUSY') return false;
    throw error;
  }
}

/** Names of the machines that have a directory: those that run, and those that were not swept yet. */
export function machineNames(): string[] {
  if (!existsSync(machinesDir())) return [];
  const entries = readdirSync(machinesDir(), { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

/** Removes what machines left whose processes are gone. */
export async function sweepMachines(): Promise<void> {
  for (const name of machineNames()) {
    const dir = machineDir(name);
    const lock = tryLock(dir.lockPath);
    if (lock === undefined) continue;
    const rebootLock = tryLock(dir.rebootLockPath);
    try {
      if (rebootLock !== undefined) await removeMachineDir(dir);
    } finally {
      rebootLock?.release();
      lock.release();
    }
  }
}

/** The lock of a machine that does not run. */
export function lockMachine(dir: MachineDir): Lock {
  const lock = tryLock(dir.lockPath);
  if (lock === undefined) throw new TaskFailed(`the machine '${dir.name}' is running already`);
  return lock;
}
