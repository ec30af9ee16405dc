import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChallenges } from '../../../src/registry/challenge.ts';

const parse = (header: string | string[] | undefined) =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

test('challenges as registries send them', () => {
  const table: [string | string[] | undefined, unknown][] = [
    [undefined, []],
    ['', []],
    ['Basic realm="x"', [['basic', { realm: 'x' }]]],
    ['basic', [['basic', {}]]],
    [
      'Bearer realm="https://a.b/token",service="r.io",scope="repository:x/y:pull,push"',
      [['bearer', { realm: 'https://a.b/token', service: 'r.io', scope: 'repository:x/y:pull,push' }]],
    ],
    [
      'Bearer realm=https://a.b/t , Service = r, error="insufficient_scope"',
      [['bearer', { realm: 'https://a.b/t', service: 'r', error: 'insufficient_scope' }]],
    ],
    [
      'Basic realm="a, Bearer realm=b", Bearer realm="c"',
      [
        ['basic', { realm: 'a, Bearer realm=b' }],
        ['bearer', { realm: 'c' }],
      ],
    ],
    [
      ['Negotiate', 'Bearer realm="x"'],
      [
        ['negotiate', {}],
        ['bearer', { realm: 'x' }],
      ],
    ],
    [
      'Negotiate abc123==, Basic realm="x"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['Basic realm="a\\"b\\\\c"', [['basic', { realm: 'a"b\\c' }]]],
    ['Basic realm=a, realm=b', [['basic', { realm: 'a' }]]],
    [', ,Basic realm="x",,', [['basic', { realm: 'x' }]]],
    [
      'Basic realm="unterminated',
      [
        ['basic', {}],
        ['realm', {}],
        ['unterminated', {}],
      ],
    ],
    ['"" = ;', []],
  ];
  for (const [header, expected] of table) assert.deepEqual(parse(header), expected, String(header));
});

test('hostile headers end soon', () => {
  const started = performance.now();
  for (const text of [
    'a '.repeat(8000),
    'a='.repeat(8000),
    '"'.repeat(16000),
    `Bearer x="${'\\'.repeat(9000)}`,
    'a'.repeat(9000),
  ])
    parseChallenges(text);
  assert.ok(performance.now() - started < 5000);
});
