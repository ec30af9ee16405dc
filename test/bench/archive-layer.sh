#!/bin/bash
# archive-layer.sh ROOT DIRECTORY NAME [PACKAGE…]: installs packages in the Debian root ROOT and archives everything
# that changed there since the last call as DIRECTORY/NAME.tar. A hook of mmdebstrap (app-layers.ts).
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

root=$1 directory=$2 name=$3
shift 3
if [ $# -gt 0 ]; then
  chroot "$root" apt-get install -qy --no-install-recommends "$@"
fi

cd "$root"
touch "$directory/before"
# What does not belong into an image: file systems of the chroot, package lists, caches, logs.
find . -path './dev/*' -prune -o -path './proc/*' -prune -o -path './sys/*' -prune -o -path './run/*' -prune \
  -o -path './tmp/*' -prune -o -path './var/lib/apt/*' -prune -o -path './var/cache/*/*' -prune \
  -o -path './etc/apt/*' -prune -o -name '*.log' -prune -o -name 'policy-rc.d' -prune \
  -o -path './etc/resolv.conf' -prune -o -path './etc/hostname' -prune -o -path './etc/machine-id' -prune \
  -o -printf '%p\t%C@\t%s\0' | sort -z >"$directory/now"
comm -z -13 "$directory/before" "$directory/now" | cut -z -f 1 >"$directory/changed"
mv "$directory/now" "$directory/before"
tar --create --file="$directory/$name.tar" --null --no-recursion --files-from="$directory/changed" \
  --format=pax --pax-option=delete=atime,delete=ctime --numeric-owner --xattrs --xattrs-include='*'
