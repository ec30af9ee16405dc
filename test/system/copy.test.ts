/** ocictl cp: out of a container that lies, and into it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, rangeOf } from './container.ts';

const machine = sharedMachine();
const cp = (...args: string[]) => machine.run(['ocictl', 'cp', ...args]);
const inside = async (text: string) =>
  stdoutOf(await machine.run(['ocictl', 'exec', '-u', '0', 'copied', 'sh', '-euc', text])).trim();
const outside = async (text: string) => stdoutOf(await machine.script(`cd /tmp/copy; ${text}`)).trim();

const FILES = `
mkdir -p /data/dir/sub /data/empty
echo one >/data/dir/one; echo two >/data/dir/sub/two
ln /data/dir/one /data/dir/same
ln -s /etc/passwd /data/dir/absolute
ln -s ../../../../../../../../etc/shadow /data/dir/relative
chown 1000:1001 /data/dir/one; chmod 4755 /data/dir/one; chmod 700 /data/dir/sub
truncate -s 1099511627776 /data/dir/holes
mkfifo /data/dir/fifo
ln -s / /root-link; ln -s /data/dir /dir-link
ln -s ../../../../../../../../../../../tmp/copy /up-link
`;

before(async () => {
  stdoutOf(
    await machine.script(
      'mkdir -p /tmp/copy/host; echo secret >/tmp/copy/host/secret; chmod 700 /tmp/copy/host',
    ),
  );
  stdoutOf(
    await machine.run([
      'oci-run',
      '--unit',
      'copied',
      '--user',
      '1000:1001',
      '-v',
      '/tmp/copy/host:/from-host',
      BUSYBOX,
      'sleep',
      '600',
    ]),
  );
  await inside(FILES);
});

after(async () => {
  await machine.run(['systemctl', 'kill', '--signal=KILL', 'copied']);
  await assertNothingLeft(machine);
  await machine.script('rm -rf /tmp/copy');
});

test('a tree, out: links stay links, hard links and holes stay, owners and set-id bits do not; fifos are left out', async () => {
  const { status, stderr } = await cp('copied:/data/dir', '/tmp/copy/out');
  assert.equal(status, 0, stderr);
  assert.equal(stderr, 'ocictl: left out: 1 (devices, fifos, sockets, files of the kernel)\n');
  assert.equal(
    await outside("find out -mindepth 1 -printf '%P %y %m %U:%G %l\\n' | sed 's/ $//' | sort"),
    [
      'absolute l 777 0:0 /etc/passwd',
      'holes f 644 0:0',
      'one f 755 0:0',
      'relative l 777 0:0 ../../../../../../../../etc/shadow',
      'same f 755 0:0',
      'sub d 700 0:0',
      'sub/two f 644 0:0',
    ].join('\n'),
  );
  assert.equal(
    await outside('cat out/one out/sub/two; stat -c %h out/one; stat -c "%s %b" out/holes'),
    'one\ntwo\n2\n1099511627776 0',
  );
});

test('where it lands: into a directory, as a new name, what is in it', async () => {
  stdoutOf(await cp('copied:/data/dir/one', '/tmp/copy'));
  stdoutOf(await cp('copied:/data/dir/one', '/tmp/copy/renamed'));
  stdoutOf(await cp('copied:/data/dir/sub/.', '/tmp/copy'));
  stdoutOf(await cp('copied:data/dir/sub', '/tmp/copy/out'));
  assert.equal(await outside('cat one renamed two out/sub/two'), 'one\none\ntwo\ntwo');
  for (const args of [
    ['copied:/nope', '/tmp/copy'],
    ['copied:/data/dir/one', '/tmp/copy/nope/'],
    ['copied:/data/dir/one', '/tmp/copy/nope/x'],
    ['/tmp/copy/one', 'copied:/nope/x'],
    ['nope:/data', '/tmp/copy'],
  ])
    assert.equal((await cp(...args)).status, 66, args.join(' '));
  assert.equal((await cp('/a', '/b')).status, 64);
  assert.equal((await cp('copied:/a', 'copied:/b')).status, 64);
});

test('no link leads out of the container', async () => {
  assert.equal((await cp('copied:/up-link/host/secret', '/tmp/copy/stolen')).status, 66);
  assert.equal((await cp('copied:/root-link/tmp/copy/host/secret', '/tmp/copy/stolen')).status, 66);
  // /etc/passwd of the container, not of the host
  stdoutOf(await cp('copied:/data/dir/absolute', '/tmp/copy/passwd'));
  assert.equal(await outside('cat passwd'), await inside('cat /etc/passwd'));
  // through the links of other processes, into the host's tree
  for (const link of ['/proc/1/root/etc/hostname', '/proc/self/exe', '/proc/1/cwd/etc/passwd'])
    assert.notEqual((await cp(`copied:${link}`, '/tmp/copy/stolen')).status, 0, link);
  stdoutOf(await machine.script('echo new >/tmp/copy/new'));
  assert.equal((await cp('/tmp/copy/new', 'copied:/up-link/')).status, 66);
  assert.equal(await outside('ls host; ls | grep -c stolen || true'), 'secret\n0');
});

test('what is no file is never opened', async () => {
  const results = await Promise.all([
    cp('copied:/data/dir/fifo', '/tmp/copy'),
    cp('copied:/dev/null', '/tmp/copy'),
  ]);
  for (const { status, stderr } of results) {
    assert.equal(status, 69);
    assert.match(stderr, /is neither a file nor a directory/);
  }
  const kernel = await cp('copied:/proc/kmsg', '/tmp/copy');
  assert.equal(kernel.status, 69);
  assert.match(kernel.stderr, /is the kernel's/);
});

test('in: of the container’s user, whole, in the place of a link; never where the host’s own files are', async () => {
  const base = await rangeOf(machine, 'copied');
  await outside(
    'mkdir -p tree/d; echo in >tree/d/file; chmod 640 tree/d/file; ln -s /etc tree/d/link; chown -R 7:8 tree',
  );
  stdoutOf(await cp('/tmp/copy/tree', 'copied:/dir-link/'));
  assert.equal(
    await inside("cd /data/dir/tree; stat -c '%n %u:%g %a %F' . d d/file d/link; cat d/file"),
    '. 1000:1001 755 directory\nd 1000:1001 755 directory\nd/file 1000:1001 640 regular file\nd/link 1000:1001 777 symbolic link\nin',
  );
  stdoutOf(await cp('-a', '/tmp/copy/tree/.', 'copied:/data/kept'));
  assert.equal(await inside('stat -c %u:%g /data/kept/d/file'), '7:8');
  await inside('echo before >/data/victim; ln -s /data/victim /data/place');
  stdoutOf(await cp('/tmp/copy/tree/d/file', 'copied:/data/dir/one'));
  assert.equal(await inside('cat /data/dir/one /data/dir/same'), 'in\none');
  const refused = await cp('/tmp/copy/tree/d/file', 'copied:/from-host/');
  assert.equal(refused.status, 77);
  assert.match(refused.stderr, /belongs to nobody in the container/);
  assert.equal(await outside('ls -A host'), 'secret');
  assert.equal(await inside("find / -xdev -name '.ocictl-*'"), '');
  assert.ok(base > 0);
});

test('in: where ids are mapped, into volumes, directories of the unit, and those of the host with their owners', async () => {
  await outside('mkdir -p mapped; chown 1000:1001 mapped; mkdir -p once/d; echo in >once/d/file');
  const mounts = ['-v', 'copied-to:/volume', '--state-dir', '/state', '-v', '/tmp/copy/mapped:/mapped:idmap'];
  const run = ['oci-run', '--quiet', '--unit', 'volumes', '--user', '1000:1001', ...mounts];
  stdoutOf(await machine.run([...run, '--stop-signal', 'KILL', BUSYBOX, 'sleep', '600']));
  const stat = ['sh', '-c', 'cd "$0"; stat -c "%n %u:%g" once/d once/d/file; cat once/d/file'];
  try {
    for (const place of ['/volume', '/state', '/mapped', '/tmp']) {
      stdoutOf(await cp('/tmp/copy/once', `volumes:${place}/`));
      assert.equal(
        stdoutOf(await machine.run(['ocictl', 'exec', 'volumes', ...stat, place])),
        'once/d 1000:1001\nonce/d/file 1000:1001\nin\n',
        place,
      );
    }
    assert.equal(await outside("stat -c '%U:%G' once/d/file"), 'root:root');
    assert.equal(await outside("stat -c '%u:%g' mapped/once/d/file"), '1000:1001');
  } finally {
    await machine.script('systemctl stop volumes; rm -rf /var/lib/private/volumes /var/lib/volumes');
  }
  const removed = 'for i in $(seq 300); do ocictl volume rm copied-to && exit; sleep 0.1; done; exit 1';
  stdoutOf(await machine.script(removed));
});

test('tar streams keep the owners, as the container counts them', async () => {
  assert.equal(
    await outside("ocictl cp copied:/data/dir/sub - | tar -tv --numeric-owner | awk '{print $1, $2, $6}'; "),
    'drwx------ 0/0 sub\n-rw-r--r-- 0/0 sub/two',
  );
  await outside('tar -C tree -c --owner=42 --group=43 d | ocictl cp - copied:/data/empty');
  assert.equal(
    await inside('stat -c "%u:%g %a" /data/empty/d/file; readlink /data/empty/d/link'),
    '42:43 640\n/etc',
  );
  await inside('rm /data/dir/holes'); // a stream has none
  await outside('ocictl cp copied:/data - | ocictl cp - copied:/tmp');
  assert.equal(
    await inside(
      'cd /data; find . -type f -exec md5sum {} + | sort >/a; cd /tmp/data; find . -type f -exec md5sum {} + | sort >/b; cmp /a /b && wc -l </a',
    ),
    await inside('wc -l </a'),
  );
  const evil =
    'mkdir -p x; echo x >x/f; tar -c -P --transform "s,x/f,../../tmp/copy/host/f," x/f | ocictl cp - copied:/data';
  const { status, stderr } = await machine.script(`cd /tmp/copy; ${evil}`);
  assert.equal(status, 65, stderr);
  const garbage = await machine.script('echo garbage | ocictl cp - copied:/data');
  assert.equal(garbage.status, 65);
  assert.equal(
    garbage.stderr,
    'ocictl: tar header at byte 0: the archive is cut short\nhint: Pass a whole tar stream, as tar -c makes it.\n',
  );
});

test('a container that exchanges directories for links all the time gets nothing out of it', async () => {
  await inside(
    `mkdir -p /race/dir; (while :; do mv /race/dir /race/away; ln -s /from-host /race/dir; rm /race/dir; mv /race/away /race/dir; done) >/dev/null 2>&1 & echo $! >/race-pid`,
  );
  await outside('mkdir -p many; for i in $(seq 200); do echo $i >many/$i; done');
  for (let round = 0; round < 5; round++) await cp('/tmp/copy/many/.', 'copied:/race/dir');
  await inside('kill $(cat /race-pid)');
  assert.equal(await outside("find host -printf '%P %U:%G\\n' | sort"), '0:0\nsecret 0:0');
});
