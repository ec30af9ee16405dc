/** `npm run test:vm`: what only a virtual machine shows (test/vm); some minutes, since it is emulated. */
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { buildPrograms } from './build.ts';
import { command, main, step } from './step.ts';

async function testVirtualMachine(): Promise<void> {
  await ensureHostPackages();
  await buildPrograms();
  await step('Running the tests in a virtual machine (some minutes)', () =>
    command(['node', '--test', '--test-concurrency=1', 'test/vm/*.test.ts']),
  );
}

if (import.meta.main) await main(testVirtualMachine);
