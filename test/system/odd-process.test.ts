/** Commands, environments and working directories of all shapes. */
import { directory, file, hardLink, symlink, whiteout } from '../unit/archive/tar-builder.ts';
import {
  busyboxFile,
  type Case,
  type Expected,
  type OddImage,
  odd,
  PASSWD,
  refused,
  users,
} from './odd-image.ts';

const ARGS = 'printf "<%s>" "$0" "$@"';
const NO_COMMAND = refused(127, /the image has no command and none was given/);
const command = (name: string, config: object, expected: Expected, more: OddImage = {}): Case => [
  name,
  { config, ...more },
  expected,
];
const script = (text: string) => file('s', text, { mode: 0o755 });
const odds = [
  '%n%%',
  '$HOME',
  '$\x7bPATH}',
  '-@+!:',
  '',
  ' ',
  'a\nb',
  '\t',
  "'",
  '"',
  '\\',
  '\\x41',
  '#;',
  'ü\u2028',
  '=',
];

odd('commands', [
  command('Cmd alone', { Cmd: ['echo', 'a'] }, 'a\n'),
  command('Entrypoint alone', { Entrypoint: ['echo', 'a'] }, 'a\n'),
  command('both', { Entrypoint: ['echo', 'a'], Cmd: ['b'] }, 'a b\n'),
  command('a command instead of Cmd', { Entrypoint: ['echo', 'a'], Cmd: ['b'] }, 'a c d\n', {
    run: ['c', 'd'],
  }),
  command('--entrypoint drops Cmd', { Entrypoint: ['false'], Cmd: ['b'] }, '\n', {
    options: ['--entrypoint', 'echo'],
  }),
  command('--entrypoint with words', { Entrypoint: ['false'] }, 'x y\n', {
    options: ['--entrypoint', '["echo", "x"]'],
    run: ['y'],
  }),
  command("--entrypoint ''", { Entrypoint: ['false'], Cmd: ['b'] }, 'c\n', {
    options: ['--entrypoint', ''],
    run: ['echo', 'c'],
  }),
  command("--entrypoint '' without a command", { Entrypoint: ['true'], Cmd: ['true'] }, NO_COMMAND, {
    options: ['--entrypoint', ''],
  }),
  command('neither', {}, NO_COMMAND),
  command('empty arrays', { Entrypoint: [], Cmd: [] }, NO_COMMAND),
  command(
    'null',
    { Entrypoint: null, Cmd: null, Env: null, Volumes: null, Labels: null, User: null, WorkingDir: null },
    'x\n',
    { run: ['echo', 'x'] },
  ),
  command('an empty word', { Cmd: [''] }, NO_COMMAND),
  command('Cmd as a string', { Cmd: 'echo a' }, refused(65, /config Cmd is not an array/)),
  command('Cmd of numbers', { Cmd: [1] }, refused(65, /config Cmd/)),
  command('a NUL', { Cmd: ['echo', 'a\0b'] }, refused(65, /NUL/)),
  command(
    'odd arguments',
    { Entrypoint: ['/bin/sh', '-c', ARGS, ...odds] },
    odds.map((each) => `<${each}>`).join(''),
  ),
  command(
    '10,000 arguments',
    { Cmd: ['sh', '-c', 'echo $#', 'sh', ...Array<string>(10_000).fill('x')] },
    '10000\n',
  ),
  command(
    'an argument of 100 KiB',
    { Cmd: ['sh', '-c', 'echo "$1" | wc -c', 'sh', 'x'.repeat(102_400)] },
    '102401\n',
  ),
  command('an argument that is too long', { Cmd: ['echo', 'x'.repeat(131_072)] }, refused(126, /131072/)),
  command(
    'a command that begins with -',
    { Cmd: ['-x'] },
    { status: 0, stdout: 'dash\n' },
    { layers: [[file('bin/-x', '#!/bin/sh\necho dash\n', { mode: 0o755 })]] },
  ),
  command('a command with %, $, @ and blanks', { Cmd: ['@+! %n $HOME'] }, 'odd\n', {
    layers: [[file('bin/@+! %n $HOME', '#!/bin/sh\necho odd\n', { mode: 0o755 })]],
  }),
  command('a command with =', { Cmd: ['a=b'] }, 'equals\n', {
    layers: [[file('bin/a=b', '#!/bin/sh\necho equals\n', { mode: 0o755 })]],
  }),
  command(
    'a command with = after odd variables',
    { Env: ['PATH=/bin', 'a.b=1'], Cmd: ['a=b', 'c=d'] },
    '</bin/a=b><c=d>',
    { layers: [[file('bin/a=b', `#!/bin/sh\n${ARGS}\n`, { mode: 0o755 })]] },
  ),
  command('an Entrypoint of an empty word', { Entrypoint: [''], Cmd: ['echo', 'a'] }, 'a\n'),
  command(
    'more than the kernel takes in all',
    { Cmd: ['echo', ...Array<string>(30).fill('x'.repeat(100_000))] },
    refused(126, /have \d+ bytes in all: the kernel takes 2097152/),
  ),
  command('a command with a line break', { Cmd: ['/bin/a\nb'] }, 'odd\n', {
    layers: [[file('bin/a\nb', '#!/bin/sh\necho odd\n', { mode: 0o755 })]],
  }),
  command('not there', { Cmd: ['nothing'] }, refused(127, /command 'nothing' does not exist/)),
  command('not there, absolute', { Cmd: ['/nothing'] }, refused(127, /command '\/nothing' does not exist/)),
  command('not executable', { Cmd: ['/f'] }, refused(126, /command '\/f' is not executable/), {
    layers: [[file('f')]],
  }),
  command('a directory', { Cmd: ['/etc'] }, refused(126, /command '\/etc' is a directory/)),
  command('a fifo', { Cmd: ['/f'] }, refused(126, /command '\/f' is a fifo/), {
    layers: [[{ name: 'f', type: '6', mode: 0o755 }]],
  }),
  command('a dangling link', { Cmd: ['/f'] }, refused(127, /command '\/f' does not exist/), {
    layers: [[symlink('f', 'g')]],
  }),
  command('a link that leads round', { Cmd: ['/f'] }, refused(127, /command '\/f' does not exist/), {
    layers: [[symlink('f', 'f')]],
  }),
  command('a link to the host', { Cmd: ['/f'] }, refused(127, /command '\/f' does not exist/), {
    layers: [[symlink('f', '../../../../usr/bin/systemctl')]],
  }),
  command('a link', { Cmd: ['/f', 'x'] }, '</f><x>', {
    layers: [[symlink('f', 'g'), symlink('g', '/s'), script(`#!/bin/sh\n${ARGS}\n`)]],
  }),
  command('a hard link', { Cmd: ['/echo', 'x'] }, 'x\n', { layers: [[hardLink('echo', 'bin/busybox')]] }),
  command('a script', { Cmd: ['/s', 'x'] }, '</s><x>', { layers: [[script(`#!/bin/sh\n${ARGS}\n`)]] }),
  command('a script without #!', { Cmd: ['/s'] }, refused(126, /is text without #!/), {
    layers: [[script('echo plain\n')]],
  }),
  command('an empty file', { Cmd: ['/s'] }, refused(126, /is text without #!/), { layers: [[script('')]] }),
  command('no interpreter after #!', { Cmd: ['/s'] }, refused(126, /'\/s' names no interpreter after #!/), {
    layers: [[script('#! \necho x\n')]],
  }),
  command(
    'a program of another machine',
    { Cmd: ['/s'] },
    refused(126, /'\/s' is no program for this machine/),
    { layers: [[script(`\x7fELF\x02\x01\x01${'\0'.repeat(9)}\x02\0\x16\0${'\0'.repeat(44)}`)]] },
  ),
  command('bytes', { Cmd: ['/s'] }, refused(126, /is no program for this machine/), {
    layers: [[script('\0\0\0')]],
  }),
  command('by way of /proc', { Cmd: ['/proc/1/root/bin/echo', 'x'] }, 'x\n'),
  command(
    'an interpreter that is not there',
    { Cmd: ['/s'] },
    { status: 127, stderr: /No such file/ },
    { layers: [[script('#!/no/such\n')]] },
  ),
  command(
    'executable for others only',
    { User: '1000', Cmd: ['/echo'] },
    { status: 126, stderr: /Permission denied/ },
    { layers: [[busyboxFile('echo', { mode: 0o700 })]] },
  ),
  command(
    'in a directory that is closed',
    { User: '1000', Cmd: ['/d/echo'] },
    { status: 126, stderr: /Permission denied/ },
    { layers: [[directory('d', 0o700), busyboxFile('d/echo')]] },
  ),
  command("the image's PATH", { Env: ['PATH=/x:/bin'], Cmd: ['echo', 'a'] }, 'mine\n', {
    layers: [[file('x/echo', '#!/bin/sh\necho mine\n', { mode: 0o755 })]],
  }),
  command('PATH of --env', { Cmd: ['other'] }, 'mine\n', {
    options: ['-e', 'PATH=/x:/bin'],
    layers: [[file('x/other', '#!/bin/sh\necho mine\n', { mode: 0o755 })]],
  }),
  command('what is not executable is passed over', { Env: ['PATH=/x:/bin'], Cmd: ['echo', 'a'] }, 'a\n', {
    layers: [[file('x/echo')]],
  }),
  command('a relative command', { WorkingDir: '/bin', Cmd: ['./echo', 'x'] }, 'x\n'),
  command('a relative command with ..', { WorkingDir: '/tmp', Cmd: ['../bin/echo', 'x'] }, 'x\n'),
  command('argv[0] of a multi-call program', { Cmd: ['busybox', 'echo', 'x'] }, 'x\n'),
]);

/** What is not in every container. */
const environment = (stdout: string) =>
  JSON.stringify(
    stdout
      .split('\0')
      .slice(0, -1)
      .filter((entry) => !/^(HOME|HOSTNAME|container)=/.test(entry))
      .sort(),
  );
const PATH = 'PATH=/bin';
const env = (
  name: string,
  Env: unknown,
  expected: readonly string[] | Expected,
  more: OddImage = {},
): Case => [
  name,
  {
    config: { Env },
    ...(more.run === undefined ? { run: ['/bin/cat', '/proc/self/environ'], show: environment } : {}),
    ...more,
  },
  Array.isArray(expected) ? JSON.stringify([...expected].sort()) : (expected as Expected),
];
const raw = (value: Buffer) => (document: object) => {
  const text = JSON.stringify({ ...document, config: { Env: ['PATH=/bin', 'X=@'] } });
  const at = text.indexOf('X=@') + 2;
  return Buffer.concat([Buffer.from(text.slice(0, at)), value, Buffer.from(text.slice(at + 1))]);
};
const oddValues = [
  'A=a\nb',
  'B="\'',
  'C=%n%%',
  'D=$HOME $\x7bX}',
  'E=\\x',
  'F= a  b ',
  'G=\t',
  'H=ü\u2028',
  'I=#;',
  'J=\u0001\u001b[2J\u007f\r',
];
const oddNames = [
  'a.b=1',
  '1=2',
  'a b=3',
  'ü=4',
  'a-b=5',
  '%n=6',
  '$X=7',
  'a"=8',
  'A\nExecStart=/x',
  '\u0001=9',
  '-u=10',
  '[Service]=11',
];
const systemd = [
  'USER=x',
  'LOGNAME=y',
  'SHELL=z',
  'LANG=l',
  'NOTIFY_SOCKET=/n',
  'INVOCATION_ID=i',
  'LISTEN_FDS=3',
  'JOURNAL_STREAM=1:2',
];
const loader = [
  'LD_PRELOAD=/x.so',
  'LD_LIBRARY_PATH=/l',
  'LD_DEBUG=all',
  'GLIBC_TUNABLES=glibc.malloc.check=1',
];
const thousand = Array.from({ length: 1000 }, (_, i) => `V${i}=${i}`);

odd('environments', [
  env('values with =', [PATH, 'A=b=c=', 'B==='], [PATH, 'A=b=c=', 'B===']),
  env('no value', [PATH, 'A='], [PATH, 'A=']),
  env('no =', [PATH, 'A', 'B=1'], [PATH, 'B=1']),
  env('no name', [PATH, '=x', '', '='], [PATH]),
  env('twice: the last counts', [PATH, 'A=1', 'B=2', 'A=3'], [PATH, 'A=3', 'B=2']),
  env('odd values', [PATH, ...oddValues], [PATH, ...oddValues]),
  env('odd names', [PATH, ...oddNames], [PATH, ...oddNames]),
  env(
    'a value that looks like a unit',
    [PATH, 'B=\n[Service]\nUser=root'],
    [PATH, 'B=\n[Service]\nUser=root'],
  ),
  env('a NUL', [PATH, 'A=b\0c'], refused(65, /NUL/)),
  env('bytes that are not UTF-8', [], refused(65, /UTF-8/), { document: raw(Buffer.from([0xff, 0xfe])) }),
  env('128 KiB', [PATH, `A=${'x'.repeat(131_069)}`], [PATH, `A=${'x'.repeat(131_069)}`]),
  env('longer than the kernel takes', [PATH, `A=${'x'.repeat(131_070)}`], refused(126, /131072/)),
  env('a thousand', [PATH, ...thousand], [PATH, ...thousand]),
  env('what steers the loader', [PATH, ...loader], [PATH, ...loader]),
  env('what systemd sets', [PATH, ...systemd], [PATH, ...systemd]),
  env('no PATH', [], ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']),
  env('an empty PATH', ['PATH='], ['PATH=']),
  env(
    'its own HOME, HOSTNAME, TERM and container',
    [PATH, 'HOME=/h', 'HOSTNAME=x', 'TERM=vt', 'container=mine'],
    '/h x vt mine\n',
    {
      run: 'echo $HOME $HOSTNAME $TERM $container',
    },
  ),
  env('an empty HOME', [PATH, 'HOME='], '<>\n', { run: 'echo "<$HOME>"' }),
  env('--env', [PATH, 'A=1', 'B=2'], [PATH, 'A=3', 'B=2', 'C=', 'D=x'], {
    options: ['-e', 'A=3', '-e', 'C=', '--env', 'D=x'],
  }),
  env('--env from the caller', [PATH, 'A=1', 'B=2'], [PATH, 'A=outer', 'B=2'], {
    options: ['-e', 'A', '-e', 'NOT_SET'],
    env: { A: 'outer' },
  }),
  env('--env without a name', [PATH], refused(64, /--env: '=x' has no name/), { options: ['-e', '=x'] }),
  env('not an array', PATH, refused(65, /config Env is not an array/)),
]);

const DIR = 'pwd; stat -c "%u:%g %a" .';
const cwd = (WorkingDir: unknown, expected: Expected, more: OddImage = {}): Case => [
  JSON.stringify(WorkingDir) + (more.options ?? []).map((each) => ` ${each}`).join(''),
  { config: { WorkingDir }, run: DIR, ...more },
  expected,
];
const here = (path: string, attributes = '0:0 755') => `${path}\n${attributes}\n`;

odd('working directories', [
  cwd('', here('/')),
  cwd('/', here('/')),
  cwd('/tmp', here('/tmp', '0:0 1777')),
  cwd('/new', here('/new')),
  cwd('/a/b/c/d', here('/a/b/c/d')),
  cwd('/tmp/new/', here('/tmp/new')),
  cwd('//tmp///', here('/tmp', '0:0 1777')),
  cwd('/./tmp/.', here('/tmp', '0:0 1777')),
  cwd('/ü %n$X"\\', here('/ü %n$X"\\')),
  cwd('/a\nb', here('/a\nb')),
  cwd('/ a ', here('/ a ')),
  cwd("/it's", here("/it's")),
  cwd(`/${'long/'.repeat(50)}x`, here(`/${'long/'.repeat(50)}x`)),
  // as podman takes them
  cwd('tmp', here('/tmp', '0:0 1777')),
  cwd('.', here('/')),
  cwd('../new', here('/new')),
  cwd('/tmp/../etc', here('/etc')),
  cwd('/l/../x', here('/a/x', '5:0 755'), {
    layers: [
      [
        symlink('l', '/a/b'),
        directory('a'),
        directory('a/b'),
        directory('a/x', 0o755, { uid: 5 }),
        directory('x'),
      ],
    ],
  }),
  cwd('/d', here('/d'), { layers: [[directory('d', 0o700), file('d/x')], [whiteout('d')]] }),
  cwd('/d', here('/d', '7:8 755'), {
    config: { WorkingDir: '/d', User: '7:8' },
    layers: [[directory('d', 0o700)], [whiteout('d')]],
  }),
  cwd('/etc/hosts', refused(65, /'\/etc\/hosts': it is a file/)),
  cwd(`/${'x/'.repeat(1000)}`, refused(65, /is too long to be made/)),
  cwd(`/${'x'.repeat(256)}`, refused(65, /is too long to be made/)),
  cwd('/f', refused(65, /working directory '\/f': it is a file/), { layers: [[file('f')]] }),
  cwd('/f/d', refused(65, /working directory '\/f\/d': '\/f' is a file/), { layers: [[file('f')]] }),
  cwd('/d', here('/e', '5:6 700'), {
    layers: [[symlink('d', 'e'), directory('e', 0o700, { uid: 5, gid: 6 })]],
  }),
  cwd('/d/new', here('/e/new'), { layers: [[symlink('d', '/e'), directory('e')]] }),
  cwd('/d', here('/root/x'), { layers: [[symlink('d', '../../../root/x')]] }),
  cwd('/proc', { status: 0, stdout: /^\/proc\n/ }),
  cwd('/dev/shm', here('/dev/shm', '0:0 1777')),
  cwd('/run/x', here('/run/x')),
  cwd('/new', here('/new', '1000:1001 755'), {
    config: { WorkingDir: '/new', User: 'alice' },
    layers: [users(PASSWD)],
  }),
  cwd(
    '/shut',
    { status: 1, stdout: '/shut\n', stderr: "stat: can't stat '.': Permission denied\n" },
    {
      config: { WorkingDir: '/shut', User: '1000' },
      layers: [[directory('shut', 0o700)]],
    },
  ),
  cwd('/tmp', here('/w'), { options: ['-w', '/w'] }),
  cwd('/new', here('/new'), { options: ['--read-only'] }),
  cwd(7, refused(65, /config WorkingDir is not a string/)),
]);
