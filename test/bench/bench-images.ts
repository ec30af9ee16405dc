/** Storages of a registry with the images of a benchmark, filled in a machine booted for it. */
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { step } from '../../scripts/step.ts';
import { ensureCached } from '../machine/cache.ts';
import { stdoutOf } from '../machine/machine.ts';
import type { Suite } from '../machine/root.ts';
import { withMachine } from '../machine/with-machine.ts';
import { ensureAppLayers } from './app-layers.ts';

const BUILD_TIMEOUT_MS = 30 * 60_000;

/** Images that differ: build-images.sh. Built when it is not in the cache (some minutes). */
export function ensureBenchImages(suite: Suite): Promise<string> {
  return ensureStorage(suite, 'bench', 'build-images.sh');
}

/** Images that are nearly the same: build-near-copies.sh. Built when it is not in the cache (some minutes). */
export function ensureNearCopies(suite: Suite): Promise<string> {
  return ensureStorage(suite, 'near-copies', 'build-near-copies.sh');
}

async function ensureStorage(suite: Suite, name: string, builder: string): Promise<string> {
  const layers = await ensureAppLayers(suite);
  const script = readFileSync(join(import.meta.dirname, builder), 'utf8');
  const cached = await ensureCached(`${name}-${suite}`, [basename(layers), script], (directory) =>
    step(`Building the images of the benchmark by ${builder} (once, some minutes)`, async () => {
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
