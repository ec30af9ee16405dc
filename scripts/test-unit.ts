/** `npm run test:unit [FILE…]`: the tests that need no systemd; as root, beside Debian's umoci and tar. */
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { command, main, step } from './step.ts';

export async function testUnits(files: readonly string[] = ['test/unit/**/*.test.ts']): Promise<void> {
  await ensureHostPackages();
  await step('Running the unit tests', () => command(['node', '--test', ...files]));
}

if (import.meta.main) {
  const files = process.argv.slice(2);
  await main(() => testUnits(files.length > 0 ? files : undefined));
}
