/**
 * `npm run test:system [FILE…]`: builds the programs, boots a machine with them, and runs the tests of test/system
 * against it, on systemd 262 (forky) and then, those about containers, on 257 (trixie). All files share one machine
 * (sharedMachine() in test/machine/machine.ts), so they run one after the other.
 */

import { ensureHostPackages } from '../test/machine/host-packages.ts';
import type { Suite } from '../test/machine/root.ts';
import { withMachine } from '../test/machine/with-machine.ts';
import { buildPrograms } from './build.ts';
import { command, main, step } from './step.ts';

/** What runs on the oldest systemd that we support, 257: everything about containers. */
const OLDEST = {
  suite: 'trixie',
  files: ['install', 'living', 'network', 'run', 'translation'].map((name) => `test/system/${name}.test.ts`),
} as const;

export async function testSystem(): Promise<void> {
  await testOn('forky', ['test/system/**/*.test.ts']);
  await testOn(OLDEST.suite, OLDEST.files);
}

async function testOn(suite: Suite, files: readonly string[]): Promise<void> {
  await ensureHostPackages();
  await buildPrograms();
  await withMachine({ suite }, (machine) =>
    step(`Running the system tests on Debian ${suite}`, async () => {
      const env = { OCICTL_MACHINE: machine.name, OCICTL_SUITE: suite };
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
  await main(() => (files.length > 0 ? testOn('forky', files) : testSystem()));
}
