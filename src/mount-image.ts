/**
 * The stories of `ocictl mount` and `ocictl umount`: an image's merged tree as a directory of the host, read-only,
 * with the ids a container sees (from 0).
 *
 *   RUN_ROOT/mounts/<id>/            0700, so that no other user reaches a setuid file in it; flock while it changes
 *     mount.json                     MountRecord: written first, removed last
 *     layers/<n>                     id-mapped layers, or the EROFS, mounted only until the overlay stands on them
 *     tree                           the mount: ro, nosuid, nodev
 *
 * One image has one mount: mounting it again gives the same directory, and unmounting it once undoes them all.
 * Needs neither systemd nor a mount helper; survives the process, not the boot.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { listDirectory } from './host/files.ts';
import { lockDirectory, type Waiting } from './host/lock.ts';
import { mountAt, mountComposefs, mountIdMapped, mountOverlay, mountsBelow, unmount } from './host/mount.ts';
import { openUserNamespace } from './host/user-namespace.ts';
import { type Digest, digestHex } from './oci/digest.ts';
import { OciError, quote, wrap } from './oci/errors.ts';
import { CONTAINER_ID_MAX, FOREIGN_UID_BASE } from './oci/limits.ts';
import type { UseRecord } from './store/image-users.ts';
import type { StoredImage } from './store/images.ts';
import type { Store } from './store/store.ts';
import { openCheckedImage } from './verified-image.ts';

/** mount.json */
interface MountRecord extends UseRecord {
  /** The root of the store that was asked. */
  readonly store: string;
}

export interface ImageMount {
  readonly path: string;
  readonly digest: Digest;
  /** The store it belongs to. */
  readonly root: string;
}

const ATTRIBUTES = { readOnly: true, noSuid: true, noDevices: true } as const;

/** The directory with the merged tree. Idempotent. Under the store's shared lock. */
export async function mountImage(
  store: Store,
  image: StoredImage,
  runRoot: string,
  waiting: Waiting = {},
): Promise<string> {
  const short = digestHex(image.digest).slice(0, 12);
  const directory = join(openMountsRoot(runRoot), mountID(store.root, image.digest));
  using _lock = await lockDirectory(directory, `the mount of ${short}`, waiting);
  const tree = join(directory, 'tree');
  if (mountAt(tree) !== undefined) return tree;
  clear(directory); // what an interrupted mount or an earlier boot left
  try {
    const record: MountRecord = { ...store.useRecord(image.digest), store: store.root };
    writeFileSync(join(directory, 'mount.json'), `${JSON.stringify(record)}\n`, { mode: 0o600 });
    mkdirSync(tree, { mode: 0o700 });
    if (image.composefs === undefined) await mountLayers(store.layerTrees(image), directory, tree);
    else mountChecked(image, image.composefs.objects, directory, tree);
    checkMount(tree);
    return tree;
  } catch (error) {
    clear(directory);
    rmdirSync(directory);
    throw wrap(`mount image ${short}`, error);
  }
}

/** Undoes mountImage(); false when the image was not mounted. */
export function unmountImage(
  store: Store,
  image: StoredImage,
  runRoot: string,
  waiting: Waiting = {},
): Promise<boolean> {
  return unmountDirectory(join(openMountsRoot(runRoot), mountID(store.root, image.digest)), waiting);
}

/** The same by the path that mountImage() gave; undefined for a path it never gave. */
export async function unmountPath(
  path: string,
  runRoot: string,
  waiting: Waiting = {},
): Promise<boolean | undefined> {
  const mounts = openMountsRoot(runRoot);
  const directory = dirname(resolve(path));
  if (basename(path) !== 'tree' || ![mounts, join(resolve(runRoot), 'mounts')].includes(dirname(directory)))
    return undefined;
  return unmountDirectory(join(mounts, basename(directory)), waiting);
}

export function listMounts(runRoot: string): ImageMount[] {
  const root = openMountsRoot(runRoot);
  return readdirSync(root).flatMap((id) => {
    const path = join(root, id, 'tree');
    if (mountAt(path) === undefined) return [];
    const record = JSON.parse(readFileSync(join(root, id, 'mount.json'), 'utf8')) as MountRecord;
    return [{ path, digest: record.digest, root: record.store }];
  });
}

async function unmountDirectory(directory: string, waiting: Waiting): Promise<boolean> {
  if (lstatSync(directory, { throwIfNoEntry: false }) === undefined) return false;
  using _lock = await lockDirectory(directory, `the mount ${quote(directory)}`, waiting);
  const wasMounted = mountAt(join(directory, 'tree')) !== undefined;
  clear(directory);
  rmdirSync(directory);
  return wasMounted;
}

/** One mount for each image of each store. */
function mountID(root: string, digest: Digest): string {
  const store = createHash('sha256').update(root).digest('hex').slice(0, 8);
  return `${digestHex(digest).slice(0, 32)}-${store}`;
}

function openMountsRoot(runRoot: string): string {
  mkdirSync(runRoot, { recursive: true, mode: 0o755 });
  const root = join(realpathSync(runRoot), 'mounts');
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const stat = lstatSync(root);
  if (!stat.isDirectory() || stat.uid !== process.geteuid!() || (stat.mode & 0o077) !== 0)
    throw new OciError('DENIED', `refusing to mount below ${quote(root)}: other users may enter it`, {
      hint: 'Name another run root with --run-root.',
    });
  return root;
}

/** Nothing mounted, nothing left in it. Every file system below is detached before anything is removed. */
function clear(directory: string): void {
  for (const { target } of mountsBelow(directory).toReversed()) unmount(target);
  const layers = join(directory, 'layers');
  const directories = [
    ...listDirectory(layers).map((name) => join(layers, name)),
    layers,
    join(directory, 'tree'),
  ];
  for (const empty of directories)
    if (lstatSync(empty, { throwIfNoEntry: false }) !== undefined) rmdirSync(empty);
  rmSync(join(directory, 'mount.json'), { force: true });
}

/** A composefs image, once its digest is right; its ids begin at 0. The kernel verifies what it can. */
function mountChecked(image: StoredImage, objects: string, directory: string, target: string): void {
  const scratch = join(directory, 'layers/image');
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  const { fd, isGuarded } = openCheckedImage(image);
  try {
    mountComposefs({ fd, objects, scratch, verity: isGuarded }, target, ATTRIBUTES);
  } finally {
    closeSync(fd);
  }
}

/** Id-mapped binds of the layers, and an overlay over them where there is more than one. */
async function mountLayers(trees: readonly string[], directory: string, target: string): Promise<void> {
  const scratch = join(directory, 'layers');
  mkdirSync(scratch, { mode: 0o700 });
  const ids = { inside: FOREIGN_UID_BASE, outside: 0, count: CONTAINER_ID_MAX + 1 };
  const userNamespace = await openUserNamespace([ids]);
  try {
    if (trees.length < 2) {
      // The lowest layer has no whiteouts, so alone it is the tree.
      mountIdMapped(trees[0] ?? makeEmptyTree(scratch), target, userNamespace, ATTRIBUTES);
      return;
    }
    const mounts = trees.map((_, index) => join(scratch, String(index)));
    try {
      for (const [index, mount] of mounts.entries()) {
        mkdirSync(mount, { mode: 0o700 });
        mountIdMapped(trees[index]!, mount, userNamespace, ATTRIBUTES);
      }
      mountOverlay(mounts, target, ATTRIBUTES);
    } finally {
      for (const mount of mounts) unmount(mount);
    }
  } finally {
    closeSync(userNamespace);
  }
}

/** The tree of an image without layers. */
function makeEmptyTree(scratch: string): string {
  const tree = join(scratch, 'empty');
  mkdirSync(tree);
  lchownSync(tree, FOREIGN_UID_BASE, FOREIGN_UID_BASE);
  chmodSync(tree, 0o755);
  utimesSync(tree, 0, 0);
  return tree;
}

/** That the mount is what was asked for: a kernel or a security module may have done less. */
function checkMount(tree: string): void {
  const options = mountAt(tree)?.options ?? new Set();
  const missing = ['ro', 'nosuid', 'nodev'].filter((option) => !options.has(option));
  if (missing.length > 0) throw new OciError('OS_ERROR', `the mount lacks the options ${missing.join(', ')}`);
  const { uid } = statSync(tree);
  if (uid > CONTAINER_ID_MAX)
    throw new OciError('OS_ERROR', `the mount does not map ids: its root belongs to ${uid}`);
}
