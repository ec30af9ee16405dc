/** ocictl import, the short way, on each systemd: a service with a volume, a secret, a masked path, and a published port. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, NGINX } from './container.ts';

const machine = sharedMachine();
const script = async (text: string) => stdoutOf(await machine.script(text));
const PLACE = '/var/short-quadlet';

const CONTAINER = `[Container]
Image=page.image
ContainerName=front
Volume=pages.volume:/data
PublishPort=127.0.0.1:8099:8080
Secret=quadlet-token,target=token
Mask=/proc/cpuinfo
Mount=type=image,source=page.image,destination=/same

[Install]
WantedBy=multi-user.target
`;

const TEMPLATE = `[Container]
Image=${BUSYBOX}
Network=none
HostName=h-%i
Environment=WHO=%i
Volume=crew-%i:/data
Exec=sh -c "echo $WHO of %p >/data/said; exec sleep 1000"
StopSignal=SIGKILL

[Service]
CPUQuota=50%

[Install]
WantedBy=multi-user.target
`;

before(async () => {
  await machine.writeFile(`${PLACE}/page.container`, CONTAINER);
  await machine.writeFile(`${PLACE}/crew@.container`, TEMPLATE);
  await machine.writeFile(`${PLACE}/pages.volume`, '[Volume]\n');
  await machine.writeFile(`${PLACE}/page.image`, `[Image]\nImage=${NGINX}\nTLSVerify=false\n`);
});
after(() =>
  machine.script(
    `ocictl --quiet uninstall --purge page crew@ || true; rm -rf ${PLACE} /etc/credstore/quadlet-token`,
  ),
);

const IMPORT = `cd ${PLACE}; ocictl import --now page.container pages.volume page.image`;

test('a secret is a credential of the host, and nothing is imported before it is there', async () => {
  const { status, stderr } = await machine.script(IMPORT);
  assert.equal(status, 65);
  assert.match(stderr, /^ocictl: page\.container:6: Secret=: .* >\/etc\/credstore\/quadlet-token$/m);
  assert.equal(await script('ocictl versions page || true'), '');
});

test('imported and started', async () => {
  await script('mkdir -p /etc/credstore; (umask 077; echo sesame >/etc/credstore/quadlet-token)');
  assert.equal(await script(`${IMPORT} 2>/dev/null`), 'page.service\n');
  const page = 'curl --silent --fail --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8099/';
  assert.match(await script(page), /It works/);
  assert.equal(await script('ocictl exec page cat /run/secrets/token'), 'sesame\n');
  const masked = await machine.script('ocictl exec page cat /proc/cpuinfo');
  assert.deepEqual([masked.status, masked.stdout], [1, '']);
  assert.equal(
    await script('ocictl exec page ls /same/etc/nginx/nginx.conf'),
    '/same/etc/nginx/nginx.conf\n',
  );
  assert.equal(await script('ocictl exec page cat /etc/hostname'), 'front\n');
});

test('uninstalled, nothing is left', async () => {
  await script('ocictl --quiet uninstall --purge page');
  await assertNothingLeft(machine);
  assert.equal(await script('ls /var/lib/oci/volumes 2>/dev/null | grep -x systemd-pages || true'), '');
});

test('a template: instances are started by their names', async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  const imported = await machine.script(`cd ${PLACE}; ocictl import --now crew@.container`);
  assert.deepEqual(imported, {
    status: 0,
    stdout: 'crew@.service\n',
    stderr: 'ocictl: start instances with systemctl enable --now crew@INSTANCE.service\n',
  });
  await script('systemctl enable --quiet --now crew@a crew@b');
  for (const name of ['a', 'b'])
    assert.equal(
      await script(
        `for i in $(seq 100); do ocictl exec crew@${name} cat /data/said 2>/dev/null && break; sleep 0.1; done
        ocictl exec crew@${name} hostname; systemctl show -P CPUQuotaPerSecUSec crew@${name}`,
      ),
      `${name} of crew\nh-${name}\n500ms\n`,
    );
  await script('ocictl --quiet uninstall --purge crew@');
  await assertNothingLeft(machine);
  assert.equal(await script('find /var/lib/oci/volumes /etc/systemd/system -name "*crew*"'), '');
});
