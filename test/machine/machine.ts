/**
 * A real systemd to test against: boots a throw-away copy of a cached Debian root in namespaces of its own, runs
 * commands in it, powers it off.
 *
 * Invariant: after stop() nothing is left on the development machine: no mount, cgroup, process or file. After a
 * crash of the runner the machine ends with it, and the next boot removes the rest (machine-dir.ts).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command, PROJECT_DIR, TaskFailed } from '../../scripts/step.ts';
import { type Lock, tryLock, waitForLock } from './cache.ts';
import { type RunOptions, type RunResult, runInside, runInteractive, stdoutOf } from './enter.ts';
import { ensureHostPackages } from './host-packages.ts';
import { ensureImages } from './images.ts';
import {
  endCgroup,
  lockMachine,
  type MachineDir,
  machineDir,
  makeMachineDir,
  removeCgroup,
  removeMachineDir,
  sweepMachines,
} from './machine-dir.ts';
import { ensureRoot, type Suite } from './root.ts';

export { type RunOptions, type RunResult, stdoutOf } from './enter.ts';

export interface BootOptions {
  /** Default: forky, which has systemd 262. */
  suite?: Suite;
  /** Default: one that no other machine has. */
  name?: string;
  /** Let the machine outlive this process; stop it with attachMachine(name).stop(). */
  detached?: boolean;
  /** Install dist/ into the machine before it boots (packaging/install.sh). Default: true. */
  program?: boolean;
  /** Another root than that of the suite: its directory. */
  root?: string;
  /** Debian packages that other machines do not have. */
  packages?: readonly string[];
  /**
   * What the machine's registry serves: the test images (default), nothing, a directory that it writes to, or one
   * that an earlier machine has written to.
   */
  registry?: 'images' | 'empty' | { directory: string } | { storage: string };
  /** Directories of the development machine → where they show, read-only. */
  binds?: Record<string, string>;
}

export interface Machine {
  readonly name: string;
  /** PID 1 of the machine, as the development machine numbers it. */
  readonly pid: number;
  /** The machine's root, as seen from outside. Absolute symbolic links below it lead out of the machine. */
  readonly root: string;
  /** Runs a command in the machine. A status other than 0 is a result, not an error. */
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Runs a shell script with `set -eu`. */
  script(text: string, options?: RunOptions): Promise<RunResult>;
  /** Writes a file, making the directories above it. */
  writeFile(path: string, content: string | Uint8Array, mode?: number): Promise<void>;
  /** A shell of the machine on this process's own terminal; its exit status. */
  interactive(argv: readonly string[]): Promise<number>;
  /** Powers off, and removes everything the machine had. */
  stop(): Promise<void>;
}

const BOOT_TIMEOUT_MS = 180_000;
/** Then it is killed. */
export const STOP_TIMEOUT_SECONDS = 60;
/** Said of a machine whose systemd ends without having been told to. */
export const ENDED_BY_ITSELF = 'ended by itself';
/** SIGRTMIN+4 starts poweroff.target (systemd(1), SIGNALS). */
const POWER_OFF_SIGNAL = 38;

interface Prepared {
  suite: Suite;
  lower: string;
  images: string | undefined;
}

/** Builds what booting takes and the cache does not have; minutes on a new machine, no time at all later. */
export async function prepareMachine(options: BootOptions = {}): Promise<Prepared> {
  // Whatever the caller's: a root whose directories only root may enter is no machine.
  process.umask(0o022);
  await ensureHostPackages();
  const suite = options.suite ?? 'forky';
  const lower = options.root ?? (await ensureRoot(suite, options.packages));
  const { registry = 'images' } = options;
  // the images do not depend on what runs them: all machines serve those that forky's tools made
  if (registry === 'images')
    return { suite, lower, images: await ensureImages(await ensureRoot('forky'), 'forky') };
  return {
    suite,
    lower,
    images: typeof registry === 'object' && 'storage' in registry ? registry.storage : undefined,
  };
}

/** Boots a machine and returns it once its systemd has reached its default target. */
export async function bootMachine(options: BootOptions = {}): Promise<Machine> {
  const prepared = await prepareMachine(options);
  const { lower } = prepared;
  await sweepMachines();

  const dir = machineDir(options.name ?? `m${process.pid}-${(machineCount++).toString()}`);
  const lock = lockMachine(dir);
  try {
    makeMachineDir(dir);
    await command(['cp', '-a', '--reflink=auto', `${lower}/var/.`, `${dir.path}/var`]);
    if (options.program ?? true)
      await command(['bash', join(PROJECT_DIR, 'packaging/install.sh'), `${dir.path}/upper`]);
    return await start(dir, lock, prepared, options);
  } catch (error) {
    await removeMachineDir(dir);
    throw error;
  } finally {
    lock.release();
  }
}
let machineCount = 0;

/** Powers a machine off and boots it again with what is on its disk. `options`: those it was booted with. */
export async function rebootMachine({ name, pid }: Machine, options: BootOptions = {}): Promise<Machine> {
  const prepared = await prepareMachine(options);
  const dir = machineDir(name);
  openMachines.delete(name);
  const rebootLock = await waitForLock(dir.rebootLockPath);
  const lock = await powerOff(dir, pid).finally(rebootLock.release);
  try {
    rmSync(join(dir.path, 'pid'));
    // what the kernel leaves in a volatile overlay, so that nobody mounts it again by mistake
    for (const work of ['work', 'registry-work'])
      rmSync(join(dir.path, work, 'work/incompat'), { recursive: true, force: true });
    await endCgroup(dir);
    makeMachineDir(dir);
    return await start(dir, lock, prepared, options);
  } catch (error) {
    await removeMachineDir(dir);
    throw error;
  } finally {
    lock.release();
  }
}

/** Boots what is in the machine's directory. The caller holds `lock`, and the machine from now on. */
async function start(
  dir: MachineDir,
  lock: Lock,
  { lower, images }: Prepared,
  options: BootOptions,
): Promise<Machine> {
  const log = openSync(join(dir.path, 'boot.log'), 'w', 0o600);
  const outermost = spawn('bash', [join(import.meta.dirname, 'boot.sh'), 'outside'], {
    // A session of its own: Ctrl-C is for this process, which then powers off in order.
    detached: true,
    stdio: ['ignore', log, log, lock.fd],
    env: {
      PATH: process.env['PATH'],
      MACHINE_DIR: dir.path,
      LOWER: lower,
      CGROUP: dir.cgroup,
      REGISTRY: images,
      REGISTRY_WRITE:
        typeof options.registry === 'object' && 'directory' in options.registry
          ? options.registry.directory
          : undefined,
      BINDS: Object.entries(options.binds ?? {})
        .map(([source, target]) => `${source} ${target}\n`)
        .join(''),
      DIE_WITH_PARENT: options.detached ? undefined : '1',
    },
  });
  closeSync(log);
  outermost.unref();
  outermost.on('exit', (status, signal) => {
    if (!openMachines.has(dir.name)) return;
    console.error(
      `the machine '${dir.name}' ${ENDED_BY_ITSELF}: ${signal ?? `status ${status}`}; the kernel says:`,
    );
    console.error(spawnSync('dmesg', { encoding: 'utf8' }).stdout.split('\n').slice(-10).join('\n'));
  });
  try {
    const machine = openMachine(dir, await waitForPid(dir, outermost));
    await waitUntilBooted(machine, dir, outermost);
    return machine;
  } catch (error) {
    openMachines.delete(dir.name);
    outermost.kill('SIGKILL');
    throw error;
  }
}

/** A machine that another process booted. */
export function attachMachine(name: string): Machine {
  const dir = machineDir(name);
  const lock = existsSync(dir.path) ? tryLock(dir.lockPath) : undefined;
  lock?.release();
  if (lock !== undefined || !existsSync(dir.path)) throw new TaskFailed(`no machine '${name}' is running`);
  return openMachine(dir, readPid(dir));
}

/**
 * For test files: the machine that scripts/test-system.ts booted for all of them. It is named in the environment,
 * so a test file can also be run by itself against a machine of `npm run machine -- boot`.
 */
export function sharedMachine(): Machine {
  return attachMachine(process.env['OCICTL_MACHINE'] ?? 'default');
}

function readPid(dir: MachineDir): number {
  const path = join(dir.path, 'pid');
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  return text.endsWith('\n') ? Number(text) : 0;
}

function bootFailure(dir: MachineDir, what: string): TaskFailed {
  const log = readFileSync(join(dir.path, 'boot.log'), 'utf8').trimEnd().split('\n').slice(-20).join('\n');
  return new TaskFailed(`the test machine did not boot: ${what}\n${log}`);
}

/** Whether its systemd is there: a machine can also come to a bad end by itself. */
export function isRunning({ pid }: Pick<Machine, 'pid'>): boolean {
  return existsSync(`/proc/${pid}/ns/pid`);
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function waitForPid(dir: MachineDir, outermost: ChildProcess): Promise<number> {
  for (const deadline = Date.now() + BOOT_TIMEOUT_MS; Date.now() < deadline; await sleep(10)) {
    const pid = readPid(dir);
    if (pid > 0) return pid;
    if (hasEnded(outermost)) throw bootFailure(dir, 'boot.sh failed');
  }
  throw bootFailure(dir, 'no systemd');
}

async function waitUntilBooted(machine: Machine, dir: MachineDir, outermost: ChildProcess): Promise<void> {
  let state = '';
  for (const deadline = Date.now() + BOOT_TIMEOUT_MS; Date.now() < deadline; await sleep(20)) {
    state = (
      await runInside({ pid: machine.pid }, ['systemctl', 'is-system-running', '--wait'])
    ).stdout.trim();
    if (state === 'running') return;
    if (hasEnded(outermost)) throw bootFailure(dir, 'systemd ended');
    if (state === 'degraded') {
      const { stdout } = await machine.run(['systemctl', '--failed', '--no-legend', '--plain']);
      throw bootFailure(dir, `failed units:\n${stdout}`);
    }
  }
  throw bootFailure(dir, `its state is '${state}'`);
}

async function stopMachine(dir: MachineDir, pid: number): Promise<void> {
  const lock = await powerOff(dir, pid);
  try {
    await removeMachineDir(dir);
  } finally {
    lock.release();
  }
}

/** The machine's lock: nothing of it runs any more. */
async function powerOff(dir: MachineDir, pid: number): Promise<Lock> {
  if (isRunning({ pid })) process.kill(pid, POWER_OFF_SIGNAL);
  const lock = await waitForLock(dir.lockPath, STOP_TIMEOUT_SECONDS);
  if (lock !== undefined) return lock;
  console.error(`the machine '${dir.name}' does not power off: killing it`);
  writeFileSync(join(dir.cgroup, 'cgroup.kill'), '1');
  return waitForLock(dir.lockPath);
}

/** The machines that this process has booted or attached to and not stopped, by name. */
export const openMachines = new Map<string, Machine>();

function openMachine(dir: MachineDir, pid: number): Machine {
  const commands = join(dir.cgroup, 'system.slice/test-console.service');
  /** Every command gets a cgroup of its own below the unit for such commands. */
  const inCgroup = async <T>(work: (cgroup: string) => Promise<T>): Promise<T> => {
    const cgroup = join(commands, `run-${process.pid}-${(commandCount++).toString()}`);
    mkdirSync(cgroup);
    try {
      return await work(cgroup);
    } finally {
      // What a command leaves running in the background keeps its cgroup until the machine stops.
      removeCgroup(cgroup);
    }
  };
  const run = (argv: readonly string[], options?: RunOptions) =>
    inCgroup((cgroup) => runInside({ pid, cgroup }, argv, options));
  const machine: Machine = {
    name: dir.name,
    pid,
    root: `/proc/${pid}/root`,
    run,
    script: (text, options) => run(['sh', '-euc', text], options),
    async writeFile(path, content, mode = 0o644) {
      const text = 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"';
      stdoutOf(await run(['sh', '-euc', text, 'sh', path, mode.toString(8)], { input: content }));
    },
    interactive: (argv) => inCgroup((cgroup) => runInteractive({ pid, cgroup }, argv)),
    stop() {
      openMachines.delete(dir.name);
      return stopMachine(dir, pid);
    },
  };
  openMachines.set(dir.name, machine);
  return machine;
}
let commandCount = 0;
