/**
 * ocictl install and what follows: unit files that say what oci-run says over D-Bus, a boot without Node.js and any
 * program of ours, updates that come back by themselves, and never half of one.
 *
 * Needs a machine of its own, because it reboots it.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import {
  type BootOptions,
  bootMachine,
  type Machine,
  rebootMachine,
  STOP_TIMEOUT_SECONDS,
  stdoutOf,
} from '../machine/machine.ts';
import type { Suite } from '../machine/root.ts';
import { assertNothingLeft, BUSYBOX, NGINX, REGISTRY, unitProperties } from './container.ts';

const OPTIONS: BootOptions = { suite: (process.env['OCICTL_SUITE'] ?? 'forky') as Suite };
const APP = `${REGISTRY}/app`;
/** Node.js and all that is of this project. */
const OURS = '/usr/bin/node /usr/lib/ocictl /usr/bin/ocictl /usr/bin/oci-run /usr/bin/oci-pull';

let machine: Machine;
const ocictl = (...args: string[]) => machine.run(['ocictl', '--quiet', ...args]);
const script = async (text: string) => stdoutOf(await machine.script(text));
/** The words as the shell takes them. */
const install = (words: string) => script(`ocictl install --quiet ${words}`);

/** Busybox as a web server that says which version it is; `bad` ends soon, `short` at once; `sick` serves no number. */
const BUILD = `
# the images are forky's, whose registry may have another user
find /var/lib/docker-registry -type d -exec chown "$(systemctl show -P User docker-registry):" {} +
cd /var/tmp
skopeo copy --quiet --src-tls-verify=false docker://${BUSYBOX} oci:images:base
for v in 1 2 3 bad short sick; do
  run='echo I am '$v'; mkdir -p /srv; echo '$v' >/srv/index.html; exec httpd -f -p 8081 -h /srv'
  [ $v != bad ] || run='sleep 0.1; exit 3'
  [ $v != short ] || run=true
  umoci config --image images:base --tag v$v --config.cmd sh --config.cmd=-c --config.cmd "$run" \\
    --config.stopsignal SIGKILL --config.label version=$v
  skopeo copy --quiet --dest-tls-verify=false oci:images:v$v docker://${APP}:$v
done`;

async function publish(version: string): Promise<void> {
  await script(
    `skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false docker://${APP}:${version} docker://${APP}:latest`,
  );
}

async function served(): Promise<string> {
  const curl = 'curl --silent --fail http://127.0.0.1:8081/';
  return (await script(`for i in $(seq 150); do ${curl} && exit; sleep 0.2; done; exit 1`)).trim();
}

const putBack = () => script(`for path in ${OURS}; do [ ! -e $path.away ] || mv $path.away $path; done`);

before(async () => {
  machine = await bootMachine(OPTIONS);
  await script(BUILD);
  for (const image of [BUSYBOX, NGINX]) stdoutOf(await machine.run(['oci-pull', '--quiet', image]));
});
after(() => machine?.stop());
// a test that fails half-way leaves nothing to the next
afterEach(async () => {
  await putBack();
  await script(
    'for name in $(ls /var/lib/oci/services 2>/dev/null); do ocictl uninstall --purge $name; done',
  );
});

async function uninstall(...names: string[]): Promise<void> {
  stdoutOf(await ocictl('uninstall', '--purge', ...names));
  await assertNothingLeft(machine);
  const left = `ls -A /etc/systemd/system /var/lib/oci/services /var/lib/oci/roots | grep -F -e '${names.join("' -e '")}' || true`;
  assert.equal(await script(left), '');
}

/** What differs between two runs of one unit, and between a transient unit and a file. */
const OF_THE_RUN =
  /Timestamp|PID=|^(InvocationID|ControlGroupId|UID|GID|ExecMain\w+|CPUUsageNSec|IO\w+Bytes|IO\w+Operations|MemoryAvailable|FragmentPath|Transient|UnitFile\w+|Perpetual|CollectMode|RequiresMountsFor|WantsMountsFor|Requires|After|WantedBy|ConsistsOf)=/;

async function loaded(unit: string): Promise<string[]> {
  const text = await script(`systemctl show ${unit}`);
  return text
    .split('\n')
    .filter((line) => !OF_THE_RUN.test(line))
    .map((line) => line.replace(/ ; start_time=.*$/, ''))
    .sort();
}

test('a file says what D-Bus says: systemd has loaded the same', async () => {
  const options = [
    ...['--memory', '64M', '--cpus', '1.5', '--pids-limit', '50', '--cpu-weight', '50', '--io-weight', '30'],
    ...[
      '-e',
      'ODD=a  b%c "q" \'s\' $HOME $X \\ ; #',
      '-e',
      'LINES=one\ntwo',
      '--cap-drop',
      'CHOWN',
      '--hostname',
      'h',
    ],
    ...[
      '--ulimit',
      'nofile=100:200',
      '--read-only',
      '-v',
      'store:/data',
      '--tmpfs',
      '/t',
      '--log-tag',
      'tag',
    ],
    ...[
      '--restart',
      'on-failure:3',
      '--stop-timeout',
      '3',
      '--stop-signal',
      'SIGRTMIN+3',
      '--device',
      '/dev/null:/dev/n',
    ],
    ...['--sysctl', 'net.core.somaxconn=99', '--user', '7:8', '--property', 'Nice=5', '--slice', 'oci.slice'],
  ];
  const payload = [BUSYBOX, 'sh', '-c', 'trap "" TERM; exec sleep 1000', '$word', '%n', ''];
  stdoutOf(await machine.run(['oci-run', '--quiet', '--unit', 'twin', ...options, ...payload]));
  const transient = await loaded('twin.service');
  await script('systemctl kill -s KILL twin; systemctl stop twin');
  await assertNothingLeft(machine);
  stdoutOf(
    await machine.run(['ocictl', 'install', '--quiet', '--name', 'twin', '--now', ...options, ...payload]),
  );
  const installed = await loaded('twin.service');
  assert.ok(transient.length > 150, `only ${transient.length} properties`);
  assert.deepEqual(installed, transient);
  await script('systemctl kill -s KILL twin');
  await uninstall('twin');
});

test('systemd-analyze verify finds nothing but that the payload is not of the host', async () => {
  await install(`${BUSYBOX} --name plain --after network-online.target sleep 9`);
  const { stderr } = await machine.script(
    'cd /etc/systemd/system; systemd-analyze verify plain.service plain-setup.service plain-log.socket plain-log.service || true',
  );
  const about = stderr.split('\n').filter((line) => line.includes('plain'));
  assert.deepEqual(about, [
    'plain.service: Command /run/.oci/ld.so is not executable: No such file or directory',
  ]);
  await uninstall('plain');
});

test('a line that systemd does not load keeps the payload from starting', async () => {
  await install(`${BUSYBOX} --name guarded --stop-signal KILL sh -c 'id -u >/var/tmp/mark; exec sleep 100'`);
  for (const key of [
    'RootDirectory',
    'User',
    'PrivatePIDs',
    'ProtectControlGroups',
    'NetworkNamespacePath',
  ]) {
    // as an older systemd would read it
    await script(
      `cd /etc/systemd/system; cp guarded.service /var/tmp/whole; sed -i 's/^${key}=/X${key}=/' guarded.service; systemctl daemon-reload`,
    );
    const { status } = await machine.run(['systemctl', 'start', 'guarded']);
    assert.notEqual(status, 0, key);
    const journal = await script(
      'journalctl --sync; journalctl --quiet --output=cat --unit=guarded-setup.service --lines=20',
    );
    assert.match(journal, new RegExp(`refusing to start: systemd has not loaded .*${key}`));
    assert.equal(
      (await unitProperties(machine, 'guarded', 'ExecMainStartTimestampMonotonic'))[
        'ExecMainStartTimestampMonotonic'
      ],
      '0',
    );
    assert.equal(await script('ls /var/tmp/mark 2>/dev/null || echo none'), 'none\n');
    await script(
      'cp /var/tmp/whole /etc/systemd/system/guarded.service; systemctl daemon-reload; systemctl reset-failed',
    );
    await assertNothingLeft(machine);
  }
  await script('systemctl start guarded; systemctl is-active guarded');
  await uninstall('guarded');
});

test('after a boot without Node.js: in order, enabled and disabled with systemctl, a fresh range', {
  timeout: 900_000,
}, async () => {
  await install(`${NGINX} --name web --network host --enable`);
  const second = `sh -c 'date >>/kept/starts; trap "exit 0" TERM; while :; do sleep 0.2; done'`;
  await install(`${BUSYBOX} --name second --after web --requires web --enable -v kept:/kept ${second}`);
  await script(`
    systemctl start second; ocictl pause second
    for path in ${OURS}; do mv $path $path.away; done
    mkdir -p /etc/systemd/system/second.service.d
    printf '[Service]\\nTimeoutStopSec=1\\n' >/etc/systemd/system/second.service.d/short.conf`);
  const begin = Date.now();
  machine = await rebootMachine(machine, OPTIONS);
  assert.ok(
    Date.now() - begin < STOP_TIMEOUT_SECONDS * 1000,
    'a paused container does not hold up a shutdown',
  );
  assert.equal((await machine.run(['ocictl', 'ps'])).status, 127);
  assert.equal(await script('systemctl is-active web second'), 'active\nactive\n');
  assert.match(await script('curl --silent --fail http://127.0.0.1:8080/'), /<h1>/);
  const started = (
    await script('journalctl --sync; journalctl --quiet --boot --output=cat --unit=web --unit=second')
  )
    .split('\n')
    .flatMap((line) => /^Started (web|second)\.service - OCI container/.exec(line)?.[1] ?? []);
  // before and after: the kernel, whose boots the journal counts, has gone on
  assert.deepEqual(started, ['web', 'second', 'web', 'second']);
  assert.match(
    await script('systemctl status second'),
    /OCI container second \(127\.0\.0\.1:5000\/busybox:latest, sha256:[0-9a-f]{12}\)/,
  );

  const { UID } = await unitProperties(machine, 'second', 'UID');
  await script('systemctl restart second');
  const again = await unitProperties(machine, 'second', 'UID', 'TimeoutStopUSec');
  assert.notEqual(again['UID'], UID);
  assert.equal(again['TimeoutStopUSec'], '1s');
  await script('systemctl stop web'); // takes the one that requires it along
  // 257 may have taken a payload for somebody else's child, and then calls its end a failure
  const ended = OPTIONS.suite === 'trixie' ? /^((inactive|failed)\n){2}$/ : /^inactive\ninactive\n$/;
  assert.match((await machine.run(['systemctl', 'is-active', 'web', 'second'])).stdout, ended);
  await script('systemctl disable second; systemctl cat second.service >/dev/null');
  assert.equal(
    (await machine.run(['systemctl', 'is-enabled', 'web', 'second'])).stdout,
    'enabled\ndisabled\n',
  );
  assert.equal(await script('ls -A /var/lib/oci/volumes'), 'kept\n');
  await putBack();
  await uninstall('web', 'second');
  assert.equal(await script('ls -A /var/lib/oci/volumes'), '');
});

test('update, rollback, and one that comes back by itself', { timeout: 900_000 }, async () => {
  await publish('1');
  await install(`${APP} --name app --network host --now --health-grace 1 --auto-update registry`);
  assert.equal(await served(), '1');
  await publish('2');
  assert.match(stdoutOf(await ocictl('auto-update', '--dry-run')), /^app sha256:[0-9a-f]{64}\n$/);
  assert.equal(await served(), '1');
  assert.match(stdoutOf(await ocictl('auto-update')), /^app 2 sha256:/);
  assert.equal(await served(), '2');

  await publish('bad');
  const failed = await ocictl('update', 'app');
  assert.equal(failed.status, 69);
  assert.match(
    failed.stderr,
    /version 3 .* is not good: its payload ended \(exit-code, status 3\); rolled back: version 2 runs again/,
  );
  assert.equal(await served(), '2');
  assert.match(
    await script('journalctl --sync; journalctl --quiet --output=cat --unit=app'),
    /rolled back: version 2 runs again/,
  );
  // it is not tried again, until there is another one
  assert.equal(stdoutOf(await ocictl('auto-update')), '');
  assert.equal(stdoutOf(await ocictl('auto-update', '--dry-run')), '');

  const short = await ocictl('update', 'app', '--to', `${APP}:short`);
  assert.equal(short.status, 69);
  assert.match(short.stderr, /its payload ended \(success, status 0\); rolled back: version 2 runs again/);
  assert.equal(await served(), '2');

  stdoutOf(await ocictl('rollback', 'app'));
  assert.equal(await served(), '1');
  assert.equal((await ocictl('rollback', 'app')).status, 66);
  const one = stdoutOf(await machine.run(['ocictl', 'versions', 'app', '--json']));
  const versions = JSON.parse(one) as {
    version: number;
    current: boolean;
    failed: string | null;
    digest: string;
  }[];
  assert.deepEqual(
    versions.map(({ version, current, failed }) => [version, current, failed]),
    [
      [1, true, null],
      [2, false, 'rolled back by hand'],
      [3, false, 'its payload ended (exit-code, status 3)'],
      [4, false, 'its payload ended (success, status 0)'],
    ],
  );

  assert.equal(
    stdoutOf(await machine.run(['ocictl', 'history', 'app', '--json'])),
    stdoutOf(await machine.run(['ocictl', 'versions', 'app', '--json'])),
  );
  assert.match(stdoutOf(await machine.run(['ocictl', 'history', `${APP}:short`])), /^CREATED .* BY\n/);
  const diff = stdoutOf(await ocictl('diff', 'app'));
  const [bad, tooShort] = [versions[2]!.digest, versions[3]!.digest];
  assert.ok(diff.startsWith(`-version 3: ${APP} ${bad}\n+version 4: ${APP}:short ${tooShort}\n`), diff);
  assert.match(diff, /^app\.service:\n-Description=.*\n\+Description=/m);
  assert.match(diff, /^-RequiresMountsFor=\S+\/3\n\+RequiresMountsFor=\S+\/4$/m);

  stdoutOf(await ocictl('update', 'app', '--to', `${APP}:3`));
  assert.equal(await served(), '3');
  stdoutOf(await ocictl('update', 'app', '--to', versions[0]!.digest));
  assert.equal(await served(), '1');

  // images of versions that may be gone back to stay
  await script(`ocictl untag ${APP}:3; ocictl gc --grace 0 --quiet`);
  stdoutOf(await ocictl('rollback', 'app'));
  assert.equal(await served(), '3');
  const { status, stderr } = await ocictl('rm', `${APP}:latest`);
  assert.deepEqual([status, stderr.includes("service 'app' uses it")], [75, true]);

  await script("sed -i 's/^Slice=.*/Slice=mine.slice/' /etc/systemd/system/app.service");
  const edited = await ocictl('update', 'app');
  assert.deepEqual([edited.status, edited.stderr.includes('changed by hand')], [73, true]);
  await uninstall('app');
  assert.equal((await ocictl('uninstall', 'app')).status, 66);
});

test('an update is good when the payload is healthy', { timeout: 900_000 }, async () => {
  await publish('1');
  const check = `--health-cmd 'grep -q [0-9] /srv/index.html' --health-interval 1s --health-retries 2 --health-timeout 10s`;
  await install(
    `${APP} --pull always --name app --network host --now --health-grace 0 --auto-update registry ${check}`,
  );
  assert.equal(await served(), '1');
  await publish('2');
  assert.match(stdoutOf(await ocictl('auto-update')), /^app 2 sha256:/);
  // so it waits until that is known
  assert.match(await script('systemctl status app'), /Status: "healthy"/);

  await publish('sick');
  const failed = await ocictl('auto-update');
  assert.equal(failed.status, 69);
  const why = /version 3 .* is not good: it is unhealthy: exit status 1; rolled back: version 2 runs again/;
  assert.match(failed.stderr, why);
  assert.equal(await served(), '2');
  assert.match(await script('journalctl --sync; journalctl --quiet --output=cat --unit=app'), why);
  assert.equal(stdoutOf(await ocictl('auto-update', '--dry-run')), '');

  // with --notify=healthy the same: systemd itself waits
  await install(`${APP}:1 --name app --network host --notify=healthy --now --health-grace 0 ${check}`);
  await script('systemctl restart app; systemctl status app | grep healthy');
  assert.equal(await served(), '1');
  const again = await ocictl('update', 'app', '--to', `${APP}:sick`);
  assert.equal(again.status, 69);
  assert.match(again.stderr, /rolled back: version 4 runs again/);
  assert.equal(await served(), '1');
  await uninstall('app');
});

test('killed at any point, an update leaves the old version or the new one', {
  timeout: 900_000,
}, async () => {
  await install(`${APP}:1 --name app --network host --now --health-grace 0`);
  for (const version of ['1', '2']) stdoutOf(await machine.run(['oci-pull', '--quiet', `${APP}:${version}`]));
  const outcomes = new Set<string>();
  let last = '1';
  let killed = 0;
  /** What is on disk changes by these; true when the update ended before it made that many such calls. */
  const updateKilledAt = async (call: string, nth: number): Promise<boolean> => {
    const next = last === '1' ? '2' : '1';
    const kill = ['-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${nth}`];
    const update = ['ocictl', '--quiet', 'update', 'app', '--to', `${APP}:${next}`];
    const strace = ['strace', '-qq', '-o', '/dev/null', ...kill, ...update];
    const { status } = await machine.run(strace);
    // what runs may be either; what starts after a boot is what the file says, and all of it
    await script(
      'systemctl daemon-reload; systemctl reset-failed app; systemctl restart app; systemctl is-active app',
    );
    const now = await served();
    assert.ok(now === next || (status !== 0 && now === last), `${now} after ${call} ${nth}`);
    if (status !== 0) {
      killed++;
      outcomes.add(now === next ? 'new' : 'old');
    }
    last = now;
    const facts = `cd /run/oci/containers/app
      sed -n 's/.*"version": *"\\([^"]*\\)".*/\\1/p' config.json
      sed 's/.*"digest":"\\([^"]*\\)".*/\\1/' image.json
      systemctl show -P LogExtraFields app | grep -o 'sha256:[0-9a-f]*'`;
    const [version, used, digest] = (await script(facts)).trim().split('\n');
    assert.deepEqual([version, used], [last, digest]);
    assert.equal(stdoutOf(await machine.run(['ocictl', 'versions', '--json'])).includes(digest!), true);
    return status === 0;
  };
  for (const call of ['rename', 'unlinkat'])
    for (let nth = 1; !(await updateKilledAt(call, nth)); nth++) assert.ok(nth < 50);
  assert.deepEqual([...outcomes].sort(), ['new', 'old']);
  assert.ok(killed >= 8, `killed at ${killed} points only`);
  // the image's name of a version that an update was killed before, or after its removal
  await script(
    'cd /var/lib/oci/roots; for n in 1 999 999+1; do cp -a "$(ls -d app@* | tail -1)" app@$n.mstack; done',
  );
  stdoutOf(await ocictl('update', 'app', '--to', `${APP}:3`));
  assert.equal(await served(), '3');
  assert.equal(await script('ls -A /var/lib/oci/services/app | grep "^\\." || true'), '');
  const versions = await script('ls /var/lib/oci/services/app | grep -x "[0-9]*"');
  assert.equal(await script('ls /var/lib/oci/roots | sed -n "s/^app@\\(.*\\).mstack$/\\1/p"'), versions);
  await uninstall('app');
});

test('names of others are left alone', async () => {
  const refused = await ocictl('install', BUSYBOX, '--name', 'docker-registry', 'true');
  assert.deepEqual([refused.status, refused.stderr.includes('refusing to touch unit')], [73, true]);
  await script("printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/own-setup.service");
  assert.equal((await ocictl('install', BUSYBOX, '--name', 'own', 'true')).status, 73);
  assert.equal((await ocictl('uninstall', 'own')).status, 73);
  assert.equal(
    await script('cat /etc/systemd/system/own-setup.service; rm /etc/systemd/system/own-setup.service'),
    '[Service]\nExecStart=/bin/true\n',
  );
  assert.equal((await ocictl('install', BUSYBOX, '--name', 'a@b', 'true')).status, 64);
  assert.equal((await ocictl('install', BUSYBOX, '--name', 'a@', '--now', 'true')).status, 64);
  assert.equal((await ocictl('install', BUSYBOX)).status, 64);
  assert.equal(await script('ls -A /var/lib/oci/services'), '');
});

test('a service is no part of another one', async () => {
  for (const [first, second] of [
    ['own', 'own-setup'],
    ['own-log', 'own'],
  ] as const) {
    await install(`${BUSYBOX} --name ${first} true`);
    const refused = await ocictl('install', BUSYBOX, '--name', second, 'true');
    assert.equal(refused.status, 73, refused.stderr);
    assert.match(refused.stderr, / unit 'own-(setup|log)\.service' is a part of service 'own(-log)?'\n/);
    await uninstall(first);
  }
});

test('an install that cannot be finished leaves nothing; of several to uninstall the missing one is told', async () => {
  const units = '/etc/systemd/system';
  const installReadOnly = () =>
    machine.script(`
      mount --bind ${units} ${units}; mount -o remount,bind,ro ${units}; trap 'umount ${units}' EXIT
      ocictl --quiet install ${BUSYBOX} --name fixed true`);
  const everything = () => script(`ls -A ${units} /var/lib/oci/services /var/lib/oci/roots`);
  const before = await everything();
  for (const versions of [[], [1]]) {
    if (versions.length > 0) await install(`${BUSYBOX} --name fixed true`);
    const refused = await installReadOnly();
    assert.equal(refused.status, 74);
    assert.match(
      refused.stderr,
      /^ocictl install: EROFS: .*\nhint: Mount the file system so that it can be written/,
    );
    const left = await machine.run(['ocictl', 'versions', '--json', ...versions.map(() => 'fixed')]);
    assert.deepEqual(
      JSON.parse(stdoutOf(left)).map(({ version }: { version: number }) => version),
      versions,
    );
    if (versions.length === 0) assert.equal(await everything(), before);
    else assert.equal(await script('ls -A /var/lib/oci/services/fixed'), '1\nsetup\n');
  }
  const removed = await machine.run(['ocictl', 'uninstall', 'absent', 'fixed', 'gone']);
  assert.deepEqual(removed, {
    status: 66,
    stdout: 'fixed.service\n',
    stderr: "ocictl: no service 'absent', 'gone' is installed\nhint: List them with: ocictl versions.\n",
  });
  assert.equal(await everything(), before);
});

test('a start that fails says why; a version whose image is lost is not gone back to', async () => {
  const late = `${BUSYBOX} --name late --notify --property TimeoutStartSec=2 --now sleep 600`;
  const started = await machine.script(`ocictl install --quiet ${late}`);
  assert.equal(started.status, 69);
  assert.match(
    started.stderr,
    /^ocictl install: systemctl restart late\.service: Job for late\.service failed because .*[^.]\nhint: Look at it with systemctl status late\.service, or journalctl -xe\.\n$/,
  );
  await install(`${NGINX} --name late`);
  const versions = JSON.parse(stdoutOf(await machine.run(['ocictl', 'versions', '--json', 'late'])));
  const image = `/var/lib/oci/images/${versions[0].digest.slice('sha256:'.length)}.mstack`;
  await script(`mv ${image} /var/tmp/lost`);
  const refused = await ocictl('rollback', 'late');
  await script(`mv /var/tmp/lost ${image}`);
  assert.deepEqual(refused, {
    status: 66,
    stdout: '',
    stderr: `ocictl: version 1 of 'late' has lost its image\nhint: Fetch it again: ocictl update late --to ${versions[0].digest}.\n`,
  });
  stdoutOf(await ocictl('rollback', 'late'));
  await uninstall('late');
});
