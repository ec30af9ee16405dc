/**
 * `npm run test:system [FILE…]`: builds the programs, boots a machine with them, and runs the tests of test/system
 * against it. All files share the one machine (sharedMachine() in test/machine/machine.ts), so they run one after
 * the other.
 */

import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { withMachine } from '../test/machine/with-machine.ts';
import { buildPrograms } from './build.ts';
import { command, main, step } from './step.ts';

export async function testSystem(files: readonly string[] = ['test/system/**/*.test.ts']): Promise<void> {
  await ensureHostPackages();
  await buildPrograms();
  await withMachine({}, (machine) =>
    step('Running the system tests', async () => {
      const env = { OCICTL_MACHINE: machine.name };
      try {
        await command(['node', '--test', '--test-concurrency=1', ...files], { env });
      } catch (error) {
        const journal = await machine.run(['journalctl', '--no-pager', '--priority=warning', '--lines=40']);
        console.log(`The machine's last warnings:\n${journal.stdout}`);
        throw error;
      }
    }),
  );
}

if (import.meta.main) {
  const files = process.argv.slice(2);
  await main(() => testSystem(files.length > 0 ? files : undefined));
}
