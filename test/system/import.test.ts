/**
 * ocictl import: ten well-known services from the Quadlet files of test/quadlet, each imported, started and asked. What
 * cannot be honoured is said exactly.
 *
 * redis, postgres, prometheus, caddy and nginx are the real programs from Debian packages, in images that are made as
 * the official ones are (build-service-images.sh); of the others there are stand-ins that have their ports, users and variables. docker.io,
 * quay.io and ghcr.io are the machine's own registry.
 *
 * Needs a machine of its own, whose registry has those images.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ensureServiceImages } from '../machine/images.ts';
import { bootMachine, type Machine, stdoutOf } from '../machine/machine.ts';
import { ensureRoot } from '../machine/root.ts';
import { assertNothingLeft } from './container.ts';

const FILES = join(import.meta.dirname, '../quadlet');
/** Not where podman's generator would find them. */
const PLACE = '/var/quadlet';
const INIT = '/usr/bin/catatonit';

/** By hand also on trixie, which has systemd 257; the images are the same. */
const SUITE = process.env['OCICTL_SUITE'] === 'trixie' ? 'trixie' : 'forky';

let machine: Machine;
const script = async (text: string, timeoutMs = 120_000) =>
  stdoutOf(await machine.script(text, { timeoutMs }));

/** What the files name of the host, and where the images are. */
const PREPARE = String.raw`
mkdir -p /etc/containers/registries.conf.d
for name in docker.io quay.io ghcr.io; do
  printf '[[registry]]\nprefix = "%s"\nlocation = "127.0.0.1:5000/%s"\ninsecure = true\n' $name $name
done >/etc/containers/registries.conf.d/60-quadlet.conf
systemctl start podman.socket
mkdir -p /var/lib/site /var/lib/caddy-site /var/lib/prometheus-conf
echo '<h1>my site</h1>' >/var/lib/site/index.html
chmod 750 /var/lib/caddy-site; chmod 600 /var/lib/site/index.html; chown 33:33 /var/lib/site/index.html
printf ':80 {\n  respond "caddy here"\n}\n' >/var/lib/caddy-site/Caddyfile; chmod 600 /var/lib/caddy-site/Caddyfile
mkdir -p /etc/credstore; (umask 077; echo sesame >/etc/credstore/smtp-password)
printf 'global: { scrape_interval: 5s }\n' >/var/lib/prometheus-conf/prometheus.yml
`;

before(
  async () => {
    machine = await bootMachine({
      suite: SUITE,
      registry: { storage: await ensureServiceImages(await ensureRoot('forky'), 'forky') },
    });
    await machine.writeFile(INIT, readFileSync(INIT), 0o755);
    await script(PREPARE);
    for (const name of readdirSync(FILES, { withFileTypes: true }))
      if (name.isDirectory())
        for (const file of readdirSync(join(FILES, name.name)))
          await machine.writeFile(
            `${PLACE}/${name.name}/${file}`,
            readFileSync(join(FILES, name.name, file)),
          );
  },
  { timeout: 600_000 },
);
after(() => machine?.stop());

/** What an address answers, as soon as it does. */
const get = (url: string) =>
  script(`for i in $(seq 150); do curl --silent --fail --max-time 5 ${url} && exit; sleep 0.5; done; exit 1`);

async function becomesHealthy(service: string): Promise<void> {
  const status = `systemctl show -P StatusText ${service}`;
  assert.equal(
    await script(
      `for i in $(seq 120); do [ "$(${status})" != healthy ] || break; sleep 0.5; done; ${status}`,
    ),
    'healthy\n',
  );
}

interface Case {
  /** Lines that are refused: FILE:LINE: KEY:, and a part of the reason. */
  refused: [string, RegExp][];
  services: string[];
  check: () => Promise<void>;
}

const CASES: Record<string, Case> = {
  nginx: {
    refused: [],
    services: ['nginx'],
    check: async () => {
      // with its owner on the host, 33, that is the container's user
      assert.equal(await get('http://127.0.0.1:8081/'), '<h1>my site</h1>\n');
      assert.equal(await script('ocictl exec nginx sh -c "echo \\$TZ; id -un"'), 'Europe/Berlin\nwww-data\n');
      assert.equal(await script('systemctl is-enabled nginx'), 'enabled\n');
      assert.match(await script('systemctl show -P Description nginx'), /^nginx web server$/m);
      assert.match(await script('ocictl versions --json'), /"autoUpdate": "registry"/);
    },
  },
  postgres: {
    refused: [
      ['postgres.volume:6: Label=:', /volumes have no labels/],
      ['postgres.container:9: Secret=:', /Environment=POSTGRES_PASSWORD_FILE=/],
    ],
    services: ['postgres'],
    check: async () => {
      const sql = 'ocictl exec -u postgres postgres psql -h 127.0.0.1 -U app -At -c';
      await script(`for i in $(seq 60); do ${sql} 'select 1' 2>/dev/null && exit; sleep 0.5; done; exit 1`);
      await script(`${sql} 'create table t (n int)'; ${sql} 'insert into t values (42)'`);
      // the volume stays; SIGINT is a quick end for postgres
      await script('systemctl restart postgres');
      assert.match(
        await script(
          `for i in $(seq 60); do ${sql} 'select n from t' 2>/dev/null && exit; sleep 0.5; done; exit 1`,
        ),
        /^42$/m,
      );
      assert.match(await script('ocictl exec postgres df /dev/shm'), / 262144 /);
      await becomesHealthy('postgres');
    },
  },
  redis: {
    refused: [],
    services: ['redis'],
    check: async () => {
      const cli = 'ocictl exec redis redis-cli';
      await script(`for i in $(seq 40); do ${cli} ping && exit; sleep 0.5; done; exit 1`);
      assert.equal(
        await script(`${cli} set k v; ${cli} save; ${cli} config get maxmemory`),
        'OK\nOK\nmaxmemory\n67108864\n',
      );
      assert.equal(
        await script(
          `ocictl exec redis sh -c 'id -u; id -g; cat /proc/sys/net/core/somaxconn; touch /x 2>/dev/null || echo read-only'`,
        ),
        '999\n999\n1024\nread-only\n',
      );
      assert.match(
        await script(
          'printf "PING\\r\\nQUIT\\r\\n" | timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/6379; cat >&3; cat <&3"',
        ),
        /PONG/,
      );
      assert.equal(
        await script('systemctl show -P MemoryMax redis; ls -A /var/lib/oci/volumes/redis-data'),
        '134217728\ndump.rdb\n',
      );
    },
  },
  caddy: {
    refused: [['caddy.container:19: ExecReload=:', /no other program is run/]],
    services: ['caddy'],
    check: async () => {
      assert.equal(await get('http://127.0.0.1:80/'), 'caddy here');
      assert.equal(await script('ls /var/lib/oci/volumes'), 'systemd-caddy-config\nsystemd-caddy-data\n');
    },
  },
  gitea: {
    refused: [['gitea.network:5: Label=:', /networks have no labels/]],
    services: ['gitea'],
    check: async () => {
      const page = await get('http://127.0.0.1:3000/');
      assert.match(page, /^GITEA__DEFAULT__APP_NAME=My forge: "Gitea"$/m);
      assert.match(page, /^HOSTNAME=git\.example\.org$/m);
      assert.match(await script('ocictl exec gitea ip -4 -o addr show dev eth0'), / 10\.99\.7\.\d+\/24 /);
      assert.equal(await script('systemctl show -P MemoryMax gitea'), '1073741824\n');
    },
  },
  grafana: {
    refused: [],
    services: ['grafana'],
    check: async () => {
      const page = await get('http://127.0.0.1:3001/');
      assert.match(page, /^uid=472 gid=0/);
      assert.match(page, /^GF_SECURITY_ADMIN_PASSWORD=s3cret %n \$\$$/m); // a file is no unit
      assert.match(
        await script('ocictl exec grafana ip -6 -o addr show dev eth0'),
        / fd[0-9a-f:]+\/64 scope global/,
      );
    },
  },
  prometheus: {
    refused: [
      ['prometheus.container:8: UserNS=:', /fresh range/],
      ['prometheus.container:14: PodmanArgs=:', /--cgroup-manager is no option of podman/],
    ],
    services: ['prometheus'],
    check: async () => {
      assert.match(await get('http://127.0.0.1:9090/-/ready'), /Ready/);
      assert.match(
        await get('http://127.0.0.1:9090/api/v1/status/flags'),
        /"storage.tsdb.retention.time":"30d"/,
      );
      assert.match(
        await script('systemctl show -P Description prometheus; hostname'),
        /^Prometheus of (.*)\n\1\n$/,
      );
      assert.match(await script('ocictl exec prometheus cat /etc/hosts'), /^10\.0\.0\.9\s+node\.example$/m);
    },
  },
  nextcloud: {
    refused: [],
    services: ['nextcloud-db', 'nextcloud'],
    check: async () => {
      assert.match(await get('http://127.0.0.1:8082/'), /^MYSQL_PASSWORD=pa\$word%$/m);
      const db = await get('http://127.0.0.1:8082/db'); // it has found the other one by its name
      assert.match(db, /^MARIADB_PASSWORD=pa\$word%$/m);
      assert.match(db, /^arguments: --transaction-isolation=READ-COMMITTED --log-bin=binlog$/m);
      await script('ocictl exec nextcloud wget -q -O /dev/null http://db:3306/'); // NetworkAlias=
      assert.equal(
        await script('systemctl is-enabled nextcloud nextcloud-db || true'),
        'enabled\ndisabled\n',
      );
      assert.equal(await script('systemctl show -P MemoryMax nextcloud'), '1073741824\n');
    },
  },
  traefik: {
    refused: [],
    services: ['traefik'],
    check: async () => {
      assert.match(
        await get('http://127.0.0.1:8083/'),
        /^arguments: --providers\.docker .* --log\.format={{ json }}$/m,
      );
      const socket = await script('ocictl exec traefik stat -c "%u %F" /var/run/docker.sock');
      assert.equal(socket, '0 socket\n');
      assert.equal(
        await script('systemctl show -P Restart traefik; systemctl is-active podman.socket'),
        'on-abnormal\nactive\n',
      );
      assert.match(
        await script('cat /run/oci/containers/traefik/config.json'),
        /"traefik.http.routers.api.rule": ?"Host\(`traefik.example`\)"/,
      );
    },
  },
  vaultwarden: {
    refused: [],
    services: ['vaultwarden'],
    check: async () => {
      const page = await get('http://127.0.0.1:8084/');
      assert.match(page, /^uid=1000 gid=1000/);
      assert.match(page, /^ADMIN_TOKEN=token$/m);
      assert.equal(
        await script(
          'ocictl exec vaultwarden cat /run/secrets/smtp; ! ocictl exec vaultwarden cat /proc/cpuinfo',
        ),
        'sesame\n',
      );
      await becomesHealthy('vaultwarden');
      assert.match(page, /^tmpfs \/scratch tmpfs rw,.*size=16384k,mode=700/m);
      assert.equal(await script('systemctl show -P Nice -P StartLimitBurst vaultwarden | sort'), '3\n5\n');
      assert.match(await script('ocictl exec vaultwarden cat /proc/1/status'), /^CapBnd:\s+0+$/m);
    },
  },
};

test('each folder of files is tried', () => {
  const folders = readdirSync(FILES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(folders.map(({ name }) => name).sort(), Object.keys(CASES).sort());
});

const filesOf = (name: string) =>
  `${PLACE}/${name}/*.container $(ls ${PLACE}/${name}/*.[vni]* | grep -v '\\.env$')`;

for (const [name, { refused, services, check }] of Object.entries(CASES))
  test(`${name}: what is refused, and the service runs`, { timeout: 900_000 }, async () => {
    const strict = await machine.script(`ocictl import --quiet ${filesOf(name)} --dry-run`);
    const lines = strict.stderr.split('\n').filter((line) => line.startsWith(`ocictl: ${PLACE}/`));
    assert.equal(lines.length, refused.length, strict.stderr);
    for (const [index, [where, reason]] of refused.entries()) {
      assert.ok(lines[index]!.startsWith(`ocictl: ${PLACE}/${name}/${where}`), lines[index]);
      assert.match(lines[index]!, reason);
    }
    assert.equal(strict.status, refused.length > 0 ? 65 : 0);
    assert.equal(
      await script('ls -A /var/lib/oci/services /etc/oci/oci.conf.d 2>/dev/null | grep -v : || true'),
      '',
    );
    try {
      const units = await script(`ocictl import --quiet --best-effort --now ${filesOf(name)}`, 120_000);
      assert.deepEqual(
        units.trim().split('\n').sort(),
        services.map((service) => `${service}.service`).sort(),
      );
      await check();
      for (const service of services)
        assert.equal(await script(`systemctl is-active ${service}`), 'active\n');
    } finally {
      await script(`ocictl uninstall --purge ${services.join(' ')} 2>&1; rm -rf /etc/oci/oci.conf.d`);
    }
    await assertNothingLeft(machine);
  });

test('a unit that podman generates of the same file is left alone', async () => {
  await script(
    `mkdir -p /etc/containers/systemd; cp ${PLACE}/nginx/nginx.container /etc/containers/systemd/; systemctl daemon-reload`,
  );
  try {
    assert.equal(
      await script('systemctl show -P FragmentPath nginx'),
      '/run/systemd/generator/nginx.service\n',
    );
    const { status, stderr } = await machine.script('ocictl import /etc/containers/systemd/nginx.container');
    assert.equal(status, 73, stderr);
    assert.match(stderr, /refusing to touch unit 'nginx\.service'.*\nhint: Move the file/);
  } finally {
    await script('rm -r /etc/containers/systemd; systemctl daemon-reload');
  }
});

test('a hostile file changes nothing', async () => {
  const refuse = async (status: number, pattern: RegExp, file: string, make: string) => {
    const result = await machine.script(
      `mkdir -p ${PLACE}/bad; cd ${PLACE}/bad; ${make}; ocictl import ${file}`,
    );
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr, pattern);
    assert.doesNotMatch(result.stderr, /[\x00-\x09\x0b-\x1f\x7f]/);
  };
  await refuse(65, /larger than/, 'huge.container', 'truncate -s 3G huge.container');
  await refuse(65, /no text in UTF-8/, 'elf.container', 'cp /usr/bin/true elf.container');
  await refuse(
    65,
    /line 3 is no text/,
    'esc.container',
    'printf "[Container]\\nImage=a\\nUser=\\033[2Jx\\n" >esc.container',
  );
  await refuse(65, /is no file/, 'fifo.container', 'mkfifo fifo.container');
  await refuse(65, /is no file/, 'dir.container', 'mkdir dir.container');
  await refuse(66, /cannot read/, 'loop.container', 'ln -s loop.container loop.container');
  await refuse(
    65,
    /names no image/,
    'zero.container',
    'ln -s /dev/null zero.container || true; rm zero.container; : >zero.container',
  );
  await refuse(64, /not named as/, 'x.service', ': >x.service');
  // a link to a secret: its lines are not shown
  const secret = await machine.script(
    `cd ${PLACE}/bad; printf 'root:hash\\n[Container]\\nImage=a\\n' >shadow; ln -s shadow s.container; ocictl import s.container`,
  );
  assert.equal(secret.status, 65);
  assert.doesNotMatch(secret.stderr, /hash/);
  await refuse(
    65,
    /more than 1000 options/,
    'many.container',
    '{ printf "[Container]\\nImage=a\\n"; for i in $(seq 3000); do echo Environment=A$i=b; done; } >many.container',
  );
  assert.equal(await script('ls -A /var/lib/oci/services 2>/dev/null | wc -l'), '0\n');
});
