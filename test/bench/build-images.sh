#!/bin/bash
# Builds the images of the benchmark and pushes them to the machine's registry. Runs inside a booted machine.
#
#   /mnt/layers/*.tar   the layers of packages (app-layers.ts)
#
# What is made (127.0.0.1:5000/bench/…):
#   app:gzip   8 layers, about 1 GB in 70,000 files     app:zstd   the same layers in zstd
#   base:*     Debian with apt, one layer                  tiny:*    one static program
set -euo pipefail
shopt -s inherit_errexit

layout=/var/tmp/bench/layout
created=2026-01-01T00:00:00Z
mkdir -p /var/tmp/bench
cd /var/tmp/bench
umoci init --layout "$layout"

# image TAG ARCHIVE…
image() {
  local tag=$1 archive
  shift
  umoci new --image "$layout:$tag"
  for archive in "$@"; do
    umoci raw add-layer --image "$layout:$tag" --history.created "$created" --history.created_by "$archive" "$archive"
  done
  umoci config --image "$layout:$tag" --created "$created" --no-history --os linux --architecture amd64 \
    --config.cmd /bin/sh --config.env PATH=/usr/local/bin:/usr/bin:/bin
}

# archive NAME: the directory NAME as NAME.tar.
archive() {
  tar --create --file="$1.tar" --directory="$1" --format=pax --pax-option=delete=atime,delete=ctime --sort=name \
    --mtime="$created" --numeric-owner .
}

# The two layers that a build of the application itself adds: its files, and what it cleans up after.
mkdir -p application/srv/app changes/usr/share changes/etc
for directory in $(seq 20); do
  mkdir "application/srv/app/module-$directory"
  for file in $(seq 100); do
    seq "$((directory * file))" "$((directory * file + 300))" >"application/srv/app/module-$directory/file-$file.js"
  done
done
archive application
touch changes/usr/share/.wh.zoneinfo changes/usr/share/.wh.perl5 changes/etc/.wh.nginx
echo 'the application' >changes/etc/motd
archive changes

mkdir -p tiny/bin
cp /usr/bin/busybox tiny/bin/sh
archive tiny

layers=/mnt/layers
image app "$layers"/{base,python,compiler,science,javascript,headers}.tar application.tar changes.tar
image base "$layers/base.tar"
image tiny tiny.tar

push() {
  skopeo copy --quiet --dest-tls-verify=false "${@:3}" "oci:$layout:$1" "docker://127.0.0.1:5000/bench/$2"
}
push app app:gzip
push app app:zstd --dest-compress-format zstd --dest-force-compress-format
push base base:gzip
push base base:zstd --dest-compress-format zstd --dest-force-compress-format
push tiny tiny:gzip
push tiny tiny:zstd --dest-compress-format zstd --dest-force-compress-format
