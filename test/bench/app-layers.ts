/**
 * The layers of the app image as archives, from real Debian packages: what an image of a web application with a
 * compiler, numerical libraries and a JavaScript tool chain looks like. Few large files in some, many small ones in others.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { command, step } from '../../scripts/step.ts';
import { ensureCached } from '../machine/cache.ts';
import { debianMirror } from '../machine/host-packages.ts';
import { MMDEBSTRAP_OPTIONS, mmdebstrap, type Suite } from '../machine/root.ts';

/** Lowest first; each is archived as NAME.tar. Two more are made of files by build-images.sh. */
const LAYERS: readonly (readonly [name: string, packages: readonly string[]])[] = [
  ['base', []],
  ['python', ['python3', 'python3-venv', 'nginx']],
  ['compiler', ['gcc', 'make']],
  ['science', ['python3-numpy', 'python3-scipy', 'python3-pandas']],
  ['javascript', ['nodejs', 'npm']],
  ['headers', ['libboost-dev']],
];

const ARCHIVE_LAYER = join(import.meta.dirname, 'archive-layer.sh');

/** The directory that holds the archives, built when it is not in the cache (some minutes, 300 MB of downloads). */
export function ensureAppLayers(suite: Suite): Promise<string> {
  const recipe = [suite, LAYERS, MMDEBSTRAP_OPTIONS, readFileSync(ARCHIVE_LAYER, 'utf8')];
  return ensureCached(`app-layers-${suite}`, recipe, (directory) =>
    step(`Fetching the packages of the app image: Debian ${suite} (once, some minutes)`, async () => {
      const work = join(directory, 'work');
      mkdirSync(join(work, 'root'), { recursive: true, mode: 0o755 });
      const hooks = LAYERS.map(
        ([name, packages]) =>
          `--customize-hook=bash '${ARCHIVE_LAYER}' "$1" '${work}' ${[name, ...packages].join(' ')}`,
      );
      await mmdebstrap([
        '--variant=apt',
        ...hooks,
        ...MMDEBSTRAP_OPTIONS,
        suite,
        join(work, 'root'),
        debianMirror(),
      ]);
      for (const [name] of LAYERS) await command(['mv', join(work, `${name}.tar`), directory]);
      rmSync(work, { recursive: true });
    }),
  );
}
