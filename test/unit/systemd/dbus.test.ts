import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { socketPath } from '../../../src/systemd/bus.ts';
import {
  formatMessage,
  METHOD_CALL,
  messageLength,
  parseMessage,
} from '../../../src/systemd/dbus-message.ts';
import { completeTypes, marshal, unmarshal, Variant } from '../../../src/systemd/dbus-values.ts';
import { throwsOci } from '../expect-error.ts';

test('signatures are split into complete types', () => {
  assert.deepEqual(completeTypes('ssa(sv)a(sa(sv))'), ['s', 's', 'a(sv)', 'a(sa(sv))']);
  assert.deepEqual(completeTypes('a{sv}aayt'), ['a{sv}', 'aay', 't']);
  for (const wrong of ['a', '(s', 'z', '()', 'a{', `${'a'.repeat(70)}s`])
    assert.throws(() => completeTypes(wrong), TypeError, wrong);
});

test('values come back as they were, wherever they are aligned', () => {
  const cases: [string, unknown[]][] = [
    ['ybnqiuxtd', [255, true, -2, 65535, -3, 4_000_000_000, -5n, 2n ** 64n - 1n, 0.5]],
    ['sog', ['a “word”', '/org/x', 'a{sv}']],
    ['yay', [1, Buffer.from([0, 10, 255])]],
    [
      'ya(yt)',
      [
        1,
        [
          [2, 3n],
          [4, 5n],
        ],
      ],
    ],
    ['yas', [1, []]],
    ['yat', [7, []]],
    [
      'a{sv}',
      [
        new Map([
          ['x', new Variant('as', ['%', '\n', ''])],
          ['__proto__', new Variant('y', 1)],
        ]),
      ],
    ],
    ['v', [new Variant('(bas)', [false, ['ptrace']])]],
    ['a(sasas)', [[['/bin/sh', ['/bin/sh', '-c', 'x'.repeat(5000)], ['no-env-expand']]]]],
  ];
  for (const [signature, values] of cases)
    assert.deepEqual(unmarshal(signature, marshal(signature, values), true), values, signature);
});

test('the bytes are those of another implementation', () => {
  // GVariant's normal form differs from that of the bus; python's struct gives the bytes of the specification
  const values: unknown[] = ['StartUnit', [['a', 7n]], new Variant('u', 42)];
  const python = spawnSync('python3', [
    '-c',
    String.raw`import struct, sys
b = struct.pack('<I', 9) + b'StartUnit\0'
b += b'\0' * (-len(b) % 4) + struct.pack('<I', 16)
b += b'\0' * (-len(b) % 8) + struct.pack('<I', 1) + b'a\0' + b'\0\0' + struct.pack('<Q', 7)
b += b'\1u\0'
b += b'\0' * (-len(b) % 4) + struct.pack('<I', 42)
sys.stdout.buffer.write(b)`,
  ]);
  assert.equal(python.status, 0, python.stderr.toString());
  assert.deepEqual(marshal('sa(st)v', values), python.stdout);
});

test('numbers in the other byte order', () => {
  assert.deepEqual(unmarshal('us', Buffer.from('0000002a00000001 7800'.replace(' ', ''), 'hex'), false), [
    42,
    'x',
  ]);
});

test('what reaches beyond its message, or is no type, is refused', () => {
  assert.throws(() => unmarshal('s', Buffer.from('ffffff7f', 'hex'), true), RangeError);
  assert.throws(() => unmarshal('as', Buffer.from('1000000001000000', 'hex'), true), RangeError);
  assert.throws(() => unmarshal('v', Buffer.from('02757500', 'hex'), true), /one type/);
  const nested = Buffer.alloc(400);
  for (let at = 0; at < 396; at += 3) nested.set([1, 0x76, 0], at);
  assert.throws(() => unmarshal('v', nested, true), /too deep/);
  assert.throws(() => marshal('s', ['a\0b']), /NUL/);
});

test('a message comes back, and its length is told from its beginning', () => {
  const message = {
    type: METHOD_CALL,
    serial: 7,
    destination: 'org.freedesktop.systemd1',
    path: '/org/freedesktop/systemd1',
    interface: 'org.freedesktop.systemd1.Manager',
    member: 'StopUnit',
    signature: 'ss',
    body: ['a.service', 'replace'],
  };
  const bytes = formatMessage(message);
  assert.equal(messageLength(bytes.subarray(0, 15)), undefined);
  assert.equal(messageLength(bytes.subarray(0, 16)), bytes.length);
  assert.deepEqual(parseMessage(bytes), message);
  assert.throws(() => messageLength(Buffer.alloc(16)), /not a message/);
  const huge = Buffer.from(bytes);
  huge.writeUInt32LE(0xffff_ffff, 4);
  assert.throws(() => messageLength(huge), /longer/);
});

test('the address of the bus', () => {
  assert.equal(socketPath('unix:path=/run/dbus/system_bus_socket'), '/run/dbus/system_bus_socket');
  assert.equal(socketPath('tcp:host=x;unix:guid=1,path=/a%20b,x=y'), '/a b');
  throwsOci(() => socketPath('unix:abstract=x'), 'CONFIG', /no socket in DBUS_SYSTEM_BUS_ADDRESS/);
});
