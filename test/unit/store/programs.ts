/** Runs our programs from source, as separate processes, and compares trees. For tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { mountsBelow, unmount } from '../../../src/host/mount.ts';
import { CHILD_ENVIRONMENT } from '../child-environment.ts';

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

const CLI = resolve(import.meta.dirname, '../../../src/cli');

/** A scratch directory with a store and a run root; close() unmounts and removes everything. */
export function scratch(prefix: string) {
  const base = mkdtempSync(join(tmpdir(), prefix));
  const root = join(base, 'store');
  const runRoot = join(base, 'run');
  const env = { ...CHILD_ENVIRONMENT, HOME: join(base, 'home'), LC_ALL: 'C' };
  const start = (program: string, ...args: string[]): Running => {
    const child = spawn(
      process.execPath,
      [join(CLI, `${program}.ts`), '--root', root, '--run-root', runRoot, ...args],
      {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const text = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream].setEncoding('utf8').on('data', (piece: string) => {
        text[stream] += piece;
      });
    const ended = new Promise<Ended>((done) => {
      child.on('close', (status, signal) => done({ status, signal, ...text }));
    });
    return { child, ended };
  };
  return {
    base,
    root,
    runRoot,
    start,
    run: (program: string, ...args: string[]): Promise<Ended> => start(program, ...args).ended,
    close() {
      for (const { target } of mountsBelow(base).toReversed()) unmount(target);
      rmSync(base, { recursive: true });
    },
  };
}

/** Every file of a tree, by path: what two tools have to agree on. Link counts and directory sizes are left out. */
export function describeTree(tree: string, { times = true } = {}): Record<string, string> {
  const found: Record<string, string> = {};
  const visit = (path: string) => {
    const absolute = join(tree, path);
    const stat = lstatSync(absolute);
    const content = stat.isFile()
      ? createHash('sha256').update(readFileSync(absolute)).digest('hex').slice(0, 16)
      : '';
    const target = stat.isSymbolicLink() ? readlinkSync(absolute) : '';
    const device = stat.isCharacterDevice() || stat.isBlockDevice() ? stat.rdev : '';
    const time = times && !stat.isSymbolicLink() ? Math.floor(stat.mtimeMs / 1000) : '';
    found[path] = [stat.mode.toString(8), stat.uid, stat.gid, content, target, device, time].join(' ');
    if (stat.isDirectory()) for (const name of readdirSync(absolute)) visit(join(path, name));
  };
  visit('.');
  return found;
}

/** What is recorded of each layer, and the list of its files; but for when whiteouts were made. */
export function storedLayers(root: string): unknown[] {
  const directory = join(root, 'layers');
  return readdirSync(directory)
    .filter((name) => name !== 'skeleton')
    .sort()
    .map((hex) => {
      const read = (name: string) => readFileSync(join(directory, hex, name), 'latin1');
      const { files: _, ...record } = JSON.parse(read('layer.json'));
      return [record, read('files').replace(/^(c0 0 0 )\S+(?= 0:0 )/gm, '$1-')];
    });
}

/** Every inode below a directory, so that two equal answers mean that nothing was written. */
export function inodes(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((path) => {
      const { ino, ctimeNs } = lstatSync(join(directory, path), { bigint: true });
      return `${path} ${ino} ${ctimeNs}`;
    });
}

/** Resolves when `condition` holds; throws after a minute. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}
