/**
 * How the tasks talk and call other programs: one line says what is done, one how long it took.
 *
 * Invariant: a program that fails makes the task fail, with the program's name and status in the message.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT_DIR = dirname(dirname(fileURLToPath(import.meta.url)));

/** Says `label`, awaits `work`, says how long it took. */
export async function step<T>(label: string, work: () => T | Promise<T>): Promise<T> {
  console.log(`==> ${label}`);
  const started = performance.now();
  const result = await work();
  console.log(`    done in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Keep what the program says and show it only when it fails. */
  quiet?: boolean;
}

/** What the message alone explains; the status becomes the task's. */
export class TaskFailed extends Error {
  readonly status: number;
  constructor(message: string, status = 1) {
    super(message);
    this.status = status;
  }
}

/** Runs a program to its end; throws TaskFailed unless its status is 0. */
export function command(argv: readonly string[], options: CommandOptions = {}): Promise<void> {
  const [program, ...args] = argv as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? PROJECT_DIR,
      env: { ...process.env, ...options.env },
      stdio: options.quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    });
    const output: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => output.push(chunk));
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve();
      else
        reject(
          new TaskFailed(
            `${Buffer.concat(output)}'${program}' ended with status ${status ?? 1}`,
            status ?? 1,
          ),
        );
    });
  });
}

/**
 * For as long as `work` takes, what Node.js compiles is kept for the processes that `work` starts: TypeScript loads three
 * times as fast then.
 */
export async function withCompileCache<T>(work: () => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'ocictl-compiled-'));
  process.env['NODE_COMPILE_CACHE'] = directory;
  try {
    return await work();
  } finally {
    delete process.env['NODE_COMPILE_CACHE'];
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs a task's main function; an error becomes one message and a status, and a stack only when it was not foreseen. */
export async function main(task: () => Promise<void>): Promise<void> {
  try {
    await task();
  } catch (error) {
    console.error(error instanceof TaskFailed ? error.message : error);
    process.exitCode = error instanceof TaskFailed ? error.status : 1;
  }
}
