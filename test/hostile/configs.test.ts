/** Image configurations: what the specification leaves open is taken, what it forbids is refused with the field's name. */
import assert from 'node:assert/strict';
import { badImage, type Case, type Check, hostile, layered, refused } from './harness.ts';
import { ARCHITECTURE, type Edit, type ImageSpec, type Json, TAG } from './image.ts';

const F = ['f "x"'];
const config = (edit: Edit): ImageSpec => ({ config: edit });
const set = (fields: Record<string, Json>) => config((c) => ({ ...c, ...fields }));
const run = (fields: Record<string, Json>) => set({ config: fields });
const what = 'image configuration';

/** What the store says of the image's `config`. */
const says =
  (field: string, expected: unknown): Check =>
  ({ pulled, store }) => {
    const { imageConfig } = store.readDocuments(pulled.image);
    assert.deepEqual(imageConfig.config[field as keyof typeof imageConfig.config], expected);
  };

hostile('the document', [
  ['without config', config(({ config: _, ...c }) => c), F],
  ['config of null', set({ config: null }), F],
  [
    'unknown fields',
    set({ 'os.version': '1', 'os.features': ['x'], container: 'x', throwaway: true, docker_version: 7 }),
    F,
  ],
  ['config that is an array', set({ config: [] }), badImage(`${what} config is not an object`)],
  ['config that is a string', set({ config: 'x' }), badImage(`${what} config is not an object`)],
  ['without rootfs', config(({ rootfs: _, ...c }) => c), badImage(`${what} rootfs is not an object`)],
  ['rootfs of null', set({ rootfs: null }), badImage(`${what} rootfs is not an object`)],
  ['rootfs that is an array', set({ rootfs: [] }), badImage(`${what} rootfs is not an object`)],
  [
    'rootfs without a type',
    config((c) => {
      delete c.rootfs.type;
    }),
    badImage(`${what} rootfs type is not 'layers'`),
  ],
  [
    'rootfs of another type',
    config((c) => {
      c.rootfs.type = 'layers+base';
    }),
    badImage(`${what} rootfs type is not 'layers'`),
  ],
  [
    'without diff_ids',
    config((c) => {
      delete c.rootfs.diff_ids;
    }),
    badImage('the image has 1 layers but 0 diff_ids'),
  ],
  [
    '501 diff_ids',
    config((c) => {
      c.rootfs.diff_ids = Array(501).fill(c.rootfs.diff_ids[0]);
    }),
    badImage(`${what} has 501 diff_ids, more than the 500 allowed`),
  ],
]);

const not = (platform: string) =>
  refused('UNSUPPORTED', `oci:LAYOUT:${TAG} is an image for '${platform}', not linux/${ARCHITECTURE}`);
hostile('the platform', [
  ['windows', set({ os: 'windows' }), not(`windows/${ARCHITECTURE}`)],
  ['another architecture', set({ architecture: 'mips64le' }), not('linux/mips64le')],
  [
    'another name of the architecture',
    set({ architecture: ARCHITECTURE === 'amd64' ? 'x86_64' : 'aarch64' }),
    F,
  ],
  ['with control characters', set({ architecture: '\x1b[2J\u202e' }), not('linux/\\x1b[2J\\u{202e}')],
  ['named __proto__', set({ architecture: '__proto__' }), not('linux/__proto__')],
  ['without an architecture', config(({ architecture: _, ...c }) => c), F],
  ['without an os', config(({ os: _, ...c }) => c), F],
  ['empty', set({ os: '', architecture: '' }), F],
  ['a variant of null', set({ variant: null }), F],
  ['an empty variant', set({ variant: '' }), F],
  ['a variant that nobody knows', set({ variant: 'v99' }), not(`linux/${ARCHITECTURE}/v99`)],
  ...['os', 'architecture', 'variant', 'created', 'author'].flatMap((field): Case[] => [
    [`${field} that is a number`, set({ [field]: 7 }), badImage(`${what} ${field} is not a string`)],
    [`${field} that is an array`, set({ [field]: ['linux'] }), badImage(`${what} ${field} is not a string`)],
  ]),
  ['created that is no time', set({ created: 'yesterday' }), F],
]);

const STRINGS = ['User', 'WorkingDir', 'StopSignal'];
const LISTS = ['Env', 'Entrypoint', 'Cmd'];
const SETS = ['Volumes', 'ExposedPorts'];
const FIELDS = [...STRINGS, ...LISTS, ...SETS, 'Labels', 'Healthcheck'];
hostile('fields of config', [
  ['all of null', run(Object.fromEntries(FIELDS.map((field) => [field, null]))), F],
  [
    'all empty',
    run({
      User: '',
      WorkingDir: '',
      StopSignal: '',
      Env: [],
      Entrypoint: [],
      Cmd: [],
      Volumes: {},
      ExposedPorts: {},
      Labels: {},
      Healthcheck: {},
    }),
    F,
  ],
  [
    'all of them',
    run({
      User: '1000:1000',
      WorkingDir: '/srv',
      StopSignal: 'SIGQUIT',
      Env: ['A=b'],
      Entrypoint: ['/e'],
      Cmd: ['c'],
      Volumes: { '/v': {} },
      ExposedPorts: { '80/tcp': {} },
      Labels: { a: 'b' },
      Healthcheck: { Test: ['CMD', 'x'], Interval: 1e9, Retries: 3 },
    }),
    F,
  ],
  ...FIELDS.filter((field) => !LISTS.includes(field)).map(
    (field): Case => [
      `${field} that is an array`,
      run({ [field]: ['x'] }),
      badImage(`${what} config ${field} is not ${STRINGS.includes(field) ? 'a string' : 'an object'}`),
    ],
  ),
  ...STRINGS.flatMap((field): Case[] => [
    [`${field} that is a number`, run({ [field]: 9 }), badImage(`${what} config ${field} is not a string`)],
    [
      `${field} with a NUL`,
      run({ [field]: 'a\0b' }),
      badImage(`${what} config ${field} has a NUL character: 'a\\x00b'`),
    ],
  ]),
  ...LISTS.flatMap((field): Case[] => [
    [
      `${field} that is a string`,
      run({ [field]: 'sh -c x' }),
      badImage(`${what} config ${field} is not an array`),
    ],
    [
      `${field} that is an object`,
      run({ [field]: { 0: 'x' } }),
      badImage(`${what} config ${field} is not an array`),
    ],
    [
      `${field} with a number`,
      run({ [field]: ['x', 7] }),
      badImage(`${what} config ${field}[1] is not a string`),
    ],
    [`${field} with null`, run({ [field]: [null] }), badImage(`${what} config ${field}[0] is not a string`)],
    [
      `${field} with a NUL`,
      run({ [field]: ['A=b\0c'] }),
      badImage(`${what} config ${field} has a NUL character: 'A=b\\x00c'`),
    ],
  ]),
  ...SETS.flatMap((field): Case[] => [
    [`${field} with null for a value`, run({ [field]: { '80/tcp': null } }), says(field, ['80/tcp'])],
    [
      `${field} with a NUL`,
      run({ [field]: { 'a\0': {} } }),
      badImage(`${what} config ${field} has a NUL character: 'a\\x00'`),
    ],
    [
      `${field} named constructor`,
      run({ [field]: { constructor: {}, toString: {} } }),
      says(field, ['constructor', 'toString']),
    ],
  ]),
  [
    'Env without =',
    run({ Env: ['A', '=b', '', 'C=d=e', 'A=1', 'A=2'] }),
    says('Env', ['A', '=b', '', 'C=d=e', 'A=1', 'A=2']),
  ],
  [
    'Env with newlines and control characters',
    run({ Env: ['A=\x1b[2J\n$(x) %n "\''] }),
    says('Env', ['A=\x1b[2J\n$(x) %n "\'']),
  ],
  ['100000 variables', run({ Env: Array.from({ length: 100_000 }, (_, i) => `V${i}=x`) }), F],
  ['Labels with a number', run({ Labels: { a: 7 } }), badImage(`${what} config Labels['a'] is not a string`)],
  ['Labels with null', run({ Labels: { a: null } }), says('Labels', { a: '' })],
  [
    'Labels named constructor',
    run({ Labels: { constructor: 'x', toString: 'y' } }),
    says('Labels', { constructor: 'x', toString: 'y' }),
  ],
  [
    'Labels with control characters in a refused key',
    run({ Labels: { '\x1b[2J': 7 } }),
    badImage(`${what} config Labels['\\x1b[2J'] is not a string`),
  ],
  ['a relative WorkingDir', run({ WorkingDir: '../../etc' }), says('WorkingDir', '../../etc')],
  ['a StopSignal that there is not', run({ StopSignal: 'SIGFOO' }), says('StopSignal', 'SIGFOO')],
  ['a User that there is not', run({ User: 'nobody:99999999999' }), says('User', 'nobody:99999999999')],
  [
    'a Healthcheck with a negative time',
    run({ Healthcheck: { Test: ['NONE'], Interval: -1 } }),
    badImage(`${what} config Healthcheck Interval is not a non-negative integer`),
  ],
  [
    'a Healthcheck with a string for a test',
    run({ Healthcheck: { Test: 'curl' } }),
    badImage(`${what} config Healthcheck Test is not an array`),
  ],
]);

hostile('history', [
  ['null', set({ history: null }), F],
  ['more than layers', set({ history: [{}, {}, { created_by: 'x' }] }), F],
  ['fewer than layers', { ...layered([], [], []), ...set({ history: [{ empty_layer: true }] }) }, []],
  ['an object', set({ history: {} }), badImage(`${what} history is not an array`)],
  ['an entry that is null', set({ history: [null] }), badImage(`${what} history 1 is not an object`)],
  [
    'an entry with a number',
    set({ history: [{ created_by: 7 }] }),
    badImage(`${what} history 1 created_by is not a string`),
  ],
  ['control characters', set({ history: [{ created_by: '\x1b[2J', comment: '\n' }] }), F],
]);
