/**
 * Health checks: in the container as the container's user, in its cgroup; seen in systemctl status, ocictl ps and the
 * journal; what is done when one fails; and nothing of it runs between two checks.
 */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, unitProperties } from './container.ts';

const machine = sharedMachine();
const run = (...args: string[]) => machine.run(['oci-run', '--quiet', ...args]);
const script = async (text: string) => stdoutOf(await machine.script(text));

interface Health {
  status: string;
  failingStreak: number;
  lastOutput: string;
}

async function health(unit: string): Promise<Health | null | undefined> {
  const all = JSON.parse(stdoutOf(await machine.run(['ocictl', 'ps', '--json']))) as {
    unit: string;
    health?: Health | null;
  }[];
  return all.find((each) => each.unit === unit)?.health;
}

async function waitFor<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(100)) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
  }
  assert.fail(`never: ${what}`);
}

const becomes = (unit: string, status: string) =>
  waitFor(`${unit} ${status}`, async () => {
    const now = await health(unit);
    return now?.status === status && now;
  });

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
});

afterEach(async () => {
  await endContainers(machine);
  await assertNothingLeft(machine);
});

test('starting, healthy, unhealthy: where it is seen, as whom it runs, what is left between two checks', async () => {
  const check =
    'id -u; grep -e CapEff -e CapBnd /proc/self/status; sleep 300 & cat /proc/1/comm; test -e /tmp/ok';
  const options = ['--user', '7', '--cap-drop', 'CHOWN', '--ulimit', 'nofile=70'];
  const health_ = ['--health-cmd', `ulimit -n; ${check}`, '--health-interval', '1s', '--health-retries', '2'];
  stdoutOf(
    await run(
      '--unit',
      'hc',
      ...options,
      ...health_,
      '--health-start-period',
      '60s',
      BUSYBOX,
      'sleep',
      '300',
    ),
  );
  assert.equal((await health('hc'))?.status, 'starting');
  await script('ocictl exec hc touch /tmp/ok');
  const { lastOutput } = await becomes('hc', 'healthy');
  const [nofile, uid, effective, bounding, comm] = lastOutput.trim().split('\n');
  assert.deepEqual([nofile, uid, comm], ['70', '7', 'sleep']);
  const own = await script('ocictl exec hc grep -e CapEff -e CapBnd /proc/self/status');
  assert.equal(`${effective}\n${bounding}\n`, own);
  await waitFor('the status', async () => {
    const { StatusText } = await unitProperties(machine, 'hc', 'StatusText');
    return StatusText === 'healthy';
  });
  assert.match(await script('systemctl status hc'), /Status: "healthy"/);
  assert.match(stdoutOf(await machine.run(['ocictl', 'ps'])), /HEALTH .*\n.* healthy /);

  await script('ocictl exec hc rm /tmp/ok');
  const failed = await becomes('hc', 'unhealthy');
  assert.ok(failed.failingStreak >= 2);
  // told just after it was written down
  await waitFor('the reason', async () => {
    const { StatusText } = await unitProperties(machine, 'hc', 'StatusText');
    return StatusText === 'unhealthy: exit status 1, sleep';
  });
  const journal = await script('journalctl --quiet --sync; journalctl --quiet --output=cat --unit=hc');
  assert.deepEqual(
    journal.split('\n').filter((line) => line.startsWith('hc.service is')),
    ['hc.service is healthy', 'hc.service is unhealthy: exit status 1, sleep'],
  );
  await script('ocictl exec hc touch /tmp/ok');
  await becomes('hc', 'healthy');

  // nothing but the payload runs, and what a check left behind was killed
  await script(
    'systemctl stop hc-health.timer; while systemctl is-active --quiet hc-health; do sleep 0.1; done',
  );
  const processes = await script('cat $(find /sys/fs/cgroup/oci.slice -name cgroup.procs) | sort -u | wc -l');
  assert.equal(processes.trim(), '1');
  // the socket by which systemd is told is not the container's
  const seen = await script(
    'ocictl exec --user 0 hc sh -c "env; ls -l /run/systemd/notify 2>&1 || true; echo X >/run/systemd/notify || true" 2>&1',
  );
  assert.doesNotMatch(seen, /NOTIFY_SOCKET|srwx/);
});

test('--health-on-failure: restart, stop, kill', async () => {
  const check = ['--health-cmd', 'false', '--health-interval', '1s', '--health-retries', '1'];
  const payload = [BUSYBOX, 'sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'];
  for (const action of ['restart', 'stop', 'kill'])
    stdoutOf(await run('--unit', `hc-${action}`, ...check, '--health-on-failure', action, ...payload));
  const first = (await unitProperties(machine, 'hc-restart', 'InvocationID'))['InvocationID'];
  await waitFor('a restart', async () => {
    const { InvocationID, ActiveState } = await unitProperties(
      machine,
      'hc-restart',
      'InvocationID',
      'ActiveState',
    );
    return ActiveState === 'active' && InvocationID !== first;
  });
  const gone = async (unit: string) => (await health(unit)) === undefined;
  await waitFor('a stop', () => gone('hc-stop'));
  await waitFor('a kill', () => gone('hc-kill'));
  const journal = await script(
    'journalctl --quiet --sync; journalctl --quiet --output=cat --unit=hc-kill --lines=20',
  );
  assert.match(journal, /hc-kill\.service is unhealthy: exit status 1\n/);
  assert.match(journal, /code=killed, status=9/);
});

test('a check that takes too long is killed with all it started', async () => {
  const check = ['--health-cmd', 'trap "" TERM; sleep 300 & sleep 301', '--health-timeout', '1s'];
  stdoutOf(
    await run(
      '--unit',
      'hc',
      ...check,
      '--health-interval',
      '1s',
      '--health-retries',
      '1',
      BUSYBOX,
      'sleep',
      '300',
    ),
  );
  await becomes('hc', 'unhealthy');
  await waitFor('the reason', async () => {
    const { StatusText } = await unitProperties(machine, 'hc', 'StatusText');
    return StatusText === 'unhealthy: not done after 1 s';
  });
  await script('systemctl stop hc-health.timer hc-health.service');
  assert.equal(await script('ocictl exec hc ps | grep -c "sleep 30" || true'), '1\n');
});

test('a check whose process leaves the cgroup, and holds what it prints to, ends all the same', async () => {
  const leave =
    'mkdir /sys/fs/cgroup/away; (echo 0 >/sys/fs/cgroup/away/cgroup.procs; exec sleep 600) & sleep 0.3';
  stdoutOf(
    await run(
      ...['--unit', 'leaver', '--health-cmd', leave, '--health-timeout', '1s', '--health-interval', '1s'],
      ...[BUSYBOX, 'sleep', '600'],
    ),
  );
  await becomes('leaver', 'healthy');
  await endContainers(machine);
});

test('a paused container is not judged', async () => {
  const check = [
    '--health-cmd',
    'true',
    '--health-interval',
    '1s',
    '--health-retries',
    '1',
    '--health-timeout',
    '3s',
  ];
  stdoutOf(await run('--unit', 'hc', ...check, BUSYBOX, 'sleep', '300'));
  await becomes('hc', 'healthy');
  await script('ocictl pause hc; sleep 5');
  assert.equal((await health('hc'))?.status, 'healthy');
  await script('ocictl resume hc; sleep 2');
  const { status, failingStreak } = (await health('hc'))!;
  assert.deepEqual([status, failingStreak], ['healthy', 0]);
});

test('what a check said is seen until the next one is done', async () => {
  const check = 'if [ -e /tmp/first ]; then touch /tmp/second; sleep 300; fi; echo said; touch /tmp/first';
  const options = ['--health-cmd', check, '--health-interval', '1s', '--health-timeout', '100s'];
  stdoutOf(await run('--unit', 'hc', ...options, BUSYBOX, 'sleep', '300'));
  await becomes('hc', 'healthy');
  await script('until ocictl exec hc test -e /tmp/second; do sleep 0.1; done');
  assert.equal((await health('hc'))?.lastOutput, 'said\n');
});

test("the image's check is used, unless --no-healthcheck", async () => {
  await script(`
cd /var/tmp
skopeo copy --quiet --src-tls-verify=false docker://${BUSYBOX} oci:checked:base
umoci config --image checked:base --config.user 9
# what docker build writes for HEALTHCHECK --interval=1s CMD test -e /etc/passwd
cat >label.cjs <<'END'
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const blob = (digest) => 'checked/blobs/sha256/' + digest.slice(7);
const read = ({ digest }) => JSON.parse(fs.readFileSync(blob(digest), 'utf8'));
const write = (value, descriptor) => {
  const raw = JSON.stringify(value);
  descriptor.digest = 'sha256:' + createHash('sha256').update(raw).digest('hex');
  descriptor.size = raw.length;
  fs.writeFileSync(blob(descriptor.digest), raw);
};
const index = JSON.parse(fs.readFileSync('checked/index.json', 'utf8'));
const manifest = read(index.manifests[0]);
const config = read(manifest.config);
config.config.Healthcheck = { Test: ['CMD', 'sh', '-c', 'id -u; test -d /'], Interval: 1e9 };
config.config.Labels = { 'io.ocictl.restart': 'always', 'io.ocictl.health-check': '{"args":["false"]}' };
write(config, manifest.config);
write(manifest, index.manifests[0]);
fs.writeFileSync('checked/index.json', JSON.stringify(index));
END
node label.cjs`);
  stdoutOf(await run('--unit', 'hc', 'oci:/var/tmp/checked:base', 'sleep', '300'));
  assert.equal((await becomes('hc', 'healthy')).lastOutput, '9\n');
  assert.equal((await unitProperties(machine, 'hc', 'Restart'))['Restart'], 'no');
  await endContainers(machine);
  await assertNothingLeft(machine);
  stdoutOf(await run('--unit', 'hc', '--no-healthcheck', 'oci:/var/tmp/checked:base', 'sleep', '300'));
  assert.equal(await health('hc'), undefined);
  assert.equal(await script('systemctl list-units --all --plain --no-legend "hc-health*"'), '');
});

test('--notify=healthy: started when healthy, again after each start; a check that never succeeds fails it', async () => {
  const check = ['--notify=healthy', '--health-cmd', 'test -e /tmp/ok', '--health-interval', '1s'];
  const payload = [
    'sh',
    '-c',
    'rm -f /tmp/ok /tmp/end; sleep 2; touch /tmp/ok; until [ -e /tmp/end ]; do sleep 0.1; done; exit 3',
  ];
  const began = Date.now();
  stdoutOf(
    await run('--unit', 'hc', '--restart', 'always', ...check, '--health-retries', '9', BUSYBOX, ...payload),
  );
  assert.ok(Date.now() - began > 2000);
  assert.equal((await health('hc'))?.status, 'healthy');
  const { ActiveState, NRestarts } = await unitProperties(machine, 'hc', 'ActiveState', 'NRestarts');
  assert.deepEqual([ActiveState, NRestarts], ['active', '0']);
  // it may itself be killed with the payload
  await script('ocictl exec hc touch /tmp/end || [ $? = 137 ]');
  await waitFor('the second start', async () => {
    const again = await unitProperties(machine, 'hc', 'ActiveState', 'NRestarts');
    return again['ActiveState'] === 'active' && again['NRestarts'] === '1';
  });
  await endContainers(machine);
  await assertNothingLeft(machine);
  const failed = await run(
    '--unit',
    'hc',
    '--property',
    'TimeoutStartSec=3',
    ...check,
    BUSYBOX,
    'sleep',
    '300',
  );
  assert.equal(failed.status, 69);
});
