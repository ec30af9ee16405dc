/** The import directions of the house (docs/architecture.md): who may know whom, and which folders are pure. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';

const SRC = join(import.meta.dirname, '../../src');

/** Folder → the folders it may import beside itself. `.` is the stories: the files directly in src. */
const MAY_IMPORT: Record<string, string[]> = {
  oci: [],
  uid: ['oci'],
  trust: ['oci'],
  archive: ['oci'],
  composefs: ['oci', 'archive'],
  seccomp: ['oci'],
  bundle: ['oci', 'seccomp'],
  unit: ['oci', 'uid', 'seccomp'],
  quadlet: ['oci', 'unit'],
  host: ['oci'],
  registry: ['oci', 'host'],
  source: ['oci', 'host', 'registry', 'archive'],
  store: ['oci', 'host', 'archive', 'composefs'],
  systemd: ['oci', 'host'],
  copy: ['oci', 'host', 'archive'],
  '.': [
    'oci',
    'uid',
    'trust',
    'archive',
    'composefs',
    'seccomp',
    'bundle',
    'unit',
    'host',
    'registry',
    'source',
    'store',
    'systemd',
    'copy',
  ],
  cli: [
    '.',
    'oci',
    'uid',
    'trust',
    'composefs',
    'seccomp',
    'bundle',
    'unit',
    'quadlet',
    'host',
    'registry',
    'source',
    'store',
    'systemd',
  ],
};

const PURE = ['oci', 'uid', 'trust', 'archive', 'composefs', 'seccomp', 'bundle', 'unit', 'quadlet'];
const IMPURE_MODULES =
  /^node:(fs|fs\/promises|net|http|https|http2|tls|dgram|child_process|worker_threads|process)$|^(koffi|undici)$|^@jellybrick/;

interface Import {
  file: string;
  from: string;
  specifier: string;
}

const imports: Import[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) =>
    [...readFileSync(join(SRC, file), 'utf8').matchAll(/(?:^|[\s(])(?:from|import)\s*\(?\s*'([^']+)'/gm)].map(
      (match) => ({
        file,
        from: folder(file),
        specifier: match[1]!,
      }),
    ),
  );

function folder(file: string): string {
  const [first, ...rest] = file.split('/');
  return rest.length === 0 ? '.' : first!;
}

test('every folder is in the table', () => {
  assert.ok(imports.length > 100, `only ${imports.length} imports found`);
  assert.deepEqual(
    [...new Set(imports.map(({ from }) => from))].filter((name) => MAY_IMPORT[name] === undefined),
    [],
  );
});

test('imports go in the allowed directions', () => {
  const wrong = imports
    .filter(({ specifier }) => specifier.startsWith('.'))
    .map(({ file, from, specifier }) => ({
      file,
      from,
      to: folder(relative(SRC, normalize(join(SRC, dirname(file), specifier)))),
    }))
    .filter(({ from, to }) => to !== from && !MAY_IMPORT[from]!.includes(to))
    .map(({ file, to }) => `${file} -> ${to}`);
  assert.deepEqual(wrong, []);
});

test('pure folders reach nothing outside the process', () => {
  const wrong = imports
    .filter(({ from, specifier }) => PURE.includes(from) && IMPURE_MODULES.test(specifier))
    .map(({ file, specifier }) => `${file} -> ${specifier}`);
  assert.deepEqual(wrong, []);
});

test('single doors: koffi, undici and commander', () => {
  const importersOf = (name: string) => [
    ...new Set(imports.filter(({ specifier }) => specifier === name).map(({ file }) => file)),
  ];
  assert.ok(importersOf('koffi').every((file) => file.startsWith('host/')));
  assert.ok(importersOf('undici').every((file) => file.startsWith('registry/')));
  assert.ok(importersOf('commander').every((file) => file.startsWith('cli/')));
});
