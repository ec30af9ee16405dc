/**
 * The .deb and the .rpm: the same bytes twice, and no complaint of lintian; installed in a plain Debian forky that has
 * nothing else of ours, used, and removed without a trace. There is no rpm system here: rpm(8) of Debian installs the
 * .rpm in the same root, where its scripts run, but its dependencies are not looked at.
 *
 * Needs a machine of its own, which it installs into.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildPrograms } from '../../scripts/build.ts';
import { bootMachine, type Machine, stdoutOf } from '../machine/machine.ts';
import { ensurePackageRoot, ensureRoot } from '../machine/root.ts';

const PROJECT = join(import.meta.dirname, '../..');
const work = mkdtempSync(join(tmpdir(), 'packages-'));
const EPOCH = '1767225600';

let machine: Machine;
const script = async (text: string) => stdoutOf(await machine.script(text));

/** Both packages, built into a directory of their own. */
function build(name: string): string[] {
  const directory = join(work, name);
  mkdirSync(directory);
  for (const kind of ['deb', 'rpm'])
    execFileSync(join(PROJECT, `packaging/build-${kind}.sh`), [directory], {
      env: { ...process.env, SOURCE_DATE_EPOCH: EPOCH },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  return readdirSync(directory)
    .sort()
    .map((file) => join(directory, file));
}

before(
  async () => {
    process.env['SOURCE_DATE_EPOCH'] = EPOCH; // it is also in the manual pages
    await buildPrograms();
    machine = await bootMachine({ root: await ensurePackageRoot(), program: false, registry: 'empty' });
  },
  { timeout: 900_000 },
);
after(async () => {
  await machine?.stop();
  rmSync(work, { recursive: true });
});

let rpm = '';
let deb = '';

test('the same bytes twice, also of a build', async () => {
  const first = build('first');
  await buildPrograms();
  const second = build('second');
  assert.equal(first.length, 2);
  for (const [index, file] of first.entries())
    assert.ok(readFileSync(file).equals(readFileSync(second[index]!)), file);
  rpm = first.find((file) => file.endsWith('.rpm'))!;
  deb = first.find((file) => file.endsWith('.deb'))!;
  assert.match(deb, /\/ocictl_0\.1\.0-1_[a-z0-9]+\.deb$/);
  assert.match(rpm, /\/ocictl-0\.1\.0-1\.\w+\.rpm$/);
});

test('lintian has nothing to say', () => {
  const { stdout } = spawnSync('lintian', ['--allow-root', '--fail-on=none', deb], { encoding: 'utf8' });
  assert.equal(stdout, '');
});

test('what is in them is the same', () => {
  const inDeb = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => /^[-l]\S+ root\/root .* \.(\/\S+)/.exec(line)?.[1] ?? []);
  const format = '[%{FILEMODES:perms} %{FILENAMES}\\n]';
  const inRpm = execFileSync('rpm', ['-qp', '--queryformat', format, rpm], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => /^[-l]\S+ (.*)$/.exec(line)?.[1] ?? []);
  const plain = (list: readonly string[]) =>
    list
      .map((path) => path.replace(/\.gz$/, '').replace('vendor-completions', 'site-functions'))
      .filter((path) => path !== '' && !/^\/usr\/share\/(doc|lintian)|^\/var\/cache/.test(path));
  assert.deepEqual(plain(inRpm).sort(), plain(inDeb).sort());
  // one native library, that of this machine
  assert.equal(inDeb.filter((path) => path.endsWith('.node')).length, 1);
  assert.match(
    execFileSync('rpm', ['-qp', '--requires', rpm], { encoding: 'utf8' }),
    /^nodejs\(engine\) >= 24$/m,
  );
});

/** Everything of the machine that a package could leave. */
const FILES =
  'find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /var/lib/dpkg -o -path /var/log -o -path /var/lib/rpm -o -path /var/cache/man -o -path /usr/lib/sysimage \\) -prune -o -print | sort';

/** What people do first, and what they have of the package. */
async function useIt(): Promise<void> {
  assert.equal(
    await script('oci-run --version; ocictl --version; oci-pull --version'),
    '0.1.0\n0.1.0\n0.1.0\n',
  );
  const digest = await script('oci-pull --quiet oci:/var/tmp/busybox');
  assert.match(digest, /^sha256:[0-9a-f]{64}\n$/);
  const image = '"$(ocictl images --quiet | head -1)"';
  assert.equal(
    await script(`oci-run --quiet --wait --pipe ${image} echo from a container`),
    'from a container\n',
  );
  assert.match(
    await script('MANWIDTH=80 man oci-run | col -b'),
    /oci-run - run an OCI container as a native systemd unit/,
  );
  assert.match(await script('man -w ocictl oci-pull oci-units'), /man7\/oci-units/);
  const bash = `source /usr/share/bash-completion/bash_completion; _comp_load ocictl 2>/dev/null || __load_completion ocictl
COMP_WORDS=(ocictl unin); COMP_CWORD=1; _ocictl; echo "\${COMPREPLY[@]}"`;
  assert.equal(stdoutOf(await machine.run(['bash', '-c', bash])), 'uninstall\n');
  assert.match(await script(`fish -c 'complete -C "ocictl unin"'`), /^uninstall\t/);
  // Debian's zsh does not look where the .rpm has it
  assert.match(
    stdoutOf(
      await machine.run([
        'zsh',
        '-fc',
        'fpath+=(/usr/share/zsh/site-functions); autoload -Uz compinit; compinit -D -u; echo $_comps[ocictl]',
      ]),
    ),
    /^_ocictl$/m,
  );
  assert.equal(
    (await machine.run(['systemctl', 'is-enabled', 'oci-gc.timer', 'oci-auto-update.timer'])).stdout,
    'disabled\ndisabled\n',
  );
  assert.equal(await script('systemd-analyze verify oci-gc.timer oci-auto-update.timer oci.slice 2>&1'), '');
  assert.equal(
    await script(
      `cd /var/cache/ocictl; stat -c '%a %U' .; files=$(find -maxdepth 1 -type f -printf '%P\\n' | LC_ALL=C sort)
stat -c '%a %U %n' $files | sed 's/-[0-9a-f]*-v.*//'; truncate -s 5000 $files; ocictl ps --quiet`,
    ),
    '755 root\n644 root oci-pull\n644 root oci-run\n644 root ocictl\n',
  );
}

/** A busybox as an OCI layout. */
async function bringImage(): Promise<void> {
  const base = mkdtempSync(join(work, 'image-'));
  const make = `set -eu; cd ${base}; mkdir -p tree/bin tree/tmp; cp ${await ensureRoot('forky')}/usr/bin/busybox tree/bin/; ln -s busybox tree/bin/echo; ln -s busybox tree/bin/sleep; ln -s busybox tree/bin/sh
tar --create --owner=0 --group=0 --file=layer.tar --directory=tree .; umoci init --layout layout; umoci new --image layout:latest
umoci raw add-layer --image layout:latest layer.tar; umoci config --image layout:latest --config.cmd sh --config.env PATH=/bin; umoci gc --layout layout
tar --create --file=layout.tar --directory=layout .`;
  execFileSync('bash', ['-c', make], { stdio: ['ignore', 'ignore', 'inherit'] });
  stdoutOf(
    await machine.run(
      ['sh', '-c', 'mkdir -p /var/tmp/busybox && tar --extract --directory=/var/tmp/busybox'],
      {
        input: readFileSync(join(base, 'layout.tar')),
      },
    ),
  );
}

/** `meanwhile`: whether a container runs while it is removed. */
const withoutTrace = async (install: string, upgrade: string, remove: string, meanwhile: boolean) => {
  const files = async () => (await script(FILES)).split('\n');
  const present = await files();
  await script(install);
  await useIt();
  // an upgrade and a removal let a container run on
  await script(`oci-run --quiet --unit steady "$(ocictl images --quiet | head -1)" sleep 1000
ocictl install --quiet "$(ocictl images --quiet | head -1)" --name kept --stop-signal KILL --now sleep 1000
systemctl enable --now --quiet oci-gc.timer`);
  const pids = () => script('systemctl show -P MainPID steady kept');
  const running = await pids();
  assert.match(running, /^[1-9]\d*\n\n[1-9]\d*\n$/);
  await script(upgrade);
  assert.equal(await pids(), running);
  assert.equal(
    await script('systemctl is-enabled oci-gc.timer; systemctl is-active oci-gc.timer'),
    'enabled\nactive\n',
  );
  await script('ocictl uninstall --purge kept');
  const end =
    "systemctl kill -s KILL steady; while systemctl list-units --all --plain --no-legend 'steady*' | grep -q .; do sleep 0.1; done";
  if (!meanwhile) await script(end);
  await script(remove);
  if (meanwhile)
    assert.equal(await script(`systemctl is-active steady; ${end}; systemctl stop oci.slice`), 'active\n');
  const loaded = "systemctl list-units --all --plain --no-legend 'oci*' 'steady*' 'kept*'";
  const unitFiles = "systemctl list-unit-files --no-legend 'oci*' 'steady*' 'kept*' || true";
  assert.equal(
    await script(`${loaded}; ${unitFiles}; hash -r; command -v ocictl oci-run oci-pull || true`),
    '',
  );
  // the store is the user's
  assert.match(await script('ls /var/lib/oci'), /^layers$/m);
  await script('rm -rf /var/lib/oci');
  const left = (await files()).filter((file) => !present.includes(file));
  assert.deepEqual([left, (await files()).length], [[], present.length]);
};

test('the .deb in a plain Debian: installed, used, upgraded, removed', { timeout: 900_000 }, async () => {
  await bringImage();
  await machine.writeFile('/var/tmp/ocictl.deb', readFileSync(deb));
  await withoutTrace(
    'dpkg --install /var/tmp/ocictl.deb',
    'dpkg --install /var/tmp/ocictl.deb',
    'dpkg --purge ocictl',
    true,
  );
  assert.equal((await machine.run(['dpkg', '--verify'])).stdout, '');
});

test('the .rpm in the same root: installed, used, upgraded, removed', { timeout: 900_000 }, async () => {
  await machine.writeFile('/var/tmp/ocictl.rpm', readFileSync(rpm));
  const options = '--nodeps';
  await withoutTrace(
    `rpm --install ${options} /var/tmp/ocictl.rpm`,
    `rpm --upgrade --replacepkgs ${options} /var/tmp/ocictl.rpm`,
    `rpm --erase ${options} ocictl`,
    false,
  );
});
