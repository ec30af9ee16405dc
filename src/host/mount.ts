/**
 * The mount family of system calls: id-mapped bind mounts, overlays of any number of layers, unmounting, and a
 * look at what is mounted. open_tree(2), mount_setattr(2), move_mount(2), fsopen(2), umount2(2), overlayfs.
 *
 * Invariant: a bind made here is in no peer group with its source, so nothing mounted on it ever appears in the
 * store; on failure nothing stays mounted. All calls are synchronous and act on the mount namespace of the calling thread.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { OciError, quote } from '../oci/errors.ts';
import { isErrno } from './files.ts';
import { koffi } from './koffi.ts';
import { AT_EMPTY_PATH, AT_FDCWD, check, close, O_CLOEXEC } from './syscalls.ts';

export interface MountAttributes {
  readonly readOnly?: boolean;
  readonly noSuid?: boolean;
  readonly noDevices?: boolean;
  readonly noExec?: boolean;
}

export interface MountedFileSystem {
  readonly target: string;
  readonly type: string;
  /** Per-mount options: ro, nosuid, nodev, idmapped, … */
  readonly options: ReadonlySet<string>;
  /** Options of the file system itself; for an overlay lowerdir, userxattr, … */
  readonly superOptions: readonly string[];
}

// Numbers from <linux/mount.h>, equal on every architecture.
const OPEN_TREE_CLONE = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOUNT_ATTR_RDONLY = 1;
const MOUNT_ATTR_NOSUID = 2;
const MOUNT_ATTR_NODEV = 4;
const MOUNT_ATTR_NOEXEC = 8;
const MOUNT_ATTR_IDMAP = 0x100000;
const MS_PRIVATE = 1n << 18n;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
/** The same attributes as flags of mount(2). */
const MS_FLAGS = [
  [MOUNT_ATTR_RDONLY, 1],
  [MOUNT_ATTR_NOSUID, 2],
  [MOUNT_ATTR_NODEV, 4],
  [MOUNT_ATTR_NOEXEC, 8],
] as const;

function bind() {
  const libc = koffi().load('libc.so.6');
  const call = (name: string, ...parameters: string[]) => {
    const raw = libc.func(name, 'int', parameters);
    /** The result, or an error with errno's code. `what` names the object for people. */
    return (what: string, ...values: unknown[]): number => {
      const value: number = raw(...values);
      return check(value < 0 ? -koffi().errno() : value, name, what);
    };
  };
  return {
    open_tree: call('open_tree', 'int', 'str', 'uint32_t'),
    mount_setattr: call('mount_setattr', 'int', 'str', 'uint32_t', 'void *', 'size_t'),
    move_mount: call('move_mount', 'int', 'str', 'int', 'str', 'uint32_t'),
    fsopen: call('fsopen', 'str', 'uint32_t'),
    fsconfig: call('fsconfig', 'int', 'uint32_t', 'str', 'str', 'int'),
    fsmount: call('fsmount', 'int', 'uint32_t', 'uint32_t'),
    mount: call('mount', 'str', 'str', 'str', 'ulong', 'str'),
    umount2: call('umount2', 'str', 'int'),
  };
}

let bound: ReturnType<typeof bind> | undefined;
function libc() {
  bound ??= bind();
  return bound;
}

function attributeBits(attributes: MountAttributes): number {
  return (
    (attributes.readOnly ? MOUNT_ATTR_RDONLY : 0) |
    (attributes.noSuid ? MOUNT_ATTR_NOSUID : 0) |
    (attributes.noDevices ? MOUNT_ATTR_NODEV : 0) |
    (attributes.noExec ? MOUNT_ATTR_NOEXEC : 0)
  );
}

/**
 * Binds `source` (submounts are left out) at `target`, ids mapped by the user namespace behind `userNamespaceFd`:
 * an id inside that namespace, as on disk, shows as its id outside. Throws UNSUPPORTED where the file system cannot.
 */
export function mountIdMapped(
  source: string,
  target: string,
  userNamespaceFd: number,
  attributes: MountAttributes = {},
): void {
  const c = libc();
  const tree = c.open_tree(quote(source), AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC);
  try {
    try {
      setAttributes(quote(source), tree, attributeBits(attributes) | MOUNT_ATTR_IDMAP, userNamespaceFd);
    } catch (error) {
      if (!isErrno(error, 'EINVAL')) throw error;
      throw new OciError('UNSUPPORTED', `the file system of ${quote(source)} cannot map ids`, {
        hint: 'Put the store on ext4, xfs, btrfs or (from Linux 6.3) tmpfs with --root.',
        cause: error,
      });
    }
    c.move_mount(quote(target), tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  } finally {
    close(tree);
  }
}

/** mount_setattr(2) on a mount nobody sees yet; it leaves the peer group of its source as well. */
function setAttributes(what: string, mountFd: number, attributes: number, userNamespaceFd: number): void {
  // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
  const wanted = new BigUint64Array([BigInt(attributes), 0n, MS_PRIVATE, BigInt(userNamespaceFd)]);
  libc().mount_setattr(what, mountFd, '', AT_EMPTY_PATH, wanted, wanted.byteLength);
}

/**
 * Mounts a read-only overlay of `layers` (lowest first, at least two, already mounted where their ids are to be
 * mapped) at `target`. Markers are read from `user.overlay.*`, as the store writes them.
 * `layers` may be unmounted afterwards: an overlay keeps private clones.
 */
export function mountOverlay(
  layers: readonly string[],
  target: string,
  attributes: MountAttributes = {},
): void {
  const c = libc();
  const what = `overlay of ${layers.length} layers`;
  const fs = c.fsopen(what, 'overlay', FSOPEN_CLOEXEC);
  try {
    try {
      // One call for each layer, uppermost first: no page-size limit and nothing to escape.
      for (const layer of layers.toReversed())
        c.fsconfig(quote(layer), fs, FSCONFIG_SET_STRING, 'lowerdir+', layer, 0);
    } catch (error) {
      if (!isErrno(error, 'EINVAL')) throw error;
      mountOverlayByString(layers, target, attributes);
      return;
    }
    c.fsconfig(what, fs, FSCONFIG_SET_STRING, 'source', 'oci', 0);
    c.fsconfig(what, fs, FSCONFIG_SET_FLAG, 'userxattr', null, 0);
    c.fsconfig(what, fs, FSCONFIG_SET_FLAG, 'ro', null, 0);
    c.fsconfig(what, fs, FSCONFIG_CMD_CREATE, null, null, 0);
    attach(what, fs, target, { ...attributes, readOnly: true });
  } finally {
    close(fs);
  }
}

/**
 * The same before Linux 6.7, which knows no `lowerdir+`: all layers in one string of at most a page, so they are
 * named relative to their common directory, the working directory for the moment of the call.
 */
export function mountOverlayByString(
  layers: readonly string[],
  target: string,
  attributes: MountAttributes = {},
): void {
  const bits = attributeBits({ ...attributes, readOnly: true });
  let flags = 0;
  for (const [attribute, flag] of MS_FLAGS) if (bits & attribute) flags |= flag;
  const names = layers.map((layer) => basename(layer));
  const before = process.cwd();
  process.chdir(dirname(layers[0]!));
  try {
    const data = `userxattr,lowerdir=${names.toReversed().join(':')}`;
    libc().mount(
      `overlay of ${layers.length} layers at ${quote(target)}`,
      'oci',
      target,
      'overlay',
      flags,
      data,
    );
  } finally {
    process.chdir(before);
  }
}

/**
 * Mounts a composefs image: the EROFS in `fd`, and over it an overlay that takes the files' content from `objects`, at
 * `target`, read-only. What is mounted is the opened file itself. `scratch`: an empty directory, as it is again afterwards.
 * `verity`: every object has to have the fs-verity digest by which the image calls it. Throws UNSUPPORTED.
 */
export function mountComposefs(
  { fd, objects, scratch, verity }: { fd: number; objects: string; scratch: string; verity: boolean },
  target: string,
  attributes: MountAttributes = {},
): void {
  const options = { ...attributes, readOnly: true };
  try {
    mountNew('erofs', { source: `/proc/self/fd/${fd}`, ro: null, noacl: null }, scratch, options);
  } catch (error) {
    if (!isErrno(error, 'ENOTBLK', 'ENODEV', 'EINVAL')) throw error;
    throw new OciError('UNSUPPORTED', 'the kernel cannot mount an EROFS image from a file', {
      hint: 'Use Linux 6.12 or later, with CONFIG_EROFS_FS_BACKED_BY_FILE.',
      cause: error,
    });
  }
  try {
    const layers = { 'lowerdir+': scratch, 'datadir+': objects, metacopy: 'on', redirect_dir: 'follow' };
    const overlay = { source: 'oci', ...layers, ...(verity ? { verity: 'require' } : {}), ro: null };
    mountNew('overlay', overlay, target, options);
  } finally {
    unmount(scratch); // the overlay has a clone of its own
  }
}

/** A new mount of a file system, by its parameters: of a null one the name is all there is. */
function mountNew(
  type: string,
  parameters: Readonly<Record<string, string | null>>,
  target: string,
  attributes: MountAttributes,
): void {
  const c = libc();
  const fs = c.fsopen(type, type, FSOPEN_CLOEXEC);
  try {
    for (const [key, value] of Object.entries(parameters))
      c.fsconfig(key, fs, value === null ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, key, value, 0);
    c.fsconfig(type, fs, FSCONFIG_CMD_CREATE, null, null, 0);
    attach(type, fs, target, attributes);
  } finally {
    close(fs);
  }
}

/** Mounts the file system that `fs` has made. */
function attach(what: string, fs: number, target: string, attributes: MountAttributes): void {
  const c = libc();
  const mounted = c.fsmount(what, fs, FSMOUNT_CLOEXEC, attributeBits(attributes));
  try {
    c.move_mount(quote(target), mounted, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  } finally {
    close(mounted);
  }
}

/**
 * Unmounts whatever is on top at `target`; false when nothing is mounted there. Detaches it lazily, so that a shell
 * left in the tree does not keep it: the mount goes when its last user leaves.
 */
export function unmount(target: string): boolean {
  try {
    libc().umount2(quote(target), target, MNT_DETACH | UMOUNT_NOFOLLOW);
    return true;
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT')) return false;
    throw error;
  }
}

/** What is mounted (uppermost) at exactly `target` in this mount namespace. proc_pid_mountinfo(5). */
export function mountAt(target: string): MountedFileSystem | undefined {
  return mountsBelow(target).findLast((mounted) => mounted.target === target);
}

/** Every mount at or below `directory`, in the order of mounting. */
export function mountsBelow(directory: string): MountedFileSystem[] {
  const found: MountedFileSystem[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    if (left === undefined || right === undefined) continue;
    const fields = left.split(' ');
    const target = unescapeMountinfo(fields[4]!);
    if (target !== directory && !target.startsWith(`${directory}/`)) continue;
    const [type, , superOptions] = right.split(' ');
    found.push({
      target,
      type: type!,
      options: new Set(fields[5]!.split(',')),
      superOptions: (superOptions ?? '').split(','),
    });
  }
  return found;
}

function unescapeMountinfo(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
