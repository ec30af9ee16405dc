/**
 * Running a command inside a booted machine, from outside: joins its namespaces with nsenter(1).
 *
 * Invariant: a command that is given up is killed with everything it started, before nsenter is: a process whose
 * parent is outside the machine would stay behind in it as a zombie and delay the power-off.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';

export interface RunOptions {
  input?: string | Uint8Array;
  env?: Record<string, string>;
  /** Default: five minutes; then the command and all that it started is killed, and run() throws. */
  timeoutMs?: number;
  /** Give the command a terminal of the machine; its stderr then comes with stdout. */
  tty?: boolean;
}

export interface RunResult {
  /** 128+n when signal n ended the command. */
  status: number;
  stdout: string;
  stderr: string;
}

/** PID 1 of the machine, and an empty cgroup for the command (only while booting there is none yet). */
interface Place {
  pid: number;
  cgroup?: string;
}

const RUN_TIMEOUT_MS = 300_000;
const KILL_INTERVAL_MS = 20;
const BASE_ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
};

/** The command's stdout; throws with all it said unless its status is 0. */
export function stdoutOf(result: RunResult): string {
  if (result.status !== 0) throw new Error(`status ${result.status}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Arguments of sh: into the cgroup first, then into the namespaces. The pid of sh becomes that of nsenter. */
function enterArguments(
  { pid, cgroup }: Place,
  argv: readonly string[],
  env: Record<string, string>,
): string[] {
  const assignments = Object.entries({ ...BASE_ENVIRONMENT, ...env }).map(
    ([name, value]) => `${name}=${value}`,
  );
  const nsenter = ['nsenter', `--target=${pid}`, '-m', '-u', '-i', '-p', '-n', '-C', '--wdns=/', '--'];
  const enter = cgroup === undefined ? 'exec "$@"' : 'echo $$ >"$0/cgroup.procs"; exec "$@"';
  return ['-c', enter, cgroup ?? 'sh', ...nsenter, 'env', '-i', ...assignments, ...argv];
}

/** script(1) gives a command a terminal and passes its exit status on. */
function withTerminal(argv: readonly string[]): string[] {
  const quoted = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  return ['script', '--quiet', '--return', '--flush', '--command', quoted, '/dev/null'];
}

/** Runs a command to its end and keeps what it says. Throws only when it does not end in time. */
export function runInside(
  place: Place,
  argv: readonly string[],
  { input, env = {}, timeoutMs = RUN_TIMEOUT_MS, tty = false }: RunOptions = {},
): Promise<RunResult> {
  const args = enterArguments(place, tty ? withTerminal(argv) : argv, {
    TERM: tty ? 'xterm' : 'dumb',
    ...env,
  });
  return new Promise((resolve, reject) => {
    const child = spawn('sh', args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout!.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr!.on('data', (chunk: Buffer) => stderr.push(chunk));
    // A command may end without reading its input.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    const result = (): RunResult => ({
      status: child.exitCode ?? 128 + constants.signals[child.signalCode!],
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    });
    const timer = setTimeout(() => {
      const killer = setInterval(() => killCommand(place, child), KILL_INTERVAL_MS);
      child.on('exit', () => {
        clearInterval(killer);
        const { stdout, stderr } = result();
        reject(new Error(`'${argv.join(' ')}' did not end within ${timeoutMs} ms\n${stdout}${stderr}`));
        // Somebody else may hold the other ends.
        child.stdout!.destroy();
        child.stderr!.destroy();
      });
    }, timeoutMs);
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      resolve(result());
    });
  });
}

/** Kills all of a command but nsenter, which then ends by itself. */
function killCommand({ cgroup }: Place, nsenter: ChildProcess): void {
  if (cgroup === undefined) return void nsenter.kill('SIGKILL');
  for (const pid of readFileSync(join(cgroup, 'cgroup.procs'), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map(Number)) {
    try {
      if (pid !== nsenter.pid) process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Runs a command on this process's own terminal; its exit status. */
export function runInteractive(place: Place, argv: readonly string[]): Promise<number> {
  const env = { TERM: process.env['TERM'] ?? 'dumb' };
  const args = enterArguments(place, process.stdin.isTTY ? withTerminal(argv) : argv, env);
  // Ctrl-C is for the command.
  process.on('SIGINT', () => {});
  return new Promise((resolve, reject) => {
    const child = spawn('sh', args, { stdio: 'inherit' });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
}
