/** --network, --publish and their kin as words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  eachPort,
  formatPort,
  parseIP,
  parseNetwork,
  parsePublish,
  parseResolverWord,
} from '../../../src/bundle/network.ts';
import { formatIPv4, isAddress, parseIPv4 } from '../../../src/oci/address.ts';
import { throwsOci } from '../expect-error.ts';

test('networks', () => {
  assert.deepEqual(parseNetwork('host'), { kind: 'host' });
  assert.deepEqual(parseNetwork('private'), { kind: 'private' });
  assert.deepEqual(parseNetwork('none'), { kind: 'private' });
  assert.deepEqual(parseNetwork('bridge'), { kind: 'bridge', name: 'oci0' });
  assert.deepEqual(parseNetwork('bridge:db'), { kind: 'bridge', name: 'db' });
  assert.deepEqual(parseNetwork('container=web.service'), { kind: 'container', unit: 'web' });
  assert.deepEqual(parseNetwork('container:web'), { kind: 'container', unit: 'web' });
  assert.deepEqual(parseNetwork('ns:/run/netns/x:y'), { kind: 'path', path: '/run/netns/x:y' });
  for (const text of [
    ...[
      '',
      'token-ring',
      'host:x',
      'bridge:',
      'bridge:Db',
      'bridge:a/b',
      'bridge:abcdefghijklmnop',
      'bridge:a b',
    ],
    ...['container=', 'container=../x', 'container=a;b', 'ns:', 'ns:relative', 'ns:/a\0', 'bridge\n'],
  ])
    throwsOci(() => parseNetwork(text), 'USAGE', '--network');
  throwsOci(() => parseNetwork('pasta'), 'UNSUPPORTED', "'pasta'");
});

test('published ports', () => {
  const tcp = (hostPort: number, containerPort: number, rest = {}) => ({
    ...{ hostPort, containerPort, protocol: 'tcp', count: 1 },
    ...rest,
  });
  assert.deepEqual(parsePublish('8080:80'), tcp(8080, 80));
  assert.deepEqual(parsePublish('53:53/udp'), tcp(53, 53, { protocol: 'udp' }));
  assert.deepEqual(
    parsePublish('127.0.0.1:8080:80/sctp'),
    tcp(8080, 80, { hostAddress: '127.0.0.1', protocol: 'sctp' }),
  );
  assert.deepEqual(parsePublish('[fe80::1]:8080:80'), tcp(8080, 80, { hostAddress: 'fe80::1' }));
  assert.deepEqual(parsePublish('0.0.0.0:8080:80'), tcp(8080, 80, { hostAddress: '0.0.0.0' }));
  for (const any of ['[::]', '[0::]', '[0:0:0:0:0:0:0:0]'])
    assert.deepEqual(parsePublish(`${any}:8080:80`), tcp(8080, 80, { hostAddress: '::' }), any);
  assert.deepEqual(parsePublish('8000-8010:9000-9010'), tcp(8000, 9000, { count: 11 }));
  assert.deepEqual(parsePublish('1-65535:1-65535').count, 65535);
  const chosen = (containerPort: number, rest = {}) => ({
    ...{ containerPort, protocol: 'tcp', count: 1 },
    ...rest,
  });
  assert.deepEqual(parsePublish('80'), chosen(80));
  assert.deepEqual(parsePublish(':80'), chosen(80));
  assert.deepEqual(parsePublish('80-82/udp'), chosen(80, { count: 3, protocol: 'udp' }));
  assert.deepEqual(parsePublish('127.0.0.1::80'), chosen(80, { hostAddress: '127.0.0.1' }));
  for (const loopback of ['[::1]:8080:80', '[0:0::1]::80', '[0:0:0:0:0:0:0:1]:1:1'])
    throwsOci(() => parsePublish(loopback), 'USAGE', 'loopback');
  for (const text of [
    ...[
      '',
      ':',
      '0',
      '65536',
      '127.0.0.1:80:',
      '0:80',
      '80:0',
      '65536:1',
      '1:65536',
      '8080:80/icmp',
      '8080:80/',
      'a:b',
      '80:80:80:80',
    ],
    ...[
      '8000-8001:9000',
      '8000:9000-9001',
      '9-8:9-8',
      '1-2-3:1-2-3',
      '300.0.0.1:1:1',
      'host:1:1',
      '[fe80::1:1:1',
      '8080:80\n',
    ],
    ...['[1;2]:1:1', '-1:1', '8080:80/tcp/udp'],
  ])
    throwsOci(() => parsePublish(text), 'USAGE', '--publish');
});

test('ports in words', () => {
  for (const text of ['8080->80/tcp', '127.0.0.1:1-3->4-6/udp', '[fe80::1]:1->2/sctp'])
    assert.equal(formatPort(parsePublish(text.replace('->', ':'))), text);
  assert.deepEqual(eachPort(parsePublish('8080-8081:80-81/udp')), [
    ['80/udp', '0.0.0.0:8080'],
    ['81/udp', '0.0.0.0:8081'],
  ]);
  assert.deepEqual(eachPort(parsePublish('[fe80::1]:1:2')), [['2/tcp', '[fe80::1]:1']]);
});

test('addresses and words of resolv.conf', () => {
  assert.equal(parseIP('10.90.0.2'), 0x0a5a0002);
  assert.equal(parseIPv4('255.255.255.255'), 2 ** 32 - 1);
  assert.equal(formatIPv4(2 ** 32 - 1), '255.255.255.255');
  assert.equal(formatIPv4(0x0a5a0002), '10.90.0.2');
  for (const text of ['', '1.2.3', '1.2.3.4.5', '01.2.3.4', '1.2.3.256', '1.2.3.-1', '1.2.3.4 ', '1..2.3']) {
    assert.equal(parseIPv4(text), undefined, text);
    assert.equal(isAddress(text), false, text);
    throwsOci(() => parseIP(text), 'USAGE', '--ip');
  }
  assert.equal(isAddress('::'), true);
  assert.equal(parseResolverWord('--dns-search', '.'), '.');
  assert.equal(parseResolverWord('--dns-search', 'a_b.example'), 'a_b.example');
  assert.equal(parseResolverWord('--dns-option', 'ndots:2'), 'ndots:2');
  for (const text of ['', 'a b', 'a\nnameserver 1.1.1.1', '-a', 'a;b'])
    throwsOci(() => parseResolverWord('--dns-search', text), 'USAGE', 'no domain');
  for (const text of ['', 'ndots:', 'a b', 'a\nb'])
    throwsOci(() => parseResolverWord('--dns-option', text), 'USAGE', 'no option');
});
