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
import { composefsMounts, composefsStack, pinnedImage } from './composefs-mounts.ts';
import { type ComposefsRoot, mountDir, type UnitContext } from './context.ts';
import { layerBind, type Mount, mountLines, privateBind } from './fstab.ts';
import { setupHooks, teardownHooks } from './hooks.ts';
import { hasHostUsers } from './host-users.ts';
import { composefsImages, hasWritableImage, imageLayerMounts, imageUppers, ownWork } from './image-mounts.ts';
import { LOG_FIFO } from './log-units.ts';
import { type MountPlan, planMounts } from './mounts.ts';
import { fixedRange, planNamespaces } from './namespaces.ts';
import type { SeccompPlan } from './seccomp.ts';
import { deviceMounts, deviceTree, networkFiles, ownTree } from './setup-files.ts';
import { preparedMounts, runMounts, runTree } from './setup-mounts.ts';
import {
  namespaceLines,
  namespaceMounts,
  rangeLines,
  UTS_AND_IPC_SET,
  utsAndIPC,
} from './setup-namespaces.ts';
import { networkSetup, networkTeardown } from './setup-network.ts';
import { fstabWord, shellWord } from './shell.ts';
import { awaitTerminal } from './terminal.ts';

export function setupScript(
  spec: RuntimeSpec,
  seccomp: SeccompPlan | undefined,
  context: UnitContext,
): string {
  const namespaces = planNamespaces(spec.linux);
  const mounts = planMounts(spec);
  const root = rootMounts(spec, context);
  return `#!/bin/sh
# Setup of ${context.unit}.service: made by oci-run, run by systemd. Its undoing is the file teardown beside it.
${parameters(spec, context)}
HOSTNAME=${shellWord(spec.hostname ?? 'container')}

${PREAMBLE}
${SHARED}
# what does not need the range, while that is looked for
{
${scaffold(spec, mounts, context)}
} &
scaffold=$!
${rangeLines(spec)}
${namespaceLines(spec, namespaces, seccomp)}
wait $scaffold || exit 1
cd "$BUNDLE/mnt"
: >userns; : >netns; : >ipcns; : >utsns
${mountLines([
  ...namespaceMounts(spec, namespaces),
  ...layerMounts(spec, mounts, context),
  ...imageLayerMounts(mounts, context),
  ...root,
  ...deviceMounts(mounts),
  ...runMounts(mounts, spec, context, root),
])}
${networkSetup(spec, context)}
${rootLines(spec, context)}
${utsAndIPC(spec, namespaces)}${deviceTree(context)}
${networkFiles(namespaces, context)}${UTS_AND_IPC_SET}${ownTree(spec, context)}
${runTree(mounts, spec, context, root)}
${preparedMounts(mounts, context)}
${awaitTerminal(spec)}
${setupHooks(spec, context).join('\n')}
kill -KILL $holder
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
# as fields of fstab(5)
WRITABLE_FIELD=${fstabWord(context.writableDir)}
MOUNTS_FIELD=${fstabWord(mountDir(context))}
SHARED=${shellWord(context.sharedDir)}
# ids on disk begin at D; the container has SIZE of them
D=${context.idBase}
SIZE=${fixedRange(spec.linux)?.size ?? RANGE_SIZE}`;
}

const PREAMBLE = `set -eu
umask 022
fail() { echo "$NAME-setup: $*" >&2; exit 1; }
for program in nsenter setpriv unshare flock mount getent ip; do
  command -v $program >/dev/null || fail "$program is missing: install util-linux, libc-bin and iproute2"
done`;

/** Once per boot: the shim's programs with their libraries, and two kinds of /dev to copy, with an empty /etc. */
const SHARED = `
if [ ! -e "$SHARED/ready" ]; then
  mkdir -p "$SHARED"
  exec 8>"$SHARED/lock"
  flock 8
  if [ ! -e "$SHARED/ready" ]; then
    if mountpoint -q "$SHARED/shim"; then umount "$SHARED/shim"; fi
    rm -rf "$SHARED/shim" "$SHARED/tree" "$SHARED/tree-journal"
    mkdir -p "$SHARED/shim" "$SHARED/tree/dev" "$SHARED/tree/etc"
    for program in nsenter setpriv env setsid sh dd; do
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
    [ -e "$SHARED/shim/ld.so" ] || fail 'cannot copy nsenter, setpriv and env: /run is full, or they are not dynamically linked'
    # they run in the image's root, some with more rights than the payload: where they would look for ld.so.preload,
    # nsswitch.conf, nscd, locales or libraries becomes a path that no image has, since /sys is the kernel's
    LC_ALL=C sed -i -e 's,/\\(etc\\|var\\)/,/sys/,g' -e 's,/usr/\\(lib\\|share\\),/sys/\\1,g' \\
      -e 's,/lib/,/sys/,g' -e 's,/lib64/,/sys/4/,g' "$SHARED"/shim/*
    # Debian's initramfs mounts /run so that nothing in it can be executed
    if [ ! -x "$SHARED/shim/nsenter" ]; then
      mount --bind "$SHARED/shim" "$SHARED/shim"
      mount -o remount,bind,exec,nosuid,nodev "$SHARED/shim"
    fi
    LC_ALL=C grep -q /sys/ld.so.preload "$SHARED/shim/ld.so" &&
      LC_ALL=C grep -q /sys/nsswitch.conf "$SHARED/shim/libc.so.6" &&
      "$SHARED/shim/ld.so" --inhibit-cache --library-path "$SHARED/shim" "$SHARED/shim/setpriv" --version >/dev/null ||
      fail 'cannot keep the C library of this host away from the files of images'
    : >"$SHARED/shim/userns"
    : >"$SHARED/shim/utsns"
    : >"$SHARED/shim/init"
    : >"$SHARED/shim/seccomp"
    cd "$SHARED/tree/dev"
    mknod -m 666 null c 1 3
    mknod -m 666 zero c 1 5
    mknod -m 666 full c 1 7
    mknod -m 666 random c 1 8
    mknod -m 666 urandom c 1 9
    mknod -m 666 tty c 5 0
    ln -s pts/ptmx ptmx
    ln -s /proc/self/fd fd
    ln -s /proc/self/fd/0 stdin
    cp -a "$SHARED/tree" "$SHARED/tree-journal"
    ln -s ${LOG_FIFO} "$SHARED/tree-journal/dev/stdout"
    ln -s ${LOG_FIFO} "$SHARED/tree-journal/dev/stderr"
    ln -s /proc/self/fd/1 stdout
    ln -s /proc/self/fd/2 stderr
    : >"$SHARED/ready"
  fi
  exec 8>&-
fi`;

/** The layers below and above the image's: mount points and the working directory. */
function scaffold(spec: RuntimeSpec, mounts: MountPlan, context: UnitContext): string {
  const own =
    context.rootfs !== undefined
      ? ''
      : `${scaffoldLines(spec, context)}${cover(context)}${imageUppers(spec, mounts, context)}`;
  return `${own}
mount -t tmpfs -o X-mount.mkdir=0700,mode=755,size=4m,nr_inodes=4k "oci-$NAME" "$BUNDLE/mnt"${composefsAt(
    mounts,
    context,
  )
    .map(({ name, root }) => pinnedImage(name, root))
    .join('')}`;
}

/** A bundle's rootfs has all of it already: src/host/mount-points.ts. */
function scaffoldLines(spec: RuntimeSpec, context: UnitContext): string {
  const { scaffold, ownDirectory: own, rootAttributes, idBase } = context;
  const { directories, files } = scaffold;
  const below = (path: string) => `"$WRITABLE"${shellWord(`/scaffold${path}`)}`;
  const made = [...new Set([...directories, ...files.map(parent)])];
  const temporary = directories.filter((path) => /^\/(var\/)?tmp$/.test(path));
  const { uid, gid, mode } = rootAttributes;
  return [
    '',
    '[ ! -e "$WRITABLE" ] || rm -rf --one-file-system "$WRITABLE"',
    `mkdir -p "$WRITABLE/data" "$WRITABLE/work" ${made.map(below).join(' ')}`,
    ...files.map((path) => `: >${below(path)}`),
    ...(temporary.length > 0 ? [`chmod 1777 ${temporary.map(below).join(' ')}`] : []),
    `chown -R $D:$D "$WRITABLE/data" "$WRITABLE/scaffold"${ownWork(spec, '"$WRITABLE/work"')}`,
    ...(own === undefined ? [] : [`chown ${own.uid}:${own.gid} ${below(own.path)}`]),
    ...(uid === idBase && gid === idBase ? [] : [`chown ${uid}:${gid} "$WRITABLE/data"`]),
    ...(mode === 0o755 ? [] : [`chmod ${mode.toString(8)} "$WRITABLE/data"`]),
  ].join('\n');
}

/** Directories above the image's keep the owner and mode that they have in the image. */
function cover({ scaffold: { cover }, rootAttributes: { uid, gid, mode, covered } }: UnitContext): string {
  if (cover.length === 0 && !covered) return '';
  const lines = cover.map(({ path, kind, mode, owner }) => {
    const word = shellWord(`.${path}`);
    const ids = owner === undefined ? '$D:$D' : `${owner.uid}:${owner.gid}`;
    return `${kind === 'file' ? `: >${word}` : `mkdir ${word}`}; chown ${ids} ${word}; chmod ${mode.toString(8)} ${word}`;
  });
  return `
mkdir "$WRITABLE/cover"
cd "$WRITABLE/cover"
${lines.join('\n')}
chown ${uid}:${gid} .
chmod ${mode.toString(8)} .`;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

interface Layer {
  /** Below mnt. */
  readonly name: string;
  /** As a word of shell, or a composefs image, which is no directory. */
  readonly source: string | ComposefsRoot;
}

/** What is below the writable directory, lowest first; none for a bundle's own rootfs. */
function lowerLayers({ layerTrees, composefs, scaffold, rootAttributes, rootfs }: UnitContext): Layer[] {
  if (rootfs !== undefined) return [];
  const own = (part: string) => `"$WRITABLE_FIELD"/${part}`;
  const sources = [
    own('scaffold'),
    ...(composefs === undefined ? layerTrees.map(fstabWord) : [composefs]),
    ...(scaffold.cover.length > 0 || rootAttributes.covered ? [own('cover')] : []),
  ];
  return sources.map((source, index) => ({ name: `l${index}`, source }));
}

/** Every composefs image of the container, and where below mnt it is mounted. */
function composefsAt(mounts: MountPlan, context: UnitContext): { name: string; root: ComposefsRoot }[] {
  const own = lowerLayers(context).flatMap(({ name, source }) =>
    typeof source === 'string' ? [] : [{ name, root: source }],
  );
  return [...own, ...composefsImages(mounts, context)];
}

/**
 * Of the writable directory a second extent maps host root, which overlay works as: without it the work directory
 * fails and the mount is read-only. Nothing in the container can be that user: its range does not have it. Where it is
 * the container's root, the work directory has its owner instead.
 */
function layerMounts(spec: RuntimeSpec, mounts: MountPlan, context: UnitContext): Mount[] {
  const layers = lowerLayers(context);
  const writes = !spec.root.readonly || hasWritableImage(mounts);
  const hostRoot = hasHostUsers(spec) ? '' : '\\040b:0:0:1';
  return [
    ...layers.flatMap(({ name, source }) =>
      typeof source === 'string' ? [layerBind(source, name)] : composefsMounts(name, source),
    ),
    ...(layers.length === 0 || !writes
      ? []
      : [privateBind('"$WRITABLE_FIELD"', 'u', `X-mount.idmap=b:$D:$B:$SIZE${hostRoot}`)]),
  ];
}

/** The root of an image, where fsconfig(2) takes its options: each ends at 255 bytes, too few for many layers. */
function rootMounts(spec: RuntimeSpec, context: UnitContext): Mount[] {
  const options = overlayOptions(spec, context);
  if (context.rootfs !== undefined || options.length > OPTIONS_MAX) return [];
  return [{ source: fstabWord(`oci-${context.unit}`), target: 'rootfs', type: 'overlay', options }];
}

const OPTIONS_MAX = 255;

function overlayOptions(spec: RuntimeSpec, context: UnitContext): string {
  const layers = lowerLayers(context).reverse();
  const lower = layers.map(({ name }) => name);
  const image = layers.find(({ source }) => source === context.composefs);
  const stack =
    image === undefined || context.composefs === undefined
      ? `userxattr,lowerdir=${lower.join(':')}`
      : composefsStack(image.name, context.composefs, lower, !spec.root.readonly);
  return spec.root.readonly ? `ro,${stack}` : `${stack},upperdir=u/data,workdir=u/work`;
}

function rootLines(spec: RuntimeSpec, context: UnitContext): string {
  const { rootfs } = context;
  if (rootfs !== undefined)
    return `
mkdir rootfs
if [ $D = $B ]; then mount --bind --make-private ${shellWord(rootfs)} rootfs
else mount --bind --make-private -o "X-mount.idmap=b:$D:$B:$SIZE" ${shellWord(rootfs)} rootfs ||
  fail ${shellWord(`cannot map the ids of ${rootfs}: its file system does not allow that`)}
fi`;
  const options = overlayOptions(spec, context);
  return [
    // mount(2) takes a page of options
    ...(options.length > OPTIONS_MAX
      ? [`LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o X-mount.mkdir,${options} "oci-$NAME" rootfs`]
      : []),
    ...(spec.root.readonly
      ? []
      : ["[ -w rootfs ] || fail 'the root file system came out read-only: look at dmesg'"]),
  ].join('\n');
}

const TEARDOWN = `
# all at once; whatever is still busy does not keep the rest
umount --lazy "$BUNDLE/mnt" 2>/dev/null || ! mountpoint -q "$BUNDLE/mnt" || umount -R -l "$BUNDLE/mnt"
B=
[ ! -s "$BUNDLE/range" ] || read -r B <"$BUNDLE/range"
[ -z "$B" ] || set -- "/run/userdb/$B.user" "/run/userdb/$B.group"
rm -rf --one-file-system "$@" "/run/userdb/$ROOT_USER.user" "/run/userdb/$ROOT_USER.group" "$WRITABLE" "$BUNDLE"
`;
