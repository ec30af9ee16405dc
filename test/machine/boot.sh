#!/bin/bash
# Boots the systemd of a Debian root in pid, mount, uts, ipc, cgroup and net namespaces of its own.
#
#   boot.sh outside   joins the cgroup, makes the namespaces and goes on as `boot.sh inside`
#   boot.sh inside    makes the mounts and becomes systemd
#
# From the environment: MACHINE_DIR (this boot's directory: root, upper, work, var and so on, see machine-dir.ts),
# LOWER (the cached root, only read), CGROUP (an empty cgroup v2 directory), REGISTRY (storage of the registry,
# only read) or REGISTRY_WRITE (the same, written to), BINDS (lines "source target", bound read-only), DIE_WITH_PARENT.
# Descriptor 3 is the machine's lock: it stays with unshare, so the lock is held for as long as the machine lives.
#
# Invariant: every mount is made in the new mount namespace, so nothing is left mounted, however this ends.
set -euo pipefail

outside() {
  # The cgroup comes before its namespace, which then has it as its root.
  echo $$ >"$CGROUP/cgroup.procs"
  exec ${DIE_WITH_PARENT:+setpriv --pdeathsig KILL} \
    unshare --fork --pid --mount --uts --ipc --cgroup --net --kill-child=SIGKILL --propagation private -- \
    bash "$0" inside
}

inside() {
  exec 3<&-
  # /proc is still the old one, so this is the pid that the outside knows.
  read -r pid _ </proc/self/stat
  exec 4>"$MACHINE_DIR/pid"
  root=$MACHINE_DIR/root

  # A throw-away copy of the root; volatile: nobody will ever want to see it after a crash.
  mount -t overlay -o "lowerdir=$LOWER,upperdir=$MACHINE_DIR/upper,workdir=$MACHINE_DIR/work,volatile" ocitest "$root"
  # /var is a plain directory: the container stores in it make overlays of their own, and an overlay cannot be
  # the upper layer of another.
  mount --bind "$MACHINE_DIR/var" "$root/var"
  registry=$root/var/lib/docker-registry
  if [ -n "${REGISTRY:-}" ]; then
    mount -t overlay -o "lowerdir=$REGISTRY,upperdir=$MACHINE_DIR/registry-upper,workdir=$MACHINE_DIR/registry-work,volatile" \
      ocitest "$registry"
  elif [ -n "${REGISTRY_WRITE:-}" ]; then
    mount --bind "$REGISTRY_WRITE" "$registry"
    chown --reference="$LOWER/var/lib/docker-registry" "$registry"
  fi
  while read -r source target; do
    [ -n "$source" ] || continue
    mkdir -p "$root$target"
    mount --bind "$source" "$root$target"
    mount -o remount,bind,ro "$root$target"
  done <<<"${BINDS:-}"

  mount_api_file_systems
  make_dev "$root/dev"

  cd "$root"
  mkdir -p .old
  pivot_root . .old
  umount -l /.old
  rmdir /.old
  # As on a machine; PID 1 itself does so only when $container is not set.
  mount --make-rshared /
  echo "$pid" >&4
  exec 4>&-
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=ocitest \
    /usr/lib/systemd/systemd --system --log-level=info --show-status=no
}

mount_api_file_systems() {
  mount -t tmpfs -o mode=755,nosuid,nodev,size=25% tmpfs "$root/run"
  mount -t tmpfs -o mode=1777,nosuid,nodev,size=25% tmpfs "$root/tmp"
  mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
  mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
  mount -t securityfs -o nosuid,nodev,noexec securityfs "$root/sys/kernel/security" 2>/dev/null || true
}

# A private /dev: the development machine's own is never visible, so nothing in here can damage it.
make_dev() {
  local dev=$1 i
  mount -t tmpfs -o mode=755,nosuid,size=64m tmpfs "$dev"
  mkdir "$dev"/{pts,shm,mqueue,net,mapper}
  mknod -m 666 "$dev/null" c 1 3
  mknod -m 666 "$dev/zero" c 1 5
  mknod -m 666 "$dev/full" c 1 7
  mknod -m 666 "$dev/random" c 1 8
  mknod -m 666 "$dev/urandom" c 1 9
  mknod -m 666 "$dev/tty" c 5 0
  # PID 1 takes and changes its console: a null device of its own.
  mknod -m 600 "$dev/console" c 1 3
  if [ -e /dev/fuse ]; then mknod -m 666 "$dev/fuse" c 10 229; fi
  if [ -e /dev/net/tun ]; then mknod -m 666 "$dev/net/tun" c 10 200; fi
  if [ -e /dev/mapper/control ]; then mknod -m 600 "$dev/mapper/control" c 10 236; fi
  if [ -e /dev/loop-control ]; then
    mknod -m 660 "$dev/loop-control" c 10 237
    for i in 0 1 2 3 4 5 6 7; do mknod -m 660 "$dev/loop$i" b 7 "$i"; done
  fi
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts "$dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev,size=25% tmpfs "$dev/shm"
  mount -t mqueue -o nosuid,nodev,noexec mqueue "$dev/mqueue"
  ln -s pts/ptmx "$dev/ptmx"
  ln -s /proc/self/fd "$dev/fd"
  ln -s fd/0 "$dev/stdin"
  ln -s fd/1 "$dev/stdout"
  ln -s fd/2 "$dev/stderr"
}

"$1"
