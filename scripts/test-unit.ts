/** `npm run test:unit [FILE…]`: the tests that need no systemd, hostile images among them; as root, beside Debian's umoci. */
import { availableParallelism } from 'node:os';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { command, main, step, withCompileCache } from './step.ts';

const FILES = ['test/unit/**/*.test.ts', 'test/hostile/**/*.test.ts'];

export async function testUnits(files: readonly string[] = FILES): Promise<void> {
  await ensureHostPackages();
  // Node itself leaves one core unused, which is half of a small machine.
  const concurrency = `--test-concurrency=${availableParallelism()}`;
  await step('Running the unit tests', () =>
    withCompileCache(() => command(['node', '--test', concurrency, ...files])),
  );
}

if (import.meta.main) {
  const files = process.argv.slice(2);
  await main(() => testUnits(files.length > 0 ? files : undefined));
}
