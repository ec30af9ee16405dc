/** ocictl install --name web@: a template whose instances are containers of their own. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, rangeOf, unitProperties } from './container.ts';

const machine = sharedMachine();
const script = async (text: string) => stdoutOf(await machine.script(text));

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
});
after(() => machine.script('ocictl --quiet uninstall --purge web@'));

const WEB = `sh -c 'echo "$WHO %i $(cat /etc/hostname)"; touch /data/$WHO /own/$WHO /shared/$WHO; trap "exit 0" TERM; while :; do sleep 0.1; done'`;
const OPTIONS = `--state-dir /data -v shared:/shared -v own-%i:/own -e WHO=me-%i --health-cmd 'test -e /data/$WHO' --health-interval 1s --health-grace 1`;

test('two instances at once: each has its own, and %i where it was written', async () => {
  await script(`ocictl install --quiet ${BUSYBOX} --name web@ ${OPTIONS} ${WEB}`);
  const files = await script('cd /etc/systemd/system; ls -d web*');
  assert.deepEqual(files.trim().split('\n').sort(), [
    'web-health@.service',
    'web-health@.timer',
    'web-log@.service',
    'web-log@.socket',
    'web-setup@.service',
    'web@.service',
  ]);
  await script('systemctl start web@a web@b; systemctl is-active web@a web@b');
  assert.notEqual(await rangeOf(machine, 'web@a'), await rangeOf(machine, 'web@b'));
  const namespaces = await script(
    'for unit in web@a web@b; do readlink /proc/$(systemctl show -P MainPID $unit)/ns/net; done | sort -u | wc -l',
  );
  assert.equal(namespaces.trim(), '2');
  for (const name of ['a', 'b']) {
    const said = await script(
      `until [ -e /var/lib/oci/volumes/shared/me-${name} ]; do sleep 0.1; done; journalctl --sync; journalctl --quiet --output=cat _SYSTEMD_UNIT=web@${name}.service`,
    );
    assert.equal(said, `me-${name} %i web-${name}\n`);
    assert.equal(await script(`ls /var/lib/web@${name}/`), `me-${name}\n`);
  }
  assert.equal(
    await script('cd /var/lib/oci/volumes; ls shared own-a'),
    'own-a:\nme-a\n\nshared:\nme-a\nme-b\n',
  );
  await script(`for i in $(seq 150); do
    ocictl ps --json | grep -c '"status": "healthy"' | grep -qx 2 && exit; sleep 0.2; done; exit 1`);
});

test('an instance is paused and resumed', async () => {
  await script(
    'ocictl pause web@a; ocictl ps | grep -q "web@a.*frozen"; ocictl resume web@a; systemctl is-active web@a',
  );
});

test('names that are none for an instance are refused', async () => {
  for (const name of ['BAD', 'a'.repeat(19), 'a.b']) {
    assert.notEqual((await machine.run(['systemctl', 'start', `web@${name}`])).status, 0);
    const journal = await script(
      `journalctl --sync; journalctl --quiet --output=cat --unit=web-setup@${name}.service`,
    );
    assert.match(journal, /is no name for an instance/);
  }
});

test('an update restarts the instances that run, and so does a rollback', async () => {
  const before = (await unitProperties(machine, 'web@a', 'InvocationID'))['InvocationID'];
  await script('systemctl stop web@b');
  const inUse = await machine.run(['ocictl', 'volume', 'rm', 'own-b']);
  assert.equal(inUse.status, 75, inUse.stderr);
  // the same image: only its name differs
  const [{ digest }] = JSON.parse(await script(`ocictl --json images`)).filter(
    ({ names }: { names: string[] }) => names.includes(`${BUSYBOX}:latest`),
  );
  await script(`ocictl --quiet update web@ --to ${BUSYBOX}@${digest}`);
  assert.notEqual((await unitProperties(machine, 'web@a', 'InvocationID'))['InvocationID'], before);
  assert.equal((await machine.run(['systemctl', 'is-active', 'web@b'])).stdout, 'inactive\n');
  assert.match(await script('ocictl history web@'), /web@ +2 .* current/);
  const bad = await machine.run(['ocictl', 'rollback', 'web@']);
  assert.equal(bad.status, 0, bad.stderr);
});

test('uninstalled, nothing is left, of all instances that ever were', async () => {
  await script('mkdir /var/lib/oci/volumes/own-c'); // of no instance
  const ofIt = "systemctl list-units --all --plain --no-legend 'web@*' 'web-*@*' | awk '{ print $1, $3 }'";
  await script('systemctl start web@a; systemctl kill --signal=KILL web@a; systemctl stop web@a');
  assert.match(await script(ofIt), /^web@a\.service failed$/m);
  await script('ocictl --quiet uninstall --purge web@');
  await assertNothingLeft(machine);
  assert.equal(await script(ofIt), '');
  assert.equal(
    await script('ls -d /etc/systemd/system/web* /var/lib/web* /var/lib/private/web* 2>/dev/null || true'),
    '',
  );
  assert.equal(
    await script('cd /var/lib/oci/volumes; ls | grep -xE "own-.*|shared"; rmdir own-c'),
    'own-c\n',
  );
});
