/**
 * `npm run machine -- COMMAND`: the test machine by hand. It stays booted between the commands.
 *
 *   boot          builds the programs, boots the machine with them in it
 *   shell         a root shell in it
 *   run CMD ARG…  one command in it; ends with the command's status
 *   stop          powers it off
 *   clean         removes everything that was built for machines (not while one runs)
 */
import { rmSync } from 'node:fs';
import { cacheDir } from '../test/machine/cache.ts';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { attachMachine, bootMachine, prepareMachine } from '../test/machine/machine.ts';
import { machineNames, sweepMachines } from '../test/machine/machine-dir.ts';
import { buildPrograms } from './build.ts';
import { main, step, TaskFailed } from './step.ts';

const NAME = 'default';
const COMMANDS: Record<string, (args: string[]) => Promise<void>> = {
  async boot() {
    await ensureHostPackages();
    await buildPrograms();
    await prepareMachine();
    const { pid } = await step('Booting the test machine', () => bootMachine({ name: NAME, detached: true }));
    console.log(`Its systemd is process ${pid}. Go on with: npm run machine -- shell`);
  },
  async shell() {
    process.exitCode = await attachMachine(NAME).interactive(['bash', '-l']);
  },
  async run(args) {
    process.exitCode = await attachMachine(NAME).interactive(args);
  },
  async stop() {
    await step('Powering off the test machine', () => attachMachine(NAME).stop());
  },
  async clean() {
    await sweepMachines();
    const running = machineNames();
    if (running.length > 0) throw new TaskFailed(`not while a machine runs: ${running.join(' ')}`);
    await step(`Removing ${cacheDir()}`, () => rmSync(cacheDir(), { recursive: true, force: true }));
  },
};

const [name = '', ...args] = process.argv.slice(2);
const run = COMMANDS[name];
if (run === undefined || (name === 'run' && args.length === 0)) {
  console.error(`usage: npm run machine -- ${Object.keys(COMMANDS).join('|')}`);
  process.exitCode = 64;
} else {
  await main(() => run(args));
}
