/**
 * The storage of the machine's registry, filled with the test images by build-images.sh in a machine booted for it.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { step } from '../../scripts/step.ts';
import { ensureCached } from './cache.ts';
import { bootMachine, stdoutOf } from './machine.ts';
import type { Suite } from './root.ts';
import { ensureTrees } from './trees.ts';

const BUILD_TIMEOUT_MS = 10 * 60_000;

/** The registry's storage, built when it is not in the cache (about a minute). `root` is the machine's. */
export async function ensureImages(root: string, suite: Suite): Promise<string> {
  const trees = await ensureTrees(suite);
  const text = readFileSync(join(import.meta.dirname, 'build-images.sh'), 'utf8');
  const cached = await ensureCached(`images-${suite}`, [basename(root), basename(trees), text], (directory) =>
    step('Building the test images and pushing them to the registry (once, about a minute)', async () => {
      const storage = join(directory, 'registry');
      mkdirSync(storage);
      const machine = await bootMachine({
        suite,
        program: false,
        registry: { directory: storage },
        binds: { [trees]: '/mnt/trees' },
      });
      try {
        stdoutOf(await machine.run(['bash', '-c', text], { timeoutMs: BUILD_TIMEOUT_MS }));
      } finally {
        await machine.stop();
      }
    }),
  );
  return join(cached, 'registry');
}
