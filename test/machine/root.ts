/**
 * The machine's root: a Debian tree with systemd, podman, skopeo, umoci, a registry and Node.js, made by
 * mmdebstrap from real packages, plus the files of root-files/.
 *
 * Invariant: a root is never written to after it was built; every boot works on an overlay above it.
 */
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, step } from '../../scripts/step.ts';
import { ensureCached } from './cache.ts';
import { debianMirror } from './host-packages.ts';

/** forky has systemd 262, trixie 257. */
export type Suite = 'forky' | 'trixie';

const ROOT_FILES = join(import.meta.dirname, 'root-files');

const PACKAGES = [
  ...['systemd', 'systemd-sysv', 'systemd-container', 'libnss-systemd', 'dbus', 'polkitd'],
  ...['util-linux', 'mount', 'passwd', 'iproute2', 'procps', 'nftables', 'libcap-ng0', 'libcap2-bin'],
  // The oracles and what they need, and the registry.
  ...['podman', 'crun', 'netavark', 'aardvark-dns', 'passt', 'skopeo', 'umoci', 'docker-registry'],
  ...[
    'busybox-static',
    'curl',
    'jq',
    'attr',
    'xz-utils',
    'zstd',
    'strace',
    'bsdutils',
    'mandoc',
    'ca-certificates',
  ],
  'libisal2',
];

/** What trixie lacks, or has too old. */
const FORKY_PACKAGES = ['composefs', 'erofs-utils', 'fsverity', 'nodejs'];

/** Units that have nothing to do in namespaces: no console, no devices of its own, no modules. */
const MASKED_UNITS = [
  'console-getty.service',
  'systemd-udevd.service',
  'systemd-udevd-control.socket',
  'systemd-udevd-kernel.socket',
  'systemd-udev-trigger.service',
  'systemd-modules-load.service',
];
const ENABLED_UNITS = ['test-console.service'];

/** Options of every mmdebstrap call: a mirror may lag behind, documentation is not needed. */
export const MMDEBSTRAP_OPTIONS = [
  '--mode=root',
  '--keyring=/usr/share/keyrings/debian-archive-keyring.gpg',
  '--aptopt=Acquire::Check-Valid-Until "false"',
  '--dpkgopt=path-exclude=/usr/share/doc/*',
  '--dpkgopt=path-exclude=/usr/share/info/*',
  '--dpkgopt=path-exclude=/usr/share/locale/*',
  '--dpkgopt=path-exclude=/usr/share/man/*',
];

/** mmdebstrap in a mount namespace of its own: whatever ends it, no mount of its chroot stays behind. */
export function mmdebstrap(args: readonly string[]): Promise<void> {
  const unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc', '--'];
  return command([...unshare, 'mmdebstrap', ...args], { quiet: true });
}

/** What makes a tree of mmdebstrap a machine: masked and enabled units, files. */
async function makeMachine(directory: string, rootFiles: readonly string[] | 'all'): Promise<void> {
  if (rootFiles === 'all') cpSync(ROOT_FILES, directory, { recursive: true });
  else for (const path of rootFiles) cpSync(join(ROOT_FILES, path), join(directory, path));
  const systemctl = ['env', 'SYSTEMD_OFFLINE=1', 'chroot', directory, 'systemctl', '--quiet'];
  await command([...systemctl, 'mask', ...MASKED_UNITS], { quiet: true });
  await command([...systemctl, 'enable', ...ENABLED_UNITS], { quiet: true });
}

/** Path and content of every file below root-files/, for the recipe. */
function rootFiles(): Record<string, string> {
  const paths = readdirSync(ROOT_FILES, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  return Object.fromEntries(paths.map((path) => [path.slice(ROOT_FILES.length), readFileSync(path, 'utf8')]));
}

/** The directory of the root of `suite`, with `extra` packages; built when it is not in the cache (about a minute). */
export function ensureRoot(suite: Suite, extra: readonly string[] = []): Promise<string> {
  // trixie's Node.js is too old: it gets the one that runs this
  const ownNode = suite === 'trixie';
  const packages = [...PACKAGES, ...(ownNode ? [] : FORKY_PACKAGES), ...extra];
  const args = ['--variant=minbase', `--include=${packages.join(',')}`, ...MMDEBSTRAP_OPTIONS];
  const recipe = [suite, args, ownNode ? process.version : '', rootFiles(), MASKED_UNITS, ENABLED_UNITS];
  return ensureCached(`root-${suite}`, recipe, (directory) =>
    step(
      `Building the machine's root: Debian ${suite} with systemd, podman, a registry (once, about a minute)`,
      async () => {
        await mmdebstrap([...args, suite, directory, debianMirror()]);
        if (ownNode) cpSync(process.execPath, join(directory, 'usr/bin/node'));
        await makeMachine(directory, 'all');
      },
    ),
  );
}

/** What our packages depend on, and programs that use what they bring. */
const PACKAGE_ROOT = [
  ...['systemd', 'systemd-sysv', 'libnss-systemd', 'dbus', 'util-linux', 'mount', 'iproute2', 'nodejs'],
  ...['passwd', 'procps', 'man-db', 'bash-completion', 'zsh', 'fish', 'rpm'],
];
const PACKAGE_ROOT_FILES = ['etc/hosts', 'etc/hostname', 'etc/systemd/system/test-console.service'];

/** A plain Debian forky to install our packages in: as its users have it, with manual pages. */
export function ensurePackageRoot(): Promise<string> {
  const options = MMDEBSTRAP_OPTIONS.filter((option) => !option.includes('path-exclude'));
  const args = ['--variant=minbase', `--include=${PACKAGE_ROOT.join(',')}`, ...options];
  const recipe = [args, PACKAGE_ROOT_FILES, rootFiles(), MASKED_UNITS, ENABLED_UNITS];
  return ensureCached('package-root-forky', recipe, (directory) =>
    step('Building a plain Debian forky to install packages in (once, about a minute)', async () => {
      await mmdebstrap([...args, 'forky', directory, debianMirror()]);
      await makeMachine(directory, PACKAGE_ROOT_FILES);
    }),
  );
}
