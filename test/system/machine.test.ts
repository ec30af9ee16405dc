/** The test machine itself: a whole systemd, the registry with its images, and nothing left of it afterwards. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { machineJournal } from '../machine/journal.ts';
import {
  attachMachine,
  bootMachine,
  isRunning,
  rebootMachine,
  sharedMachine,
  stdoutOf,
} from '../machine/machine.ts';
import { machineDir, sweepMachines } from '../machine/machine-dir.ts';

const machine = sharedMachine();

test('systemd 262 runs, all its units are well', async () => {
  assert.match(stdoutOf(await machine.run(['systemctl', '--version'])), /^systemd 262 /);
  assert.equal(stdoutOf(await machine.run(['systemctl', 'is-system-running'])).trim(), 'running');
  assert.equal(stdoutOf(await machine.run(['cat', '/proc/1/comm'])).trim(), 'systemd');
});

test('a command gets its status, streams, environment and terminal', async () => {
  const result = await machine.script('cat; echo "$WORD" >&2; exit 7', { input: 'in', env: { WORD: 'err' } });
  assert.deepEqual(result, { status: 7, stdout: 'in', stderr: 'err\n' });
  assert.equal((await machine.script('kill -TERM $$')).status, 143);
  assert.equal((await machine.run(['tty'])).status, 1);
  assert.match((await machine.run(['tty'], { tty: true })).stdout, /^\/dev\/pts\/\d+\r\n$/);
  assert.match(
    stdoutOf(await machine.run(['cat', '/proc/self/cgroup'])),
    /^0::\/system\.slice\/test-console\.service\/run-/m,
  );
});

test('a command that does not end is killed with all it started', async () => {
  const marker = `4${process.pid}`;
  await assert.rejects(
    machine.script(`sleep ${marker} & sleep ${marker}`, { timeoutMs: 300 }),
    /did not end within 300 ms/,
  );
  assert.equal((await machine.run(['pgrep', '--full', '--exact', `sleep ${marker}`])).stdout, '');
});

test('a file is written with its mode', async () => {
  await machine.writeFile('/run/machine-test/a file', 'content', 0o640);
  const stat = stdoutOf(await machine.run(['stat', '--format=%a %U %s', '/run/machine-test/a file']));
  assert.equal(stat, '640 root 7\n');
  assert.equal(readFileSync(`${machine.root}/run/machine-test/a file`, 'utf8'), 'content');
});

test('the registry has the images, in the forms that they are named after', async () => {
  const get = async (path: string) =>
    JSON.parse(stdoutOf(await machine.run(['curl', '-fsS', `127.0.0.1:5000/v2/${path}`])));
  assert.deepEqual((await get('_catalog')).repositories, ['busybox', 'fedora-mirror/fedora', 'nginx', 'odd']);
  assert.deepEqual((await get('nginx/tags/list')).tags.sort(), ['docker', 'latest', 'multi', 'zstd']);

  const manifest = async (image: string) =>
    JSON.parse(stdoutOf(await machine.run(['skopeo', 'inspect', '--raw', `docker://${image}`])));
  const layerTypes = async (image: string) =>
    (await manifest(image)).layers.map((layer: { mediaType: string }) => layer.mediaType);
  const four = <T>(value: T): T[] => [value, value, value, value];
  assert.deepEqual(
    await layerTypes('127.0.0.1:5000/nginx'),
    four('application/vnd.oci.image.layer.v1.tar+gzip'),
  );
  assert.deepEqual(
    await layerTypes('127.0.0.1:5000/nginx:zstd'),
    four('application/vnd.oci.image.layer.v1.tar+zstd'),
  );
  assert.deepEqual(
    await layerTypes('127.0.0.1:5000/nginx:docker'),
    four('application/vnd.docker.image.rootfs.diff.tar.gzip'),
  );
  const index = await manifest('127.0.0.1:5000/nginx:multi');
  assert.equal(index.mediaType, 'application/vnd.oci.image.index.v1+json');
  assert.deepEqual(
    index.manifests.map((entry: { platform: { architecture: string } }) => entry.platform.architecture),
    ['amd64', 'arm64'],
  );
});

test('podman resolves the short name fedora to the stand-in, and starts it', async () => {
  const release = stdoutOf(
    await machine.run(['podman', 'run', '--rm', '--network=none', 'fedora', 'cat', '/etc/os-release']),
  );
  assert.match(release, /^NAME="Stand-in for Fedora Linux"$/m);
});

test('the nginx image holds what layers can do to each other', async () => {
  const tree = stdoutOf(await machine.run(['podman', 'pull', '--quiet', '127.0.0.1:5000/nginx'])).trim();
  const script = `
cd "$(podman image mount ${tree})"
ls srv/www etc/nginx/snippets usr/share/nginx
stat --format='%a %h %u:%g %F' usr/local/bin/id-as-root opt/odd/link-a srv/www/old srv/www/status opt/odd/highest-owner
getcap usr/local/bin/cat-with-capability
getfattr --only-values --name=user.ocitest.note srv/www/version
cd /; podman image unmount ${tree} >/dev/null`;
  assert.deepEqual(stdoutOf(await machine.script(script)).split('\n'), [
    ...['etc/nginx/snippets:', 'own.conf', ''],
    ...['srv/www:', 'index.html', 'link-c', 'new', 'old', 'status', 'version', ''],
    ...['usr/share/nginx:', 'modules'],
    '4755 1 0:0 regular file',
    '644 3 0:0 regular file',
    '777 1 0:0 symbolic link',
    '755 2 0:0 directory',
    '644 1 65535:65535 regular empty file',
    'usr/local/bin/cat-with-capability cap_net_bind_service=ep',
    'on a file',
  ]);
});

/** What a machine may leave on the development machine, one line each. */
function leftovers(name: string): string[] {
  const { path, lockPath, rebootLockPath, cgroup } = machineDir(name);
  const left = [path, lockPath, rebootLockPath, cgroup].filter(existsSync);
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    for (const file of ['mountinfo', 'cgroup']) {
      try {
        const text = readFileSync(join('/proc', pid, file), 'utf8');
        if (text.includes(`${path}/`) || text.includes(cgroup.slice(cgroup.lastIndexOf('/'))))
          left.push(`/proc/${pid}/${file}`);
      } catch {
        // The process has ended meanwhile.
      }
    }
  }
  return left;
}

/** Processes that were killed may take a moment to be gone. */
async function assertNothingLeft(name: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; leftovers(name).length > 0 && Date.now() < deadline; )
    await setTimeout(10);
  assert.deepEqual(leftovers(name), []);
}

test('a stopped machine leaves nothing, however it was used', async () => {
  const name = `stopped-${process.pid}`;
  const own = await bootMachine({ name, program: false });
  stdoutOf(
    await own.script(
      'podman run --detach --network=none 127.0.0.1:5000/busybox sh -c "trap exit TERM; sleep 1000 & wait"; sleep 1000 >/dev/null 2>&1 &',
    ),
  );
  assert.ok(leftovers(name).length > 2);
  await own.stop();
  await assertNothingLeft(name);
  assert.throws(() => attachMachine(name), /no machine/);
});

test('a machine whose runner is killed ends with it, and the next boot removes the rest', async () => {
  const name = `killed-${process.pid}`;
  const boot = `import { bootMachine } from ${JSON.stringify(join(import.meta.dirname, '../machine/machine.ts'))};
    await bootMachine({ name: ${JSON.stringify(name)}, program: false }); console.log('booted'); setInterval(() => {}, 1000);`;
  const runner = spawn(process.execPath, ['--input-type=module', '--eval', boot], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(runner.stdout, 'data');
  runner.kill('SIGKILL');
  await once(runner, 'close');
  for (const deadline = Date.now() + 10_000; leftovers(name).length > 0 && Date.now() < deadline; )
    await sweepMachines();
  assert.deepEqual(leftovers(name), []);
});

test('no other boot takes away a machine that reboots', async () => {
  const name = `rebooted-${process.pid}`;
  const options = { name, program: false };
  const own = await bootMachine(options);
  stdoutOf(await own.script('echo kept >/var/tmp/kept'));
  let isRebooting = true;
  const sweeping = (async () => {
    while (isRebooting) {
      await sweepMachines();
      await setTimeout(1);
    }
  })();
  const again = await rebootMachine(own, options).finally(() => {
    isRebooting = false;
  });
  await sweeping;
  assert.equal(stdoutOf(await again.run(['cat', '/var/tmp/kept'])), 'kept\n');
  await again.stop();
  await assertNothingLeft(name);
});

test('a machine that ended by itself is told from one that was stopped, and its journal is read', async () => {
  const name = `ended-${process.pid}`;
  const own = await bootMachine({ name, program: false });
  await own.script('logger --tag last the last words; journalctl --sync');
  process.kill(own.pid, 'SIGKILL');
  while (isRunning(own)) await setTimeout(10);
  assert.match(await machineJournal(own, Date.now() - 60_000), / last\[\d+\]: the last words$/m);
  await own.stop();
  await assertNothingLeft(name);
});
