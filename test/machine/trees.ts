/**
 * The package trees that images are made of, as mmdebstrap makes them from the Debian archive:
 * base.tar (essential packages) and nginx.tar (the same tree after nginx was installed in it).
 */
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { command, step } from '../../scripts/step.ts';
import { ensureCached } from './cache.ts';
import { debianMirror } from './host-packages.ts';
import { MMDEBSTRAP_OPTIONS, mmdebstrap, type Suite } from './root.ts';

/** What does not belong into an image: package lists, caches, logs, what mmdebstrap puts into a chroot for a while. */
const TAR = [
  ...['tar', '--create', '--xattrs', '--xattrs-include=*', '--numeric-owner', '--sort=name', '--format=pax'],
  ...['./dev/*', './proc/*', './sys/*', './run/*', './tmp/*'].map((path) => `--exclude=${path}`),
  ...['./etc/resolv.conf', './etc/hostname', './etc/machine-id', './usr/sbin/policy-rc.d'].map(
    (path) => `--exclude=${path}`,
  ),
  ...['./etc/apt/*', './var/lib/apt/*', './var/cache/*/*', './var/log/*.log'].map(
    (path) => `--exclude=${path}`,
  ),
];

/** The directory that holds base.tar and nginx.tar. */
export function ensureTrees(suite: Suite): Promise<string> {
  const quotedTar = TAR.map((word) => `'${word}'`).join(' ');
  const args = [
    '--variant=essential',
    '--include=nginx',
    '--skip=chroot/start-stop-daemon',
    ...MMDEBSTRAP_OPTIONS,
  ];
  return ensureCached(`trees-${suite}`, [suite, args, TAR], (directory) =>
    step(`Fetching the images' packages: Debian ${suite}, nginx (once, about half a minute)`, async () => {
      const tree = `${directory}/tree`;
      mkdirSync(tree, { mode: 0o755 });
      // The hook runs between the essential packages and nginx, while mmdebstrap has /proc and /sys mounted in the
      // tree; a bind mount shows the tree without them.
      const bare = `${directory}/bare`;
      mkdirSync(bare);
      const hook = `mount --bind "$1" '${bare}' && ${quotedTar} --file='${directory}/base.tar' --directory='${bare}' .`;
      await mmdebstrap([
        ...args,
        `--essential-hook=${hook} && umount '${bare}'`,
        suite,
        tree,
        debianMirror(),
      ]);
      rmdirSync(bare);
      await command([...TAR, `--file=${directory}/nginx.tar`, `--directory=${tree}`, '.']);
      rmSync(tree, { recursive: true });
    }),
  );
}

/** Programs of services that people run in containers: the tests' own images of them are made of this. */
const SERVICES = ['redis-server', 'postgresql', 'prometheus', 'caddy'];

/** The directory that holds services.tar: Debian's essential packages with those. */
export function ensureServicesTree(suite: Suite): Promise<string> {
  const args = [
    '--variant=essential',
    `--include=${SERVICES.join(',')}`,
    '--skip=chroot/start-stop-daemon',
    ...MMDEBSTRAP_OPTIONS,
  ];
  return ensureCached(`services-${suite}`, [suite, args, TAR], (directory) =>
    step(`Fetching packages of services: ${SERVICES.join(' ')} (once, about two minutes)`, async () => {
      const tree = `${directory}/tree`;
      mkdirSync(tree, { mode: 0o755 });
      await mmdebstrap([...args, suite, tree, debianMirror()]);
      await command([...TAR, `--file=${directory}/services.tar`, `--directory=${tree}`, '.']);
      rmSync(tree, { recursive: true });
    }),
  );
}
