/** The storage of a registry with the images of the benchmark, filled by build-images.sh in a machine booted for it. */
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { step } from '../../scripts/step.ts';
import { ensureCached } from '../machine/cache.ts';
import { stdoutOf } from '../machine/machine.ts';
import type { Suite } from '../machine/root.ts';
import { withMachine } from '../machine/with-machine.ts';
import { ensureAppLayers } from './app-layers.ts';

const BUILD_TIMEOUT_MS = 15 * 60_000;

/** Built when it is not in the cache (some minutes). */
export async function ensureBenchImages(suite: Suite): Promise<string> {
  const layers = await ensureAppLayers(suite);
  const script = readFileSync(join(import.meta.dirname, 'build-images.sh'), 'utf8');
  const cached = await ensureCached(`bench-${suite}`, [basename(layers), script], (directory) =>
    step('Building the images of the benchmark (once, some minutes)', async () => {
      const storage = join(directory, 'registry');
      mkdirSync(storage);
      const options = {
        suite,
        program: false,
        registry: { directory: storage },
        binds: { [layers]: '/mnt/layers' },
      };
      await withMachine(options, async (machine) => {
        stdoutOf(await machine.run(['bash', '-c', script], { timeoutMs: BUILD_TIMEOUT_MS }));
      });
    }),
  );
  return join(cached, 'registry');
}
