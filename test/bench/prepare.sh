#!/bin/bash
# prepare.sh STORE tmpfs|ext4 NAME LOG: in the machine, before the benchmark.
#
# The stores of all programs lie on one file system in memory, so that no disk takes part. The images are served as
# registries are: by https, at a name, with a certificate that the machine trusts (importctl speaks nothing else).
set -euo pipefail

store=$1 type=$2 name=$3 log=$4
mkdir -p "$store"
if [ "$type" = tmpfs ]; then
  mount -t tmpfs -o size=60% bench "$store"
else
  mkdir /run/bench-disk
  mount -t tmpfs -o size=60% bench /run/bench-disk
  truncate -s 12G /run/bench-disk/image
  mkfs.ext4 -q -O verity /run/bench-disk/image
  mount -o loop,discard /run/bench-disk/image "$store"
fi
for directory in machines containerd; do
  mkdir -p "$store/$directory" "/var/lib/$directory"
  mount --bind "$store/$directory" "/var/lib/$directory"
done
mkdir "$store/tmp"
mount --bind "$store/tmp" /var/tmp
systemctl restart containerd
systemctl start systemd-importd

cd /run
openssl req -quiet -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
  -keyout bench-registry.key -out bench-registry.crt
cp bench-registry.crt /usr/local/share/ca-certificates/
update-ca-certificates >/dev/null 2>&1
echo "127.0.0.2 $name" >>/etc/hosts
sed -e 's/127\.0\.0\.1:5000/127.0.0.2:443/' -e 's/disabled: true/disabled: false/' \
  -e '$a\  tls: {certificate: /run/bench-registry.crt, key: /run/bench-registry.key}' \
  /etc/docker/registry/config.yml >bench-registry.yml
systemd-run --quiet --unit=bench-registry --property=StandardOutput="append:$log" docker-registry serve /run/bench-registry.yml
until curl -fs "https://$name/v2/" >/dev/null; do sleep 0.1; done
# Into the page cache.
cat /var/lib/docker-registry/docker/registry/v2/blobs/*/*/*/data >/dev/null
