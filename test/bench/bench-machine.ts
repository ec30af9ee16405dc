/** The machine of a benchmark: with the peers, a registry that has the images, and a file system for all stores. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Machine, stdoutOf } from '../machine/machine.ts';
import { withMachine } from '../machine/with-machine.ts';
import { STORE } from './peers.ts';

export const SUITE = 'forky';
/** Of the registry, which serves https there. */
export const REGISTRY = 'registry.bench';
/** A line for each request, with the bytes that were sent. */
export const REGISTRY_LOG = '/run/bench-registry.log';
/** Of a peer; of what removes the immutable directories of another, and makes a disk; of fincore(1). */
const PACKAGES = ['containerd', 'e2fsprogs', 'util-linux-extra'];

/**
 * Works in such a machine. `storage`: of its registry. The stores lie in memory, or on an ext4 of their own that lies there:
 * what is in the page cache can then be told from what is not.
 */
export function withBenchMachine<T>(
  storage: string,
  stores: 'tmpfs' | 'ext4',
  work: (machine: Machine) => Promise<T>,
): Promise<T> {
  const options = { suite: SUITE, packages: PACKAGES, registry: { storage } } as const;
  return withMachine(options, async (machine) => {
    const prepare = readFileSync(join(import.meta.dirname, 'prepare.sh'), 'utf8');
    stdoutOf(await machine.run(['bash', '-c', prepare, 'bash', STORE, stores, REGISTRY, REGISTRY_LOG]));
    return work(machine);
  });
}

/** What `<program> --version` says first of each program. */
export async function versionsOf(
  machine: Machine,
  peers: readonly { readonly name: string; readonly version: string }[],
): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  for (const { name, version } of peers)
    versions[name] = stdoutOf(await machine.script(version)).split('\n')[0]!;
  return versions;
}
