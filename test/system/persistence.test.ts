/**
 * What stays and what is secret: directories of the unit's own as the container's user writes them, volumes, and
 * credentials; for a run and for an installed service.
 */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, NGINX } from './container.ts';

const machine = sharedMachine();
const script = async (text: string) => stdoutOf(await machine.script(text));
/** Waits until the journal has what 'kept' printed: a line of its present run that matches. */
const printed = (pattern: string) =>
  script(`id=$(systemctl show -P InvocationID kept)
    lines() { journalctl --sync; journalctl --quiet --output=cat _SYSTEMD_UNIT=kept.service _SYSTEMD_INVOCATION_ID=$id; }
    for i in $(seq 150); do lines | grep -qx '${pattern}' && break; sleep 0.1; done; lines`);
const PRIVATE = '/var/lib/private/kept /var/cache/private/kept /var/log/private/kept';

before(async () => {
  for (const image of [BUSYBOX, NGINX]) stdoutOf(await machine.run(['oci-pull', '--quiet', image]));
});

afterEach(async () => {
  await endContainers(machine);
  await script(`
    for name in $(ls /var/lib/oci/services 2>/dev/null); do ocictl --quiet uninstall --purge $name; done
    umount /etc/kept 2>/dev/null || true
    rm -rf /var/tmp/conf ${PRIVATE} /var/lib/kept /var/cache/kept /var/log/kept /etc/kept /var/lib/oci/volumes/*`);
  await assertNothingLeft(machine);
});

test("directories of the unit's own: the user writes them, they stay, and the host's are left alone", async () => {
  await script(`
    mkdir /etc/kept /var/tmp/conf; echo said >/var/tmp/conf/conf; chmod 600 /var/tmp/conf/conf
    mount --bind /var/tmp/conf /etc/kept # the machine's own /etc is on an overlay, whose ids cannot be mapped`);
  const directories = '--state-dir /srv/state --cache-dir /c --logs-dir /l --config-dir /etc/mine';
  const payload = `sh -c '
    echo "$STATE_DIRECTORY $CACHE_DIRECTORY $LOGS_DIRECTORY $CONFIGURATION_DIRECTORY"
    for each in /srv/state /c /l; do date >>$each/starts || exit 4; done
    ! echo x 2>/dev/null >/etc/mine/new || exit 5
    stat -c "%u:%g %a" /srv/state /etc/mine/conf; wc -l </srv/state/starts; trap "exit 0" TERM; while :; do sleep 0.1; done'`;
  await script(`ocictl install --quiet ${BUSYBOX} --name kept --user 7:8 --now ${directories} ${payload}`);
  await printed('1');
  await script('systemctl restart kept; systemctl is-active kept');
  await printed('2');
  assert.equal(
    // 257 stops the sleep as well, and the shell says so
    await script('journalctl --quiet --output=cat _SYSTEMD_UNIT=kept.service | grep -v Terminated'),
    ['1', '2'].map((n) => `/srv/state /c /l /etc/mine\n7:8 755\n0:0 600\n${n}\n`).join(''),
  );
  assert.equal(
    await script(
      'stat -c "%u %g %a" /var/lib/private /var/lib/private/kept; readlink /var/lib/kept; wc -l </var/lib/kept/starts',
    ),
    '0 0 700\n2147352583 2147352584 755\nprivate/kept\n2\n',
  );
  await script(`ocictl --quiet install ${BUSYBOX} --name kept --user 7:8 --now ${directories} ${payload}`);
  await printed('3');
  stdoutOf(await machine.run(['ocictl', '--quiet', 'uninstall', 'kept']));
  assert.equal(await script('wc -l </var/lib/kept/starts'), '3\n');
  await script(`ocictl --quiet install ${BUSYBOX} --name kept --user 7:8 --now ${directories} ${payload}`);
  stdoutOf(await machine.run(['ocictl', '--quiet', 'uninstall', '--purge', 'kept']));
  assert.equal(await script(`ls -d ${PRIVATE} /var/lib/kept /etc/kept 2>/dev/null || true`), '/etc/kept\n');

  // what the host had before is not taken over
  await script(
    'mkdir -p -m 700 /var/lib/private; mkdir /var/lib/private/kept; echo host >/var/lib/private/kept/file',
  );
  const refused = await machine.run(['oci-run', '--unit', 'r', '--state-dir', 'kept:/s', BUSYBOX, 'true']);
  assert.equal(refused.status, 69);
  assert.match(refused.stderr, /belongs to the host/);
  assert.equal(await script('stat -c %u /var/lib/private/kept/file'), '0\n');
  await script('rm -r /var/lib/private/kept; mkdir /var/lib/kept; echo host >/var/lib/kept/file');
  const beside = await machine.run(['oci-run', '--unit', 'r', '--state-dir', 'kept:/s', BUSYBOX, 'true']);
  assert.equal(beside.status, 69);
  assert.match(beside.stderr, /r-setup: \/var\/lib\/kept belongs to the host: name another directory\n/);
  assert.equal(await script('[ ! -e /var/lib/private/kept ]; cat /var/lib/kept/file'), 'host\n');
});

test('a new volume is the user’s where the image has nothing', async () => {
  const run = (user: string, name: string, at: string) =>
    machine.run([
      'oci-run',
      '--quiet',
      '--pipe',
      '--user',
      user,
      '-v',
      `${name}:${at}`,
      BUSYBOX,
      'stat',
      '-c',
      '%u:%g',
      at,
    ]);
  assert.equal(stdoutOf(await run('7:8', 'one', '/new')), '7:8\n');
  assert.equal(stdoutOf(await run('9:9', 'one', '/new')), '7:8\n');
  assert.equal(stdoutOf(await run('7:8', 'two', '/bin')), '0:0\n');
});

test('credentials: plain, encrypted, set; of the user alone; nowhere else', async () => {
  await script(`
    printf 'plain secret' >/var/tmp/plain; chmod 600 /var/tmp/plain
    printf 'sealed secret' | systemd-creds encrypt --with-key=host --name=sealed - /var/tmp/sealed 2>/dev/null`);
  const options =
    "--user 7:8 --credential plain:/var/tmp/plain --credential 'odd= é%\\\"$x' --credential-encrypted sealed:/var/tmp/sealed";
  const payload = `sh -c '
    cd $CREDENTIALS_DIRECTORY; echo $PWD; for each in *; do echo "$each: $(cat $each)"; done
    stat -c "%u:%g %a %n" . *; ! echo x 2>/dev/null >new || echo written; grep " $PWD " /proc/self/mountinfo | grep -o ramfs; echo end
    trap "exit 0" TERM; while :; do sleep 0.1; done'`;
  const expected = `/run/secrets
odd:  é%\\"$x
plain: plain secret
sealed: sealed secret
7:8 500 .
7:8 400 odd
7:8 400 plain
7:8 400 sealed
ramfs
ramfs
end
`;
  const said = () => printed('end');
  await script(`oci-run --quiet --unit kept ${options} ${BUSYBOX} ${payload}`);
  assert.equal(await said(), expected);
  assert.equal(await script("ocictl exec kept sh -c 'cat $CREDENTIALS_DIRECTORY/plain'"), 'plain secret');
  assert.equal((await machine.script('ocictl exec --user 9 kept sh -c "cat /run/secrets/plain"')).status, 1);
  // the tree of the setup that everybody could reach is root's
  assert.equal(
    (await machine.script('setpriv --reuid 7 --clear-groups find /run/oci -name plain')).stdout,
    '',
  );
  await script('systemctl stop kept');
  await assertNothingLeft(machine);
  await script(`ocictl install --quiet --name kept --read-only --now ${options} ${BUSYBOX} ${payload}`);
  assert.equal(await said(), expected);
  await script("printf 'another one' >/var/tmp/plain; systemctl restart kept");
  assert.match(await said(), /^plain: another one$/m);
  stdoutOf(await machine.run(['ocictl', '--quiet', 'uninstall', 'kept']));
  assert.equal(
    await script(
      'grep -rlE "(plain|sealed) secret|another one" /run/oci /var/lib/oci/services 2>/dev/null || true',
    ),
    '',
  );

  const missing = await machine.run(['oci-run', '--credential', 'none', BUSYBOX, 'true']);
  assert.equal(missing.status, 69);
  assert.match(missing.stderr, /this host has no credential 'none'/);
});

test('an installed service keeps the images that it mounts', async () => {
  const mount = `--mount type=image,src=${NGINX},dst=/other,subpath=/etc`;
  const payload = `sh -c 'ls /other/passwd; trap "exit 0" TERM; while :; do sleep 0.1; done'`;
  await script(`ocictl install --quiet ${BUSYBOX} --name kept ${mount} ${payload}`);
  const refused = await machine.run(['ocictl', 'rm', NGINX]);
  assert.equal(refused.status, 75);
  assert.match(refused.stderr, /service 'kept' uses it/);
  await script(`ocictl untag ${NGINX}; ocictl --quiet gc --grace 0; systemctl start kept`);
  assert.equal(await printed('/other/passwd'), '/other/passwd\n');
  stdoutOf(await machine.run(['ocictl', '--quiet', 'uninstall', 'kept']));
  assert.equal(await script('ls /var/lib/oci/roots'), '');
  stdoutOf(await machine.run(['oci-pull', '--quiet', NGINX]));
});
