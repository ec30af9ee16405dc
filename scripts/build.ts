/**
 * `npm run build`: bundles the programs into dist/, renders the manual pages, and writes the completions.
 *
 * Each program is one CommonJS file beside a launcher (src/cli/launcher.ts): loading modules one by one took longer than
 * running them (a quarter of oci-run's CPU). What a program imports lazily is still only evaluated when it is needed.
 * koffi stays outside: it brings a native binary.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { AT_FDCWD, RENAME_EXCHANGE, renameat2 } from '../src/host/syscalls.ts';
import { main, PROJECT_DIR, step, TaskFailed } from './step.ts';

const PROGRAMS = ['oci-pull', 'oci-run', 'ocictl'];
const programSource = (program: string) => `src/cli/${program}.ts`;
/** Files of their own beside the programs, loaded when they are needed; they share nothing with those. */
const PARTS = ['src/store/layer-worker.ts', 'src/registry/undici-parts.ts'];
const partFile = (path: string) => `${basename(path, '.ts')}.cjs`;
/** For import.meta.url, which CommonJS does not have. */
const MODULE_URL = "const moduleURL = require('node:url').pathToFileURL(__filename).href;";
const LAUNCHER = 'src/cli/launcher.ts';
/** `--`: without it node takes --env-file for itself, and obeys the NODE_OPTIONS= of a container's file. */
const SHEBANG = '#!/usr/bin/env -S node --\n';

/**
 * An import of one of Node's own modules reads all that the module exports, and some of it is only made when it is
 * read: `import 'node:http'` loads an HTTP client that nobody asked for, 30 ms. In the bundles such an import
 * becomes a look-up of the names that are used, which halves the time that a small command takes; and a function of a
 * module that node itself has not loaded is looked up when it is called.
 */
const NOT_LOADED = ['child_process', 'crypto', 'timers/promises', 'zlib'];
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
      const module = process.getBuiltinModule(path) as Record<string, object>;
      // a class is one to make, and what has symbols is more than a function
      const late = (name: string) =>
        NOT_LOADED.includes(path) &&
        typeof module[name] === 'function' &&
        /^[a-z]/.test(name) &&
        Object.getOwnPropertySymbols(module[name]).length === 0;
      const exports = names.map((name) =>
        late(name)
          ? `const $${name} = (...values) => get('${name}')(...values);\nexport { $${name} as ${name} };`
          : `const $${name} = /* @__PURE__ */ get('${name}');\nexport { $${name} as ${name} };`,
      );
      // commander's way to subcommands that are programs of their own, which ours are not.
      const whole =
        path === 'child_process' ? '{}' : `/* @__PURE__ */ process.getBuiltinModule('node:${path}')`;
      return { contents: [get, `export default ${whole};`, ...exports].join('\n') };
    });
  },
};

const separateParts: Plugin = {
  name: 'separate-parts',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\// }, ({ path, kind }) =>
      kind === 'dynamic-import' && PARTS.some((part) => basename(part) === basename(path))
        ? { path: `./${partFile(path)}`, external: true }
        : undefined,
    );
  },
};

/** The bundle of one entry point, as text. `define`: what it does not declare itself. */
async function bundle(entryPoint: string, define: Record<string, string> = {}): Promise<string> {
  const { outputFiles } = await build({
    absWorkingDir: PROJECT_DIR,
    entryPoints: [entryPoint],
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    external: ['koffi'],
    define: { 'import.meta.url': 'moduleURL', 'import.meta.main': 'true', ...define },
    banner: { js: MODULE_URL },
    plugins: [lazyBuiltins, separateParts],
    // import() would load the machinery of ES modules for a part that is none
    supported: { 'dynamic-import': false },
    legalComments: 'none',
    // Less to read at every start. Names stay: they are in stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    write: false,
  }).catch(() => {
    throw new TaskFailed('esbuild failed'); // it has said why
  });
  return outputFiles[0]!.text;
}

async function launcher(program: string, text: string): Promise<string> {
  const build = createHash('sha256').update(text).digest('hex').slice(0, 16);
  const code = await bundle(LAUNCHER, { PROGRAM: JSON.stringify(program), BUILD: JSON.stringify(build) });
  return SHEBANG + code;
}

export async function buildPrograms(): Promise<void> {
  await step('Building the programs into dist/', async () => {
    const [programs, parts] = await Promise.all(
      [PROGRAMS.map(programSource), PARTS].map((paths) => Promise.all(paths.map((path) => bundle(path)))),
    );
    const launchers = await Promise.all(PROGRAMS.map((name, index) => launcher(name, programs![index]!)));
    // Aside first: whatever runs meanwhile never sees half of a build.
    const fresh = join(PROJECT_DIR, 'node_modules/.ocictl-dist');
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(fresh);
    const write = (name: string, text: string, mode = 0o644) =>
      writeFileSync(join(fresh, name), text, { mode });
    for (const [index, part] of PARTS.entries()) write(partFile(part), parts![index]!);
    for (const [index, program] of PROGRAMS.entries()) {
      write(`${program}.cjs`, launchers[index]!, 0o755);
      write(`${program}-main.cjs`, programs![index]!);
    }
    renderManuals(join(fresh, 'man'));
    await writeCompletions(join(fresh, 'completions'));
    const dist = join(PROJECT_DIR, 'dist');
    // Exchanged: somebody who installs what is there meanwhile, as a test beside this one, finds all of it.
    mkdirSync(dist, { recursive: true });
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, dist, RENAME_EXCHANGE) < 0)
      throw new TaskFailed(`cannot put ${fresh} in the place of ${dist}`);
    rmSync(fresh, { recursive: true });
  });
}

async function writeCompletions(directory: string): Promise<void> {
  const { completionFiles } = await import('./completions.ts');
  for (const [path, text] of completionFiles()) {
    mkdirSync(join(directory, dirname(path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
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
