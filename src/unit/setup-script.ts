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
import { FOREIGN_UID_BASE } from '../oci/limits.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, rangeUserName, SLOT_MAX, SLOT_MIN } from '../uid/range.ts';
import type { UnitContext } from './context.ts';
import { NETWORK_FILES, temporaryFileSystems } from './filesystem.ts';
import { LOG_FIFO } from './log-units.ts';

export function setupScript(spec: RuntimeSpec, context: UnitContext): string {
  const network = spec.linux.namespaces.some((namespace) => namespace.type === 'network');
  const readOnly = spec.root.readonly === true;
  return `#!/bin/sh
# Setup of ${context.unit}.service: made by oci-run, run by systemd. Its undoing is the file teardown beside it.
${parameters(context)}
HOSTNAME=${shellWord(spec.hostname ?? 'container')}
# layers, lowest first
set -- ${context.layerTrees.map(shellWord).join(' ')}

${PREAMBLE}
${SHARED}
${scaffold(context)}
${RANGE}
${USER_NAMESPACE}
${otherNamespaces(spec, network)}
${LAYERS}
${readOnly ? READ_ONLY_ROOT : WRITABLE_ROOT}
${deviceTree(spec, context)}
${runAndTemporary(spec)}
${networkFiles(network)}
${UTS_AND_IPC}`;
}

export function teardownScript(context: UnitContext): string {
  return `#!/bin/sh
# Undoes the setup of ${context.unit}.service, however far it came.
${parameters(context)}
${TEARDOWN}`;
}

/** One word of POSIX shell, whatever is in it. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function parameters(context: UnitContext): string {
  return `PATH=/usr/sbin:/usr/bin:/sbin:/bin
NAME=${shellWord(context.unit)}
ROOT_USER=${rangeUserName(context.unit)}
BUNDLE=${shellWord(context.bundleDir)}
WRITABLE=${shellWord(context.writableDir)}
SHARED=${shellWord(context.sharedDir)}
D=${FOREIGN_UID_BASE}`;
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
    : >"$SHARED/shim/userns"
    : >"$SHARED/shim/utsns"
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

/** The lowest layer: mount points and the working directory, where the image has none. */
function scaffold(context: UnitContext): string {
  const { directories, files } = context.scaffold;
  return `
rm -rf --one-file-system "$WRITABLE"
mkdir -p "$BUNDLE/mnt" /run/userdb "$WRITABLE/data" "$WRITABLE/work" "$WRITABLE/scaffold"
cd "$WRITABLE/scaffold"
mkdir -p ${directories.map((path) => shellWord(`.${path}`)).join(' ')}
${files.map((path) => `mkdir -p ${shellWord(`.${parent(path)}`)}; : >${shellWord(`.${path}`)}`).join('\n')}
chown -R $D:$D .
mount -t tmpfs -o mode=755,size=4m,nr_inodes=4k "oci-$NAME" "$BUNDLE/mnt"
cd "$BUNDLE/mnt"
mkdir u rootfs dev run etc
: >userns; : >netns; : >ipcns; : >utsns`;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** The next free slot after the last one given out, so that two starts never share a range soon. */
const RANGE = `
exec 9>/run/oci/range.lock
flock 9
slot=${SLOT_MIN - 1}
[ ! -s /run/oci/range.last ] || read -r slot </run/oci/range.last
tries=0
# true when ids of the range are delegated to somebody by /etc/subuid or /etc/subgid
delegated() {
  for file in /etc/subuid /etc/subgid; do
    [ -r $file ] || continue
    while IFS=: read -r _ first count _; do
      case $first$count in '' | *[!0-9]*) continue ;; esac
      [ "$first" -ge $((B + ${RANGE_SIZE})) ] || [ $((first + count)) -le "$B" ] || return 0
    done <$file
  done
  return 1
}
while :; do
  tries=$((tries + 1))
  [ $tries -le ${SLOT_MAX} ] || fail 'no free range of user ids'
  slot=$((slot + 1))
  [ $slot -ge ${SLOT_MIN} ] && [ $slot -le ${SLOT_MAX} ] || slot=${SLOT_MIN}
  B=$((slot * ${RANGE_SIZE}))
  [ ! -e /run/userdb/$B.user ] && [ ! -e /run/systemd/nspawn-uid/$B ] || continue
  ! delegated || continue
  ! getent passwd $B >/dev/null && ! getent group $B >/dev/null || continue
  break
done
echo $slot >/run/oci/range.last
echo $B >"$BUNDLE/range"
printf '{"userName":"%s","uid":%s,"gid":%s,"realName":"Root of OCI container %s","disposition":"container"}\\n' \\
  "$ROOT_USER" $B $B "$NAME" >"/run/userdb/$ROOT_USER.user"
printf '{"groupName":"%s","gid":%s,"disposition":"container"}\\n' "$ROOT_USER" $B >"/run/userdb/$ROOT_USER.group"
ln -s "$ROOT_USER.user" /run/userdb/$B.user
ln -s "$ROOT_USER.group" /run/userdb/$B.group
exec 9>&-`;

/** Made by a process with host uid B, so that B may join it without capabilities. */
const USER_NAMESPACE = `
# one fifo each: a writer of the first could still hold the second one open, and close it too early
mkfifo user-ready other-ready
setpriv --reuid $B --regid $B --clear-groups unshare --user sh -c 'echo; exec sleep 60' >user-ready &
holder=$!
read -r _ <user-ready || fail 'cannot make a user namespace: look at sysctl user.max_user_namespaces'
echo "0 $B ${RANGE_SIZE}" >/proc/$holder/uid_map
echo "0 $B ${RANGE_SIZE}" >/proc/$holder/gid_map
mount --bind /proc/$holder/ns/user userns
kill $holder`;

function otherNamespaces(spec: RuntimeSpec, network: boolean): string {
  const sysctls = Object.entries(spec.linux.sysctl ?? {}).map(
    ([name, value]) => `echo ${shellWord(value)} >/proc/sys/${shellWord(name.replaceAll('.', '/'))}`,
  );
  const inside = [...(network ? ['ip link set lo up', ...sysctls] : []), 'echo', 'exec sleep 60'].join('; ');
  return `
nsenter --user=userns -S 0 -G 0 unshare ${network ? '--net ' : ''}--ipc --uts sh -euc ${shellWord(inside)} >other-ready &
holder=$!
read -r _ <other-ready || fail 'cannot make the other namespaces'
${network ? 'mount --bind /proc/$holder/ns/net netns\n' : ''}mount --bind /proc/$holder/ns/ipc ipcns
mount --bind /proc/$holder/ns/uts utsns
kill $holder`;
}

const LAYERS = `
number=0
lower=
for layer in "$WRITABLE/scaffold" "$@"; do
  mkdir l$number
  mount --bind --make-private -o "ro,X-mount.idmap=b:$D:$B:${RANGE_SIZE}" "$layer" l$number
  lower=l$number\${lower:+:$lower}
  number=$((number + 1))
done`;

const READ_ONLY_ROOT = `mount -t overlay -o "ro,userxattr,lowerdir=$lower" "oci-$NAME" rootfs`;

/** A second extent maps host root, which overlay works as: without it the work directory fails and the mount is read-only. */
const WRITABLE_ROOT = `chown --reference="$layer" "$WRITABLE/data"
chmod --reference="$layer" "$WRITABLE/data"
chown $((D + ${RANGE_SIZE - 1})):$((D + ${RANGE_SIZE - 1})) "$WRITABLE" "$WRITABLE/work"
mount --bind --make-private -o "X-mount.idmap=b:$D:$B:${RANGE_SIZE - 1} b:$((D + ${RANGE_SIZE - 1})):0:1" "$WRITABLE" u
mount -t overlay -o "userxattr,lowerdir=$lower,upperdir=u/data,workdir=u/work" "oci-$NAME" rootfs
[ -w rootfs ] || fail 'the root file system came out read-only: look at dmesg'`;

function deviceTree(spec: RuntimeSpec, context: UnitContext): string {
  // the journal's streams cannot be opened by name: see log-units.ts
  const [stdout, stderr] =
    context.stdio === undefined ? [LOG_FIFO, LOG_FIFO] : ['/proc/self/fd/1', '/proc/self/fd/2'];
  const shm = spec.mounts.find((mount) => mount.destination === '/dev/shm')?.options ?? [];
  const options = ['rw', ...shm, 'uid=$B', 'gid=$B'].join(',');
  return `
mount -t tmpfs -o mode=755,nosuid,strictatime,size=64k,uid=$B,gid=$B oci-dev dev
cp -a "$SHARED/dev/." dev/
ln -s ${stdout} dev/stdout
ln -s ${stderr} dev/stderr
chown -hR $B:$B dev
mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,uid=$B,gid=$((B + 5)) devpts dev/pts
mount -t tmpfs -o "${options}" shm dev/shm`;
}

/** The image's own /run where it is a directory: systemd would hide it below an empty one. */
function runAndTemporary(spec: RuntimeSpec): string {
  const run = spec.mounts.find((mount) => mount.destination === '/run' && mount.type === 'tmpfs');
  const temporary = temporaryFileSystems(spec).map(
    ({ name, options }) => `mkdir ${name}
mount -t tmpfs -o ${shellWord([...options].join(','))}",uid=$B,gid=$B" tmpfs ${name}`,
  );
  const fresh = `mount -t tmpfs -o mode=755,nosuid,nodev,uid=$B,gid=$B tmpfs run`;
  const directory = '[ -d rootfs/run ] && [ ! -L rootfs/run ]';
  const runTree =
    run === undefined
      ? `if ${directory}; then mount --bind rootfs/run run; else ${fresh}; fi`
      : `${fresh}\nif ${directory}; then cp -a rootfs/run/. run/; fi`;
  return [runTree, '[ -d run/.oci ] || mkdir run/.oci', ...temporary].join('\n');
}

function networkFiles(network: boolean): string {
  return `
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost\\n127.0.1.1 %s\\n' "$HOSTNAME" >etc/hosts
echo "$HOSTNAME" >etc/hostname
${network ? ': >etc/resolv.conf' : 'cp -L /etc/resolv.conf etc/resolv.conf 2>/dev/null || : >etc/resolv.conf'}
chown $B:$B ${NETWORK_FILES.map((path) => path.slice(1)).join(' ')}`;
}

const UTS_AND_IPC = `
nsenter --ipc=ipcns --uts=utsns sh -euc '
  echo "$1" >/proc/sys/kernel/hostname
  mount -t mqueue -o nosuid,noexec,nodev mqueue dev/mqueue
' sh "$HOSTNAME"
chown $B:$B dev/mqueue
rm user-ready other-ready
`;

const TEARDOWN = `
cd /
if mountpoint -q "$BUNDLE/mnt"; then
  umount -R "$BUNDLE/mnt" || umount -R -l "$BUNDLE/mnt"
fi
B=
[ ! -s "$BUNDLE/range" ] || read -r B <"$BUNDLE/range"
[ -z "$B" ] || rm -f "/run/userdb/$B.user" "/run/userdb/$B.group"
rm -f "/run/userdb/$ROOT_USER.user" "/run/userdb/$ROOT_USER.group"
rm -rf --one-file-system "$WRITABLE" "$BUNDLE"
`;
