/** `--userns host`: what a container without a user namespace has instead of one, and that nothing else asks for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ContainerOptions, translateImage } from '../../../src/bundle/runtime-spec.ts';
import { parseImageConfig } from '../../../src/oci/image-config.ts';
import type { RuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import { containerUnits } from '../../../src/unit/container-units.ts';
import type { UnitContext } from '../../../src/unit/context.ts';
import { boundedArgv, hasHostUsers } from '../../../src/unit/host-users.ts';
import { unitText } from '../../../src/unit/unit-text.ts';
import { CONTEXT } from './fixture.ts';

const OPTIONS: ContainerOptions = {
  command: ['true'],
  env: [],
  mounts: [],
  network: { kind: 'private' },
  readOnly: false,
  health: { args: ['true'] },
  labels: {},
  resources: {},
  rlimits: [],
  sysctl: {},
  capAdd: [],
  capDrop: ['ALL'],
  security: { noNewPrivileges: false, masked: [], unmasked: [] },
};

function spec(options: Partial<ContainerOptions>, labels: Record<string, string> = {}): RuntimeSpec {
  const config = {
    os: 'linux',
    architecture: 'amd64',
    config: { Labels: labels },
    rootfs: { type: 'layers', diff_ids: [] },
  };
  return translateImage({
    unit: 'web',
    imageName: 'x',
    manifestDigest: '',
    imageConfig: parseImageConfig(Buffer.from(JSON.stringify(config))),
    user: { uid: 0, gid: 0, additionalGids: [], home: '/root' },
    devices: [],
    options: { ...OPTIONS, ...options },
    callerEnv: {},
  });
}

const units = (options: Partial<ContainerOptions>, context: Partial<UnitContext> = {}) =>
  containerUnits(spec({ hostUsers: true, ...options }), { ...CONTEXT, ...context });

test('only the option takes the user namespace away', () => {
  assert.equal(hasHostUsers(spec({ hostUsers: true })), true);
  // labels of an image that look like annotations of ours are left out
  const without = spec({}, { 'io.ocictl.userns': 'host', other: 'x' });
  assert.equal(hasHostUsers(without), false);
  assert.equal(without.annotations.other, 'x');
  assert.ok(without.linux.namespaces.some(({ type }) => type === 'user'));
  assert.ok(spec({ hostUsers: true }).linux.namespaces.every(({ type }) => type !== 'user'));
});

test('the shim is root within bounds, joins no user namespace, and drops them', () => {
  const text = unitText(units({ capAdd: ['NET_ADMIN'] }).payload.settings);
  assert.doesNotMatch(text, /^User=|userns/m);
  // what nsenter and setpriv need, and what the payload is left with
  assert.match(
    text,
    /^CapabilityBoundingSet=CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_NET_ADMIN CAP_SYS_ADMIN$/m,
  );
  assert.match(
    text,
    /^ExecStart=:\S+ \S+ \S+ \/run\/\.oci \/run\/\.oci\/nsenter --uts=\/run\/\.oci\/utsns -- .* --bounding-set=-all,\+net_admin --inh-caps=-all -- /m,
  );
  assert.match(text, /^ExecStopPost=-:.*\/setpriv --inh-caps=-all --bounding-set=-all -- .*\/dd/m);
  assert.match(text, /^RestrictNamespaces=~user$/m);
});

test('what the unit shows of the host is read-only, the cgroup too', () => {
  const { payload } = units({});
  const text = unitText(payload.settings);
  const bound = (name: string) => new RegExp(`^${name}=(.*)$`, 'gm');
  const writable = [...text.matchAll(bound('BindPaths'))].map(([, bind]) => bind);
  assert.deepEqual(writable, [
    '/run/oci/containers/web/mnt/dev:/dev:rbind',
    '/run/oci/containers/web/mnt/run:/run:rbind',
  ]);
  const readOnly = [...text.matchAll(bound('BindReadOnlyPaths'))].map(([, bind]) => bind);
  assert.deepEqual(readOnly, [
    '/run/oci/shared/shim:/run/.oci:norbind',
    '/run/oci/containers/web/mnt/utsns:/run/.oci/utsns:norbind',
    '/run/oci/containers/web/seccomp:/run/.oci/seccomp:norbind',
  ]);
  assert.match(text, /^ProtectControlGroups=strict$/m);
  assert.match(text, /^InaccessiblePaths=.*-\+\/sys\/fs\/bpf /m);
});

test('the setup: no range, no mapping of processes, layers from the ids on disk to those of the host', () => {
  const { setupScript, helpers } = units({ network: { kind: 'bridge' } }, { images: new Map() });
  assert.match(setupScript, /^B=0$/m);
  assert.doesNotMatch(setupScript, /range\.lock|--user\b|uid_map|max_user_namespaces/);
  assert.match(setupScript, /^holder=\$\(unshare --net --ipc --uts sh -c /m);
  assert.match(
    setupScript,
    /"\$MOUNTS_FIELD\/u" none "X-mount\.mkdir,bind,private,X-mount\.idmap=b:\$D:\$B:\$SIZE"/,
  );
  assert.match(
    setupScript,
    /^chown -R \$D:\$D "\$WRITABLE\/data" "\$WRITABLE\/scaffold"; chown \$D:\$D "\$WRITABLE\/work"$/m,
  );
  assert.match(
    setupScript,
    /^as_root\(\) \{ setpriv --inh-caps=-all --bounding-set=-all,\+chown,\+dac_override,\+fowner,\+fsetid,\+setfcap -- "\$@"; \}$/m,
  );
  assert.ok(helpers.every(({ settings }) => !unitText(settings).includes('SocketUser')));
});

test('exec and health checks enter with the bounds of the container', () => {
  const { healthScript } = units({});
  const bounds = '-all,+setgid,+setuid,+setpcap,+sys_chroot,+sys_ptrace,+sys_admin';
  const words = ['setpriv', '--inh-caps=-all', `--bounding-set=${bounds}`, '--'];
  assert.deepEqual(boundedArgv(spec({ hostUsers: true })), words);
  assert.deepEqual(boundedArgv(spec({})), []);
  assert.match(
    healthScript!,
    /^is_ours\(\) \{ \[ "\/proc\/\$PID\/ns\/user" -ef \/proc\/self\/ns\/user \]; \}$/m,
  );
  assert.ok(
    healthScript!.includes(
      `${words.join(' ')} nsenter "--target=$PID" "--mount=/proc/$$/fd/3" --uts --ipc --net --pid --cgroup --wdns=/ -- `,
    ),
    healthScript,
  );
});
