/**
 * What a command in a machine costs: its time, the CPU of everything the machine did meanwhile but for the registry,
 * and the most memory that its processes had resident at once.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInside, stdoutOf } from '../machine/enter.ts';
import type { Machine } from '../machine/machine.ts';
import { machineDir, removeCgroup } from '../machine/machine-dir.ts';

export interface Sample {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  /** Sampled. Memory that processes share counts for each of them. */
  readonly residentBytes: number;
}

const SAMPLE_INTERVAL_MS = 10;
const TIMEOUT_MS = 5 * 60_000;
const PAGE_BYTES = 4096;
/** Not to be counted. */
const REGISTRIES = ['docker-registry.service', 'bench-registry.service'];

/** Runs a script of bash with `args`; `services` are those that work for it. Throws when it fails. */
export async function measure(
  machine: Machine,
  script: string,
  args: readonly string[],
  services: readonly string[] = [],
): Promise<Sample> {
  const { cgroup } = machineDir(machine.name);
  const own = join(cgroup, 'bench');
  const service = (name: string) => join(cgroup, 'system.slice', name);
  const cpu = () => REGISTRIES.reduce((sum, name) => sum - cpuSeconds(service(name)), cpuSeconds(cgroup));
  const groups = [own, ...services.map(service)];
  let residentBytes = 0;

  mkdirSync(own);
  const cpuBefore = cpu();
  const started = performance.now();
  const sampler = setInterval(() => {
    const bytes = groups.flatMap(processes).reduce((sum, pid) => sum + resident(pid), 0);
    residentBytes = Math.max(residentBytes, bytes);
  }, SAMPLE_INTERVAL_MS);
  try {
    const argv = ['bash', '-c', `set -eu -o pipefail; ${script}`, 'bash', ...args];
    stdoutOf(await runInside({ pid: machine.pid, cgroup: own }, argv, { timeoutMs: TIMEOUT_MS }));
    const wallSeconds = (performance.now() - started) / 1000;
    return { wallSeconds, cpuSeconds: cpu() - cpuBefore, residentBytes };
  } finally {
    clearInterval(sampler);
    removeCgroup(own);
  }
}

function cpuSeconds(cgroup: string): number {
  const stat = readFileSync(join(cgroup, 'cpu.stat'), 'utf8');
  return Number(/^usage_usec (\d+)$/m.exec(stat)![1]) / 1e6;
}

/** Of a cgroup and those below it. */
function processes(cgroup: string): string[] {
  try {
    const below = readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [
      ...readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean),
      ...below.flatMap(({ name }) => processes(join(cgroup, name))),
    ];
  } catch {
    return []; // a service that does not run (yet)
  }
}

function resident(pid: string): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0; // it has ended
  }
}
