/**
 * `npm run test:system [FILE…]`: builds the programs and runs the tests of test/system against booted machines: on
 * systemd 262 (forky) and, those about containers, on 257 (trixie). Two groups of files run beside each other.
 *
 * Invariant: the files of a group have a machine to themselves (sharedMachine() in test/machine/machine.ts) and run one
 * after the other, always in the same order. So what a file finds does not depend on how fast another group is. A file
 * whose machine has ended by itself, which is no result, runs once more on another one.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { machineJournal } from '../test/machine/journal.ts';
import { ENDED_BY_ITSELF, isRunning, type Machine, prepareMachine } from '../test/machine/machine.ts';
import type { Suite } from '../test/machine/root.ts';
import { withMachine } from '../test/machine/with-machine.ts';
import { buildPrograms } from './build.ts';
import { main, PROJECT_DIR, step, TaskFailed, withCompileCache } from './step.ts';

interface Group {
  readonly suite: Suite;
  readonly files: readonly string[];
  /** They boot machines of their own, and need no other. */
  readonly alone?: boolean;
}

const DIRECTORY = 'test/system';
const ODD = /^odd-/;
const IMAGES = /^(archives|chunked|composefs|login|machine|mirror|store|tree)/;
const ALONE = /^(import|install|packages)$/;
/** What also runs on the oldest systemd that we support, 257: everything about containers. */
const OLDEST = /^(host-users|living|network|quadlet|run|templates|translation)$/;

const names = () =>
  readdirSync(join(PROJECT_DIR, DIRECTORY))
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => basename(file, '.test.ts'))
    .sort();

/** The long ones first, so that both ends come at about the same time. */
function allGroups(): Group[] {
  const files = (test: (name: string) => boolean) =>
    names()
      .filter(test)
      .map((name) => `${DIRECTORY}/${name}.test.ts`);
  const install = files((name) => name === 'install');
  return [
    { suite: 'forky', files: files((name) => ![ODD, IMAGES, ALONE].some((group) => group.test(name))) },
    { suite: 'forky', files: files((name) => ODD.test(name)) },
    { suite: 'forky', files: files((name) => IMAGES.test(name)) },
    { suite: 'forky', files: install, alone: true },
    { suite: 'trixie', files: install, alone: true },
    { suite: 'trixie', files: files((name) => OLDEST.test(name)) },
    ...['import', 'packages'].map(
      (alone): Group => ({ suite: 'forky', files: files((name) => name === alone), alone: true }),
    ),
  ];
}

interface Ended {
  readonly what: string;
  readonly passed: number;
  readonly failed: number;
  readonly isGood: boolean;
  /** Not by the tests. */
  readonly machineEnded: boolean;
}

/** Runs a file to its end and then shows all it said, so that two do not speak at once. */
async function runFile(file: string, suite: Suite, machine: Machine | undefined): Promise<Ended> {
  const what = `${basename(file, '.test.ts')} on ${suite}`;
  const begin = Date.now();
  const args = ['--test', '--import', './test/machine/journal-on-failure.ts', file];
  const child = spawn('node', args, {
    cwd: PROJECT_DIR,
    env: { ...process.env, OCICTL_SUITE: suite, ...(machine && { OCICTL_MACHINE: machine.name }) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  console.log(`==> ${what}`);
  process.stdout.write(output);
  if (status !== 0 && machine !== undefined && !output.includes('--- journal of'))
    console.log(`--- journal of ${what}:\n${await machineJournal(machine, begin).catch(String)}---`);
  console.log(`    ${what}: ${((Date.now() - begin) / 1000).toFixed(1)} s`);
  const count = (name: string) => Number(new RegExp(`^ℹ ${name} (\\d+)$`, 'm').exec(output)?.[1] ?? 0);
  const machineEnded = machine === undefined ? output.includes(ENDED_BY_ITSELF) : !isRunning(machine);
  return { what, passed: count('pass'), failed: count('fail'), isGood: status === 0, machineEnded };
}

async function runGroup({ suite, files, alone }: Group): Promise<Ended[]> {
  const ended: Ended[] = [];
  const waiting = [...files];
  const again = new Set<string>();
  const runOn = async (machine?: Machine) => {
    for (let file = waiting[0]; file !== undefined; file = waiting[0]) {
      const end = await runFile(file, suite, machine);
      if (end.machineEnded && !again.has(file)) {
        again.add(file);
        console.log(`    its machine ${ENDED_BY_ITSELF}: once more`);
      } else {
        ended.push(end);
        waiting.shift();
      }
      if (machine !== undefined && end.machineEnded) return;
    }
  };
  while (waiting.length > 0)
    await (alone ? runOn() : withMachine({ suite }, runOn, (_, work) => Promise.resolve(work())));
  return ended;
}

async function runGroups(groups: readonly Group[]): Promise<void> {
  await ensureHostPackages();
  await buildPrograms();
  for (const suite of new Set(groups.map((group) => group.suite))) await prepareMachine({ suite });
  const waiting = [...groups];
  const ended: Ended[] = [];
  const lane = async () => {
    for (let group = waiting.shift(); group !== undefined; group = waiting.shift())
      ended.push(...(await runGroup(group)));
  };
  await step('Running the system tests', () =>
    withCompileCache(() => Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, lane))),
  );
  const sum = (count: (each: Ended) => number) => ended.reduce((total, each) => total + count(each), 0);
  console.log(`${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed)} failed`);
  const bad = ended.filter(({ isGood }) => !isGood).map(({ what }) => what);
  if (bad.length > 0) throw new TaskFailed(`failed: ${bad.join(', ')}`);
}

export const testSystem = () => runGroups(allGroups());

if (import.meta.main) {
  const files = process.argv.slice(2);
  await main(() => (files.length > 0 ? runGroups([{ suite: 'forky', files }]) : testSystem()));
}
