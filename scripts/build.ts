/**
 * `npm run build`: bundles each program into one file of dist/, and renders the manual pages.
 *
 * What several programs use lies in shared chunks, and what a program imports lazily in chunks of its own, so
 * that starting a program reads only what it needs. koffi stays outside: it brings a native binary.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { main, PROJECT_DIR, step, TaskFailed } from './step.ts';

const PROGRAMS = ['oci-pull', 'oci-run', 'ocictl'];
const ENTRY_POINTS = [...PROGRAMS.map((program) => `src/cli/${program}.ts`), 'src/store/layer-worker.ts'];
/** Dependencies in CommonJS call require(), which modules do not have. */
const REQUIRE =
  "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url);";

export async function buildPrograms(): Promise<void> {
  await step('Building the programs into dist/', async () => {
    const dist = join(PROJECT_DIR, 'dist');
    const { outputFiles } = await build({
      absWorkingDir: PROJECT_DIR,
      entryPoints: ENTRY_POINTS.filter((path) => existsSync(join(PROJECT_DIR, path))),
      outdir: 'dist',
      entryNames: '[name]',
      chunkNames: 'chunk-[hash]',
      outExtension: { '.js': '.mjs' },
      bundle: true,
      splitting: true,
      format: 'esm',
      platform: 'node',
      target: 'node24',
      external: ['koffi'],
      banner: { js: REQUIRE },
      legalComments: 'none',
      write: false,
    }).catch(() => {
      throw new TaskFailed('esbuild failed'); // it has said why
    });
    // Aside first: whatever runs meanwhile never sees half of a build.
    const fresh = join(PROJECT_DIR, 'node_modules/.ocictl-dist');
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(fresh);
    for (const { path, text } of outputFiles) {
      const isProgram = PROGRAMS.includes(basename(path, '.mjs'));
      const mode = isProgram ? 0o755 : 0o644;
      writeFileSync(join(fresh, basename(path)), isProgram ? `#!/usr/bin/env node\n${text}` : text, { mode });
    }
    renderManuals(join(fresh, 'man'));
    rmSync(dist, { recursive: true, force: true });
    renameSync(fresh, dist);
  });
}

/** man/NAME.N.scd → NAME.N, with scdoc(1). */
function renderManuals(directory: string): void {
  const sources = readdirSync(join(PROJECT_DIR, 'man')).filter((name) => name.endsWith('.scd'));
  if (sources.length === 0) return;
  if (spawnSync('scdoc', ['-v']).error) {
    console.log('    without manual pages: they need scdoc (apt-get install scdoc)');
    return;
  }
  mkdirSync(directory);
  for (const name of sources) {
    const scdoc = spawnSync('scdoc', { input: readFileSync(join(PROJECT_DIR, 'man', name)) });
    if (scdoc.status !== 0) throw new TaskFailed(`man/${name}: ${scdoc.stderr.toString().trim()}`);
    writeFileSync(join(directory, basename(name, '.scd')), scdoc.stdout);
  }
}

if (import.meta.main) await main(buildPrograms);
