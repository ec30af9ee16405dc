/** Mirrors that give wrong bytes: they are told of and passed over, and wrong bytes are never taken. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { OciError } from '../../src/oci/errors.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { pullImage } from '../../src/pull.ts';
import { openStore } from '../../src/store/store.ts';
import { file } from '../unit/archive/tar-builder.ts';
import {
  type FakeServer,
  type Handler,
  options,
  send,
  sendRange,
  serve,
} from '../unit/registry/fake-registry.ts';
import { assertNothingStored, assertPrintable, scratch, workers } from './harness.ts';
import { ARCHITECTURE, type ImageSpec, OCI, type WrittenLayout, writeLayout } from './image.ts';

type Part = 'manifest' | 'config' | 'layer';
/** What an endpoint makes of a blob; undefined: it has none. */
type Lie = (part: Part, bytes: Buffer) => Buffer | undefined;

const honest: Lie = (_part, bytes) => bytes;
const flipped = (lied: Part): Lie => {
  return (part, bytes) => {
    if (part !== lied) return bytes;
    const wrong = Buffer.from(bytes);
    wrong[wrong.length - 3]! ^= 1;
    return wrong;
  };
};
const longer: Lie = (part, bytes) => (part === 'layer' ? Buffer.concat([bytes, Buffer.from('more')]) : bytes);
const shorter: Lie = (part, bytes) => (part === 'layer' ? bytes.subarray(0, -1) : bytes);
const other: Lie = (part, bytes) => (part === 'layer' ? gzipSync('another blob') : bytes);
const lacking: Lie = (part, bytes) => (part === 'layer' ? undefined : bytes);
const portal: Lie = (part, bytes) => (part === 'layer' ? Buffer.from('<html>Log in!</html>') : bytes);

function endpoint(layout: WrittenLayout, lie: Lie): Handler {
  return (request, response) => {
    const name = request.url!.split('/').at(-1)!;
    const digest = name === 'v1' ? layout.manifest.digest : name;
    const part =
      digest === layout.manifest.digest ? 'manifest' : digest === layout.config.digest ? 'config' : 'layer';
    const bytes = lie(part, readFileSync(layout.path(digest)));
    if (bytes === undefined) send(response, 404);
    else if (part === 'manifest') send(response, 200, bytes, { 'content-type': OCI.manifest });
    else sendRange(request, response, bytes);
  };
}

let counter = 0;

/** Pulls through mirrors, in order, and the registry itself (the last one). */
async function pull(
  t: TestContext,
  lies: readonly Lie[],
  what: 'v1' | 'digest' = 'v1',
  spec: ImageSpec = {},
) {
  const base = join(scratch, `mirrors${counter++}`);
  mkdirSync(base);
  const layout = writeLayout(join(base, 'layout'), spec);
  const servers: FakeServer[] = [];
  for (const lie of lies) servers.push(await serve(t, endpoint(layout, lie)));
  const own = servers.at(-1)!;
  const mirrors = servers
    .slice(0, -1)
    .map(({ host }) => `[[registry.mirror]]\nlocation="${host}"\ninsecure=true\n`);
  const conf = `[[registry]]\nprefix="r.example"\nlocation="${own.host}"\ninsecure=true\n${mirrors.join('')}`;
  const notices: string[] = [];
  const root = join(base, 'store');
  const store = openStore({ root, create: true })!;
  const pulling = pullImage({
    store,
    name: `docker://r.example/app${what === 'v1' ? ':v1' : `@${layout.manifest.digest}`}`,
    platform: parsePlatform(ARCHITECTURE),
    workers,
    source: options(
      t,
      { plainHttp: false, notice: (message) => notices.push(message) },
      { 'etc/containers/registries.conf': conf },
    ),
  });
  return {
    pulling,
    root,
    layout,
    /** With the hosts by their place. */
    told: () =>
      notices.map((text) => servers.reduce((at, { host }, i) => at.replaceAll(host, `host${i}`), text)),
    asked: (i: number, digest: string) => servers[i]!.requests.filter((line) => line.includes(digest)).length,
  };
}

const wrongLayer: readonly (readonly [string, Lie, RegExp])[] = [
  ['a bit of the layer', flipped('layer'), /^mirror host0: layer sha256:.*(expected|digest)/],
  ['bytes behind the layer', longer, /^mirror host0: /],
  ['a layer that is cut', shorter, /^mirror host0: /],
  ['another layer', other, /^mirror host0: /],
  ['a web page', portal, /^mirror host0: /],
  ['no layer', lacking, /^mirror host0: .*no such/],
];
for (const [name, lie, message] of wrongLayer)
  test(`${name}: the registry is asked`, async (t) => {
    const { pulling, told, asked, layout } = await pull(t, [lie, honest]);
    assert.equal((await pulling).digest, layout.manifest.digest);
    assert.equal(told().filter((line) => message.test(line)).length, 1, told().join('\n'));
    told().forEach(assertPrintable);
    assert.equal(asked(1, layout.layers[0]!.digest), 1);
  });

test('a bit of the configuration: the registry is asked', async (t) => {
  const { pulling, told } = await pull(t, [flipped('config'), honest]);
  await pulling;
  assert.match(told().join('\n'), /^mirror host0: image configuration sha256:.*expected/);
});

test('a bit of the manifest that was named by its digest: the registry is asked', async (t) => {
  const { pulling, told, layout } = await pull(t, [flipped('manifest'), honest], 'digest');
  assert.equal((await pulling).digest, layout.manifest.digest);
  assert.match(told().join('\n'), /^mirror host0: manifest /);
});

test('three mirrors lie, each in its way', async (t) => {
  const { pulling, told } = await pull(t, [flipped('layer'), lacking, longer, honest]);
  await pulling;
  for (const i of [0, 1, 2]) assert.match(told().join('\n'), new RegExp(`^mirror host${i}: `, 'm'));
});

test('everybody lies: refused, each was asked once, nothing is stored', async (t) => {
  const { pulling, root, layout, asked } = await pull(t, [flipped('layer'), flipped('layer')]);
  await assert.rejects(pulling, (error) => error instanceof OciError && error.code === 'DIGEST_MISMATCH');
  assert.deepEqual(
    [0, 1].map((i) => asked(i, layout.layers[0]!.digest)),
    [1, 1],
  );
  assertNothingStored(root);
});

for (const [name, spec, code] of [
  [
    'a layer that is no archive',
    { layers: [{ tar: [], blob: () => gzipSync('x'.repeat(2000)) }] },
    'BAD_ARCHIVE',
  ],
  [
    'a wrong diffID',
    { layers: [{ tar: [file('f', 'x')], diffID: `sha256:${'0'.repeat(64)}` }] },
    'DIGEST_MISMATCH',
  ],
] as const)
  test(`${name} is not the mirror's fault`, async (t) => {
    const { pulling, told, layout, asked } = await pull(t, [honest, honest], 'v1', spec);
    await assert.rejects(pulling, { code });
    assert.deepEqual(told(), []);
    assert.equal(asked(1, layout.layers[0]!.digest), 0);
  });
