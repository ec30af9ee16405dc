/**
 * A registry that cannot be reached, and its mirror that asks for a password which a helper keeps; its access log
 * tells what was really asked for: also after a pull that was killed.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { NGINX } from './container.ts';

const machine = sharedMachine();
const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));
const MIRROR = '127.0.0.1:5444';
const IMAGE = 'registry.invalid/library/nginx';
const STORE = '/var/tmp/mirrored';
const HELPER = '/usr/local/bin/docker-credential-mirror';
const REGISTRIES = '/etc/containers/registries.conf.d/50-mirror.conf';
const AUTH_JSON = '/run/containers/0/auth.json';

const CONFIG = `version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: /var/lib/mirror } }
auth: { htpasswd: { realm: mirror, path: /etc/mirror-registry/htpasswd } }
http: { addr: "${MIRROR}" }
`;
/** What htpasswd(1) makes of alice and `correct horse`. */
const HTPASSWD = 'alice:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2';

const registries = (insecure: boolean) => `[[registry]]
prefix = "registry.invalid/library"
location = "127.0.0.1:1/library"
[[registry.mirror]]
location = "${MIRROR}/mirror"
insecure = ${insecure}
`;

let marks = 0;

/** Of the mirror's access log since the last call: method, path, status and bytes sent, but for what was not allowed. */
async function requests(): Promise<string[]> {
  const mark = `mark-${marks++}`; // the registry logs a request after its answer
  const log = await sh(`curl -s -o /dev/null http://${MIRROR}/v2/?${mark}
    until journalctl --sync; journalctl -o cat -u mirror-registry | grep -q '${mark} '; do sleep 0.05; done
    journalctl --cursor-file=/run/mirror-cursor -o cat -u mirror-registry`);
  return [...log.matchAll(/ \[.*?\] "(\S+) (\S+) HTTP\/1\.1" (?!401)(\d+) (\d+)/g)].map((line) =>
    line.slice(1).join(' '),
  );
}

before(async () => {
  await machine.writeFile('/etc/mirror-registry/config.yml', CONFIG);
  await machine.writeFile('/etc/mirror-registry/htpasswd', `${HTPASSWD}\n`);
  await machine.writeFile(REGISTRIES, registries(true));
  await machine.writeFile(AUTH_JSON, JSON.stringify({ credHelpers: { [MIRROR]: 'mirror' } }), 0o600);
  await machine.writeFile(
    HELPER,
    `#!/bin/sh
[ "$1" = get ] && read -r host && [ "$host" = ${MIRROR} ] &&
  echo '{"ServerURL":"${MIRROR}","Username":"alice","Secret":"correct horse"}'
`,
    0o755,
  );
  await sh(`mkdir -p /var/lib/mirror
    systemd-run --quiet --unit=mirror-registry docker-registry serve /etc/mirror-registry/config.yml
    until curl -s -o /dev/null http://${MIRROR}/v2/; do sleep 0.05; done
    skopeo copy --quiet --dest-tls-verify=false --dest-creds 'alice:correct horse' docker://${NGINX} docker://${MIRROR}/mirror/nginx`);
  await requests();
});

after(() =>
  sh(`systemctl stop mirror-registry; rm -rf ${STORE} ${HELPER} ${REGISTRIES} ${AUTH_JSON} /var/lib/mirror`),
);

test('the image comes from the mirror, with what the helper keeps', async () => {
  const digest = await sh(`oci-pull --quiet --root ${STORE} ${IMAGE}`);
  assert.equal(
    digest,
    await sh(`skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://${NGINX}`),
  );
  const { layers, config } = JSON.parse(
    await sh(`skopeo inspect --raw docker://${NGINX}@${digest.trim()}`),
  ) as { layers: { digest: string; size: number }[]; config: { digest: string; size: number } };
  const asked = await requests();
  for (const blob of [config, ...layers])
    assert.deepEqual(
      asked.filter((line) => line.includes(blob.digest)),
      [`GET /v2/mirror/nginx/blobs/${blob.digest} 200 ${blob.size}`],
    );
});

test('a mirror by http is refused where registries.conf does not allow it', async () => {
  await machine.writeFile(REGISTRIES, registries(false));
  const refused = await machine.run(['oci-pull', '--root', `${STORE}2`, IMAGE]);
  await machine.writeFile(REGISTRIES, registries(true));
  assert.notEqual(refused.status, 0);
  assert.match(
    refused.stderr,
    /^oci-pull: mirror 127\.0\.0\.1:5444: '127\.0\.0\.1:5444' does not speak TLS as expected$/m,
  );
  assert.deepEqual(await requests(), []);
});

test('a pull that was killed is resumed: the mirror sends the rest alone', async () => {
  const raw = JSON.parse(await sh(`skopeo inspect --raw docker://${NGINX}`)) as {
    layers: { digest: string; size: number }[];
  };
  const largest = raw.layers.toSorted((a, b) => b.size - a.size)[0]!;
  const partial = `${STORE}/staging/blobs/${largest.digest.slice('sha256:'.length)}.partial`;
  // Killed in the middle of that blob; on a fast day it takes more than one try.
  const kept = Number(
    await sh(`for try in $(seq 20); do
        rm -rf ${STORE}
        oci-pull --quiet --root ${STORE} ${IMAGE} >/dev/null 2>&1 & pull=$!
        until [ -s ${partial} ] || ! kill -0 $pull 2>/dev/null; do :; done
        kill -KILL $pull 2>/dev/null || continue
        wait $pull || true
        size=$(stat -c %s ${partial}) || continue
        [ "$size" -gt 0 ] && [ "$size" -lt ${largest.size} ] && break
      done
      echo "$size"`),
  );
  assert.ok(kept > 0 && kept < largest.size, `${kept} of ${largest.size}`);
  await requests();
  await sh(`oci-pull --quiet --root ${STORE} ${IMAGE}`);
  assert.deepEqual(
    (await requests()).filter((line) => line.includes(largest.digest)),
    [`GET /v2/mirror/nginx/blobs/${largest.digest} 206 ${largest.size - kept}`],
  );
  await sh(`ocictl --root ${STORE} fsck`);
});
