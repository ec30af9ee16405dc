#!/bin/bash
# Images of well-known services, as their makers build them: entrypoints, users, volumes, ports. Run like
# build-images.sh, in a machine whose registry has its images already.
#
#   /mnt/services/services.tar   Debian's essential packages with redis, postgresql, prometheus and caddy (trees.ts)
#
# What is made: 127.0.0.1:5000/<registry>/<repository>, for registries.conf to find by the names that people write.
set -euo pipefail
shopt -s inherit_errexit

mkdir -p /var/tmp/q; cd /var/tmp/q
umoci init --layout layout
umoci new --image layout:services
umoci raw add-layer --image layout:services /mnt/services/services.tar
mkdir -p files/usr/local/bin files/data files/prometheus files/config files/var/lib/postgresql/data
chown 999:999 files/data; chown 65534:65534 files/prometheus; chown 103:103 files/var/lib/postgresql/data
cat >files/usr/local/bin/postgres-entrypoint.sh <<'SH'
#!/bin/bash
# as the official image: begins as root, makes the database once, goes on as postgres
set -e
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
mkdir -p "$PGDATA"; chown -R postgres:postgres "$PGDATA"; chmod 700 "$PGDATA"
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  as initdb -D "$PGDATA" --username "$POSTGRES_USER" --auth-local trust --auth-host trust >/dev/null
  as pg_ctl -D "$PGDATA" -o '-c listen_addresses= -c unix_socket_directories=/tmp' -w start >/dev/null
  as createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB" || true
  as pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
exec setpriv --reuid postgres --regid postgres --init-groups "$(command -v postgres)" -D "$PGDATA" -c unix_socket_directories=/tmp -c listen_addresses='*'
SH
chmod 755 files/usr/local/bin/postgres-entrypoint.sh
tar --create --file=files.tar --directory=files --numeric-owner .
umoci raw add-layer --image layout:services files.tar

image() { # TAG FROM OPTION…
  local tag=$1 from=$2; shift 2
  umoci config --image layout:$from --tag $tag --no-history --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
push() { skopeo copy --quiet --dest-tls-verify=false oci:layout:$1 docker://127.0.0.1:5000/$2; }

image redis services --config.workingdir /data --config.volume /data --config.cmd redis-server
image postgres services --config.entrypoint postgres-entrypoint.sh --config.env PGDATA=/var/lib/postgresql/data \
  --config.volume /var/lib/postgresql/data --config.exposedports 5432/tcp --config.stopsignal SIGINT
image caddy services --config.env XDG_CONFIG_HOME=/config --config.env XDG_DATA_HOME=/data --config.exposedports 80/tcp \
  --config.cmd caddy --config.cmd run
image prometheus services --config.user nobody --config.workingdir /prometheus --config.volume /prometheus \
  --config.exposedports 9090/tcp --config.entrypoint prometheus
push redis docker.io/library/redis:7-alpine
push postgres docker.io/library/postgres:17
push caddy docker.io/library/caddy:2
push prometheus quay.io/prometheus/prometheus:latest
skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false docker://127.0.0.1:5000/nginx docker://127.0.0.1:5000/docker.io/nginxinc/nginx-unprivileged:stable

# says on its port who it is: user, arguments, variables, mounts
skopeo copy --quiet --src-tls-verify=false docker://127.0.0.1:5000/busybox oci:layout:busybox
mkdir -p health
printf '#!/bin/sh\nexec wget -q -O /dev/null http://127.0.0.1:8080/\n' >health/healthcheck.sh
chmod 755 health/healthcheck.sh
tar --create --file=health.tar --directory=health --numeric-owner .
umoci raw add-layer --image layout:busybox health.tar
stand_in() { # REPOSITORY PORT [COMMAND]
  local run="mkdir -p /tmp/w; { id; echo \"arguments: \$*\"; env; cat /proc/mounts; } >/tmp/w/index.html; ${3:-:}; exec httpd -f -p $2 -h /tmp/w"
  umoci config --image layout:busybox --tag standin --no-history --config.entrypoint sh --config.entrypoint=-c \
    --config.entrypoint "$run" --config.entrypoint start --config.stopsignal SIGKILL
  push standin $1
}
stand_in docker.io/gitea/gitea:1 3000
stand_in docker.io/grafana/grafana-oss:latest 3000
stand_in docker.io/library/mariadb:11 3306
stand_in docker.io/library/nextcloud:30-apache 80 'until wget -q -O /tmp/w/db http://$MYSQL_HOST:3306/; do sleep 0.2; done'
stand_in docker.io/library/traefik:v3 8080
stand_in ghcr.io/dani-garcia/vaultwarden:latest 8080
