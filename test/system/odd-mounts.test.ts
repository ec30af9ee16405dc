/** Volumes and mounts of all shapes. */
import { after, before } from 'node:test';
import { stdoutOf } from '../machine/machine.ts';
import { directory, file, symlink, whiteout } from '../unit/archive/tar-builder.ts';
import { type Case, type Expected, machine, type OddImage, odd, refused } from './odd-image.ts';

// not in /: an overlay cannot be id-mapped
const HOST = '/var/tmp/odd-host';
before(async () => {
  stdoutOf(
    await machine.script(`rm -rf ${HOST}; mkdir -p ${HOST}/d/sub ${HOST}/owned; echo host >${HOST}/d/f; echo sub >${HOST}/d/sub/f
      echo single >${HOST}/single; chmod 777 ${HOST}/d ${HOST}/owned; chmod 666 ${HOST}/single; chown 1000:1001 ${HOST}/owned; mkdir '${HOST}/b l:a%n"k' ${HOST}/trap; ln -s /etc '${HOST}/trap/l k'; ln -s d ${HOST}/link`),
  );
});
after(async () => {
  stdoutOf(await machine.script(`rm -rf ${HOST} /var/lib/oci/volumes/odd-*`));
});

const volumes = (...paths: string[]) => Object.fromEntries(paths.map((path) => [path, {}]));
const image = (
  name: string,
  paths: string[] | unknown,
  run: string,
  expected: Expected,
  more: OddImage = {},
): Case => [
  name,
  { config: { Volumes: Array.isArray(paths) ? volumes(...paths) : paths }, run, ...more },
  expected,
];
const writable = (path: string) => `touch ${path}/x && ls ${path}`;
const content = [[directory('data', 0o750, { uid: 5, gid: 6 }), file('data/a', 'kept', { uid: 7 })]];
const both = (
  name: string,
  paths: string[],
  run: string,
  expected: Expected,
  more: OddImage = {},
): Case[] => [
  image(name, paths, run, expected, more),
  image(`${name}, read-only root`, paths, run, expected, {
    ...more,
    options: ['--read-only', ...(more.options ?? [])],
  }),
];

odd('volumes of the image', [
  ...both('missing', ['/data'], `stat -c "%u:%g %a" /data; ${writable('/data')}`, '0:0 755\nx\n'),
  ...both('missing, deep', ['/a/b/c'], writable('/a/b/c'), 'x\n'),
  ...both(
    'with content',
    ['/data'],
    'stat -c "%u:%g %a" /data; stat -c %u /data/a; cat /data/a; touch /data/x',
    '5:6 750\n7\nkept',
    { layers: content },
  ),
  image('over a file', ['/f'], 'cat /f', 'x', { layers: [[file('f', 'x')]] }),
  image('over a file, read-only root', ['/f'], writable('/f'), 'x\n', {
    layers: [[file('f')]],
    options: ['--read-only'],
  }),
  ...both('over a link', ['/l'], writable('/data'), 'a\nx\n', {
    layers: [...content, [symlink('l', 'data')]],
  }),
  ...both('over a link out of the image', ['/l'], `${writable('/l')}; ls -d /etc/x`, 'x\n', {
    layers: [[symlink('l', '../../../../etc/y'), directory('etc/y')]],
    run: 'touch /l/x && ls /l',
  }),
  ...both(
    'a hundred',
    Array.from({ length: 100 }, (_, i) => `/v/${i}`),
    'ls /v | wc -l; touch /v/99/x && ls /v/99',
    '100\nx\n',
  ),
  ...both(
    'one in another',
    ['/v', '/v/w', '/v/w/x'],
    'touch /v/1 /v/w/2 /v/w/x/3 && ls /v /v/w/x',
    '/v:\n1\nw\n\n/v/w/x:\n3\n',
  ),
  ...both('slashes and dots', ['//v//w/./'], writable('/v/w'), 'x\n'),
  ...both(
    'blanks, %, $, quotes, colons and line breaks',
    ['/a b', '/%n', '/$X', '/"q', '/c:d', '/e\nf'],
    'touch "/a b/x" /%n/x "/\\$X/x" "/\\"q/x" /c:d/x "/e\nf/x" && echo ok',
    'ok\n',
  ),
  image(
    'a file of the host over one',
    ['/data'],
    'cat /data/f; cat /data/a',
    { status: 1, stdout: 'host\n', stderr: /data\/a/ },
    { layers: content, options: ['-v', `${HOST}/d:/data`] },
  ),
  // podman 5.8 makes a relative one absolute and clears '..' away; at / and what the kernel fills it breaks
  image('/', ['/'], 'touch /x && echo ok', 'ok\n'),
  image('/, read-only root', ['/'], 'echo ok', refused(69, /whole root '\/' as a volume/), {
    options: ['--read-only'],
  }),
  image('.., read-only root', ['..'], 'echo ok', refused(69, /whole root '\/' as a volume/), {
    options: ['--read-only'],
  }),
  ...both('/proc', ['/proc', '/proc/x'], 'cat /proc/1/comm', 'cat\n'),
  ...both('/sys and /dev', ['/sys', '/dev', '/sys/fs/cgroup/x'], 'ls /dev/null', '/dev/null\n'),
  ...both('/dev/shm/x', ['/dev/shm/x'], 'echo ok', 'ok\n'),
  ...both('/run', ['/run'], 'touch /run/x && ls /run/x', '/run/x\n'),
  ...both(
    'files of every container',
    ['/etc/hosts', '/etc/hostname/x', '/etc/resolv.conf'],
    'stat -c %F /etc/hosts /etc/hostname | uniq',
    'regular file\n',
  ),
  ...both('removed by a layer', ['/data'], `stat -c "%u:%g %a" /data; ${writable('/data')}`, '0:0 755\nx\n', {
    layers: [...content, [whiteout('data')]],
  }),
  image('too deep', [`/${'v/'.repeat(1000)}`], 'true', refused(65, /is too long to be made/)),
  ...both('/run/.oci', ['/run/.oci'], 'echo ok', 'ok\n'),
  ...both('relative', ['data', './more'], `${writable('/data')}; ${writable('/more')}`, 'x\nx\n'),
  ...both('with ..', ['/data/../../etc/y'], writable('/etc/y'), 'x\n'),
  ...both('nothing', [''], 'echo ok', /ok/).slice(0, 1),
  image('an array', ['/data'], 'echo ok', refused(65, /config Volumes/), { config: { Volumes: ['/data'] } }),
  image('null', null, 'echo ok', 'ok\n'),
]);

const mounted = (
  name: string,
  options: string[],
  run: string,
  expected: Expected,
  more: OddImage = {},
): Case => [name, { run, options, ...more }, expected];
/** Per-mount flags. */
const flags = (path: string) => `awk '$5 == "${path}" { print $6 }' /proc/self/mountinfo`;
const bind = (options: string) => ['-v', `${HOST}/d:/data${options}`];
const RO = /Read-only file system/;

odd('mounts', [
  mounted(
    'a directory',
    bind(''),
    'cat /data/f /data/sub/f; touch /data/made && rm /data/made && echo rw',
    'host\nsub\nrw\n',
  ),
  mounted(
    'a file',
    ['-v', `${HOST}/single:/deep/down/f`],
    'cat /deep/down/f; echo more >>/deep/down/f',
    'single\n',
  ),
  mounted('a link of the host', ['-v', `${HOST}/link:/data`], 'cat /data/f', 'host\n'),
  mounted(
    'odd characters on the host',
    ['--mount', `type=bind,src=${HOST}/b l:a%n"k,dst=/data`],
    'ls -d /data',
    '/data\n',
  ),
  mounted('over a file of the image', ['-v', `${HOST}/single:/f`], 'head -n1 /f', 'single\n', {
    layers: [[file('f', 'image')]],
  }),
  mounted(
    'a directory over a file',
    bind('').map((text) => text.replace('/data', '/f')),
    'cat /f/f',
    'host\n',
    { layers: [[file('f', 'image')]] },
  ),
  mounted('through a link', ['-v', `${HOST}/d:/l/x`], 'cat /data/x/f', 'host\n', {
    layers: [[directory('data'), symlink('l', '/data')]],
  }),
  mounted('at a link', ['-v', `${HOST}/d:/l`], 'cat /data/f; readlink /l', 'host\n/data\n', {
    layers: [[directory('data'), symlink('l', '/data')]],
  }),
  mounted('at a link out of the image', ['-v', `${HOST}/d:/l`], 'cat /etc/q/f', 'host\n', {
    layers: [[symlink('l', '../../../etc/q'), directory('etc/q')]],
  }),
  mounted('/var/run is a link to /run', ['-v', `${HOST}/d:/var/run/x`], 'cat /run/x/f', 'host\n', {
    layers: [[directory('var'), symlink('var/run', '/run')]],
  }),
  mounted('at a link that leads round', ['-v', `${HOST}/d:/l`], 'cat /l/f', 'host\n', {
    layers: [[symlink('l', 'l')]],
  }),
  mounted('read-only', bind(':ro'), `${flags('/data')} | grep -o '^ro'; touch /data/x`, {
    status: 1,
    stdout: 'ro\n',
    stderr: RO,
  }),
  mounted('flags', bind(':nosuid,nodev,noexec'), flags('/data'), /^rw,nosuid,nodev,noexec,/),
  mounted('noexec', bind(':noexec'), 'cp /bin/busybox /data/b; /data/b true; echo $?; rm /data/b', {
    status: 0,
    stdout: '126\n',
    stderr: /Permission denied/,
  }),
  mounted(
    'all flags by --mount',
    ['--mount', `type=bind,src=${HOST}/d,dst=/data,ro,bind-propagation=rslave`],
    flags('/data'),
    /^ro,/,
  ),
  mounted('rslave', bind(':rslave'), `grep ' /data ' /proc/self/mountinfo | grep -o 'master:'`, 'master:\n'),
  mounted(
    'rprivate',
    bind(':rprivate'),
    `grep ' /data ' /proc/self/mountinfo | grep -c 'master:' ; true`,
    /^[01]\n$/,
  ),
  mounted('ids without mapping', ['-v', `${HOST}/owned:/data`], 'stat -c %u:%g /data', '65534:65534\n'),
  mounted(
    'ids mapped',
    ['-v', `${HOST}/owned:/data:idmap`],
    'stat -c %u:%g /data; touch /data/x && chown 5:6 /data/x',
    '1000:1001\n',
  ),
  mounted('a volume', ['-v', 'odd-a:/data'], 'cat /data/a; stat -c "%u:%g %a" /data', 'kept5:6 750\n', {
    layers: content,
  }),
  mounted(
    'a volume by --mount',
    ['--mount', 'type=volume,src=odd-b,dst=/data'],
    'touch /data/x && ls /data',
    'x\n',
  ),
  mounted('a volume, read-only', ['-v', 'odd-c:/data:ro'], 'touch /data/x', { status: 1, stderr: RO }),
  mounted(
    'a tmpfs',
    ['--tmpfs', '/data:size=1M,mode=700'],
    `stat -c %a /data; ${flags('/data')}; ls /data`,
    /^700\nrw,nosuid,nodev,.*\na\n$/,
    { layers: content },
  ),
  mounted(
    'a tmpfs by --mount',
    ['--mount', 'type=tmpfs,dst=/data,tmpfs-size=1M,tmpfs-mode=1777'],
    'dd if=/dev/zero of=/data/x bs=1M count=2',
    { status: 1, stderr: /No space left/ },
  ),
  mounted(
    'one in another, in the wrong order',
    ['-v', `${HOST}/d/sub:/data/sub/deep`, '-v', 'odd-d:/data/sub', '--tmpfs', '/data'],
    'cat /data/sub/deep/f; touch /data/t /data/sub/v && ls /data',
    'sub\nsub\nt\n',
  ),
  mounted(
    'the same place twice',
    ['-v', `${HOST}/d/sub:/data`, '-v', `${HOST}/d:/data`],
    'true',
    refused(64, /two mounts at '\/data'/),
  ),
  mounted(
    'a read-only root',
    ['--read-only', ...bind('')],
    'cat /data/f; touch /data/x && rm /data/x; touch /x',
    { status: 1, stdout: 'host\n', stderr: RO },
  ),
  mounted('in /dev', ['-v', `${HOST}/d:/dev/shm/x`], 'cat /dev/shm/x/f', /host/),
  mounted('over /etc/hosts', ['-v', `${HOST}/single:/etc/hosts`], 'head -n1 /etc/hosts', 'single\n'),
  mounted(
    'over /etc/resolv.conf, a link',
    ['-v', `${HOST}/single:/etc/resolv.conf`],
    'head -n1 /etc/resolv.conf',
    'single\n',
    { layers: [[directory('etc'), symlink('etc/resolv.conf', '../run/r')]] },
  ),
  mounted('at /proc', ['-v', `${HOST}/d:/proc`], 'true', refused(64, /'\/proc'/)),
  mounted('at /', ['-v', `${HOST}/d:/`], 'true', refused(64, /would cover the whole container/)),
  mounted('at /sys/fs/cgroup', ['-v', `${HOST}/d:/sys/fs/cgroup`], 'true', refused(64, /cgroup/)),
  mounted('with ..', ['-v', `${HOST}/d:/a/../../b`], 'true', refused(64, /holds '\.\.'/)),
  mounted('relative', ['-v', `${HOST}/d:data`], 'true', refused(64, /not absolute/)),
  mounted(
    'a source that is not there',
    ['-v', `${HOST}/none:/data`],
    'true',
    refused(66, /does not exist on the host/),
  ),
  mounted('an unknown option', bind(':wrong'), 'true', refused(69, /'wrong'/)),
  mounted(
    'odd characters in the container',
    ['--mount', `type=bind,src=${HOST}/d,dst=/a b"c'd\\e:f%n$x/-g #h`],
    'cat "/a b\\"c\'d\\\\e:f%n\\$x/-g #h/f"',
    'host\n',
  ),
  mounted('at odd characters of the image', ['-v', `${HOST}/d:/a b`], 'cat "/a b/f"', 'host\n', {
    layers: [[directory('a b'), file('a b/f', 'image')]],
  }),
  mounted('at a link with odd characters', ['-v', `${HOST}/d:/a b`], 'cat /data/f', 'host\n', {
    layers: [[directory('data'), symlink('a b', 'data')]],
  }),
  mounted('at an odd link out of the image', ['-v', `${HOST}/d:/a b/c d`], 'cat "/etc/q/c d/f"', 'host\n', {
    layers: [[symlink('a b', '../../../etc/q'), directory('etc/q')]],
  }),
  mounted('at an odd link to one that leads round', ['-v', `${HOST}/d:/a b/c`], 'cat "/a b/c/f"', 'host\n', {
    layers: [[symlink('a b', 'l'), symlink('l', 'a b')]],
  }),
  mounted(
    'a file at an odd place',
    ['-v', `${HOST}/single:/run/x y/f:ro`],
    'head -n1 "/run/x y/f"',
    'single\n',
  ),
  mounted(
    'odd places in other mounts',
    [
      ...['-v', `${HOST}/d:/data`, '-v', 'odd-e:/v', '--tmpfs', '/t'],
      ...['-v', `${HOST}/d:/data/in a:ro`, '-v', `${HOST}/d:/v/in b`, '-v', `${HOST}/d:/t/in c`],
      ...['-v', `${HOST}/d/sub:/t/in c/sub d`, '-v', `${HOST}/d:/dev/shm/in e`],
    ],
    'cat "/data/in a/f" "/v/in b/f" "/t/in c/f" "/t/in c/sub d/f" "/dev/shm/in e/f"; touch "/data/in a/x"',
    { status: 1, stdout: 'host\nhost\nhost\nsub\nhost\n', stderr: RO },
  ),
  mounted(
    'an odd link of the host in what is mounted',
    ['-v', `${HOST}/trap:/data`, '-v', `${HOST}/d:/data/l k/x`],
    'true',
    refused(69, /a part of it is a symbolic link/),
  ),
  mounted(
    'odd places, read-only root',
    ['--read-only', '-v', `${HOST}/d:/a b`, '--tmpfs', '/c d', '-v', `${HOST}/single:/run/e f`],
    'touch "/c d/x" "/a b/w" && rm "/a b/w"; cat "/a b/f"; head -n1 "/run/e f"; touch /x',
    { status: 1, stdout: 'host\nsingle\n', stderr: RO },
  ),
  mounted('an odd place in /proc', ['-v', `${HOST}/d:/proc/a b`], 'true', refused(69, /'\/proc\/a b'/)),
  mounted('a volume at /run', ['-v', 'odd-r:/run'], 'true', refused(64, /'\/run' with mapped ids/)),
  mounted('an unknown type', ['--mount', 'type=nfs,src=x,dst=/data'], 'true', refused(69, /'nfs'/)),
]);

const OTHER = '127.0.0.1:5000/busybox';
const other = (more: string) => ['--mount', `type=image,source=${OTHER},destination=/o${more}`];
odd('other images as mounts', [
  mounted(
    'read-only',
    other(''),
    `${flags('/o')} | cut -d, -f1-3; stat -c %u:%g /o/bin/busybox; touch /o/x`,
    { status: 1, stdout: 'ro,nosuid,nodev\n0:0\n', stderr: RO },
  ),
  mounted(
    'written to',
    other(',rw=true'),
    'touch /o/x && chown 5:6 /o/x && stat -c %u:%g /o/x; rm -r /o/etc; mkdir /o/etc && ls /o/etc | wc -l',
    '5:6\n0\n',
  ),
  mounted('what was written is gone', other(',rw'), 'ls /o/x', { status: 1, stderr: /\/o\/x/ }),
  mounted('written to, read-only root', ['--read-only', ...other(',rw')], 'touch /o/x; touch /x', {
    status: 1,
    stderr: RO,
  }),
  mounted(
    'a part of it',
    other(',subpath=/etc/../etc/.'),
    'test -f /o/passwd && test ! -e /o/bin && echo ok',
    'ok\n',
  ),
  mounted('a file of it', other('/f,subpath=/etc/passwd'), 'head -n1 /o/f | cut -d: -f1', 'root\n'),
  mounted(
    'at an odd place',
    ['--mount', `type=image,src=${OTHER},dst=/a b`],
    'ls -d "/a b/bin"',
    '/a b/bin\n',
  ),
  mounted(
    'twice',
    [...other(''), ...other('2,rw')],
    'touch /o2/x && ls -d /o/bin /o2/bin /o2/x',
    '/o/bin\n/o2/bin\n/o2/x\n',
  ),
  mounted('with a mount in it', [...other(',rw'), '-v', `${HOST}/d:/o/new/x`], 'cat /o/new/x/f', 'host\n'),
  mounted('no such part', other(',subpath=/none'), 'true', refused(66, /has no '\/none'/)),
  mounted(
    'no such image',
    ['--pull', 'never', '--mount', 'type=image,src=no/such,dst=/o'],
    'true',
    refused(66, /no image/),
  ),
]);
