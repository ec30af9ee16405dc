/**
 * What is expensive to build (roots, images) is kept outside the repository and keyed by its recipe.
 *
 *   ${OCICTL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ocictl}/NAME-<12 hex digits of the recipe>/
 *   …/NAME-<hex>.partial/   being built; renamed when whole, removed by the next run when not
 *   …/NAME-<hex>.lock       flock(2): two runs never build the same thing
 *
 * Invariant: a directory under its final name is complete.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, renameSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export function cacheDir(): string {
  const { OCICTL_CACHE, XDG_CACHE_HOME } = process.env;
  return OCICTL_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'ocictl');
}

/**
 * An flock(2) on `path`: the open file description is ours, flock(1) only sets the lock on it. So the lock ends
 * with the last process that holds the descriptor, however it ends.
 */
export interface Lock {
  readonly fd: number;
  release(): void;
}

function openLock(path: string): Lock {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fd = openSync(path, 'a', 0o600);
  return { fd, release: () => closeSync(fd) };
}

/** Whoever holds a lock may remove its file; a lock on a removed file is none. */
function isCurrent(lock: Lock, path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock.fd).ino;
}

/** The lock, or undefined when somebody else holds it. */
export function tryLock(path: string): Lock | undefined {
  const lock = openLock(path);
  const flock = spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'inherit', lock.fd] });
  if (flock.error) throw flock.error;
  if (flock.status === 0 && isCurrent(lock, path)) return lock;
  lock.release();
  return flock.status === 0 ? tryLock(path) : undefined;
}

/** The lock, once it is free; undefined when it was not within `timeoutSeconds`. */
export function waitForLock(path: string): Promise<Lock>;
export function waitForLock(path: string, timeoutSeconds: number): Promise<Lock | undefined>;
export async function waitForLock(path: string, timeoutSeconds?: number): Promise<Lock | undefined> {
  const lock = openLock(path);
  const timeout = timeoutSeconds === undefined ? [] : [`--timeout=${timeoutSeconds}`];
  const flock = spawn('flock', [...timeout, '3'], { stdio: ['ignore', 'ignore', 'inherit', lock.fd] });
  const [status] = await once(flock, 'close');
  if (status === 0 && isCurrent(lock, path)) return lock;
  lock.release();
  if (status === 0) return tryLock(path) ?? waitForLock(path);
  if (timeoutSeconds === undefined) throw new Error(`flock ${path}: status ${status}`);
  return undefined;
}

/** Removes a tree that may hold the remains of a root; never follows a mount out of it. */
export function removeTree(path: string): void {
  const rm = spawnSync('rm', ['-rf', '--one-file-system', '--', path], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (rm.status !== 0) throw new Error(`cannot remove ${path}`);
}

/** First 12 hex digits of the SHA-256 of a recipe: strings, numbers, arrays and records of them. */
export function recipeKey(recipe: unknown): string {
  return createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 12);
}

/** The directory NAME-<key>, made by `build(directory)` unless an earlier run did. */
export async function ensureCached(
  name: string,
  recipe: unknown,
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const final = join(cacheDir(), `${name}-${recipeKey(recipe)}`);
  if (existsSync(final)) return final;
  const path = `${final}.lock`;
  let lock = tryLock(path);
  if (lock === undefined) {
    console.log(`    waiting for another run that builds ${final}`);
    lock = await waitForLock(path);
  }
  try {
    if (existsSync(final)) return final;
    const partial = `${final}.partial`;
    removeTree(partial);
    mkdirSync(partial, { mode: 0o755 });
    await build(partial);
    renameSync(partial, final);
    return final;
  } finally {
    lock.release();
  }
}
