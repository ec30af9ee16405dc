/**
 * Completions, as each shell gives them, for what the build makes of the commander definitions; and that they, --help
 * and the manual pages have the same options and commands.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { completionFiles, PROGRAMS } from '../../scripts/completions.ts';

const directory = mkdtempSync(join(tmpdir(), 'completions-'));
const files = completionFiles();

/** Names of ours that complete: an ocictl that has an image, a container, a service and a volume. */
const OCICTL = `#!/bin/sh
case $* in
'images --json') printf '[\\n  {\\n    "names": [\\n      "127.0.0.1:5000/nginx:latest",\\n      "$(touch ${directory}/pwned)"\\n    ]\\n  }\\n]\\n' ;;
'ps --quiet') printf 'web.service\\ndb.service\\n$(touch ${directory}/pwned)\\n' ;;
versions) printf 'SERVICE  VERSION\\nsite  1\\n' ;;
'volume ls') printf 'NAME  SIZE\\ndata  1\\n' ;;
esac
`;

before(() => {
  for (const [path, text] of files) {
    mkdirSync(join(directory, dirname(path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  writeFileSync(join(directory, 'ocictl'), OCICTL);
  chmodSync(join(directory, 'ocictl'), 0o755);
  writeFileSync(join(directory, 'web.container'), '');
});
after(() => rmSync(directory, { recursive: true }));

function shell(command: string, ...args: string[]): string {
  const { stdout, stderr, status, error } = spawnSync(command, args, {
    encoding: 'utf8',
    cwd: directory,
    env: { ...process.env, PATH: `${directory}:${process.env['PATH']}`, HOME: directory, TERM: 'dumb' },
  });
  assert.equal(error, undefined);
  assert.equal(stderr, '', `${args.join(' ')}`);
  assert.equal(status, 0);
  return stdout;
}

/** What bash offers for the last word; words split as bash splits them. */
function bashOffers(...words: string[]): string[] {
  const program = words[0]!;
  const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const text = `source ${directory}/bash/${program}
COMP_WORDS=(${quoted}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
compopt() { :; }
_${program.replaceAll('-', '_')}; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return shell('bash', '--norc', '-c', text)
    .split('\n')
    .filter((line) => line !== '');
}

test('bash', () => {
  assert.match(
    shell('bash', '--norc', '-c', `source ${directory}/bash/ocictl; complete -p ocictl`),
    /-F _ocictl ocictl/,
  );
  assert.deepEqual(bashOffers('ocictl', 'unin'), ['uninstall']);
  assert.deepEqual(bashOffers('ocictl', '--json', 'volume', ''), ['ls', 'rm']);
  assert.deepEqual(bashOffers('ocictl', 'volume', 'rm', ''), ['data']);
  assert.deepEqual(bashOffers('ocictl', '--root', '/x', 'import', '--b'), ['--best-effort']);
  assert.deepEqual(bashOffers('ocictl', 'import', 'we'), ['web.container']);
  assert.deepEqual(bashOffers('ocictl', 'exec', '-u', 'root', 'w'), ['web.service']);
  assert.deepEqual(bashOffers('ocictl', 'rollback', ''), ['site']);
  assert.deepEqual(bashOffers('ocictl', 'install', '--auto-update', ''), ['registry', 'local']);
  assert.deepEqual(bashOffers('ocictl', 'install', '--auto-update', '=', 'r'), ['registry']);
  assert.deepEqual(bashOffers('oci-run', '--pull', 'n'), ['newer', 'never']);
  assert.deepEqual(bashOffers('oci-run', '--memory', '1G', '127'), ['127.0.0.1:5000/nginx:latest']);
  // bash splits at colons, and wants only what comes after the last one
  assert.deepEqual(bashOffers('oci-run', '127.0.0.1', ':', '5000/ng'), ['5000/nginx:latest']);
  assert.deepEqual(bashOffers('oci-pull', '--plat'), ['--platform']);
  assert.throws(() => readFileSync(join(directory, 'pwned')));
});

test('zsh', () => {
  for (const path of files.keys()) if (path.startsWith('zsh/')) shell('zsh', '-n', join(directory, path));
  for (const [line, expected] of [
    ['ocictl unin', 'uninstall'],
    ['ocictl exec we', 'web.service'],
    ['oci-run --pull mis', 'missing'],
  ] as const)
    assert.ok(shell('zsh', '-fc', ZSH, 'zsh', `${directory}/zsh`, line, expected).includes(expected), line);
});

/** An interactive zsh on a terminal of its own, whose tabulator key is pressed after a line; what it shows. */
const ZSH = String.raw`
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; fpath=($1 "'$fpath'"); autoload -Uz compinit; compinit -D -u; bindkey '^I' complete-word; stty columns 200; echo rea''dy"
zpty -r z seen '*ready*'
seen=
zpty -n -w z $2$'\t'
for ((at = 0; at < 100; at++)); do
  zpty -r -t z more && seen+=$more
  [[ $seen == *$3* ]] && break
  sleep 0.1
done
zpty -d z
print -r -- $seen`;

test('fish', () => {
  for (const path of files.keys()) if (path.startsWith('fish/')) shell('fish', '-n', join(directory, path));
  const offers = (line: string) =>
    shell(
      'fish',
      '--no-config',
      '-c',
      `source ${directory}/fish/${line.split(' ')[0]}.fish; complete -C '${line}'`,
    )
      .split('\n')
      .map((each) => each.split('\t')[0])
      .filter((each) => each !== '');
  assert.deepEqual(offers('ocictl unin'), ['uninstall']);
  assert.deepEqual(offers('ocictl exec we'), ['web.service']);
  assert.deepEqual(offers('ocictl volume rm '), ['data']);
  assert.deepEqual(offers('oci-run --pull ne'), ['never', 'newer']);
  assert.deepEqual(offers('oci-pull --plat'), ['--platform']);
  assert.ok(offers('ocictl install --wanted').includes('--wanted-by'));
});

test('completions, --help and the manual have the same options and commands', () => {
  for (const [program, commands] of Object.entries(PROGRAMS)) {
    const help = spawnSync(
      process.execPath,
      [join(import.meta.dirname, `../../src/cli/${program}.ts`), '--help'],
      {
        encoding: 'utf8',
      },
    ).stdout;
    const inHelp = new Set(
      [...help.matchAll(/^ {2}(?:-\w, )?(?:--[a-z]+, )?(--[a-z-]+|-\w)/gm)].map(([, name]) => name),
    );
    const offered = new Set(commands[0]!.options.map(({ names }) => names[0]));
    assert.ok(inHelp.size > 5);
    assert.deepEqual([...offered].sort(), [...inHelp].sort());
    const page = readFileSync(join(import.meta.dirname, `../../man/${program}.1.scd`), 'utf8');
    for (const { path } of commands.slice(1))
      assert.match(page, new RegExp(`^\\*${path[0]}\\*.*${path[1] ?? ''}`, 'm'), path.join(' '));
    for (const name of offered) assert.match(page, new RegExp(`\\*${name}\\*`), name);
  }
});
