/**
 * ocictl login against a real registry that asks for a password: podman and skopeo read what we wrote, we read what
 * they wrote, and a helper of docker's keeps a secret.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { BUSYBOX } from './container.ts';

const machine = sharedMachine();
const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));
const CLOSED = '127.0.0.1:5443';
const PASSWORD = 'correct horse';
/** htpasswd(1) is not in the machine: this is what `htpasswd -Bn alice` makes of the password. */
const HTPASSWD = 'alice:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2';
const AUTH_JSON = '/run/containers/0/auth.json';

const CONFIG = `version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: /var/lib/closed-registry }
auth:
  htpasswd: { realm: closed, path: /etc/closed-registry/htpasswd }
http:
  addr: ${CLOSED}
  tls: { certificate: /etc/closed-registry/server.crt, key: /etc/closed-registry/server.key }
`;

before(async () => {
  await machine.writeFile('/etc/closed-registry/config.yml', CONFIG);
  await machine.writeFile('/etc/closed-registry/htpasswd', `${HTPASSWD}\n`);
  await sh(`
    mkdir -p /var/lib/closed-registry /etc/containers/certs.d/${CLOSED}
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=closed \
      -addext subjectAltName=IP:127.0.0.1 -keyout /etc/closed-registry/server.key -out /etc/closed-registry/server.crt
    systemd-run --quiet --unit=closed-registry docker-registry serve /etc/closed-registry/config.yml
    until curl -ks -o /dev/null https://${CLOSED}/v2/; do sleep 0.05; done
    skopeo copy --quiet --dest-tls-verify=false --dest-creds 'alice:${PASSWORD}' docker://${BUSYBOX} docker://${CLOSED}/busybox`);
});

after(async () => {
  // A second name would keep the image from being removed by the tests that follow.
  await sh(
    `systemctl stop closed-registry; ocictl --quiet untag ${CLOSED}/busybox;  rm -rf /etc/containers/certs.d/${CLOSED} ${AUTH_JSON}`,
  );
});

const login = (password: string, ...options: string[]) =>
  machine.run(['ocictl', 'login', ...options, '-u', 'alice', '--password-stdin', CLOSED], {
    input: password,
  });

test('without credentials, with wrong ones, with an authority that is not known', async () => {
  const denied = await machine.run(['oci-pull', `${CLOSED}/busybox`]);
  assert.equal(denied.status, 69);
  assert.match(denied.stderr, /the certificate of '127\.0\.0\.1:5443' is not trusted/);
  const untrusted = await login(PASSWORD);
  assert.equal(untrusted.status, 69, untrusted.stderr);
  await sh(`cp /etc/closed-registry/server.crt /etc/containers/certs.d/${CLOSED}/ca.crt`);
  const wrong = await login('wrong');
  assert.deepEqual(
    [wrong.status, wrong.stderr.split('\n')[0]],
    [77, `ocictl: '${CLOSED}' refuses the credentials of 'alice'`],
  );
  const anonymous = await machine.run(['oci-pull', `${CLOSED}/busybox`]);
  assert.equal(anonymous.status, 77);
  assert.match(anonymous.stderr, /hint: Run: ocictl login 127\.0\.0\.1:5443\n$/);
  assert.equal(await sh(`test ! -e ${AUTH_JSON} && echo none`), 'none\n');
});

test('logged in: we, podman and skopeo get in; podman logs out', async () => {
  const done = await login(`${PASSWORD}\n`);
  assert.deepEqual([done.status, done.stderr], [0, `ocictl: logged in to ${CLOSED}: kept in ${AUTH_JSON}\n`]);
  assert.equal(await sh(`stat -c '%a %U' ${AUTH_JSON}`), '600 root\n');
  const digest = await sh(`oci-pull --quiet ${CLOSED}/busybox`);
  assert.equal(await sh(`skopeo inspect --format '{{.Digest}}' docker://${CLOSED}/busybox`), digest);
  await sh(
    `podman --log-level=error pull --quiet ${CLOSED}/busybox; podman rmi ${CLOSED}/busybox >/dev/null`,
  );
  assert.equal(await sh(`podman login --get-login ${CLOSED}`), 'alice\n');
  await sh(`podman logout ${CLOSED}`);
  assert.equal((await machine.run(['oci-pull', `${CLOSED}/busybox`])).status, 77);
  const again = await machine.run(['ocictl', 'logout', CLOSED]);
  assert.equal(again.status, 66, again.stderr);
});

test('podman logs in, we get in and log out', async () => {
  await machine.run(['podman', 'login', '-u', 'alice', '--password-stdin', CLOSED], { input: PASSWORD });
  await sh(`oci-pull --quiet ${CLOSED}/busybox; ocictl logout ${CLOSED}`);
  const gone = await machine.run(['podman', 'login', '--get-login', CLOSED]);
  assert.notEqual(gone.status, 0);
});

test('a helper keeps the secret, for us and for podman', async () => {
  await machine.writeFile(
    '/usr/local/bin/docker-credential-test',
    `#!/bin/sh
case $1 in
  store) cat >/run/secret-of-test ;;
  get) cat /run/secret-of-test 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
  erase) rm -f /run/secret-of-test ;;
esac
`,
    0o755,
  );
  await machine.writeFile(AUTH_JSON, JSON.stringify({ credHelpers: { [CLOSED]: 'test' } }), 0o600);
  const done = await login(PASSWORD);
  assert.equal(done.stderr, `ocictl: logged in to ${CLOSED}: kept by docker-credential-test\n`);
  assert.ok(!(await sh(`cat ${AUTH_JSON}`)).includes('auths'));
  await sh(`oci-pull --quiet ${CLOSED}/busybox; skopeo inspect docker://${CLOSED}/busybox >/dev/null`);
  await sh(
    `ocictl logout ${CLOSED}; test ! -e /run/secret-of-test; rm /usr/local/bin/docker-credential-test`,
  );
});
