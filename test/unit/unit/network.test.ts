/** The bridge of a container: what netavark is told, and what the setup script does before. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { bridgeNetwork } from '../../../src/cli/network-conf.ts';
import { containerUnits } from '../../../src/unit/container-units.ts';
import type { UnitContext } from '../../../src/unit/context.ts';
import type { Setting } from '../../../src/unit/setting.ts';
import { shimArgv } from '../../../src/unit/shim.ts';
import { parseSocket } from '../../../src/unit/socket.ts';
import { throwsOci } from '../expect-error.ts';
import { CONTEXT, specWith, values } from './fixture.ts';

const OCI0 = bridgeNetwork({}, 'oci0');
const FILES = { hosts: [], nameservers: [], searchDomains: [], resolverOptions: [] };

function scripts(context: Partial<UnitContext>, hostname = 'web') {
  const units = containerUnits(specWith({ hostname }), { ...CONTEXT, networkFiles: FILES, ...context });
  for (const text of [units.setupScript, units.teardownScript]) {
    const { status, stderr } = spawnSync('/bin/sh', ['-n'], { input: text, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  }
  return { setup: units.setupScript, teardown: units.teardownScript, units };
}

/** The JSON as the shell makes it. */
function netavarkInput(setup: string): unknown {
  const [, words = ''] = /printf %s (.*) >"\$BUNDLE\/network\.json"\)$/m.exec(setup) ?? [];
  const { stdout } = spawnSync('/bin/sh', ['-c', `printf %s ${words}`], {
    encoding: 'utf8',
    env: { PORT1: '50000', IP4: '10.90.0.9', IP6: 'fd90::9', INTERFACE: 'oci-80000', DNS: 'true' },
  });
  return JSON.parse(stdout);
}

test('what netavark is told', () => {
  const ports = [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp', count: 2, hostAddress: '127.0.0.1' },
    { containerPort: 53, protocol: 'udp', count: 1 },
  ] as const;
  const { setup } = scripts(
    { bridge: { network: OCI0, ports }, networkFiles: { ...FILES, nameservers: ['10.1.1.1'] } },
    'front',
  );
  assert.deepEqual(netavarkInput(setup), {
    container_id: 'web',
    container_name: 'web',
    networks: {
      oci0: {
        interface_name: 'eth0',
        static_ips: ['10.90.0.9', 'fd90::9'],
        aliases: ['front'],
        options: { host_interface_name: 'oci-80000' },
      },
    },
    network_info: {
      oci0: {
        name: 'oci0',
        id: 'oci0',
        driver: 'bridge',
        network_interface: 'oci0',
        subnets: [
          { subnet: '10.90.0.0/24', gateway: '10.90.0.1' },
          { subnet: 'fd90::/64', gateway: 'fd90::1' },
        ],
        ipv6_enabled: true,
        internal: false,
        dns_enabled: true,
        ipam_options: { driver: 'host-local' },
        options: { isolate: 'strict' },
      },
    },
    port_mappings: [
      { host_ip: '127.0.0.1', host_port: 8080, container_port: 80, protocol: 'tcp', range: 2 },
      { host_ip: '', host_port: 50000, container_port: 53, protocol: 'udp', range: 1 },
    ],
    dns_servers: ['10.1.1.1'],
  });
  assert.match(setup, /^publish tcp 8080 8081 127\.0\.0\.1$/m);
  assert.match(setup, /^choose udp 1 -\nPORT1=\$port$/m);
});

test('no name steers the shell or the JSON', () => {
  const hostname = `a'"$(id)\\u0000DNS\\u0000`;
  const { setup } = scripts({ bridge: { network: OCI0, ports: [] } }, hostname);
  const input = netavarkInput(setup) as { networks: { oci0: { aliases: string[] } } };
  assert.deepEqual(input.networks.oci0.aliases, [hostname]);
});

test('addresses: a fixed one lies in the network, and is neither its own nor the gateway', () => {
  const fixed = (address: number) => scripts({ bridge: { network: OCI0, ports: [], address } }).setup;
  const base = OCI0.ipv4.base;
  assert.match(fixed(base + 20), /^number=20$/m);
  assert.match(fixed(base + 254), /^number=254$/m);
  for (const number of [-1, 0, 1, 255, 256])
    throwsOci(() => fixed(base + number), 'USAGE', 'no address for a container of network oci0');
});

test('only a container on a bridge has to do with netavark; a joined network is asked for by its setup unit', () => {
  for (const context of [{}, { joinsNetworkOf: 'pod' }]) {
    const { setup, teardown } = scripts(context);
    assert.doesNotMatch(setup + teardown, /netavark/);
  }
  const { units } = scripts({ joinsNetworkOf: 'pod' });
  const words = (settings: readonly Setting[], property: string) =>
    settings.filter((setting) => setting.property === property).flatMap(({ value }) => value);
  assert.deepEqual(words(units.payload.settings, 'PartOf'), ['pod-setup.service']);
  assert.deepEqual(words(units.payload.settings, 'BindsTo'), ['web-setup.service']);
  assert.ok(words(units.payload.settings, 'After').includes('pod-setup.service'));
  assert.deepEqual(words(units.setup.settings, 'After'), ['pod-setup.service']);
});

test('--socket: what can be listened on', () => {
  assert.deepEqual(parseSocket('8080'), ['Stream', '8080']);
  assert.deepEqual(parseSocket('tcp:127.0.0.1:80'), ['Stream', '127.0.0.1:80']);
  assert.deepEqual(parseSocket('udp:[::1]:53'), ['Datagram', '[::1]:53']);
  assert.deepEqual(parseSocket('/run/web.sock'), ['Stream', '/run/web.sock']);
  for (const text of [
    ...[
      '',
      '0',
      '65536',
      'host:80',
      '::1:80',
      '[127.0.0.1]:80',
      'udp:/run/x',
      '/',
      '/run/',
      '/run/../x',
      '/a b',
    ],
    ...['/a%n', '/a\n', '80\n', '@abstract', 'vsock::80', `/${'a'.repeat(108)}`],
  ])
    throwsOci(() => parseSocket(text), 'USAGE', '--socket');
});

test('--socket and --notify as units', () => {
  const { units } = scripts({
    sockets: [parseSocket('8080'), parseSocket('/run/web.sock')],
    notify: 'payload',
  });
  assert.equal(units.socket?.name, 'web.socket');
  assert.deepEqual(values(units.socket!.settings, 'Listen', 'Requires', 'RemoveOnStop'), {
    Listen: [
      ['Stream', '8080'],
      ['Stream', '/run/web.sock'],
    ],
    Requires: ['web-setup.service'],
    RemoveOnStop: true,
  });
  assert.deepEqual(values(units.payload.settings, 'Type', 'NotifyAccess', 'PartOf'), {
    Type: 'notify',
    NotifyAccess: 'all',
    PartOf: ['web.socket'],
  });
  const argv = (sockets: boolean, init?: string) =>
    shimArgv(specWith().process, { uts: true, sockets, init });
  assert.deepEqual(argv(false).includes('LISTEN_PID=1'), false);
  assert.deepEqual(argv(true).slice(-3), ['--', 'LISTEN_PID=1', 'true']);
  assert.deepEqual(argv(true, '/init').slice(-4), ['LISTEN_PID=2', '/run/.oci/init', '--', 'true']);
  assert.equal(scripts({}).units.socket, undefined);
  assert.deepEqual(values(scripts({}).units.payload.settings, 'Type', 'NotifyAccess'), {
    Type: 'exec',
    NotifyAccess: undefined,
  });
});
