/**
 * What dist/NAME.cjs is (scripts/build.ts): runs the program beside it, with the code that V8 made of it in earlier runs.
 * Compiling takes longer than all that a small command does. Node's own cache has what is compiled when a file is loaded;
 * this one has the functions, too, that were compiled when they were called.
 *
 * Invariants
 * - The cache is root's alone to write: what lies in it is executed. Without its directory, which packages make, there is none.
 * - A file is named after the build of the program and the runtime; V8 refuses one that was made with other options or is cut
 *   short. What is in it is believed as the program's own file is, and on the disk before it has its name.
 * - A cache that cannot be read or written is none.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire, enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { Script } from 'node:vm';

/** Of this launcher, by the build: name of the program, and a digest of its file. */
declare const PROGRAM: string;
declare const BUILD: string;

/** Made by packaging/tmpfiles.d/ocictl.conf. */
const DIRECTORY = '/var/cache/ocictl';
/** So many runs add what they have compiled: the first one may have been of another subcommand. */
const RUNS = 6;

const program = join(__dirname, `${PROGRAM}-main.cjs`);
const prefix = `${PROGRAM}-${BUILD}-${process.version}-${process.arch}.`;
const names = list();
const found = names
  ?.filter((name) => name.startsWith(prefix))
  .sort()
  .at(-1);
const cachedData = found === undefined ? undefined : read(found);
// for the program's parts, which it loads itself
if (names !== undefined) enableCompileCache(DIRECTORY);

const text = readFileSync(program, 'latin1'); // it is ASCII
const script = new Script(`(function (module, require, __filename, __dirname) {${text}\n})`, {
  filename: program,
  ...(cachedData === undefined ? {} : { cachedData }),
});
const runs = script.cachedDataRejected === false ? Number(found!.slice(prefix.length)) : 0;
if (names !== undefined && runs < RUNS && process.geteuid?.() === 0) process.on('exit', keep);
script.runInThisContext()({}, createRequire(program), program, __dirname);

function list(): string[] | undefined {
  try {
    return readdirSync(DIRECTORY);
  } catch {
    return undefined;
  }
}

function read(name: string): Buffer | undefined {
  try {
    return readFileSync(join(DIRECTORY, name));
  } catch {
    return undefined; // another run has just replaced it
  }
}

/** After a run that was worth it. */
function keep(status: number): void {
  if (status !== 0 || process.argv.includes('--help') || process.argv.includes('--version')) return;
  const name = `${prefix}${runs + 1}`;
  const fresh = join(DIRECTORY, `.${name}.${process.pid}`);
  try {
    const fd = openSync(fresh, 'wx', 0o644);
    try {
      writeFileSync(fd, script.createCachedData());
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, join(DIRECTORY, name));
    for (const old of names!.filter((other) => other.startsWith(`${PROGRAM}-`) && other !== name))
      unlinkSync(join(DIRECTORY, old));
  } catch {}
}
