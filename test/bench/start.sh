#!/bin/bash
# start.sh RUNS: in the machine, with stamp (stamp.c) as /usr/local/bin/stamp.
#
# Starts the same payload by each program in turn and prints a line for each start: program, microseconds to the
# payload's first instruction, microseconds to the program's end. A first round that warms caches up is not printed.
set -euo pipefail
runs=$1
work=/var/tmp/bench-start

rm -rf "$work"
mkdir -p "$work/root/"{usr/bin,proc,sys,dev,run,tmp,etc}
cd "$work"
cp /usr/local/bin/stamp root/usr/bin/stamp
touch root/etc/os-release
tar --create --file=layer.tar --directory=root .
umoci init --layout layout
umoci new --image layout:stamp
umoci raw add-layer --image layout:stamp layer.tar
umoci config --image layout:stamp --config.cmd /usr/bin/stamp
oci-pull --quiet "oci:$work/layout:stamp" bench-stamp >/dev/null
skopeo copy --quiet "oci:$work/layout:stamp" containers-storage:localhost/stamp:1

once() {
  local program=$1 before first after
  shift
  before=$(stamp)
  first=$("$@" </dev/null 2>"$work/errors") || { cat "$work/errors" >&2; exit 1; }
  after=$(stamp)
  first=${first//[!0-9]/}
  [ "$round" = 0 ] || echo "$program $((first - before)) $((after - before))"
}

for round in $(seq 0 "$runs"); do
  once oci-run oci-run --quiet --pipe bench-stamp
  once podman podman run --rm --network none localhost/stamp:1
  once systemd-nspawn systemd-nspawn --quiet --pipe --directory="$work/root" /usr/bin/stamp
  once systemd-run systemd-run --quiet --pipe --wait --property=RootDirectory="$work/root" /usr/bin/stamp
  once node node -e 'console.log(process.hrtime.bigint() / 1000n + "")'
done
rm -rf "$work"
