/** Networks in oci.conf. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOciConf } from '../../../src/cli/config.ts';
import { bridgeNetwork } from '../../../src/cli/network-conf.ts';
import { parseIPv4 } from '../../../src/oci/address.ts';
import { rejectsOci, throwsOci } from '../expect-error.ts';

const network = async (text: string, name = 'oci0') =>
  bridgeNetwork((await parseOciConf(text, 'f')).networks ?? {}, name);

test('the default network, and what changes it', async () => {
  const base = parseIPv4('10.90.0.0')!;
  const oci0 = { name: 'oci0', ipv4: { base, prefixLength: 24 }, ipv6: 'fd90::', internal: false, dns: true };
  assert.deepEqual(await network(''), oci0);
  assert.deepEqual(await network('[network]\ndns = false\ninternal = true'), {
    ...oci0,
    dns: false,
    internal: true,
  });
  assert.deepEqual(await network('[network]\nsubnet = 10.0.0.0/16'), {
    ...{ name: 'oci0', ipv4: { base: parseIPv4('10.0.0.0'), prefixLength: 16 } },
    ...{ internal: false, dns: true },
  });
  assert.deepEqual(await network('[network.db]\nsubnet = fd12:0:0:7::/64 10.1.2.8/29', 'db'), {
    ...{ name: 'db', ipv4: { base: parseIPv4('10.1.2.8'), prefixLength: 29 }, ipv6: 'fd12:0:0:7::' },
    ...{ internal: false, dns: true },
  });
  assert.deepEqual(await network('[network.db]\nsubnet = 10.1.2.8/29'), oci0);
});

test('what is not understood is an error', async () => {
  for (const line of [
    ...[
      'subnet = 10.0.0.1/24',
      'subnet = 10.0.0.0/15',
      'subnet = 10.0.0.0/30',
      'subnet = 10.0.0.0',
      'subnet =',
    ],
    ...[
      'subnet = fd90::/48 10.0.0.0/24',
      'subnet = fd90::1/64 10.0.0.0/24',
      'subnet = fd90::/64',
      'subnet = $(id)/24',
    ],
    ...['dns = maybe', 'mtu = 9000', 'subnet'],
  ])
    await rejectsOci(parseOciConf(`[network]\n${line}`, 'f'), 'CONFIG', "'f': network oci0");
  await rejectsOci(
    parseOciConf('[network.A b]\nsubnet = 10.0.0.0/24', 'f'),
    'CONFIG',
    'no name of a network',
  );
  throwsOci(() => bridgeNetwork({}, 'db'), 'INPUT_NOT_FOUND', "no network 'db'");
  throwsOci(() => bridgeNetwork({}, 'constructor'), 'INPUT_NOT_FOUND', "'constructor'");
});
