/**
 * A root, or a mounted image, that is a composefs image: one EROFS for the tree of the image, its files' content in the
 * objects of the store, below an overlay.
 *
 * Invariants
 * - What is mounted is the file that was checked: it is bound first, and a bind stays with its file whatever becomes of
 *   the name. The kernel reads nothing of it before its checksum is the one that was written here.
 * - Ids in the image begin at 0; the mount of the EROFS maps them to the container's range. Objects belong to root, are
 *   found by overlayfs alone, through a bind that is read-only, and are no part of any tree that the container sees.
 */
import type { ComposefsRoot } from './context.ts';
import { type Mount, privateBind } from './fstab.ts';
import { fstabWord, shellWord } from './shell.ts';

/** Below mnt, for the image that is mounted at `name`. */
function pinned(name: string): string {
  return `${name}.cfs`;
}

function objects(name: string): string {
  return `${name}o`;
}

/**
 * Binds the image's file and checks it. By coreutils' sha256sum: no base system has a program that asks for fs-verity
 * digests.
 */
export function pinnedImage(name: string, { image, sha256, digest, verity }: ComposefsRoot): string {
  const file = `"$BUNDLE/mnt/${pinned(name)}"`;
  // fs-verity keeps root, too, from opening a file for writing; whether it is that, Node.js has asked
  const ask = verity
    ? `
if (: >>${file}) 2>/dev/null; then
  fail ${shellWord(`refusing to start: ${image} has no fs-verity any more: ocictl fsck --repair`)}
fi`
    : '';
  return `
: >${file}
mount --bind --make-private ${shellWord(image)} ${file}
[ "$(sha256sum <${file})" = "${sha256}  -" ] ||
  fail ${shellWord(`refusing to start: ${image} is not sha256:${digest}: ocictl fsck --repair`)}
# The check has put all of it into the page cache; what the kernel needs, a fifth, it reads again.
dd if=${file} iflag=nocache count=0 status=none || true${ask}`;
}

/** The EROFS at `name`, from the file that was checked, and the objects beside it. */
export function composefsMounts(name: string, root: ComposefsRoot): Mount[] {
  return [
    {
      source: `"$MOUNTS_FIELD/${pinned(name)}"`,
      target: name,
      type: 'erofs',
      options: 'ro,noacl,X-mount.idmap=b:0:$B:$SIZE',
    },
    privateBind(fstabWord(root.objects), objects(name), 'ro'),
  ];
}

/** Options of the overlay above; `lower`: its directories, uppermost first, the image's of them at `name`. */
export function composefsStack(
  name: string,
  { verity }: ComposefsRoot,
  lower: readonly string[],
  writes: boolean,
): string {
  // what is written may need a redirection where the kernel copies up no data
  const stack = `metacopy=on,redirect_dir=${writes ? 'on' : 'follow'}${verity ? ',verity=require' : ''}`;
  return `${stack},lowerdir=${lower.join(':')}::${objects(name)}`;
}
