/**
 * `npm run build`: bundles the programs into dist/, and renders the manual pages.
 *
 * What a program imports lazily lies in chunks of its own, so that starting it reads only what it needs. Programs share
 * no chunks: that would cut each into dozens, and a file costs half a millisecond. koffi stays outside: it brings a
 * native binary.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, join } from 'node:path';
import { build, type OutputFile, type Plugin } from 'esbuild';
import { main, PROJECT_DIR, step, TaskFailed } from './step.ts';

const PROGRAMS = ['oci-pull', 'oci-run', 'ocictl'];
const ENTRY_POINTS = [...PROGRAMS.map((program) => `src/cli/${program}.ts`), 'src/store/layer-worker.ts'];
/** Dependencies in CommonJS call require(), which modules do not have. */
const REQUIRE = "const require = process.getBuiltinModule('node:module').createRequire(import.meta.url);";

/**
 * An import of one of Node's own modules reads all that the module exports, and some of it is only made when it is
 * read: `import 'node:http'` loads an HTTP client that nobody asked for, 30 ms. In the bundles such an import
 * becomes a look-up of the names that are used, which halves the time that a small command takes.
 */
const lazyBuiltins: Plugin = {
  name: 'lazy-builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?[a-z_/]+$/ }, ({ path, kind, importer }) => {
      const name = path.replace(/^node:/, '');
      if (kind !== 'import-statement' || !builtinModules.includes(name)) return undefined;
      // One for each importer: a shared one would be a file of its own to load.
      return { path: name, suffix: `?${importer}`, namespace: 'builtin', sideEffects: false };
    });
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => {
      const names = Object.keys(process.getBuiltinModule(path) ?? {}).filter(
        (name) => name !== 'default' && /^[\w$]+$/.test(name),
      );
      const get = `const get = (name) => process.getBuiltinModule('node:${path}')[name];`;
      const exports = names.map(
        (name) => `const $${name} = /* @__PURE__ */ get('${name}');\nexport { $${name} as ${name} };`,
      );
      // commander's way to subcommands that are programs of their own, which ours are not.
      const whole =
        path === 'child_process' ? '{}' : `/* @__PURE__ */ process.getBuiltinModule('node:${path}')`;
      return { contents: [get, `export default ${whole};`, ...exports].join('\n') };
    });
  },
};

/** The files of one program. */
async function bundle(entryPoint: string): Promise<OutputFile[]> {
  const { outputFiles } = await build({
    absWorkingDir: PROJECT_DIR,
    entryPoints: [entryPoint],
    outdir: 'dist',
    entryNames: '[name]',
    chunkNames: `${basename(entryPoint, '.ts')}-[hash]`,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    external: ['koffi'],
    banner: { js: REQUIRE },
    plugins: [lazyBuiltins],
    legalComments: 'none',
    // Less to read at every start. Names stay: they are in stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    write: false,
  }).catch(() => {
    throw new TaskFailed('esbuild failed'); // it has said why
  });
  return outputFiles;
}

export async function buildPrograms(): Promise<void> {
  await step('Building the programs into dist/', async () => {
    const dist = join(PROJECT_DIR, 'dist');
    const outputFiles = (await Promise.all(ENTRY_POINTS.map(bundle))).flat();
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
