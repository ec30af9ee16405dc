/**
 * A virtual machine, for what namespaces cannot show: a power cut, and a kernel with every controller. Emulated
 * without KVM, so it is slow (about a minute to boot) and used sparingly.
 *
 * Invariant: the disk is a file in a temporary directory of the test; the virtual machine has no network and ends
 * with the process that started it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, PROJECT_DIR } from '../../scripts/step.ts';
import { cacheDir } from './cache.ts';
import { ensureHostPackages } from './host-packages.ts';
import { ensureImages } from './images.ts';
import { ensureRoot } from './root.ts';

const PACKAGES = ['linux-image-cloud-amd64', 'initramfs-tools'];
const DISK_SIZE = '3G';
const MEMORY_MIB = 1024;
const INIT = '/usr/local/sbin/vm-init';

export interface Disk {
  /** A raw image with an ext4 file system: the machine's root, our programs, the registry with its images. */
  readonly path: string;
  readonly kernel: string;
  readonly initrd: string;
  remove(): void;
}

export interface VirtualMachine {
  /** Resolves with all the console said, once it has said `text`. Rejects when the machine ends before. */
  waitFor(text: string, timeoutMs: number): Promise<string>;
  /** The power is cut: nothing is written any more. */
  cut(): Promise<void>;
}

export interface DiskContents {
  /** Name → shell text, each what a boot can run. */
  scripts: Record<string, string>;
  /** Our test images, in the storage of the registry. */
  registry?: boolean;
  /** Adds files below a directory that stands for the root; `root`: the machine's. */
  fill?: (directory: string, root: string) => void;
}

export async function makeDisk({ scripts, registry = false, fill }: DiskContents): Promise<Disk> {
  await ensureHostPackages();
  const root = await ensureRoot('forky', PACKAGES);
  const images = registry ? await ensureImages(await ensureRoot('forky'), 'forky') : undefined;
  const directory = mkdtempSync(join(cacheDir(), 'vm-'));
  const upper = join(directory, 'upper');
  for (const name of ['upper', 'work', 'merged']) mkdirSync(join(directory, name));
  await command(['bash', join(PROJECT_DIR, 'packaging/install.sh'), upper], { quiet: true });
  mkdirSync(join(upper, 'usr/local/sbin'), { recursive: true });
  writeFileSync(join(upper, INIT), INIT_SCRIPT, { mode: 0o755 });
  for (const [name, text] of Object.entries(scripts)) writeFileSync(join(upper, name), text, { mode: 0o755 });
  mkdirSync(join(upper, 'etc/systemd/system'), { recursive: true });
  for (const [name, text] of Object.entries(UNITS))
    writeFileSync(join(upper, 'etc/systemd/system', name), text);
  mkdirSync(join(upper, 'var/lib'), { recursive: true });
  if (images !== undefined) cpSync(images, join(upper, 'var/lib/docker-registry'), { recursive: true });
  fill?.(upper, root);
  const path = join(directory, 'disk');
  // in a mount namespace of its own: whatever happens, no mount stays behind
  const build = `mount -t overlay -o "lowerdir=$0,upperdir=$1/upper,workdir=$1/work" overlay "$1/merged"
    truncate -s ${DISK_SIZE} "$2"; mkfs.ext4 -q -O verity -d "$1/merged" "$2"`;
  await command(['unshare', '--mount', 'sh', '-euc', build, root, directory, path], { quiet: true });
  const boot = readdirSync(join(root, 'boot'));
  const file = (prefix: string) => join(root, 'boot', boot.find((name) => name.startsWith(prefix))!);
  return {
    path,
    kernel: file('vmlinuz-'),
    initrd: file('initrd.img-'),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** Another disk, /dev/vdb and so on. */
export interface FurtherDisk {
  readonly path: string;
  /** An existing file that gets all that is written to the disk: write-log.ts. */
  readonly log?: string;
}

/** Starts the machine; it runs the disk's `script`: as its only program, or as a service of its systemd. */
export function startVirtualMachine(
  disk: Disk,
  script: string,
  { systemd = false, disks = [] }: { systemd?: boolean; disks?: readonly FurtherDisk[] } = {},
): VirtualMachine {
  const init = systemd ? `/lib/systemd/systemd ${SYSTEMD_ARGUMENTS}` : INIT;
  const append = `root=/dev/vda rw console=ttyS0 quiet loglevel=3 panic=-1 init=${init} vm.script=${script}`;
  const qemu = spawn(
    'setpriv',
    [
      ...[
        '--pdeathsig',
        'KILL',
        'qemu-system-x86_64',
        '-accel',
        'tcg,thread=multi',
        '-cpu',
        'max',
        '-smp',
        systemd ? '1' : '2', // with one, times are steadier
      ],
      ...['-m', String(MEMORY_MIB), '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
      ...['-drive', `file=${disk.path},format=raw,if=virtio,cache=writeback`],
      ...disks.flatMap(({ path, log }) => [
        '-drive',
        log === undefined
          ? `file=${path},format=raw,if=virtio,cache=writeback`
          : `driver=blklogwrites,file.driver=raw,file.file.filename=${path},log.driver=raw,log.file.filename=${log},if=virtio`,
      ]),
      ...['-kernel', disk.kernel, '-initrd', disk.initrd, '-append', append],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let console = '';
  const listeners = new Set<() => void>();
  for (const stream of [qemu.stdout, qemu.stderr])
    stream.on('data', (bytes: Buffer) => {
      console += bytes.toString().replaceAll('\r', '');
      for (const listener of listeners) listener();
    });
  const ended = new Promise<void>((resolve) => qemu.once('close', () => resolve()));
  return {
    waitFor: (text, timeoutMs) => waitFor(text, timeoutMs, () => console, listeners, ended),
    async cut() {
      kill(qemu);
      await ended;
    },
  };
}

function kill(child: ChildProcess): void {
  child.kill('SIGKILL');
}

async function waitFor(
  text: string,
  timeoutMs: number,
  console: () => string,
  listeners: Set<() => void>,
  ended: Promise<void>,
): Promise<string> {
  const said = Promise.withResolvers<string>();
  const listener = () => {
    if (console().includes(text)) said.resolve(console());
  };
  const fail = (what: string) => said.reject(new Error(`${what} before it said '${text}':\n${console()}`));
  const timer = setTimeout(() => fail(`the virtual machine took ${timeoutMs} ms`), timeoutMs);
  listeners.add(listener);
  listener();
  ended.then(() => fail('the virtual machine ended'));
  try {
    return await said.promise;
  } finally {
    clearTimeout(timer);
    listeners.delete(listener);
  }
}

/** What has nothing to do there, and takes long under emulation. */
const MASKED_UNITS = [
  ...['systemd-nsresourced.socket', 'systemd-nsresourced.service', 'systemd-sysusers.service'],
  ...['ldconfig.service', 'systemd-hwdb-update.service', 'systemd-journal-catalog-update.service'],
];

const SYSTEMD_ARGUMENTS = [
  ...['systemd.unit=vm-test.target', 'systemd.show_status=no', 'systemd.firstboot=off'],
  ...MASKED_UNITS.map((unit) => `systemd.mask=${unit}`),
].join(' ');

const UNITS = {
  'vm-test.target': `[Unit]
Requires=basic.target vm-test.service
After=basic.target
AllowIsolate=yes
`,
  'vm-test.service': `[Unit]
Wants=dbus.service
After=basic.target dbus.service
[Service]
ExecStart=${INIT}
`,
};

/**
 * PID 1 of the machine, or a service of its systemd. Nothing is synced here: what a power cut leaves is what the
 * programs made durable.
 */
const INIT_SCRIPT = `#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
if [ $$ = 1 ]; then
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t tmpfs -o mode=755 tmpfs /run
  mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
  ip link set lo up
fi
exec </dev/null >/dev/console 2>&1
script=$(sed -n 's/.*vm.script=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
bash -eu "$script" || echo "VM-FAILED status $?"
sleep infinity
`;
