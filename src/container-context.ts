/**
 * What the units need to know beside the runtime spec, found out in the root tree and on the host: mount points,
 * whether the command can be run, where things lie.
 *
 * Invariant: nothing is mounted or written here, and no path of the tree is followed out of it.
 */
import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs';
import { COMMAND_HEAD_BYTES, checkCommand } from './bundle/command.ts';
import { canonicalPoint, type Point, planScaffold, type RootEntry } from './bundle/scaffold.ts';
import { searchBit, whoEntersDirectory } from './bundle/working-directory.ts';
import {
  ANNOTATION,
  CREDENTIALS_OPTION,
  IMAGE_OPTION,
  MADE_OPTION,
  SUBPATH_OPTION,
  VOLUME_OPTION,
} from './oci/annotations.ts';
import { escapeControl, OciError, quote } from './oci/errors.ts';
import type { Mount, RuntimeSpec } from './oci/runtime-spec.ts';
import type { MergedTree } from './store/merged-tree.ts';
import type { KernelPath, UnitContext } from './unit/context.ts';
import { MASKS } from './unit/filesystem.ts';
import { hasHostUsers } from './unit/host-users.ts';
import { isBind, withoutDots } from './unit/mounts.ts';
import { isPlainPath } from './unit/setting.ts';
import { shellWord } from './unit/shell.ts';
import { openImageTree } from './verified-image.ts';

/** The same for a container of an image and one of a bundle. */
export interface CommonContext
  extends Omit<
    UnitContext,
    'scaffold' | 'ownDirectory' | 'opensRun' | 'rootAttributes' | 'copyUp' | 'cwdBy' | 'kernelPaths'
  > {
  /** By oci-run, not by systemd at some other time. */
  startsNow?: boolean;
}

/**
 * `directories` and `files`: what must exist in the root beside the mount points of `spec`; `ownsDirectory`: a working
 * directory that has to be made is the payload's user's, as under podman. Throws COMMAND_NOT_FOUND, COMMAND_CANNOT_RUN,
 * BAD_IMAGE or INPUT_NOT_FOUND.
 */
export function containerContext(
  spec: RuntimeSpec,
  tree: MergedTree,
  { startsNow, ...common }: CommonContext,
  points: { directories: readonly string[]; files: readonly string[]; ownsDirectory?: boolean },
): UnitContext {
  const mounts = spec.mounts.filter((mount) => isBind(mount) || mount.type === 'tmpfs');
  const { args, env, cwd, user } = spec.process;
  const covered = (path: string) =>
    KERNEL_PLACES.test(path) || mounts.some((mount) => isBelow(path, mount.destination));
  checkCommand({
    args,
    env,
    cwd,
    lookup: (path) => tree.lookup(path),
    head: (path) => tree.readHead(path, COMMAND_HEAD_BYTES),
    covered,
    architecture: common.features.architecture,
    hasInterpreters,
  });
  const lookup = (path: string) => tree.lookup(path, { followLast: false });
  const root = tree.lookup('/')!;
  // the shim as much as the payload has to get past it
  const gids = [user.gid, ...(user.additionalGids ?? [])].map((gid) => common.idBase + gid);
  const searchBits = (entry: RootEntry) =>
    searchBit(entry, common.idBase) | searchBit(entry, common.idBase + user.uid, gids);
  const closes = (entry: RootEntry) => (entry.mode & searchBits(entry)) !== searchBits(entry);
  const run = lookup('/run');
  const file: RootEntry = { kind: 'file', mode: 0o644, uid: common.idBase, gid: common.idBase };
  const cwdBy = whoEntersDirectory({
    cwd,
    idBase: common.idBase,
    lookup: (path) => (points.files.includes(path) ? file : lookup(path)),
    covered,
  });
  const scaffold = planScaffold(
    [
      { path: common.rootfs === undefined ? '/run/.oci' : '/run', kind: 'directory' },
      ...[...ALWAYS_THERE, ...points.directories].map((path): Point => ({ path, kind: 'any' })),
      { path: cwd, kind: 'directory' },
      ...points.files.map((path): Point => ({ path, kind: 'file' })),
      ...mounts.map(
        (mount): Point => ({
          path: mount.destination,
          kind: showsDirectory(mount, common) ? 'directory' : 'file',
        }),
      ),
    ],
    lookup,
    common.rootfs === undefined ? tree.hides : undefined,
  );
  const [obstacle] = scaffold.cover.filter(({ owner }) => owner === undefined);
  if (common.rootfs !== undefined && obstacle !== undefined)
    throw new OciError(
      'BAD_IMAGE',
      `${quote(obstacle.path)} of the bundle's rootfs is a ${lookup(obstacle.path)?.kind}, not a ${obstacle.kind}`,
      { hint: `Replace it by a ${obstacle.kind}, or make the rootfs read-only.` },
    );
  const place = canonicalPoint(cwd, lookup);
  const isMade = points.ownsDirectory && user.uid + user.gid > 0 && lookup(place) === undefined;
  const owner = { uid: common.idBase + user.uid, gid: common.idBase + user.gid };
  // an image of no layers has an empty one
  const isEmpty = common.layerTrees.length === 0 && common.composefs === undefined;
  const { uid, gid } = isEmpty ? { uid: common.idBase, gid: common.idBase } : root;
  return {
    ...common,
    cwdBy,
    scaffold: {
      ...scaffold,
      cover: scaffold.cover.map((each) => (isMade && each.path === place ? { ...each, owner } : each)),
    },
    ...(isMade && scaffold.directories.includes(place) ? { ownDirectory: { path: place, ...owner } } : {}),
    rootAttributes: {
      uid,
      gid,
      mode: root.mode | searchBits(root),
      covered: closes(root),
    },
    ...(run?.kind === 'directory' && closes(run) ? { opensRun: true } : {}),
    copyUp: new Map(
      [...mounts.map((mount) => mount.destination), '/run']
        .map((path) => [path, canonicalPoint(path, lookup)] as const)
        .filter(([, place]) => lookup(place)?.kind === 'directory'),
    ),
    ...(startsNow &&
    common.sockets === undefined &&
    !spec.annotations[ANNOTATION.restart] &&
    !hasHostUsers(spec)
      ? { kernelPaths: kernelPaths(spec.linux.maskedPaths) }
      : {}),
    ...(mounts.every(({ destination }) => isPlainPath(destination))
      ? {}
      : {
          places: new Map(
            mounts.map((mount) => [
              withoutDots(mount.destination),
              canonicalPoint(mount.destination, lookup),
            ]),
          ),
        }),
  };
}

/** The kernel's, and ours: whatever the image has there is not seen. */
const KERNEL_PLACES = /^\/(proc|sys|dev)(\/|$)/;

function hasInterpreters(): boolean {
  try {
    return readdirSync('/proc/sys/fs/binfmt_misc').some((name) => name !== 'register' && name !== 'status');
  } catch {
    return false;
  }
}

/** What the kernel has there now. Of these the container's own /proc and /sys have the same, whatever its namespaces. */
const KERNEL_PATH =
  /^\/(proc\/[a-z][\w-]*|sys\/(firmware|kernel\/\w+|fs\/selinux|devices\/virtual\/powercap))$/;

function kernelPaths(paths: readonly string[]): ReadonlyMap<string, KernelPath> {
  const kinds = new Map<string, KernelPath>();
  if (!existsSync(`${MASKS}/dir`) || !existsSync(`${MASKS}/reg`)) return kinds;
  // a /proc that shows processes alone (proc(5), subset=pid) says nothing of the container's
  const isWhole = existsSync('/proc/filesystems') && existsSync('/sys/kernel');
  for (const path of paths.filter((each) => KERNEL_PATH.test(each))) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) kinds.set(path, 'directory');
    else if (stat?.isFile()) kinds.set(path, 'file');
    else if (stat === undefined && isWhole) kinds.set(path, 'absent');
  }
  return kinds;
}

/** What programs expect, and images leave out. */
const ALWAYS_THERE = ['/tmp', '/var/tmp', '/etc'];

const MADE_AT_START = new Set<string>([VOLUME_OPTION, MADE_OPTION, CREDENTIALS_OPTION]);

/** Whether a directory or a file shows there; throws INPUT_NOT_FOUND where the host has no such thing. */
function showsDirectory(mount: Mount, { images }: CommonContext): boolean {
  if (!isBind(mount) || mount.options?.some((option) => MADE_AT_START.has(option))) return true;
  if (mount.options?.includes(IMAGE_OPTION)) {
    const path = mount.options.find((option) => option.startsWith(SUBPATH_OPTION));
    const tree = openImageTree(images?.get(mount.source ?? '') ?? { layerTrees: [] });
    const kind = tree.lookup(path?.slice(SUBPATH_OPTION.length) ?? '/')?.kind;
    tree.close();
    return kind !== 'file';
  }
  const source = mount.source ?? '';
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat !== undefined) return stat.isDirectory();
  throw new OciError(
    'INPUT_NOT_FOUND',
    `${quote(source)}, to be shown at ${quote(mount.destination)}, does not exist on the host`,
    {
      hint: `Make it first: mkdir -p ${escapeControl(shellWord(source))}.`,
    },
  );
}

function isBelow(path: string, directory: string): boolean {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  return path === directory || path.startsWith(prefix);
}
