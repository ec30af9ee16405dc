/**
 * Containers of composefs images. The images are mkcomposefs's, put into the store by hand: owners, rights and
 * content as the payload sees them, what it can reach and what not, and every start that has to be refused.
 *
 * The kernel here has no fs-verity: test/vm/verity.test.ts has what that adds.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { attachMachine, bootMachine, type Machine, type RunResult, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, NGINX, rangeOf } from './container.ts';

/** A store of its own, and programs that take it: what is made by hand is no business of other tests. */
const STORE = '/var/lib/composefs-run';
const PROGRAMS = '/var/tmp/composefs-run';
const MAKE_PROGRAMS = `mkdir -p ${PROGRAMS}
for program in oci-pull oci-run ocictl; do
  printf '#!/bin/sh\nexec /usr/bin/%s --root ${STORE} "$@"\n' $program >${PROGRAMS}/$program
  chmod 755 ${PROGRAMS}/$program
done
`;

let machine: Machine;
let isOurs = false;
const script = async (text: string) =>
  stdoutOf(await machine.script(`PATH=${PROGRAMS}:$PATH\n${text}`)).trim();
const ocictl = (...args: string[]) => machine.run([`${PROGRAMS}/ocictl`, '--quiet', ...args]);
const run = (...args: string[]) => machine.run([`${PROGRAMS}/oci-run`, '--quiet', '--wait', '-i', ...args]);
const sh = (text: string, ...options: string[]) =>
  run(...options, '--user', '0', '--entrypoint', 'sh', 'odd', '-c', text);
const stat = 'stat -c "%n %u:%g %a %s"';

/** Fills the tree of the image, then has mkcomposefs make of it what the store would have. */
const MAKE = `
tocfs() { # NAME CHANGES: the tree image becomes a composefs one
  hex=$(ocictl --json images | jq -r --arg n "$1" '.[] | select(.names | index($n)) | .digest[7:]')
  rm -rf /var/tmp/tree; cp -a "$(ocictl mount $1)" /var/tmp/tree; ocictl umount $1
  (cd /var/tmp/tree; eval "$2")
  mkdir -p -m 700 ${STORE}/objects
  fresh=/var/tmp/fresh; mkdir $fresh
  digest=$(mkcomposefs --min-version=1 --digest-store=${STORE}/objects --print-digest /var/tmp/tree $fresh/image.cfs)
  old=${STORE}/images/$hex.mstack
  cp -a $old/.oci $fresh/
  jq --arg d $digest '. + {format: "composefs", imageDigest: $d}' <$old/.oci/image.json >$fresh/.oci/image.json
  mv $fresh ${STORE}/images/$hex.composefs
  for tag in ${STORE}/tags/*.mstack; do
    [ "$(readlink $tag)" != ../images/$hex.mstack ] || { ln -s ../images/$hex.composefs \${tag%.mstack}.composefs; rm $tag; }
  done
  rm -r $old
}
oci-pull --quiet ${NGINX} odd
tocfs odd '
  cp usr/bin/cat usr/bin/setuid-cat; chown 7:8 usr/bin/setuid-cat; chmod 4755 usr/bin/setuid-cat
  cp usr/bin/cat usr/bin/capable-cat; setcap cap_net_bind_service+ep usr/bin/capable-cat
  mkdir opt/own; chown 65535:65535 opt/own; chmod 2750 opt/own
  head -c 5000 /dev/zero | tr "\\\\0" x >opt/big; chown 1000:1001 opt/big; chmod 640 opt/big
  echo small >opt/small; ln -s big opt/link; mkfifo opt/fifo
  setfattr -n user.note -v hello opt/big
  mkdir opt/link-out; ln -s /../../../../etc/shadow opt/link-out/up
'
oci-pull --quiet ${BUSYBOX} layers
`;

/** Every object has the content that its name says. */
const OBJECTS_ARE_WHOLE = `cd ${STORE}/objects
  fsverity digest */* | awk '{ name = $2; sub("/", "", name); if ($1 != "sha256:" name) print $2, "was changed" }'`;

const DIGEST = `jq -r .imageDigest ${STORE}/images/*.composefs/.oci/image.json`;

before(async () => {
  const name = process.env['OCICTL_MACHINE'];
  isOurs = name === undefined;
  machine = name === undefined ? await bootMachine() : attachMachine(name);
  await script(`${MAKE_PROGRAMS}${MAKE}`);
});
after(() => (isOurs ? machine?.stop() : undefined));
afterEach(async () => {
  await assertNothingLeft(machine);
  assert.equal(await script(OBJECTS_ARE_WHOLE), '', 'objects are never written');
});

function refused(result: RunResult, status: number, said: RegExp): void {
  assert.equal(result.status, status, result.stderr);
  assert.match(result.stderr, said);
  assert.match(result.stderr, /\nhint: /);
}

test('owners, modes, content, links and extended attributes are the image’s', async () => {
  const seen = await sh(`cd /opt; ${stat} own big small link fifo /usr/bin/setuid-cat / /tmp
    readlink link; cat small; head -c 3 big; echo; sha256sum <link`);
  assert.equal(
    seen.stdout,
    `own 65535:65535 2750 27
big 1000:1001 640 5000
small 0:0 644 6
link 0:0 777 3
fifo 0:0 644 0
/usr/bin/setuid-cat 7:8 4755 ${/setuid-cat 7:8 4755 (\d+)/.exec(seen.stdout)?.[1]}
/ 0:0 755 4096
/tmp 0:0 1777 27
big
small
xxx
${await script("head -c 5000 /dev/zero | tr '\\0' x | sha256sum")}
`,
    seen.stderr,
  );
  assert.equal(
    await script(`oci-run -q --unit held --stop-signal KILL --entrypoint sleep odd 600 >/dev/null
      getfattr --only-values -n user.note /run/oci/containers/held/mnt/rootfs/opt/big; systemctl stop held`),
    'hello',
  );
});

test('set-user-ID and file capabilities count, in the container’s range', async () => {
  const status = (program: string) =>
    run('--user', '33', '--entrypoint', `/usr/bin/${program}`, 'odd', '/proc/self/status');
  assert.match((await status('setuid-cat')).stdout, /^Uid:\t33\t7\t7\t7$/m);
  assert.match((await status('capable-cat')).stdout, /^CapEff:\t0000000000000400$/m);
  assert.match((await status('cat')).stdout, /^CapEff:\t0000000000000000$/m);
});

test('root writes, changes, renames and removes; users may not; the next start has the image again', async () => {
  const changes = await sh(`set -e; cd /opt
    echo more >>big; chown 5:6 small; chmod 4711 big; ln big hard; truncate -s 1 hard; mv own new; mv link-out moved; rm small
    echo x >new/file; ln moved/up moved/again; mkdir -p /usr/made; printf x | dd of=/usr/bin/cat conv=notrunc 2>/dev/null
    ${stat} big hard new new/file; head -c 4 /usr/bin/cat | tail -c 3`);
  assert.equal(
    changes.stdout,
    'big 1000:1001 711 1\nhard 1000:1001 711 1\nnew 65535:65535 2750 4096\nnew/file 0:65535 644 2\nELF',
    changes.stderr,
  );
  const user = await run(
    '--user',
    '33',
    '--entrypoint',
    'sh',
    'odd',
    '-c',
    'echo x >>/opt/small; echo x >/etc/new',
  );
  assert.equal(user.stderr.match(/Permission denied/g)?.length, 2, user.stderr);
  assert.equal(
    (await sh('ls /opt; wc -c </opt/big')).stdout,
    'big\nfifo\nlink\nlink-out\nodd\nown\nsmall\n5000\n',
  );
});

test('what is written is owned by the foreign range on disk, and gone after the stop', async () => {
  await script(
    `oci-run -q --unit held --stop-signal KILL --user 0 --entrypoint sh odd -c 'echo x >/srv/file; chown 7:8 /srv/file; touch /srv/done; sleep 600'`,
  );
  const seen = await script(`until [ -e ${STORE}/writable/held/data/srv/done ]; do sleep 0.1; done
    stat -c %u:%g ${STORE}/writable/held/data/srv/file; ocictl --quiet exec held cat /srv/file
    ocictl cp held:/srv/file - | tar -tv --numeric-owner | cut -d' ' -f2`);
  assert.equal(seen, '2147352583:2147352584\nx\n7/8');
  const removed = await ocictl('rm', 'odd');
  refused(removed, 75, /container 'held' uses it/);
  await script('systemctl stop held');
});

test('neither the objects nor the host’s paths show in the container', async () => {
  const base = await script(
    'oci-run -q --unit held --stop-signal KILL --user 0 --entrypoint sleep odd 600 >/dev/null; echo',
  );
  assert.equal(base, '');
  const B = await rangeOf(machine, 'held');
  const mounts = (await ocictl('exec', 'held', 'cat', '/proc/self/mountinfo')).stdout;
  assert.match(mounts, / \/ \/ rw,.* - overlay oci-held rw,lowerdir=l1:l0::l1o,/);
  assert.doesNotMatch(mounts, /objects|erofs|image\.cfs|\/var\/lib\/oci/);
  const erofs = await script(`findmnt --noheadings --output OPTIONS /run/oci/containers/held/mnt/l1
    findmnt --noheadings --output OPTIONS /run/oci/containers/held/mnt/l1o
    stat -c %u:%g /run/oci/containers/held/mnt/l1/opt/big
    touch /run/oci/containers/held/mnt/l1o/x 2>&1 || true`);
  const [image = '', objects = '', owner, write] = erofs.split('\n');
  assert.match(image, /^ro,.*idmapped/);
  assert.match(objects, /^ro,/);
  assert.equal(owner, `${B + 1000}:${B + 1001}`);
  assert.match(write ?? '', /Read-only file system/);
  await script('systemctl stop held');
});

test('read-only: nothing can be written but what is mounted', async () => {
  const seen = await sh(
    'touch /opt/x; chmod 600 /opt/small; echo x >>/opt/big; touch /run/x && echo run',
    '--read-only',
  );
  assert.equal(seen.stderr.match(/Read-only file system/g)?.length, 3, seen.stderr);
  assert.equal(seen.stdout, 'run\n');
});

test('as a mount of another container: read-only, writable, and a part of it', async () => {
  const mounted = (how: string, text: string) =>
    run('--mount', `type=image,source=odd,destination=/mnt${how}`, '--user', '0', 'layers', 'sh', '-c', text);
  const readOnly = await mounted('', `${stat} /mnt/opt/big; cat /mnt/opt/small; touch /mnt/x`);
  assert.equal(readOnly.stdout, '/mnt/opt/big 1000:1001 640 5000\nsmall\n', readOnly.stderr);
  assert.match(readOnly.stderr, /Read-only file system/);
  const writable = await mounted(
    ',rw=true',
    'echo y >>/mnt/opt/big; wc -c </mnt/opt/big; rm /mnt/opt/small; ls /mnt/opt',
  );
  assert.equal(writable.stdout, '5002\nbig\nfifo\nlink\nlink-out\nodd\nown\n', writable.stderr);
  const part = await mounted(',subpath=/opt/link', 'wc -c </mnt');
  assert.equal(part.stdout, '5000\n', part.stderr);
});

test('ocictl mount: ids from 0, read-only, no set-user-ID', async () => {
  const seen = await script(`d=$(ocictl mount odd); cd $d; ${stat} opt/own opt/big; cat opt/small
    findmnt --noheadings --output OPTIONS --mountpoint $d; ls | grep -c '^[0-9a-f][0-9a-f]$' || true
    cd /; ocictl --quiet umount odd; grep -c oci/mounts /proc/self/mountinfo || true`);
  const [own, big, small, options = '', stubs, left] = seen.split('\n');
  assert.deepEqual([own, big, small], ['opt/own 65535:65535 2750 27', 'opt/big 1000:1001 640 5000', 'small']);
  assert.match(options, /^ro,nosuid,nodev/);
  assert.deepEqual([stubs, left], ['0', '0']);
});

test('users and groups are found by name; links of the image lead nowhere else', async () => {
  const named = await run('--user', 'www-data:nogroup', '--entrypoint', 'id', 'odd');
  assert.match(named.stdout, /^uid=33\(www-data\) gid=65534\(nogroup\)/);
  refused(
    await run('--entrypoint', '/opt/link-out/up', 'odd'),
    127,
    /'\/opt\/link-out\/up' does not exist in the image/,
  );
  refused(await run('--entrypoint', '/opt/small', 'odd'), 126, /small/);
});

test('a store whose path has odd characters', async () => {
  const root = '/var/tmp/a,b:c d\\e';
  const seen = await script(`mkdir -m 700 '${root}'; cp -a ${STORE}/. '${root}/'
    oci-run --quiet --root '${root}' --wait -i --user 0 --entrypoint sh odd -c 'wc -c </opt/big; echo x >>/opt/big'
    rm -rf '${root}'`);
  assert.equal(seen, '5000');
});

test('--image-digest: that image and no other', async () => {
  const digest = await script(DIGEST);
  assert.equal((await sh('echo ran', '--image-digest', `sha256:${digest}`)).stdout, 'ran\n');
  const wrong = `sha256:${'0'.repeat(64)}`;
  refused(
    await sh('echo ran', '--image-digest', wrong),
    65,
    new RegExp(`has sha256:${digest}, not ${wrong}`),
  );
  refused(await sh('true', '--image-digest', 'sha256:0'), 64, /'sha256:0' is not an fs-verity digest/);
  refused(
    await run('--image-digest', wrong, 'layers', 'true'),
    69,
    /image 'layers' is stored as plain trees/,
  );
});

test('--verity=require: refused where the kernel has none, and for layers', async () => {
  refused(await sh('true', '--verity', 'require'), 69, /the kernel does not guard image 'odd'/);
  refused(await run('--verity=require', 'layers', 'true'), 69, /image 'layers' is stored as plain trees/);
  for (const mode of ['auto', 'off'])
    assert.equal((await sh('echo ran', `--verity=${mode}`)).stdout, 'ran\n');
});

test('an image that was changed is refused, by its file’s name; also by an installed service', async () => {
  await script(
    'ocictl --quiet install odd --name kept --stop-signal KILL --user 0 --entrypoint sleep 600 >/dev/null',
  );
  await script(`cd ${STORE}/images/*.composefs; cp -a image.cfs /var/tmp/good.cfs; touch -r image.cfs /var/tmp/stamp
    printf X | dd of=image.cfs bs=1 seek=9000 conv=notrunc 2>/dev/null; touch -r /var/tmp/stamp image.cfs`);
  try {
    refused(await sh('true'), 65, /image\.cfs' has the fs-verity digest sha256:[0-9a-f]{64}, not sha256:/);
    refused(await ocictl('mount', 'odd'), 65, /image\.cfs' has the fs-verity digest/);
    const started = await machine.run(['systemctl', 'start', 'kept']);
    assert.equal(started.status, 1);
    const log = await script('journalctl --sync; journalctl -b -o cat -u kept-setup --no-pager');
    assert.match(log, new RegExp(`refusing to start: .*image.cfs is not sha256:${await script(DIGEST)}`));
    // another image whose digest is right for itself is no better
    await script(
      `cd ${STORE}/images/*.composefs; mkdir /var/tmp/o; echo y >/var/tmp/o/y; mkcomposefs --min-version=1 /var/tmp/o image.cfs`,
    );
    refused(await sh('true'), 65, /image\.cfs' has the fs-verity digest/);
    await script(`cd ${STORE}/images/*.composefs; rm image.cfs`);
    refused(await sh('true'), 65, /image\.cfs' cannot be opened: ENOENT/);
  } finally {
    await script(
      `cp -a /var/tmp/good.cfs $(echo ${STORE}/images/*.composefs)/image.cfs; systemctl reset-failed; rm -rf /var/tmp/o`,
    );
  }
  await script('systemctl start kept; systemctl is-active kept; ocictl --quiet uninstall kept');
});

test('a changed object that the start looks into is refused, by the file’s name', async () => {
  const change = (how: string) =>
    script(
      `o=${STORE}/objects/$(getfattr --only-values -n trusted.overlay.redirect -- /var/tmp/e/etc/passwd); ${how}`,
    );
  await script(
    `mkdir -p /var/tmp/e; mount -t erofs -o ro $(echo ${STORE}/images/*.composefs)/image.cfs /var/tmp/e`,
  );
  try {
    await change('cp -a $o /var/tmp/o; echo x >>$o');
    refused(
      await run('--user', 'www-data', 'odd'),
      74,
      /the object of '\/etc\/passwd' is damaged: its content has another digest/,
    );
    await change('rm $o');
    refused(await run('--user', 'www-data', 'odd'), 74, /the object of '\/etc\/passwd' is damaged: ENOENT/);
  } finally {
    await change('cp -a /var/tmp/o $o; umount /var/tmp/e');
  }
});

test('sign, verify, require-signature: the whole way, and every way to be refused', async () => {
  await script(`cd /var/tmp; for k in a b; do openssl genpkey -algorithm ed25519 -out $k.pem; openssl pkey -in $k.pem -pubout -out $k.pub; done
    printf '[trust]\\nkeys = /var/tmp/a.pub\\nrequire-signature = true\\n' >trust.conf`);
  const policy = ['--config', '/var/tmp/trust.conf'];
  const verify = (...words: string[]) => ocictl('verify', 'odd', ...words);
  refused(await sh('true', ...policy), 77, /image 'odd' has no signature/);
  refused(await verify(), 77, /no key is trusted/);
  refused(await verify('--key', '/var/tmp/a.pub'), 77, /has no signature/);
  refused(await ocictl('sign', 'layers', '--key', '/var/tmp/a.pem'), 77, /stored as plain trees/);
  refused(await run(...policy, 'layers', 'true'), 77, /stored as plain trees/);
  // the wrong key
  stdoutOf(await ocictl('sign', 'odd', '--key', '/var/tmp/b.pem'));
  refused(await sh('true', ...policy), 77, /is signed by sha256:[0-9a-f]{64}, which is no trusted key/);
  refused(
    await machine.run([`${PROGRAMS}/ocictl`, 'install', 'odd', '--name', 'no', ...policy]),
    77,
    /which is no trusted key/,
  );
  // the right one beside it
  const signed = await ocictl('sign', 'odd', '--key', '/var/tmp/a.pem', '--signature', '/var/tmp/odd.sig');
  assert.equal(stdoutOf(signed), `sha256:${await script(DIGEST)}\n`);
  assert.equal((await sh('echo ran', ...policy)).stdout, 'ran\n');
  assert.match(
    stdoutOf(await verify('--key', '/var/tmp/a.pub')),
    /^sha256:[0-9a-f]{64} signed by \/var\/tmp\/a\.pub\n$/,
  );
  // as a file: alone, edited, swapped
  stdoutOf(await verify('--key', '/var/tmp/a.pub', '--signature', '/var/tmp/odd.sig'));
  await script(
    'cd /var/tmp; sed "s/^image sha256:../image sha256:00/" odd.sig >edited.sig; sed "5s/../AA/" odd.sig >swapped.sig',
  );
  refused(
    await verify('--key', '/var/tmp/a.pub', '--signature', '/var/tmp/edited.sig'),
    65,
    /signs another image/,
  );
  refused(
    await verify('--key', '/var/tmp/a.pub', '--signature', '/var/tmp/swapped.sig'),
    65,
    /it was changed/,
  );
  refused(await ocictl('sign', 'odd', '--signature', '/var/tmp/edited.sig'), 65, /signs another image/);
  // the configuration of the image is signed as well: the same files with another command are another image
  const config = await script(`jq -r .config ${STORE}/images/*.composefs/.oci/image.json`);
  assert.match(await script('cat /var/tmp/odd.sig'), new RegExp(`^config ${config}$`, 'm'));
  // without its own, by the file
  await script(`rm -r ${STORE}/images/*.composefs/.oci/signatures`);
  refused(await sh('true', ...policy), 77, /has no signature/);
  stdoutOf(await ocictl('sign', 'odd', '--signature', '/var/tmp/odd.sig'));
  assert.equal((await sh('echo ran', ...policy)).stdout, 'ran\n');
  // a signed image whose file was changed
  await script(
    `cd ${STORE}/images/*.composefs; cp -a image.cfs /var/tmp/good.cfs; printf X | dd of=image.cfs bs=1 seek=9000 conv=notrunc 2>/dev/null`,
  );
  refused(await sh('true', ...policy), 65, /has the fs-verity digest/);
  refused(await verify('--key', '/var/tmp/a.pub'), 65, /has the fs-verity digest/);
  await script(
    `cp -a /var/tmp/good.cfs $(echo ${STORE}/images/*.composefs)/image.cfs; rm -r ${STORE}/images/*.composefs/.oci/signatures`,
  );
});
