/** What the programs print, read and accept, without a store. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { loadOciConf, parseOciConf } from '../../../src/cli/config.ts';
import { placesFrom } from '../../../src/cli/options.ts';
import {
  createOutput,
  errorText,
  humanAge,
  humanBytes,
  jsonText,
  tableText,
} from '../../../src/cli/output.ts';
import { barLines, createProgress } from '../../../src/cli/progress.ts';
import { screenText } from '../../../src/cli/stats-command.ts';
import { VERSION } from '../../../src/cli/version.ts';
import type { ChainID, DiffID, Digest } from '../../../src/oci/digest.ts';
import { OciError } from '../../../src/oci/errors.ts';
import { CHILD_ENVIRONMENT } from '../child-environment.ts';
import { rejectsOci } from '../expect-error.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-cli-'));
after(() => rmSync(base, { recursive: true }));
const REPOSITORY = resolve(import.meta.dirname, '../../..');

function run(program: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, [join(REPOSITORY, `src/cli/${program}.ts`), ...args], {
    encoding: 'utf8',
    env: { ...CHILD_ENVIRONMENT, HOME: base, ...env },
  });
}

test('the version is that of the package', () => {
  assert.equal(VERSION, JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')).version);
  assert.equal(run('oci-pull', ['--version']).stdout, `${VERSION}\n`);
});

test('words of podman that are others here come with what to type', () => {
  const cases: [string, string[], string, string][] = [
    [
      'oci-run',
      ['--oom-score-adj', '5', 'x'],
      "unknown option '--oom-score-adj'",
      'Use -p OOMScoreAdjust=NUMBER.',
    ],
    ['oci-run', ['--arch=arm64', 'x'], "unknown option '--arch=arm64'", 'Use --platform OS/ARCH[/VARIANT].'],
    ['oci-run', ['--constructor', 'x'], "unknown option '--constructor'", 'See oci-run --help.'],
    [
      'oci-run',
      ['-d', '-t', 'x'],
      '--detach excludes --wait, --pipe, -i and -t',
      'Leave one of them out; ocictl exec -it UNIT sh gives a terminal in a container that runs.',
    ],
    [
      'oci-run',
      ['--stop-signal', 'FOO', 'x'],
      "--stop-signal: 'FOO' is not a signal",
      'Use a name or a number of signal(7), as SIGINT.',
    ],
    ['ocictl', ['stop', 'x'], "unknown command 'stop'", 'Use systemctl stop UNIT.'],
    ['ocictl', ['status', 'x'], "unknown command 'status'", 'Use systemctl status UNIT.'],
    [
      'ocictl',
      ['enable', 'x'],
      "unknown command 'enable'",
      'Use systemctl enable NAME, or ocictl install --enable.',
    ],
    [
      'ocictl',
      ['--root', '/x', 'volume', 'create', 'data'],
      "unknown command 'create'",
      'Leave it out: -v NAME:DIR makes the volume at the first start.',
    ],
    [
      'ocictl',
      ['rm', '-f', 'web'],
      "unknown option '-f'",
      'Here it is about images; to end a container: systemctl stop UNIT.',
    ],
    [
      'ocictl',
      ['ps', '--format={{.Names}}'],
      "unknown option '--format={{.Names}}'",
      'Use --json; jq(1) chooses what of it.',
    ],
    [
      'ocictl install',
      ['x', '--name', 'y', '--secret', 'z'],
      "unknown option '--secret'",
      'Use --credential NAME:FILE.',
    ],
  ];
  for (const [program, args, message, hint] of cases) {
    const [file = '', ...command] = program.split(' ');
    const { status, stdout, stderr } = run(file, [...command, ...args]);
    assert.deepEqual([status, stdout, stderr], [64, '', `${program}: ${message}\nhint: ${hint}\n`]);
  }
});

test('usage errors: one line, a hint, status 64', () => {
  const cases: [string, string[], string][] = [
    ['oci-pull', [], "missing required argument 'ref'"],
    ['oci-pull', ['--nope', 'x'], "unknown option '--nope'"],
    [
      'oci-pull',
      ['--policy', 'never', 'x'],
      "option '--policy <policy>' argument 'never' is invalid. Allowed choices are always, missing, newer.",
    ],
    [
      'oci-pull',
      ['--jobs', '0', 'x'],
      "option '--jobs <n>' argument '0' is invalid. Write a number from 1 to 32.",
    ],
    [
      'oci-pull',
      ['--tls-verify=maybe', 'x'],
      "option '--tls-verify <boolean>' argument 'maybe' is invalid. Write true or false.",
    ],
    ['ocictl', ['frob\u001b[2J'], "unknown command 'frob\\x1b[2J'"],
    ['ocictl', ['images', '--rot'], "unknown option '--rot' (Did you mean --root?)"],
    ['ocictl', ['inspect'], "missing required argument 'image'"],
  ];
  for (const [program, args, message] of cases) {
    const { status, stdout, stderr } = run(program, args);
    assert.deepEqual(
      [status, stdout, stderr],
      [64, '', `${program}: ${message}\nhint: See ${program} --help.\n`],
    );
  }
  assert.deepEqual(JSON.parse(run('ocictl', ['--json', 'frob']).stderr), {
    code: 'USAGE',
    message: "unknown command 'frob'",
    hint: 'See ocictl --help.',
  });
});

test('help goes to stdout when asked for, to stderr with status 64 when a command is missing', () => {
  const asked = run('ocictl', ['--help']);
  assert.deepEqual([asked.status, asked.stderr], [0, '']);
  assert.match(asked.stdout, /^Usage: ocictl /);
  const missing = run('ocictl', []);
  assert.deepEqual([missing.status, missing.stdout, missing.stderr], [64, '', asked.stdout]);
});

test('a store that is not there is an empty one, and stays away', () => {
  const root = join(base, 'none');
  assert.equal(run('ocictl', ['--root', root, '--json', 'images']).stdout, '[]\n');
  assert.equal(run('ocictl', ['--root', root, 'images']).stdout, 'NAME  DIGEST  LAYERS  SIZE  STORED\n');
  const missing = run('ocictl', ['--root', root, 'inspect', 'x']);
  assert.deepEqual(
    [missing.status, missing.stderr.split('\n')[0]],
    [66, "ocictl: no image 'x' in the store"],
  );
  assert.throws(() => readFileSync(root), { code: 'ENOENT' });
});

test('a closed stdout is a quiet end', () => {
  const script = join(REPOSITORY, 'src/cli/ocictl.ts');
  const { status, stderr } = spawnSync(
    '/bin/sh',
    ['-c', '"$0" "$1" --help | true; exit 0', process.execPath, script],
    { encoding: 'utf8' },
  );
  assert.deepEqual([status, stderr], [0, '']);
});

test('oci.conf: places, order and errors', async () => {
  const system = join(base, 'etc');
  const env = { HOME: join(base, 'user') };
  mkdirSync(join(system, 'oci.conf.d'), { recursive: true });
  mkdirSync(join(env.HOME, '.config/oci'), { recursive: true });
  assert.deepEqual(await loadOciConf({ env, systemDirectory: system }), {});
  writeFileSync(join(system, 'oci.conf'), '# comment\nroot = /a\nrun-root=/b\n');
  writeFileSync(join(system, 'oci.conf.d/20.conf'), 'root=/c\n');
  writeFileSync(join(system, 'oci.conf.d/10.conf'), 'root=/d\n');
  writeFileSync(join(system, 'oci.conf.d/30.conf.old'), 'root=/e\n');
  assert.deepEqual(await loadOciConf({ env, systemDirectory: system }), { root: '/c', runRoot: '/b' });
  writeFileSync(join(env.HOME, '.config/oci/oci.conf'), 'root=/f\n');
  assert.deepEqual(await loadOciConf({ env, systemDirectory: system }), { root: '/f', runRoot: '/b' });
  assert.deepEqual(await loadOciConf({ file: join(system, 'oci.conf.d/10.conf'), env }), { root: '/d' });
  assert.deepEqual(await placesFrom({ config: join(system, 'oci.conf.d/10.conf'), runRoot: '/r' }, env), {
    root: '/d',
    runRoot: '/r',
    additionalStores: [],
    keep: 2,
    storeFormat: 'tree',
    networks: {},
    trust: { keys: [], requireSignature: false },
  });
  assert.deepEqual(await parseOciConf('additional-stores=/a:/b:', 'f'), { additionalStores: ['/a', '/b'] });
  assert.deepEqual(await parseOciConf('additional-stores=', 'f'), { additionalStores: [] });
  assert.deepEqual(await parseOciConf('keep=0', 'f'), { keep: 0 });
  for (const keep of ['keep=-1', 'keep=x', 'keep', 'keep[]=1'])
    await rejectsOci(parseOciConf(keep, 'f'), 'CONFIG', "'f': keep is no number of versions");
  await rejectsOci(
    parseOciConf('additional-stores=/a:b', 'f'),
    'CONFIG',
    "'f': additional-stores is not an absolute path",
  );

  await rejectsOci(loadOciConf({ file: join(base, 'gone') }), 'INPUT_NOT_FOUND', 'no configuration file');
  await rejectsOci(parseOciConf('rot=/x', 'f'), 'CONFIG', "'f': unknown key 'rot'");
  for (const section of ['Trust', 'trusts'])
    await rejectsOci(
      parseOciConf(`[${section}]\nrequire-signature = true`, 'f'),
      'CONFIG',
      `'f': there is no section '${section}'`,
    );
  await rejectsOci(parseOciConf('root=relative', 'f'), 'CONFIG', "'f': root is not an absolute path");
  await rejectsOci(parseOciConf('root', 'f'), 'CONFIG', "'f': root is not an absolute path");
  await rejectsOci(parseOciConf('root[]=/a\nroot[]=/b', 'f'), 'CONFIG', "'f': root is not an absolute path");
  assert.deepEqual(await parseOciConf('__proto__=/a', 'f'), {});
});

test('errors as text and as JSON', () => {
  const error = new OciError('DENIED', 'no \u001b[2J way', { hint: 'Ask.', detail: 'one\ntwo' });
  const as = (json: boolean, verbose: boolean) => errorText(error, { program: 'p', json, verbose });
  assert.equal(as(false, false), 'p: no \\x1b[2J way\nhint: Ask.\n');
  assert.equal(as(false, true), 'p: no \\x1b[2J way\nhint: Ask.\ndetail: one\ndetail: two\n');
  assert.equal(
    as(true, false),
    '{"code":"DENIED","message":"no \\u001b[2J way","hint":"Ask.","detail":"one\\ntwo"}\n',
  );
  assert.match(
    errorText(new OciError('INTERNAL', 'x'), { program: 'p', json: false, verbose: false }),
    /^p: x\nhint: .*\n {4}at /,
  );
});

test('figures, tables and JSON for people', () => {
  assert.deepEqual([0, 999, 1000, 1500, 999_949, 999_950, 1e9, 5e15].map(humanBytes), [
    '0 B',
    '999 B',
    '1.0 kB',
    '1.5 kB',
    '999.9 kB',
    '1.0 MB',
    '1.0 GB',
    '5.0 PB',
  ]);
  const now = Date.parse('2025-01-01T00:00:00Z');
  assert.deepEqual(
    [
      '2025-01-01T00:00:00Z',
      '2024-12-31T23:59:59Z',
      '2024-12-31T22:30:00Z',
      '2024-12-01T00:00:00Z',
      '2026-01-01T00:00:00Z',
    ].map((t) => humanAge(t, now)),
    ['0 seconds ago', '1 second ago', '1 hour ago', '1 month ago', '2026-01-01T00:00:00Z'],
  );
  assert.equal(
    tableText(
      ['A', 'LONGER'],
      [
        ['xyz', 'é'],
        ['\u009b1', ''],
      ],
    ),
    'A      LONGER\nxyz    é\n\\x9b1\n',
  );
  assert.equal(jsonText({ a: '\u009b\u202e' }), '{\n  "a": "\\u009b\\u202e"\n}');
});

test('nothing foreign steers the terminal, whatever is printed', () => {
  const output = `import { createOutput } from ${JSON.stringify(join(REPOSITORY, 'src/cli/output.ts'))};
    const output = createOutput({ program: 'p', json: false, quiet: false, verbose: false });
    output.line('a\\u001b]0;x\\u0007\\u009b\\u202e');
    output.lines('b\\u009b\\nc\\n');`;
  const printed = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', output], {
    encoding: 'utf8',
  });
  assert.equal(printed.stdout, 'a\\x1b]0;x\\x07\\x9b\\u{202e}\nb\\x9b\nc\n', printed.stderr);

  const unit = join(base, 'odd.container');
  writeFileSync(unit, '[Container]\nImage=x\nNetwork=none\nExec="a\u009b\'b" \u202e "c\'d"\n');
  assert.match(
    run('ocictl', ['import', '--dry-run', unit]).stdout,
    / -- x \$'a\\u009b\\'b' \$'\\u202e' 'c'\\''d'\n$/,
  );

  const error = new OciError('UNAVAILABLE', 'x', { hint: 'Say \u009b.' });
  assert.equal(
    errorText(error, { program: 'p', json: true, verbose: false }),
    '{"code":"UNAVAILABLE","message":"x","hint":"Say \\u009b."}\n',
  );
});

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const layer = (digit: string, size: number) => ({
  descriptor: { mediaType: 'x', digest: digest(digit) as Digest, size },
  diffID: digest(digit) as DiffID,
  chainID: digest(digit) as ChainID,
});

test('progress on a terminal: bars that fit, redrawn ten times a second, cleared at the end', () => {
  let screen = '';
  let time = 0;
  const terminal = { isTTY: true, columns: 60, write: (text: string) => (screen += text) };
  const output = createOutput({ program: 'p', json: false, quiet: false, verbose: false });
  const progress = createProgress(output, terminal, () => time);
  progress.onEvent({
    type: 'resolved',
    digest: digest('f') as Digest,
    layers: [layer('a', 1000), layer('b', 4_000_000)],
  });
  progress.onEvent({ type: 'layer-reused', index: 0 });
  progress.onEvent({ type: 'layer-started', index: 1, bytes: 0 });
  screen = '';
  time = 50;
  progress.onEvent({ type: 'layer-progress', index: 1, bytes: 1_000_000 });
  assert.equal(screen, '', 'too early to draw again');
  time = 200;
  progress.onEvent({ type: 'layer-progress', index: 1, bytes: 2_000_000 });
  assert.match(screen, /bbbbbbbbbbbb \[=+ +\] 2\.0 MB of 4\.0 MB\n1 of 2 layers, 2\.0 MB of 4\.0 MB\n$/);
  screen = '';
  progress.onEvent({ type: 'layer-done', index: 1 });
  assert.ok(screen.includes('layer bbbbbbbbbbbb: done\n'), screen);
  screen = '';
  progress.close();
  assert.match(screen, /^(\x1b\[[0-9]+A\x1b\[J)?$/);
});

test('no bar is wider than the terminal', () => {
  const layers = [{ name: 'aaaaaaaaaaaa', total: 100, bytes: 50, state: 'active' as const }];
  for (const columns of [10, 20, 40, 80, 200])
    for (const line of barLines(layers, columns)) assert.ok(line.length < columns, `${columns}: ${line}`);
});

test('a table that is drawn again covers what was there, and never scrolls', () => {
  assert.equal(screenText('A\nb\n', 24), '\x1b[HA\x1b[K\nb\x1b[K\n\x1b[J');
  assert.equal(screenText('A\nb\nc\n', 3), '\x1b[HA\x1b[K\nb\x1b[K\n\x1b[J');
  assert.equal(screenText('A\nb\nc\n', 0), '\x1b[HA\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J');
});
