/** root, mounts, masked and read-only paths → what systemd puts into the payload's mount namespace. */
import { quote } from '../oci/errors.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { mountDir, type UnitContext } from './context.ts';
import { hasHostUsers } from './host-users.ts';
import { type MountPlan, planMounts, withoutDots } from './mounts.ts';
import { refusal } from './refuse.ts';
import type { SeccompPlan } from './seccomp.ts';
import { type Bind, binds, boolean, isPlainPath, list, mountFlags, type Setting, string } from './setting.ts';
import { SECCOMP_FILTER, SHIM_DIR } from './shim.ts';

/** Files that the setup unit makes for every container of an image and binds over the image's. */
export const NETWORK_FILES = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];

export function filesystemSettings(
  spec: RuntimeSpec,
  seccomp: SeccompPlan | undefined,
  context: UnitContext,
): Setting[] {
  const mnt = mountDir(context);
  const plan = planMounts(spec);
  const { writable, readOnly } = plannedBinds(plan, mnt);
  const covered = new Set(plan.binds.map((bind) => bind.destination));
  const ours: Bind[] = [
    { source: `${mnt}/dev`, destination: '/dev', recursive: true },
    ...(context.networkFiles === undefined ? [] : NETWORK_FILES)
      .filter((path) => !covered.has(path))
      .map((path) => ({
        source: `${mnt}/etc/${path.slice('/etc/'.length)}`,
        destination: path,
        recursive: false,
      })),
  ];
  // systemd would put an empty tmpfs over the root's own
  const run: Bind[] = covered.has('/run')
    ? []
    : [{ source: `${mnt}/run`, destination: '/run', recursive: true }];
  const isRunReadOnly = spec.root.readonly === true && plan.run === undefined;
  const shim: Bind[] = [
    { source: `${context.sharedDir}/shim`, destination: SHIM_DIR, recursive: false },
    ...(context.init === undefined
      ? []
      : [{ source: context.init, destination: `${SHIM_DIR}/init`, recursive: false }]),
  ];
  const hostUsers = hasHostUsers(spec);
  const shimFiles: Bind[] = [
    ...(hostUsers ? [] : [{ source: `${mnt}/userns`, destination: `${SHIM_DIR}/userns`, recursive: false }]),
    { source: `${mnt}/utsns`, destination: `${SHIM_DIR}/utsns`, recursive: false },
    ...(seccomp?.program === undefined
      ? []
      : [{ source: `${context.bundleDir}/seccomp`, destination: SECCOMP_FILTER, recursive: false }]),
  ];
  const masks = maskBinds(spec, context);
  return [
    string('RootDirectory', `${mnt}/rootfs`),
    binds('BindPaths', [
      // nobody in the container is the owner of these: to mount them read-only as well would only cost time
      ...(hostUsers ? [] : shimFiles),
      ...masks.binds,
      ...ours,
      ...(isRunReadOnly ? [] : run),
      ...writable,
    ]),
    binds('BindReadOnlyPaths', [
      ...(isRunReadOnly ? run : []),
      ...shim,
      ...(hostUsers ? shimFiles : []),
      ...readOnly,
    ]),
    list(
      'InaccessiblePaths',
      inRoot(
        'linux.maskedPaths',
        spec.linux.maskedPaths.filter((path) => !masks.settled.has(path)),
      ),
    ),
    list(
      'ReadOnlyPaths',
      inRoot('linux.readonlyPaths', [
        ...new Set([...spec.linux.readonlyPaths, ...(plan.sysReadOnly ? ['/sys'] : [])]),
      ]),
    ),
    boolean('BindLogSockets', false),
    ...propagation(spec.linux.rootfsPropagation),
  ];
}

/**
 * What InaccessiblePaths= mounts, without its remount as read-only, for each of which systemd reads the table of all
 * mounts: a millisecond or two. The masks are host root's and closed to all: nothing in the container can write there.
 * It reads the table for what the kernel does not have, too; there is nothing to mask then.
 * Only where nothing else is at the path, below it or masked above it, since systemd sorts that out for
 * InaccessiblePaths= alone. `settled`: the paths that this is said of.
 */
function maskBinds(
  { linux, mounts }: RuntimeSpec,
  { kernelPaths = new Map() }: UnitContext,
): { binds: Bind[]; settled: ReadonlySet<string> } {
  const isAt = (path: string, directory: string) => `${path}/`.startsWith(`${directory}/`);
  const settled = [...new Set(linux.maskedPaths)].filter(
    (path) =>
      kernelPaths.has(path) &&
      [...mounts.map((mount) => withoutDots(mount.destination)), ...linux.readonlyPaths].every(
        (other) => !isAt(other, path),
      ) &&
      linux.maskedPaths.every((other) => other === path || !(isAt(other, path) || isAt(path, other))),
  );
  const binds = settled.flatMap((path): Bind[] => {
    const kind = kernelPaths.get(path);
    return kind === 'absent'
      ? []
      : [{ source: `${MASKS}/${kind === 'directory' ? 'dir' : 'reg'}`, destination: path, recursive: false }];
  });
  return { binds, settled: new Set(settled) };
}

/** systemd makes them when it starts. */
export const MASKS = '/run/systemd/inaccessible';

function plannedBinds(plan: MountPlan, mnt: string): { writable: Bind[]; readOnly: Bind[] } {
  const all = [...plan.temporary.map((mount) => ({ ...mount, recursive: false, source: '' })), ...plan.binds]
    .filter(({ destination }) => isPlainPath(destination))
    .map(({ source, name, destination, recursive, readOnly }) => ({
      readOnly,
      // what was prepared is as far as it shall go, and other mounts may be planted in it
      bind:
        name === undefined
          ? { source, destination, recursive }
          : { source: `${mnt}/${name}`, destination, recursive: true },
    }));
  const of = (readOnly: boolean) => all.filter((each) => each.readOnly === readOnly).map(({ bind }) => bind);
  return { writable: of(false), readOnly: of(true) };
}

/** '+': inside the container; '-': where it exists. */
function inRoot(field: string, paths: readonly string[]): string[] {
  const odd = paths.find((path) => !path.startsWith('/') || path.split('/').includes('..'));
  if (odd !== undefined)
    throw refusal(field, `${quote(odd)} is not an absolute path`, 'Write it as /DIR, without ..');
  return paths.map((path) => `-+${path}`);
}

/** mount(2): MS_PRIVATE, MS_SLAVE, MS_SHARED. */
const PROPAGATION: Record<string, number> = { private: 1 << 18, slave: 1 << 19, shared: 1 << 20 };

function propagation(word: string | undefined): Setting[] {
  if (word === undefined || word === '') return [];
  const plain = word.replace(/^r(?=p|s)/, '');
  const flags = Object.hasOwn(PROPAGATION, plain) ? PROPAGATION[plain] : undefined;
  if (flags === undefined)
    throw refusal(
      'linux.rootfsPropagation',
      `systemd does not set ${quote(word)}`,
      'Use private, slave or shared.',
    );
  return [mountFlags(flags, plain)];
}
