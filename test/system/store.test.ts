/** The store on a booted systemd: what containers use stays, what they leave goes, damage is mended from the registry. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, NGINX } from './container.ts';

const machine = sharedMachine();
/** A store of its own: other tests use the machine's. */
const ROOT = '/var/lib/oci-store-test';
const run = (...args: string[]) => machine.run(args);
const ocictl = (...args: string[]) => run('ocictl', '--root', ROOT, ...args);
const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));

async function json(...args: string[]) {
  return JSON.parse(stdoutOf(await ocictl('--json', ...args)));
}

const removed = async (...args: string[]): Promise<string[]> =>
  (await json('gc', '--grace', '0', ...args)).removed.map(({ kind, name }: { kind: string; name: string }) =>
    kind === 'image' || kind === 'layer' ? kind : `${kind} ${name}`,
  );

before(async () => {
  stdoutOf(await run('oci-pull', '--root', ROOT, '--quiet', BUSYBOX));
  stdoutOf(await run('oci-pull', '--root', ROOT, '--quiet', NGINX));
});

afterEach(async () => {
  await sh('systemctl stop keeper.service || true');
  await assertNothingLeft(machine);
});

test('gc keeps the image of a running container, and takes it when the container has ended', async () => {
  const started = await run(
    'oci-run',
    '--root',
    ROOT,
    '--unit',
    'keeper',
    '--stop-signal',
    'SIGKILL',
    BUSYBOX,
    'sleep',
    '1000',
  );
  assert.equal(started.status, 0, started.stderr);
  stdoutOf(await ocictl('untag', BUSYBOX));
  assert.deepEqual(await removed(), []);
  assert.equal(await sh(`ls ${ROOT}/writable`), 'keeper\n');
  const damaged = await machine.script(`
    file=$(find ${ROOT}/layers/*/tree/bin/busybox -type f -size +10k | head -n 1)
    cp -a "$file" /run/busybox; printf x | dd of="$file" bs=1 seek=9000 conv=notrunc status=none
    ocictl --root ${ROOT} fsck --repair`);
  assert.equal(damaged.status, 65, damaged.stderr);
  assert.match(
    damaged.stdout,
    /^layer [0-9a-f]{12}: 'bin\/\[': content differs.*: not repaired: container 'keeper' uses it$/m,
  );
  await sh('systemctl stop keeper.service');
  await assertNothingLeft(machine);
  assert.deepEqual(await removed(), ['image', 'layer']);
  stdoutOf(await run('oci-pull', '--root', ROOT, '--quiet', BUSYBOX));
});

test('an image that a container mounts is in use', async () => {
  const mount = `type=image,source=${NGINX},destination=/nginx`;
  const started = await run(
    'oci-run',
    '--root',
    ROOT,
    '--unit',
    'keeper',
    '--mount',
    mount,
    BUSYBOX,
    'sleep',
    '1000',
  );
  assert.equal(started.status, 0, started.stderr);
  const refused = await ocictl('rm', NGINX);
  assert.equal(refused.status, 75, refused.stderr);
  assert.match(refused.stderr, /container 'keeper' uses it/);
  stdoutOf(await ocictl('untag', NGINX));
  assert.deepEqual(await removed(), []);
  await sh('systemctl kill --signal=KILL keeper.service');
  await assertNothingLeft(machine);
  assert.equal((await removed()).includes('image'), true);
  stdoutOf(await run('oci-pull', '--root', ROOT, '--quiet', NGINX));
});

test('what a container leaves that nobody stopped goes once its units are gone', async () => {
  await sh(`
    mkdir -p /run/oci/containers/ghost ${ROOT}/writable/ghost ${ROOT}/writable/systemd-journald
    echo '{"digest":"sha256:${'0'.repeat(64)}","root":"${ROOT}"}' >/run/oci/containers/ghost/image.json
    echo 'rm -rf ${ROOT}/writable/ghost /run/oci/containers/ghost' >/run/oci/containers/ghost/teardown`);
  assert.deepEqual(await removed(), ['container ghost']);
  assert.equal(
    await sh(`ls /run/oci/containers ${ROOT}/writable; rmdir ${ROOT}/writable/systemd-journald`),
    `/run/oci/containers:\n\n${ROOT}/writable:\nsystemd-journald\n`,
  );
});

test('one flipped byte: that layer alone comes from the registry again', async () => {
  const before = await sh(`stat -c '%i %n' ${ROOT}/layers/*`);
  const file = (await sh(`find ${ROOT}/layers -path '*/usr/sbin/nginx' -type f`)).trim();
  await sh(`printf '\\377' | dd of=${file} bs=1 seek=5000 conv=notrunc status=none`);
  const found = await ocictl('fsck', NGINX);
  assert.equal(found.status, 65);
  assert.match(found.stdout, /^layer [0-9a-f]{12}: 'usr\/sbin\/nginx': content differs; time is .*\n$/);
  const repaired = await ocictl('fsck', '--repair');
  assert.equal(repaired.status, 0, repaired.stderr);
  const fetched = [
    ...repaired.stderr.matchAll(/^ocictl: fetching layer ([0-9a-f]{12}) again from docker:\/\/(.*)$/gm),
  ];
  assert.deepEqual(
    fetched.map(([, layer, source]) => [layer, source]),
    [[file.split('/')[5]!.slice(0, 12), `${NGINX}:latest`]],
  );
  const changed = (await sh(`stat -c '%i %n' ${ROOT}/layers/*`))
    .split('\n')
    .filter((line) => !before.includes(`${line}\n`));
  assert.equal(changed.filter((line) => line !== '').length, 1);
  assert.equal((await ocictl('fsck')).status, 0);
});
