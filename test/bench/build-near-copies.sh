#!/bin/bash
# Builds twenty images that are nearly the same and pushes them to the machine's registry. Runs inside a booted machine.
#
#   /mnt/layers/{base,python}.tar   Debian with apt; Python and nginx (app-layers.ts)
#
# What is made (127.0.0.1:5000/near/…): chunked:1 to chunked:20 (zstd:chunked) and gzip:1 to gzip:20. Each has a single
# layer, the same but for one file of 200 kB: a base image as it is built again and again.
set -euo pipefail

created=2026-01-01T00:00:00Z
mkdir -p /var/tmp/near/tree
cd /var/tmp/near
for archive in base python; do
  tar --extract --file="/mnt/layers/$archive.tar" --directory=tree --numeric-owner --same-permissions --xattrs \
    --xattrs-include='*'
done

push() {
  skopeo copy --quiet --dest-tls-verify=false --dest-force-compress-format --dest-compress-format "$2" \
    oci:layout:near "docker://127.0.0.1:5000/near/$1"
}
for number in $(seq 20); do
  head -c 200000 /dev/urandom >tree/usr/lib/changed
  touch --date="$created" tree/usr/lib/changed tree/usr/lib
  tar --create --file=near.tar --directory=tree --format=pax --pax-option=delete=atime,delete=ctime --sort=name \
    --numeric-owner --xattrs --xattrs-include='*' .
  umoci init --layout layout
  umoci new --image layout:near
  umoci raw add-layer --compress none --image layout:near --history.created "$created" near.tar
  umoci config --image layout:near --created "$created" --no-history --os linux --architecture amd64 \
    --config.cmd /bin/sh --config.env PATH=/usr/local/bin:/usr/bin:/bin
  push "chunked:$number" zstd:chunked
  push "gzip:$number" gzip
  rm -r layout near.tar
done
