/** The README of each folder of src names its files: all of them, and no other. The architecture names none that is gone. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const SRC = join(import.meta.dirname, '../../src');

/** `a-{b,c}.ts` is a-b.ts and a-c.ts. */
function filesNamed(text: string): string[] {
  return [...text.matchAll(/`([\w-]+)(?:\{([\w,-]+)\})?((?:\.d)?\.ts)`/g)].flatMap(([, stem, ends, suffix]) =>
    (ends?.split(',') ?? ['']).map((end) => `${stem}${end}${suffix}`),
  );
}

const folders = readdirSync(SRC, { withFileTypes: true }).filter((entry) => entry.isDirectory());

for (const { name } of folders)
  test(`src/${name}/README.md`, () => {
    const files = readdirSync(join(SRC, name)).filter((file) => file.endsWith('.ts'));
    const named = new Set(filesNamed(readFileSync(join(SRC, name, 'README.md'), 'utf8')));
    assert.deepEqual(
      files.filter((file) => !named.has(file)),
      [],
      'not named',
    );
    assert.deepEqual(
      [...named].filter((file) => !files.includes(file)),
      [],
      'named, and not there',
    );
  });

test('docs/architecture.md', () => {
  const text = readFileSync(join(SRC, '../docs/architecture.md'), 'utf8');
  const paths = [...text.matchAll(/`([\w/-]+\.ts)`/g)].map(([, path]) => path!);
  assert.ok(paths.length > 0);
  const exists = (path: string) => existsSync(join(SRC, path)) || existsSync(join(SRC, '..', path));
  assert.deepEqual(
    paths.filter((path) => !exists(path)),
    [],
  );
});
