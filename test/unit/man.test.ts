/** Manual pages and --help say the same: every option and command of a program, and nothing else. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const PROJECT = join(import.meta.dirname, '../..');

function help(...args: string[]): string {
  const [program, ...rest] = args;
  const result = spawnSync(process.execPath, [join(PROJECT, `src/cli/${program}.ts`), ...rest, '--help'], {
    encoding: 'utf8',
  });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}

/** The options in the first column of commander's help. */
function optionsInHelp(text: string): string[] {
  const lines = text.split('\n').filter((line) => /^ {2}-/.test(line));
  return lines
    .flatMap((line) =>
      [
        ...line
          .trim()
          .split(/ {2,}/)[0]!
          .matchAll(/(?<![\w-])--?[a-z][a-z-]*/g),
      ].map(([flag]) => flag),
    )
    .sort();
}

/** The options at the heads of a page's entries. */
function optionsInPage(page: string): string[] {
  const lines = page.split('\n').filter((line) => /^\*-/.test(line));
  return lines
    .flatMap((line) => [...line.matchAll(/\*(--?[a-z][a-z-]*)\*/g)].map((match) => match[1]!))
    .sort();
}

for (const program of ['oci-pull', 'oci-run', 'ocictl'])
  test(`${program}(1) and ${program} --help agree`, () => {
    const page = readFileSync(join(PROJECT, `man/${program}.1.scd`), 'utf8');
    const inHelp = optionsInHelp(help(program));
    assert.ok(inHelp.length > 6, inHelp.join(' '));
    assert.deepEqual(optionsInPage(page), inHelp);
  });

test('ocictl(1) names every command', () => {
  const commands = [...help('ocictl').matchAll(/^ {2}([a-z][a-z-]*) /gm)]
    .map((match) => match[1]!)
    .filter((name) => name !== 'help');
  const section = readFileSync(join(PROJECT, 'man/ocictl.1.scd'), 'utf8')
    .split('# COMMANDS')[1]!
    .split('# OPTIONS')[0]!;
  const documented = [...section.matchAll(/^\*([a-z-]+)\*/gm)].map((match) => match[1]!);
  assert.deepEqual(documented.sort(), commands.sort());
});

test('what people who know podman are told to type is there', () => {
  const read = (path: string) => readFileSync(join(PROJECT, path), 'utf8');
  const commands = new Set([...help('ocictl').matchAll(/^ {2}([a-z][a-z-]*) /gm)].map((match) => match[1]!));
  const [runOptions = '', others = ''] = read('src/cli/podman-words.ts').split('const COMMANDS');
  const named = [...`${others}${read('docs/from-podman.md')}`.matchAll(/ocictl ([a-z][a-z-]*)/g)];
  assert.ok(named.length > 50, String(named.length));
  for (const [words, command] of named) assert.ok(commands.has(command!), words);
  const inHelp = new Set(optionsInHelp(help('oci-run')));
  const hints = [...runOptions.matchAll(/^(?: {2}'--?\w[\w-]*': ?| {4}|const [A-Z]+ = )'(.*)',?;?$/gm)].map(
    (match) => match[1]!,
  );
  assert.ok(hints.length > 40, String(hints.length));
  for (const hint of hints)
    for (const [option] of hint.matchAll(/(?<![\w-])(?:--[a-z][a-z-]*|-[a-zA-Z](?![\w-]))/g))
      assert.ok(inHelp.has(option) || hint.includes(`sh ${option}`), `${option}: ${hint}`);
});
