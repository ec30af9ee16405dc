/** Root trees of all shapes: what is missing, what is something else, what leads out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BuiltEntry, directory, file, symlink, whiteout } from '../unit/archive/tar-builder.ts';
import {
  busyboxFile,
  type Case,
  type Expected,
  machine,
  type OddImage,
  odd,
  PROGRAMS,
  ROOT,
  refused,
} from './odd-image.ts';

/** That the places every container has are there and are its own. */
const PLACES = `cat /proc/1/comm; for d in /dev/shm /run /tmp /var/tmp; do echo x >$d/f && rm $d/f || echo "$d is closed"; done
test -c /dev/null || echo no null; test -e /sys/kernel || echo no sys; grep -c localhost /etc/hosts; cat /etc/hostname; test -f /etc/resolv.conf || echo no resolv
stat -Lc %F /proc /dev /sys /run /etc /tmp | sort | uniq -c | sed 's/^ *//'; stat -f -c %T /proc /sys 2>/dev/null | tr '\\n' ' '`;
const FINE: Expected = { status: 0, stdout: /^sh\n2\nh\n6 directory\n/ };

const root = (
  name: string,
  entries: readonly BuiltEntry[],
  expected: Expected = FINE,
  more: OddImage = {},
): Case => [
  name,
  {
    root: [...PROGRAMS, ...entries],
    run: PLACES,
    options: ['--hostname', 'h', ...(more.options ?? [])],
    ...more,
  },
  expected,
];
const both = (name: string, entries: readonly BuiltEntry[], layers: BuiltEntry[][] = []): Case[] => [
  root(name, entries, FINE, { layers }),
  root(`${name}, read-only`, entries, FINE, { layers, options: ['--hostname', 'h', '--read-only'] }),
];
const PLACE_NAMES = ['proc', 'dev', 'sys', 'run', 'etc'] as const;
const fifo = (name: string): BuiltEntry => ({ name, type: '6' });
const KINDS: [string, (name: string) => BuiltEntry[]][] = [
  ['a link to a directory', (name) => [symlink(name, 'else'), directory('else')]],
  ['a link out of the image', (name) => [symlink(name, '../../../../../etc')]],
  ['an absolute link', (name) => [symlink(name, '/var/x')]],
  ['a link that leads round', (name) => [symlink(name, name)]],
  ['a file', (name) => [file(name, 'x')]],
  ['a fifo', (name) => [fifo(name)]],
];

odd('places that are missing or something else', [
  ...both('one program', []),
  ...PLACE_NAMES.flatMap((name) => KINDS.map(([kind, make]) => root(`/${name} is ${kind}`, make(name)))),
  ...KINDS.map(([kind, make]) =>
    root(`all of them are ${kind}, read-only`, PLACE_NAMES.flatMap(make), FINE, {
      options: ['--hostname', 'h', '--read-only'],
    }),
  ),
  ...['resolv.conf', 'hosts', 'hostname'].flatMap((name) => [
    root(`/etc/${name} is a link`, [directory('etc'), symlink(`etc/${name}`, '../run/systemd/x')]),
    root(`/etc/${name} is a link out`, [directory('etc'), symlink(`etc/${name}`, `../../../etc/${name}`)]),
    root(`/etc/${name} is a link that leads round`, [directory('etc'), symlink(`etc/${name}`, name)]),
    root(`/etc/${name} is a directory`, [directory('etc'), directory(`etc/${name}`), file(`etc/${name}/x`)]),
    root(`/etc/${name} is a fifo`, [directory('etc'), fifo(`etc/${name}`)]),
  ]),
  root('/var is a link out', [symlink('var', '../../../else')]),
  // what the recipe does not need stays as the image has it
  ...KINDS.map(([kind, make]) =>
    root(`/tmp is ${kind}`, make('tmp'), /^(symbolic link|regular file|fifo)\n$/, { run: 'stat -c %F /tmp' }),
  ),
  root('/var/tmp is a file', [directory('var'), file('var/tmp')], {
    status: 0,
    stdout: /var\/tmp/,
    stderr: /./,
  }),
  root('/run/.oci is there', [
    directory('run'),
    directory('run/.oci'),
    file('run/.oci/nsenter', 'x'),
    file('run/.oci/ld.so', 'x'),
  ]),
  ...[directory('run', 0), directory('run', 0o700, { uid: 5, gid: 6 })].flatMap((run) => [
    root(`/run with mode 0${run.mode!.toString(8)}`, [run]),
    root(`/run with mode 0${run.mode!.toString(8)}, another user`, [run], 'ok\n', {
      config: { User: '7' },
      run: 'echo ok',
    }),
  ]),
  ...both(
    'all of them removed by a layer',
    PLACE_NAMES.map((name) => directory(name)),
    [['proc', 'dev', 'sys', 'run', 'etc', 'tmp', 'var'].map(whiteout)],
  ),
  root('/run/.oci is a link', [directory('run'), symlink('run/.oci', '/etc')]),
  root('/run/.oci is a file', [directory('run'), file('run/.oci')]),
  root(
    '/run/secrets are there',
    [directory('run'), directory('run/lock', 0o1777), file('run/x', 'kept')],
    'kept',
    { run: 'cat /run/x' },
  ),
]);

const tree = (name: string, image: OddImage, expected: Expected): Case => [name, image, expected];
const own = (entry: BuiltEntry) => [entry, ...ROOT];
const LOOK = 'stat -c "%u:%g %a" /; id -u';

odd('root trees', [
  tree(
    'scratch: one program, nothing else',
    { root: [busyboxFile('busybox')], run: ['/busybox', 'echo', 'x'] },
    'x\n',
  ),
  tree(
    'no layers',
    {
      document: (document) => {
        document.rootfs.diff_ids = [];
        return document;
      },
      root: [],
      run: ['/x'],
    },
    refused(65, /./),
  ),
  tree(
    '/ with mode 0, read-only',
    { root: own(directory('.', 0)), run: LOOK, options: ['--read-only'] },
    '0:0 100\n0\n',
  ),
  tree(
    'user 65535 writes',
    { config: { User: '65535:65535' }, run: 'echo x >/tmp/f; mkdir /tmp/d; stat -c %u:%g /tmp/f /tmp/d' },
    '65535:65535\n65535:65535\n',
  ),
  tree(
    'no shell',
    { root: [busyboxFile('busybox')], run: 'true' },
    refused(127, /'\/bin\/sh' does not exist/),
  ),
  tree(
    '/ of another user',
    { root: own(directory('.', 0o755, { uid: 5, gid: 6 })), run: LOOK },
    '5:6 755\n0\n',
  ),
  tree('/ with mode 0700', { root: own(directory('.', 0o700)), run: LOOK }, '0:0 700\n0\n'),
  tree('/ with mode 0', { root: own(directory('.', 0)), run: LOOK }, '0:0 100\n0\n'),
  tree(
    '/ with mode 0700 of another user',
    { root: own(directory('.', 0o700, { uid: 5, gid: 6 })), run: LOOK },
    '5:6 701\n0\n',
  ),
  tree(
    '/ with mode 0, another user',
    { root: own(directory('.', 0)), config: { User: '5' }, run: LOOK },
    '0:0 110\n5\n',
  ),
  tree('/ with mode 02777', { root: own(directory('.', 0o2777, { gid: 6 })), run: LOOK }, '0:6 2777\n0\n'),
  tree(
    '/ with mode 0700, a file over it',
    { root: own(directory('.', 0o700)), layers: [[symlink('tmp', 'x')]], run: LOOK },
    '0:0 700\n0\n',
  ),
  tree(
    '/etc with mode 0',
    {
      layers: [[directory('etc', 0, { uid: 7 })]],
      run: 'stat -c "%u:%g %a" /etc; cat /etc/hostname',
      options: ['--hostname', 'h'],
    },
    '7:0 0\nh\n',
  ),
  tree(
    'names with line breaks, blanks, %, and more',
    {
      layers: [[directory('a\nb'), file('a\nb/%n $X "\'\\', 'x'), file('ü\u2028', 'y')]],
      run: 'cat "/a\nb/"* /ü*',
    },
    'xy',
  ),
  tree(
    '128 layers',
    {
      layers: Array.from({ length: 127 }, (_, i) => [file(`f${i}`, `${i}`), file('last', `${i}`)]),
      run: 'cat /f0 /f126 /last; ls -d /f* | wc -l',
    },
    '0126126127\n',
  ),
  tree(
    'ld.so.preload',
    {
      layers: [
        [
          directory('etc'),
          file('etc/ld.so.preload', '/lib/memusage.so\n'),
          directory('lib'),
          file('lib/memusage.so', preload() as unknown as string, { mode: 0o755 }),
        ],
      ],
      config: { Env: ['PATH=/bin', 'MEMUSAGE_OUTPUT=/tmp/ran'] },
      run: 'ls /tmp',
    },
    '',
  ),
  tree(
    'nsswitch.conf with a library of the image',
    {
      layers: [[directory('etc'), file('etc/nsswitch.conf', 'passwd: evil\ngroup: evil\n')]],
      config: { User: '1000:1000' },
      run: 'id -u',
    },
    '1000\n',
  ),
  tree(
    'files of users that are not in passwd',
    { layers: [[file('f', '', { uid: 65534, gid: 65533 })]], run: 'stat -c %u:%g /f' },
    '65534:65533\n',
  ),
  tree(
    'a tree of 65535s',
    {
      layers: [[file('f', 'x', { uid: 65535, gid: 65535 })]],
      run: 'stat -c %u:%g /f; echo y >>/f; chown 65535:65535 /tmp; stat -c %u:%g /tmp; cat /f',
    },
    '65535:65535\n65535:65535\nxy\n',
  ),
  tree(
    'devices of the image are no devices',
    {
      layers: [
        [
          { name: 'sda', type: '4', deviceMajor: 8, deviceMinor: 0, mode: 0o666 },
          { name: 'n', type: '3', deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
        ],
      ],
      run: 'stat -c %F /sda; cat /sda 2>&1; true',
    },
    /^block special file\ncat: .*(Permission denied|Operation not permitted)\n$/,
  ),
]);

/** A library that shows that it was loaded: it writes the file that MEMUSAGE_OUTPUT names. */
function preload(): Buffer {
  return readFileSync(
    join(
      machine.root,
      'usr/lib',
      `${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`,
      'libmemusage.so',
    ),
  );
}
