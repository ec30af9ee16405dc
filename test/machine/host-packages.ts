/**
 * The Debian packages that the development machine itself needs, and the mirror it gets packages from.
 * What is missing is installed with apt-get, and said so.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { command, step, TaskFailed } from '../../scripts/step.ts';

/** A file that shows that a package is there → the package. */
const PACKAGES: Record<string, string> = {
  '/usr/bin/mmdebstrap': 'mmdebstrap',
  '/usr/share/keyrings/debian-archive-keyring.gpg': 'debian-archive-keyring',
  '/usr/bin/scdoc': 'scdoc',
  '/usr/bin/unshare': 'util-linux',
  '/usr/bin/mount': 'mount',
  '/usr/bin/qemu-system-x86_64': 'qemu-system-x86',
  '/usr/sbin/mkfs.ext4': 'e2fsprogs',
  // oracles and tools of the tests
  '/usr/bin/umoci': 'umoci',
  '/usr/bin/python3': 'python3',
  '/usr/bin/getfattr': 'attr',
  '/usr/bin/openssl': 'openssl',
  '/usr/bin/gcc': 'gcc',
  '/usr/bin/catatonit': 'catatonit',
  '/usr/bin/zsh': 'zsh',
  '/usr/bin/fish': 'fish',
  '/usr/bin/rpmbuild': 'rpm',
  '/usr/bin/lintian': 'lintian',
};

export async function ensureHostPackages(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new TaskFailed(
      'the tests and the test machine need root: for mounts, owners, namespaces and a cgroup',
    );
  const missing = Object.keys(PACKAGES)
    .filter((file) => !existsSync(file))
    .map((file) => PACKAGES[file]!);
  if (missing.length === 0) return;
  await step(`Installing Debian packages on this machine: ${missing.join(' ')}`, async () => {
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await command(['apt-get', 'update', '-q'], { env, quiet: true });
    await command(['apt-get', 'install', '-qy', '--no-install-recommends', ...missing], { env, quiet: true });
  });
}

/**
 * The archive this machine's own apt uses, as apt itself understands its sources (deb822 or one-line): the first
 * repository that serves `main` of the machine's own release.
 */
export function debianMirror(): string {
  const release = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const targets = spawnSync(
    'apt-get',
    ['indextargets', '--format', '$(RELEASE) $(COMPONENT) $(REPO_URI)', 'Created-By: Packages'],
    { encoding: 'utf8' },
  );
  for (const line of (targets.stdout ?? '').split('\n')) {
    const [suite, component, uri] = line.split(' ');
    if (suite === release && component === 'main' && uri) return uri.replace(/\/$/, '');
  }
  throw new TaskFailed(`apt-get knows no source of Debian ${release ?? ''}: see /etc/apt/sources.list.d`);
}
