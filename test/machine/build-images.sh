#!/bin/bash
# Builds the test images from real Debian packages and pushes them to the machine's registry with skopeo. Runs
# inside a booted machine, without any network; none of our own code takes part.
#
#   /mnt/trees/base.tar    Debian's essential packages (trees.ts)
#   /mnt/trees/nginx.tar   the same with nginx
#
# What is made (127.0.0.1:5000/…):
#   nginx:latest  base, nginx, configuration, changes; gzip     nginx:zstd    the same layers in zstd
#   nginx:multi   an index: amd64 and a pretended arm64         nginx:docker  the same as Docker schema 2
#   fedora-mirror/fedora:latest   an index; Debian that says it stands in for Fedora; shares nginx's lowest layer
#   busybox:latest                one layer, its commands are hard links
#   odd:{user,no-user,workdir,no-entrypoint,not-executable,bare}   for the refusals and the corner cases
set -euo pipefail
shopt -s inherit_errexit

registry=127.0.0.1:5000
layout=/var/tmp/images/layout
created=2026-01-01T00:00:00Z
mkdir -p /var/tmp/images
cd /var/tmp/images
umoci init --layout "$layout"

# layer NAME: the directory NAME as a layer archive NAME.tar, as image builders write it.
layer() {
  tar --create --file="$1.tar" --directory="$1" --format=pax --pax-option=delete=atime,delete=ctime \
    --sort=name --mtime="$created" --numeric-owner --xattrs --xattrs-include='*' .
}

# add TAG ARCHIVE WHAT: puts a layer on top of an image of the layout.
add() {
  umoci raw add-layer --image "$layout:$1" --history.created "$created" --history.created_by "$3" "$2"
}

# configure TAG OPTION…: changes an image's configuration.
configure() {
  local tag=$1
  shift
  umoci config --image "$layout:$tag" --created "$created" --no-history "$@"
}

# derive TAG NEW OPTION…: a new image that differs in its configuration only.
derive() {
  local tag=$1 new=$2
  shift 2
  umoci config --image "$layout:$tag" --tag "$new" --created "$created" --no-history "$@"
}

push() {
  local source=$1 target=$2
  shift 2
  skopeo copy --quiet "$@" "oci:$layout:$source" "docker://$registry/$target"
}

# index TAG AMD64 ARM64: an image index over two images of the layout, and TAG for it.
index() {
  local manifests=() tag arch digest size
  for tag in "$2" "$3"; do
    digest=$(jq -r --arg tag "$tag" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag) | .digest' "$layout/index.json")
    size=$(stat -c %s "$layout/blobs/${digest/://}")
    arch=amd64
    if [ "$tag" = "$3" ]; then arch=arm64; fi
    manifests+=("$(jq -n --arg digest "$digest" --argjson size "$size" --arg arch "$arch" \
      '{mediaType: "application/vnd.oci.image.manifest.v1+json", $digest, $size, platform: {os: "linux", architecture: $arch}}')")
  done
  printf '%s\n' "${manifests[@]}" |
    jq -s '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' >index.json
  digest=$(sha256sum index.json | cut -d' ' -f1)
  size=$(stat -c %s index.json)
  cp index.json "$layout/blobs/sha256/$digest"
  jq --arg digest "sha256:$digest" --argjson size "$size" --arg tag "$1" \
    '.manifests += [{mediaType: "application/vnd.oci.image.index.v1+json", $digest, $size,
      annotations: {"org.opencontainers.image.ref.name": $tag}}]' "$layout/index.json" >index.new
  mv index.new "$layout/index.json"
}

# The layer that nginx gets on top of its packages: a site, owned as the server needs it.
make_nginx_configuration() {
  mkdir -p configuration/{etc/nginx,srv/www/old,var/lib/nginx}
  cat >configuration/etc/nginx/nginx.conf <<'CONF'
# /dev/stderr cannot be opened when it is the journal's socket; "stderr" writes to the descriptor itself.
error_log stderr notice;
pid /tmp/nginx.pid;
worker_processes 1;
events {}
http {
  include mime.types;
  access_log off;
  server {
    listen 8080;
    root /srv/www;
  }
}
CONF
  echo '<h1>It works: nginx in a systemd service</h1>' >configuration/srv/www/index.html
  echo 'a file now, a directory in the next layer' >configuration/srv/www/status
  echo 'a directory now, a symbolic link in the next layer' >configuration/srv/www/old/page.html
  echo 'replaced in the next layer' >configuration/srv/www/version
  echo 'deleted in the next layer' >configuration/srv/www/draft.html
  chown www-data:www-data configuration/var/lib/nginx
  chmod 700 configuration/var/lib/nginx
}

# Everything that a layer can do to the layers below, and what an archive can carry besides plain files.
make_nginx_changes() {
  mkdir -p changes/{etc/nginx/snippets,srv/www/status,srv/www/new,usr/local/bin,usr/share/nginx,opt/odd}
  # Deleted: a file of the layer below, a directory of the packages' layer.
  touch changes/srv/www/.wh.draft.html changes/usr/share/nginx/.wh.html
  # Emptied and filled anew.
  touch changes/etc/nginx/snippets/.wh..wh..opq
  echo '# the only one left' >changes/etc/nginx/snippets/own.conf
  # File to directory, directory to symbolic link, file to file.
  echo 'ok' >changes/srv/www/status/index.html
  ln -s new changes/srv/www/old
  echo 'moved here' >changes/srv/www/new/page.html
  echo '2' >changes/srv/www/version
  # Hard links, also across directories.
  echo 'one file, three names' >changes/opt/odd/link-a
  ln changes/opt/odd/link-a changes/opt/odd/link-b
  ln changes/opt/odd/link-a changes/srv/www/link-c
  # Privileges: setuid, setgid and sticky, a file capability, extended attributes.
  cp /usr/bin/id changes/usr/local/bin/id-as-root
  chmod 4755 changes/usr/local/bin/id-as-root
  cp /usr/bin/cat changes/usr/local/bin/cat-with-capability
  setcap cap_net_bind_service=ep changes/usr/local/bin/cat-with-capability
  mkdir -m 3775 changes/opt/odd/shared
  chown 0:33 changes/opt/odd/shared
  chmod 3775 changes/opt/odd/shared
  setfattr -n user.ocitest.note -v 'on a file' changes/srv/www/version
  setfattr -n user.ocitest.note -v 'on a directory' changes/opt/odd
  # Names: not ASCII, a line break, longer than an old archive header holds. Links that lead nowhere or up.
  echo 'ä' >"changes/opt/odd/größe"
  echo 'two lines' >"changes/opt/odd/line"$'\n'"break"
  local long
  long=$(printf 'long-%.0s' {1..40})
  echo 'long' >"changes/opt/odd/$long"
  ln -s "/nowhere/$long" changes/opt/odd/dangling
  ln -s ../../../../../etc/hostname changes/opt/odd/climbing
  # Other kinds and owners: a fifo, the highest id, no permission at all, an empty file, a sparse one.
  mkfifo -m 640 changes/opt/odd/fifo
  touch changes/opt/odd/highest-owner
  chown 65535:65535 changes/opt/odd/highest-owner
  install -m 0 /dev/null changes/opt/odd/no-permissions
  truncate -s 1M changes/opt/odd/zeros
}

make_nginx() {
  umoci new --image "$layout:nginx"
  add nginx /mnt/trees/base.tar 'Debian: essential packages'
  # The package layer is whatever umoci finds changed after apt installed nginx.
  umoci unpack --image "$layout:nginx" bundle
  rm -rf bundle/rootfs
  mkdir bundle/rootfs
  tar --extract --file=/mnt/trees/nginx.tar --directory=bundle/rootfs --numeric-owner --same-permissions \
    --xattrs --xattrs-include='*'
  umoci repack --image "$layout:nginx" --history.created "$created" --history.created_by 'Debian: nginx' bundle
  rm -rf bundle
  make_nginx_configuration
  layer configuration
  add nginx configuration.tar 'configuration: a site on port 8080'
  make_nginx_changes
  layer changes
  add nginx changes.tar 'changes: deletions, replacements, links, privileges'
  configure nginx --os linux --architecture amd64 \
    --config.user www-data --config.exposedports 8080/tcp --config.stopsignal SIGQUIT --config.workingdir /srv/www \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --config.env 'SITE_NAME=the test site' \
    --config.entrypoint nginx --config.cmd=-e --config.cmd stderr --config.cmd=-g --config.cmd 'daemon off;' \
    --config.label org.opencontainers.image.title=nginx --config.label org.opencontainers.image.vendor=ocictl-test
  derive nginx nginx-arm64 --architecture arm64
  index nginx-multi nginx nginx-arm64
}

make_fedora() {
  umoci new --image "$layout:fedora"
  add fedora /mnt/trees/base.tar 'Debian: essential packages'
  mkdir -p os-release/usr/lib
  cat >os-release/usr/lib/os-release <<'OS'
NAME="Stand-in for Fedora Linux"
PRETTY_NAME="Debian standing in for Fedora Linux (ocictl test machine, no network)"
ID=ocitest
ID_LIKE=debian
OS
  layer os-release
  add fedora os-release.tar 'says what it is'
  configure fedora --os linux --architecture amd64 --config.cmd /bin/bash \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --config.label org.opencontainers.image.title=fedora-stand-in
  derive fedora fedora-arm64 --architecture arm64
  index fedora-multi fedora fedora-arm64
}

make_busybox() {
  mkdir -p busybox/{bin,dev,etc,home,proc,root,sys,tmp,var/tmp,run}
  chmod 1777 busybox/tmp busybox/var/tmp
  chmod 700 busybox/root
  cp /usr/bin/busybox busybox/bin/busybox
  busybox/bin/busybox --install busybox/bin
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >busybox/etc/passwd
  printf 'root:x:0:\nnogroup:x:65534:\n' >busybox/etc/group
  layer busybox
  umoci new --image "$layout:busybox"
  add busybox busybox.tar 'busybox-static, its commands as hard links'
  configure busybox --os linux --architecture amd64 --config.cmd sh --config.env PATH=/bin
}

make_odd() {
  mkdir -p user/etc user/home/alice
  printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n' >user/etc/passwd
  printf 'root:x:0:\nalice:x:1000:\nbob:x:1001:\nwheel:x:2000:bob,alice\naudio:x:2001:alice\n' >user/etc/group
  chown 1000:1000 user/home/alice
  layer user
  umoci tag --image "$layout:busybox" user
  add user user.tar 'alice is in wheel and audio'
  configure user --config.user alice --config.workingdir /home/alice
  derive busybox no-user --config.user not-in-passwd
  derive busybox workdir --config.workingdir /not/there/yet
  derive busybox no-entrypoint --config.entrypoint /no/such/program
  derive busybox not-executable --config.entrypoint /etc/passwd
  # Neither /proc nor /sys, /dev, /etc or anything else to mount on.
  mkdir -p bare/bin
  cp /usr/bin/busybox bare/bin/busybox
  ln -s busybox bare/bin/sh
  layer bare
  umoci new --image "$layout:bare"
  add bare bare.tar 'one program'
  configure bare --os linux --architecture amd64 --config.cmd /bin/sh --config.env PATH=/bin
}

make_nginx
make_fedora
make_busybox
make_odd

push nginx nginx:latest
push nginx nginx:zstd --dest-compress-format zstd --dest-force-compress-format
push nginx nginx:docker --format v2s2
push nginx-multi nginx:multi --all
push fedora-multi fedora-mirror/fedora:latest --all
push busybox busybox:latest
for tag in user no-user workdir no-entrypoint not-executable bare; do push "$tag" "odd:$tag"; done
