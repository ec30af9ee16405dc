/**
 * What NAME-setup.service runs, as POSIX shell over util-linux: the same text serves a transient container and one
 * installed for boot, where no program of ours runs.
 *
 * Invariants
 * - Nothing of the image is executed, and no path of the image is resolved by the host's root: the tree is only
 *   mounted. The scaffold holds nothing but what is made here.
 * - The ids on disk are the foreign range D; the running range B is fresh and lives in mounts and userdb alone.
 * - Every mount lies below mnt, a tmpfs. It stays shared, so that an unmount reaches the copies which other
 *   services' mount namespaces took; the id-mapped binds are private, so that nothing reaches the store.
 * - The teardown undoes a setup that failed at any line.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, rangeUserName } from '../uid/range.ts';
import type { UnitContext } from './context.ts';
import { setupHooks, teardownHooks } from './hooks.ts';
import { planMounts } from './mounts.ts';
import { fixedRange, planNamespaces } from './namespaces.ts';
import type { SeccompPlan } from './seccomp.ts';
import { deviceTree, networkFiles } from './setup-files.ts';
import { preparedMounts, runTree } from './setup-mounts.ts';
import { namespaceLines, rangeLines, USER_NAMESPACE, utsAndIPC } from './setup-namespaces.ts';
import { networkSetup, networkTeardown } from './setup-network.ts';
import { shellWord, shellWords } from './shell.ts';
import { awaitTerminal } from './terminal.ts';

export function setupScript(
  spec: RuntimeSpec,
  seccomp: SeccompPlan | undefined,
  context: UnitContext,
): string {
  const namespaces = planNamespaces(spec.linux);
  const mounts = planMounts(spec);
  return `#!/bin/sh
# Setup of ${context.unit}.service: made by oci-run, run by systemd. Its undoing is the file teardown beside it.
${parameters(spec, context)}
HOSTNAME=${shellWord(spec.hostname ?? 'container')}
# layers, lowest first
set -- ${shellWords(context.layerTrees)}

${PREAMBLE}
${SHARED}
${scaffold(context)}
${rangeLines(spec.linux)}
${USER_NAMESPACE}
${namespaceLines(namespaces, seccomp)}
${networkSetup(spec, context)}
${rootLines(spec, context)}
${deviceTree(spec, mounts, context)}
${runTree(mounts, spec, context)}
${preparedMounts(mounts, context)}
${networkFiles(namespaces, context)}
${utsAndIPC(spec, namespaces)}${awaitTerminal(spec)}
${setupHooks(spec, context).join('\n')}
kill $holder
rm user-ready other-ready
`;
}

export function teardownScript(spec: RuntimeSpec, context: UnitContext): string {
  return `#!/bin/sh
# Undoes the setup of ${context.unit}.service, however far it came.
${parameters(spec, context)}
cd /
${networkTeardown(context)}
${TEARDOWN}
${teardownHooks(spec, context).join('\n')}
`;
}

function parameters(spec: RuntimeSpec, context: UnitContext): string {
  return `PATH=/usr/sbin:/usr/bin:/sbin:/bin
NAME=${shellWord(context.unit)}
ROOT_USER=${rangeUserName(context.unit)}
BUNDLE=${shellWord(context.bundleDir)}
WRITABLE=${shellWord(context.writableDir)}
SHARED=${shellWord(context.sharedDir)}
# ids on disk begin at D; the container has SIZE of them
D=${context.idBase}
SIZE=${fixedRange(spec.linux)?.size ?? RANGE_SIZE}
ROOT_MODE=${context.rootMode?.toString(8) ?? ''}`;
}

const PREAMBLE = `set -eu
umask 022
fail() { echo "$NAME-setup: $*" >&2; exit 1; }
for program in nsenter setpriv unshare flock mount getent ip; do
  command -v $program >/dev/null || fail "$program is missing: install util-linux, libc-bin and iproute2"
done`;

/** Once per boot: the shim's programs with their libraries, and a /dev to copy. */
const SHARED = `
if [ ! -e "$SHARED/ready" ]; then
  mkdir -p "$SHARED"
  exec 8>"$SHARED/lock"
  flock 8
  if [ ! -e "$SHARED/ready" ]; then
    rm -rf "$SHARED/shim" "$SHARED/dev"
    mkdir "$SHARED/shim" "$SHARED/dev"
    for program in nsenter setpriv env setsid; do
      file=$(command -v $program)
      cp -L "$file" "$SHARED/shim/"
      ldd "$file"
    done | while read -r name arrow path _; do
      case $name in
        linux-vdso* | linux-gate*) ;;
        /*) cp -L "$name" "$SHARED/shim/ld.so" ;;
        *) [ "$arrow" = '=>' ] && cp -L "$path" "$SHARED/shim/$name" ;;
      esac
    done
    [ -e "$SHARED/shim/ld.so" ] || fail 'nsenter, setpriv or env is not dynamically linked'
    # they run in the image's root, some with more rights than the payload: where they would look for ld.so.preload,
    # nsswitch.conf, nscd, locales or libraries becomes a path that no image has, since /sys is the kernel's
    LC_ALL=C sed -i -e 's,/\\(etc\\|var\\)/,/sys/,g' -e 's,/usr/\\(lib\\|share\\),/sys/\\1,g' \\
      -e 's,/lib/,/sys/,g' -e 's,/lib64/,/sys/4/,g' "$SHARED"/shim/*
    LC_ALL=C grep -q /sys/ld.so.preload "$SHARED/shim/ld.so" &&
      LC_ALL=C grep -q /sys/nsswitch.conf "$SHARED/shim/libc.so.6" &&
      "$SHARED/shim/ld.so" --inhibit-cache --library-path "$SHARED/shim" "$SHARED/shim/setpriv" --version >/dev/null ||
      fail 'cannot keep the C library of this host away from the files of images'
    : >"$SHARED/shim/userns"
    : >"$SHARED/shim/utsns"
    : >"$SHARED/shim/init"
    : >"$SHARED/shim/seccomp"
    cd "$SHARED/dev"
    mknod -m 666 null c 1 3
    mknod -m 666 zero c 1 5
    mknod -m 666 full c 1 7
    mknod -m 666 random c 1 8
    mknod -m 666 urandom c 1 9
    mknod -m 666 tty c 5 0
    mkdir pts shm mqueue
    ln -s pts/ptmx ptmx
    ln -s /proc/self/fd fd
    ln -s /proc/self/fd/0 stdin
    : >"$SHARED/ready"
  fi
  exec 8>&-
fi`;

/** The layers below and above the image's: mount points and the working directory. */
function scaffold(context: UnitContext): string {
  const { directories, files } = context.scaffold;
  const temporary = directories.filter((path) => /^\/(var\/)?tmp$/.test(path)).map((path) => `.${path}`);
  const own =
    context.rootfs !== undefined
      ? '' // a bundle's rootfs has them already: src/host/mount-points.ts
      : `
rm -rf --one-file-system "$WRITABLE"
mkdir -p "$WRITABLE/data" "$WRITABLE/work" "$WRITABLE/scaffold"
cd "$WRITABLE/scaffold"
mkdir -p ${shellWords(directories.map((path) => `.${path}`))}
${files.map((path) => `mkdir -p ${shellWord(`.${parent(path)}`)}; : >${shellWord(`.${path}`)}`).join('\n')}
chown -R $D:$D .${temporary.length > 0 ? `\nchmod 1777 ${shellWords(temporary)}` : ''}${cover(context)}`;
  return `${own}
mkdir -p "$BUNDLE/mnt" /run/userdb
mount -t tmpfs -o mode=755,size=4m,nr_inodes=4k "oci-$NAME" "$BUNDLE/mnt"
cd "$BUNDLE/mnt"
mkdir u rootfs dev run etc
: >userns; : >netns; : >ipcns; : >utsns`;
}

/** Directories above the image's keep the owner and mode that they have in the image. */
function cover(context: UnitContext): string {
  if (context.scaffold.cover.length === 0 && context.rootMode === undefined) return '';
  const lines = context.scaffold.cover.map(({ path, kind, mode, owner }) => {
    const word = shellWord(`.${path}`);
    const ids = owner === undefined ? '$D:$D' : `${owner.uid}:${owner.gid}`;
    return `${kind === 'file' ? `: >${word}` : `mkdir ${word}`}; chown ${ids} ${word}; chmod ${mode.toString(8)} ${word}`;
  });
  return `
mkdir "$WRITABLE/cover"
cd "$WRITABLE/cover"
${lines.join('\n')}`;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

function rootLines(spec: RuntimeSpec, context: UnitContext): string {
  if (context.rootfs !== undefined)
    return `
if [ $D = $B ]; then mount --bind --make-private ${shellWord(context.rootfs)} rootfs
else mount --bind --make-private -o "X-mount.idmap=b:$D:$B:$SIZE" ${shellWord(context.rootfs)} rootfs ||
  fail ${shellWord(`cannot map the ids of ${context.rootfs}: its file system does not allow that`)}
fi`;
  return `${LAYERS}\n${spec.root.readonly === true ? READ_ONLY_ROOT : WRITABLE_ROOT}`;
}

const LAYERS = `
number=0
lower=
add_layer() {
  mkdir l$number
  mount --bind --make-private -o "ro,X-mount.idmap=b:$D:$B:$SIZE" "$1" l$number
  lower=l$number\${lower:+:$lower}
  number=$((number + 1))
}
for layer in "$WRITABLE/scaffold" "$@"; do add_layer "$layer"; done
if [ -d "$WRITABLE/cover" ]; then
  chown --reference="$layer" "$WRITABLE/cover"
  chmod --reference="$layer" "$WRITABLE/cover"
  [ -z "$ROOT_MODE" ] || chmod "$ROOT_MODE" "$WRITABLE/cover"
  layer=$WRITABLE/cover
  add_layer "$layer"
fi`;

/** By mount(2), which takes a page of options; an option of fsconfig(2) ends at 255 bytes, too few for 128 layers. */
const READ_ONLY_ROOT = `LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o "ro,userxattr,lowerdir=$lower" "oci-$NAME" rootfs`;

/**
 * A second extent maps host root, which overlay works as: without it the work directory fails and the mount is
 * read-only. Nothing in the container can be that user: its range does not have it.
 */
const WRITABLE_ROOT = `chown --reference="$layer" "$WRITABLE/data"
chmod --reference="$layer" "$WRITABLE/data"
mount --bind --make-private -o "X-mount.idmap=b:$D:$B:$SIZE b:0:0:1" "$WRITABLE" u
LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o "userxattr,lowerdir=$lower,upperdir=u/data,workdir=u/work" "oci-$NAME" rootfs
[ -w rootfs ] || fail 'the root file system came out read-only: look at dmesg'`;

const TEARDOWN = `
if mountpoint -q "$BUNDLE/mnt"; then
  umount -R "$BUNDLE/mnt" || umount -R -l "$BUNDLE/mnt"
fi
B=
[ ! -s "$BUNDLE/range" ] || read -r B <"$BUNDLE/range"
[ -z "$B" ] || rm -f "/run/userdb/$B.user" "/run/userdb/$B.group"
rm -f "/run/userdb/$ROOT_USER.user" "/run/userdb/$ROOT_USER.group"
rm -rf --one-file-system "$WRITABLE" "$BUNDLE"
`;
