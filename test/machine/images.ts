/**
 * The storage of the machine's registry, filled with the test images by build-images.sh in a machine booted for it.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { command, step } from '../../scripts/step.ts';
import { ensureCached } from './cache.ts';
import { bootMachine, stdoutOf } from './machine.ts';
import type { Suite } from './root.ts';
import { ensureServicesTree, ensureTrees } from './trees.ts';

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

/** The same with images of well-known services (build-service-images.sh). */
export async function ensureServiceImages(root: string, suite: Suite): Promise<string> {
  const [images, tree] = await Promise.all([ensureImages(root, suite), ensureServicesTree(suite)]);
  const text = readFileSync(join(import.meta.dirname, 'build-service-images.sh'), 'utf8');
  const recipe = [basename(join(images, '..')), basename(tree), text];
  const cached = await ensureCached(`service-images-${suite}`, recipe, (directory) =>
    step('Building images of services (once, about a minute)', async () => {
      const storage = join(directory, 'registry');
      await command(['cp', '-a', '--reflink=auto', images, storage]);
      const machine = await bootMachine({
        suite,
        program: false,
        registry: { directory: storage },
        binds: { [tree]: '/mnt/services' },
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
