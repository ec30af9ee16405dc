/** root, mounts, masked and read-only paths → what systemd puts into the payload's mount namespace. */
import type { Mount, RuntimeSpec } from '../oci/runtime-spec.ts';
import { mountDir, type UnitContext } from './context.ts';
import { type Bind, binds, boolean, list, type Setting, string } from './setting.ts';
import { SHIM_DIR } from './shim.ts';

/** Files that the setup unit makes for every container and binds over the image's. */
export const NETWORK_FILES = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];

export function filesystemSettings(spec: RuntimeSpec, context: UnitContext): Setting[] {
  const mnt = mountDir(context);
  const userMounts = spec.mounts.filter((mount) => mount.type === 'bind');
  const temporary = temporaryFileSystems(spec).map(({ destination, name }) => ({
    source: `${mnt}/${name}`,
    destination,
    recursive: false,
  }));
  const covered = new Set(userMounts.map((mount) => mount.destination));
  const writable: Bind[] = [
    { source: `${mnt}/dev`, destination: '/dev', recursive: true },
    // systemd would put an empty tmpfs over the image's /run
    { source: `${mnt}/run`, destination: '/run', recursive: true },
    ...NETWORK_FILES.filter((path) => !covered.has(path)).map((path) => ({
      source: `${mnt}/etc/${path.slice('/etc/'.length)}`,
      destination: path,
      recursive: false,
    })),
    ...temporary,
    ...userMounts.filter((mount) => !isReadOnly(mount)).map(bindOf),
  ];
  const readOnly: Bind[] = [
    { source: `${context.sharedDir}/shim`, destination: SHIM_DIR, recursive: false },
    { source: `${mnt}/userns`, destination: `${SHIM_DIR}/userns`, recursive: false },
    { source: `${mnt}/utsns`, destination: `${SHIM_DIR}/utsns`, recursive: false },
    ...userMounts.filter(isReadOnly).map(bindOf),
  ];
  return [
    string('RootDirectory', `${mnt}/rootfs`),
    binds('BindPaths', writable),
    binds('BindReadOnlyPaths', readOnly),
    // '+': inside the container; '-': where it exists
    list(
      'InaccessiblePaths',
      spec.linux.maskedPaths.map((path) => `-+${path}`),
    ),
    list(
      'ReadOnlyPaths',
      spec.linux.readonlyPaths.map((path) => `-+${path}`),
    ),
    boolean('BindLogSockets', false),
  ];
}

export interface TemporaryFileSystem {
  destination: string;
  options: readonly string[];
  /** Directory below the container's mounts. */
  name: string;
}

/** tmpfs mounts that the setup unit makes, owned by the container's root. /run and /dev are made anyway. */
export function temporaryFileSystems(spec: RuntimeSpec): TemporaryFileSystem[] {
  return spec.mounts
    .filter((mount) => mount.type === 'tmpfs' && !/^\/(dev|run)(\/|$)/.test(mount.destination))
    .map((mount, index) => ({
      destination: mount.destination,
      options: (mount.options ?? []).filter((option) => option !== 'tmpcopyup'),
      name: `tmp${index}`,
    }));
}

function bindOf(mount: Mount): Bind {
  return {
    source: mount.source ?? '',
    destination: mount.destination,
    recursive: !mount.options?.includes('bind'),
  };
}

function isReadOnly(mount: Mount): boolean {
  return mount.options?.includes('ro') ?? false;
}
