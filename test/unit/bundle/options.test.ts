import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalPath } from '../../../src/bundle/canonical-path.ts';
import { checkCommand, payloadArgs } from '../../../src/bundle/command.ts';
import { buildEnvironment, parseEnvFile } from '../../../src/bundle/environment.ts';
import { parseCount, parseCpus, parseSize } from '../../../src/bundle/quantity.ts';
import { parseVolume } from '../../../src/bundle/volume.ts';
import { parseSignal } from '../../../src/oci/signal.ts';
import { throwsOci } from '../expect-error.ts';

test('sizes', () => {
  const table: [string, number][] = [
    ['4096', 4096],
    ['1b', 1],
    ['256M', 256 * 2 ** 20],
    ['256m', 256 * 2 ** 20],
    ['256MiB', 256 * 2 ** 20],
    ['1.5g', 1.5 * 2 ** 30],
    ['2T', 2 * 2 ** 40],
    ['infinity', Number.POSITIVE_INFINITY],
  ];
  for (const [text, bytes] of table) assert.equal(parseSize('--memory', text), bytes, text);
  for (const text of ['', '0', '-5', '1x', '1 G', 'NaN', '9999999999T', '0x10', '1e9'])
    throwsOci(() => parseSize('--memory', text), 'USAGE', '--memory');
});

test('CPUs and counts', () => {
  assert.equal(parseCpus('1.5'), 1.5);
  assert.equal(parseCpus('0.01'), 0.01);
  for (const text of ['0', '-1', '', 'all', '1e3', '0.001'])
    throwsOci(() => parseCpus(text), 'USAGE', '--cpus');
  assert.equal(parseCount('--pids-limit', '100', 1, 4194304, true), 100);
  assert.equal(parseCount('--pids-limit', '-1', 1, 4194304, true), Number.POSITIVE_INFINITY);
  for (const text of ['0', '-2', '1.5', '4194305', ''])
    throwsOci(() => parseCount('--pids-limit', text, 1, 4194304, true), 'USAGE', '--pids-limit');
});

test('volumes', () => {
  const bind = (options: string[]) => ({ destination: '/b', type: 'bind', source: '/a', options });
  assert.deepEqual(parseVolume('/a:/b'), bind(['rbind', 'rw']));
  assert.deepEqual(parseVolume('/a:/b:ro'), bind(['rbind', 'ro']));
  assert.deepEqual(parseVolume('/a:/b:bind,rw'), bind(['bind', 'rw']));
  for (const text of ['', '/a', '/a:', ':/b', '/a:b', '/a:/', '/a:/b/../../c', '/a:/b:ro,rw', '/a:/b:ro:x'])
    throwsOci(() => parseVolume(text), 'USAGE', '--volume');
  throwsOci(() => parseVolume('data:/b'), 'UNSUPPORTED', "'data'");
  throwsOci(() => parseVolume('/a:/b:z'), 'UNSUPPORTED', "'z'");
});

test('environment: image, then ours, then the user; the last word wins', () => {
  const environment = buildEnvironment({
    image: ['A=1', 'B=x=y', 'NOVALUE', '=odd', 'HOME=/image'],
    user: ['A=2', 'FROM_CALLER', 'ABSENT', 'EMPTY='],
    caller: { FROM_CALLER: 'c' },
    home: '/root',
    hostname: 'h',
  });
  assert.deepEqual(environment, [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/image',
    'HOSTNAME=h',
    'container=oci',
    'A=2',
    'B=x=y',
    'FROM_CALLER=c',
    'EMPTY=',
  ]);
  const input = { image: [], user: ['=x'], caller: {}, home: '/', hostname: 'h' };
  throwsOci(() => buildEnvironment(input), 'USAGE', 'has no name');
  throwsOci(() => buildEnvironment({ ...input, user: [], image: ['A=\0'] }), 'BAD_IMAGE', 'NUL');
  assert.deepEqual(parseEnvFile('# c\nA=1 \r\n\n  B="q"\nC'), ['A=1 ', 'B="q"', 'C']);
});

test('entrypoint and command', () => {
  const image = { Entrypoint: ['e', '1'], Cmd: ['c'] };
  assert.deepEqual(payloadArgs(image, undefined, []), ['e', '1', 'c']);
  assert.deepEqual(payloadArgs(image, undefined, ['x']), ['e', '1', 'x']);
  assert.deepEqual(payloadArgs(image, ['n'], []), ['n']);
  assert.deepEqual(payloadArgs(image, [], ['x']), ['x']);
});

test('the command is looked for as execvp(3) does', () => {
  const files: Record<string, { kind: string; mode: number }> = {
    '/bin/sh': { kind: 'file', mode: 0o755 },
    '/bin/data': { kind: 'file', mode: 0o644 },
    '/bin/dir': { kind: 'directory', mode: 0o755 },
    '/usr/bin/data': { kind: 'file', mode: 0o755 },
    '/work/run': { kind: 'file', mode: 0o755 },
  };
  const check = (command: string, PATH = '/bin:/usr/bin') =>
    checkCommand({
      args: [command],
      env: [`PATH=${PATH}`],
      cwd: '/work',
      lookup: (path) => files[path.replace('/./', '/')],
      covered: (path) => path.startsWith('/mnt/'),
    });
  check('sh');
  check('/bin/sh');
  check('./run');
  check('run', ':/bin');
  check('data'); // not executable in /bin, but in /usr/bin
  check('/mnt/anything');
  throwsOci(() => check('nope'), 'COMMAND_NOT_FOUND', "'nope' does not exist");
  throwsOci(() => check('/bin/nope'), 'COMMAND_NOT_FOUND', "'/bin/nope'");
  throwsOci(() => check(''), 'COMMAND_NOT_FOUND', 'no command');
  throwsOci(() => check('data', '/bin'), 'COMMAND_CANNOT_RUN', 'is not executable');
  throwsOci(() => check('/bin/dir'), 'COMMAND_CANNOT_RUN', 'is a directory');
});

test('canonical paths stay inside', () => {
  const links: Record<string, string> = {
    '/lib': 'usr/lib',
    '/var/run': '/run',
    '/up': '../../../etc',
    '/a': '/b',
    '/b': 'a',
  };
  const canonical = (path: string) => canonicalPath(path, (p) => links[p]);
  assert.equal(canonical('/lib/x/y'), '/usr/lib/x/y');
  assert.equal(canonical('/var/run/app'), '/run/app');
  assert.equal(canonical('/up/passwd'), '/etc/passwd');
  assert.equal(canonical('//x/./y/../z/'), '/x/z');
  assert.equal(canonical('/../..'), '/');
  throwsOci(() => canonical('/a/x'), 'BAD_IMAGE', 'leads round');
});

test('signals', () => {
  const table: [string, number, string][] = [
    ['SIGTERM', 15, 'SIGTERM'],
    ['quit', 3, 'SIGQUIT'],
    ['9', 9, 'SIGKILL'],
    ['SIGRTMIN+3', 37, 'SIGRTMIN+3'],
    ['RTMAX-1', 63, 'SIGRTMIN+29'],
    ['SIGRTMIN', 34, 'SIGRTMIN'],
    ['SIGABRT', 6, 'SIGABRT'],
    ['37', 37, 'SIGRTMIN+3'],
  ];
  for (const [text, number, name] of table) assert.deepEqual(parseSignal(text), { number, name }, text);
  for (const text of ['', '0', '65', 'SIGNOPE', '-1', 'SIGRTMIN+31', 'RTMAX-31', '15x', 'constructor'])
    throwsOci(() => parseSignal(text), 'BAD_IMAGE', 'is not a signal');
});
