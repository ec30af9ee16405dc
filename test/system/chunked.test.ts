/**
 * Images whose layers have a table of contents: of the second of two near copies only what changed is fetched, as the
 * registry's access log tells; also from registries that cannot do several ranges, or none. Pushed by skopeo as
 * zstd:chunked; eStargz is made here, for lack of a tool.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { digestOf } from '../../src/oci/digest.ts';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { type BuiltLayer, estargz, zstdChunked } from '../unit/archive/chunked-builder.ts';
import { directory, file, tar } from '../unit/archive/tar-builder.ts';
import { NGINX } from './container.ts';

const machine = sharedMachine();
const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));
const REGISTRY = '127.0.0.1:5446';
const WORK = '/var/tmp/chunked';
const CHANGED_BYTES = 200_000;

/** Refuses ranges as some registries do, and passes everything else on. */
const PROXY = `
const http = require('node:http');
const refuse = { 5451: [200, true], 5452: [400, true], 5453: [416, true], 5454: [200, false], 5455: [400, false], 5456: [416, false] };
for (const [port, [status, severalOnly]] of Object.entries(refuse))
  http.createServer((request, response) => {
    const headers = { ...request.headers };
    const refused = headers.range && (!severalOnly || headers.range.includes(','));
    console.log(request.method, request.url.replace(/sha256:.*/, ''), headers.range ? 'range' : '', refused ? status : '');
    if (refused && status !== 200) return response.writeHead(status).end();
    if (refused) delete headers.range;
    http.get({ port: 5446, path: request.url, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      response.on('close', () => answer.destroy());
    });
  }).listen(Number(port), '127.0.0.1');
`;

let marks = 0;

interface Sent {
  readonly path: string;
  readonly status: number;
  readonly bytes: number;
}

/** What the registry has sent since the last call. It logs a request after its answer: one of our own ends the log. */
async function sent(): Promise<Sent[]> {
  const mark = `mark-${marks++}`;
  const log = await sh(`curl -s -o /dev/null http://${REGISTRY}/v2/?${mark}
    until journalctl --sync; journalctl -o cat -u chunked-registry | grep -q '${mark} '; do sleep 0.05; done
    journalctl --cursor-file=/run/chunked-cursor -o cat -u chunked-registry`);
  return [...log.matchAll(/"GET (\S+) HTTP\/1\.1" (\d+) (\d+)/g)].map(([, path, status, bytes]) => ({
    path: path!,
    status: Number(status),
    bytes: Number(bytes),
  }));
}

const pull = (store: string, name: string, host = REGISTRY) =>
  machine.run([
    'oci-pull',
    '--root',
    store,
    '--store-format',
    'composefs',
    '--plain-http',
    `docker://${host}/${name}`,
  ]);

/** The fs-verity digest of the image, and what vouches for its layer if not the diffID. */
async function imageOf(
  store: string,
  name: string,
): Promise<{ imageDigest: string; toc: string | undefined }> {
  const digest = (
    await sh(`skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://${REGISTRY}/${name}`)
  ).trim();
  const record = JSON.parse(
    await sh(`cat ${store}/images/${digest.replace('sha256:', '')}.composefs/.oci/image.json`),
  );
  return { imageDigest: record.imageDigest, toc: record.layers[0].toc };
}

const layerOf = async (name: string) =>
  JSON.parse(await sh(`skopeo inspect --raw --tls-verify=false docker://${REGISTRY}/${name}`)).layers[0] as {
    digest: string;
    size: number;
    annotations: Record<string, string>;
  };

/** Of the table of contents, or the tar-split data. */
function sectionBytes({ annotations }: { annotations: Record<string, string> }, name: string): number {
  return Number(annotations[`io.github.containers.zstd-chunked.${name}-position`]!.split(':')[1]);
}

/** Puts an image of one layer into the registry, its blob as it is. */
async function publish(name: string, layer: BuiltLayer): Promise<void> {
  const layout = `${WORK}/layout-${name.replace(':', '-')}`;
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [layer.diffID] },
    }),
  );
  const blob = (mediaType: string, bytes: Buffer) => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  const type = 'application/vnd.oci.image.';
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${type}manifest.v1+json`,
      config: blob(`${type}config.v1+json`, config),
      layers: [layer.descriptor],
    }),
  );
  const index = { schemaVersion: 2, manifests: [blob(`${type}manifest.v1+json`, manifest)] };
  await machine.writeFile(`${layout}/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
  await machine.writeFile(`${layout}/index.json`, JSON.stringify(index));
  for (const bytes of [config, manifest, layer.blob])
    await machine.writeFile(`${layout}/blobs/${digestOf(bytes).replace(':', '/')}`, bytes);
  await sh(`skopeo copy --quiet --dest-tls-verify=false oci:${layout} docker://${REGISTRY}/${name}`);
}

const SHARED = Array.from({ length: 50 }, (_, i) => file(`./usr/f${i}`, randomBytes(5000).toString('hex')));
const copyOf = (change: string) =>
  tar(directory('.'), directory('./usr'), ...SHARED, file('./etc', change), file('./empty'));

before(async () => {
  await machine.writeFile(
    '/etc/chunked-registry.yml',
    `version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: ${WORK}/registry } }
http: { addr: "${REGISTRY}" }
`,
  );
  await machine.writeFile(`${WORK}/proxy.cjs`, PROXY);
  await sh(`mkdir -p ${WORK}/registry
    systemd-run --quiet --unit=chunked-registry docker-registry serve /etc/chunked-registry.yml
    systemd-run --quiet --unit=chunked-proxy node ${WORK}/proxy.cjs
    until curl -s -o /dev/null http://${REGISTRY}/v2/ && curl -s -o /dev/null http://127.0.0.1:5456/v2/; do sleep 0.05; done
    cd ${WORK}
    skopeo copy --quiet docker://${NGINX} oci:layout:base
    umoci unpack --image layout:base copy >unpack.log 2>&1
    for n in 1 2; do
      head -c ${CHANGED_BYTES} /dev/urandom >copy/rootfs/usr/lib/changed
      echo "copy $n" >copy/rootfs/etc/copy
      tar --create --file=near.tar --directory=copy/rootfs --format=pax --pax-option=delete=atime,delete=ctime \\
        --sort=name --numeric-owner --xattrs --xattrs-include='*' .
      umoci new --image layout:near$n
      umoci raw add-layer --image layout:near$n near.tar
      skopeo copy --quiet --dest-tls-verify=false --dest-compress-format zstd:chunked --dest-force-compress-format \\
        oci:layout:near$n docker://${REGISTRY}/near:$n
      tar --create --file=gnu.tar --directory=copy/rootfs --format=gnu --sort=name --numeric-owner .
      umoci new --image layout:gnu$n
      umoci raw add-layer --image layout:gnu$n gnu.tar
      umoci new --image layout:go$n
      umoci unpack --image layout:go$n go$n >unpack.log 2>&1
      cp --archive copy/rootfs/. go$n/rootfs
      umoci repack --image layout:go$n go$n >repack.log 2>&1
      for writer in gnu go; do
        skopeo copy --quiet --dest-tls-verify=false --dest-compress-format zstd:chunked \\
          --dest-force-compress-format oci:layout:$writer$n docker://${REGISTRY}/$writer:$n
      done
    done`);
  await publish('stargz:1', estargz(copyOf('one'), { chunkBytes: 4000 }));
  await publish('stargz:2', estargz(copyOf('two'.repeat(2000)), { chunkBytes: 4000 }));
  await publish('plain:2', zstdChunked(copyOf('two'.repeat(2000)), { tarSplit: false }));
  await sent();
});

after(() => sh(`systemctl stop chunked-registry chunked-proxy; rm -rf ${WORK} /etc/chunked-registry.yml`));

test('a near copy: only what changed is fetched, and the image is the one that its blob makes', async () => {
  const layer = await layerOf('near:2');
  await sent();
  assert.equal((await pull(`${WORK}/store`, 'near:1')).status, 0);
  const first = await sent();
  assert.ok(
    first.some(({ bytes, status }) => status === 200 && bytes > 20_000_000),
    JSON.stringify(first),
  );

  await sh(`cp -a ${WORK}/store ${WORK}/before`);
  const { status, stderr } = await pull(`${WORK}/store`, 'near:2');
  assert.equal(status, 0, stderr);
  const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
  assert.deepEqual(
    ofLayer.map((answer) => answer.status),
    [206, 206],
  );
  const [table, content] = ofLayer.map(({ bytes }) => bytes) as [number, number];
  assert.equal(table, sectionBytes(layer, 'manifest'));
  // and headers of the parts
  assert.ok(content > CHANGED_BYTES && content < CHANGED_BYTES + 25_000, `${content} bytes of content`);

  assert.equal((await pull(`${WORK}/whole`, 'near:2')).status, 0);
  assert.ok((await sent()).some(({ bytes, status }) => status === 200 && bytes === layer.size));
  assert.deepEqual(await imageOf(`${WORK}/store`, 'near:2'), await imageOf(`${WORK}/whole`, 'near:2'));
  assert.equal((await imageOf(`${WORK}/store`, 'near:2')).toc, undefined);
});

test('tar-split data is fetched only of a tar that another program wrote than Go or GNU tar as builders call it', async () => {
  for (const [writer, answers] of [
    ['go', 2],
    ['gnu', 3],
  ] as const) {
    const store = `${WORK}/store-${writer}`;
    const layer = await layerOf(`${writer}:2`);
    assert.equal((await pull(store, `${writer}:1`)).status, 0);
    await sent();
    const { status, stderr } = await pull(store, `${writer}:2`);
    assert.equal(status, 0, stderr);
    const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
    assert.deepEqual(
      ofLayer.map((answer) => answer.status),
      Array(answers).fill(206),
      writer,
    );
    assert.equal(ofLayer[0]!.bytes, sectionBytes(layer, 'manifest'));
    if (writer === 'gnu') assert.equal(ofLayer[2]!.bytes, sectionBytes(layer, 'tarsplit'));
    assert.equal((await pull(`${store}-whole`, `${writer}:2`)).status, 0);
    assert.deepEqual(await imageOf(store, `${writer}:2`), await imageOf(`${store}-whole`, `${writer}:2`));
    assert.equal((await imageOf(store, `${writer}:2`)).toc, undefined);
    await sh(`rm -rf ${store} ${store}-whole`);
  }
});

for (const [port, answer] of [
  [5451, 200],
  [5452, 400],
  [5453, 416],
] as const)
  test(`a registry that answers ${answer} to several ranges`, async () => {
    const store = `${WORK}/store-${port}`;
    const layer = await layerOf('near:2');
    await sh(`cp -a ${WORK}/before ${store}`);
    await sent();
    const { status, stderr } = await pull(store, 'near:2', `127.0.0.1:${port}`);
    assert.equal(status, 0, stderr);
    assert.ok(!stderr.includes('whole'), stderr);
    const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
    // The whole answer is hung up on, the sooner the better.
    const parts = ofLayer.filter((each) => each.status === 206);
    assert.ok(
      parts.length > 2 && parts.length === ofLayer.length - (answer === 200 ? 1 : 0),
      JSON.stringify(ofLayer),
    );
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    assert.ok(bytes < 2_500_000, `${bytes} of ${layer.size} bytes`);
    assert.deepEqual(await imageOf(store, 'near:2'), await imageOf(`${WORK}/whole`, 'near:2'));
    await sh(`rm -rf ${store}`);
  });

for (const [port, answer] of [
  [5454, 200],
  [5455, 400],
  [5456, 416],
] as const)
  test(`a registry that answers ${answer} to any range gives the whole blob`, async () => {
    const store = `${WORK}/store-${port}`;
    const layer = await layerOf('near:2');
    await sh(`cp -a ${WORK}/before ${store}`);
    await sent();
    const { status, stderr } = await pull(store, 'near:2', `127.0.0.1:${port}`);
    assert.equal(status, 0, stderr);
    assert.match(
      stderr,
      new RegExp(`the registry sends it only whole \\(HTTP ${answer}\\); fetching the whole layer`),
    );
    const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
    assert.ok(
      ofLayer.some((each) => each.status === 200 && each.bytes === layer.size),
      JSON.stringify(ofLayer),
    );
    assert.deepEqual(await imageOf(store, 'near:2'), await imageOf(`${WORK}/whole`, 'near:2'));
    await sh(`rm -rf ${store}`);
  });

test('eStargz: by its table, and never known by its diffID', async () => {
  const store = `${WORK}/stargz`;
  assert.equal((await pull(store, 'stargz:1')).status, 0);
  assert.equal((await imageOf(store, 'stargz:1')).toc, undefined);
  const layer = await layerOf('stargz:2');
  await sent();
  const { status, stderr } = await pull(store, 'stargz:2');
  assert.equal(status, 0, stderr);
  const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
  assert.ok(ofLayer.length >= 2 && ofLayer.every((each) => each.status === 206), JSON.stringify(ofLayer));
  const bytes = ofLayer.reduce((sum, each) => sum + each.bytes, 0);
  assert.ok(bytes < layer.size / 4, `${bytes} of ${layer.size} bytes`);

  const { imageDigest, toc } = await imageOf(store, 'stargz:2');
  assert.equal(toc, layer.annotations['containerd.io/snapshot/stargz/toc.digest']);
  assert.equal(await sh(`ls ${store}/streams | grep toc-`), `toc-${toc!.slice('sha256:'.length)}\n`);
  assert.ok((await sh(`ocictl --root ${store} inspect ${REGISTRY}/stargz:2`)).includes(toc!));
  assert.deepEqual(
    await machine.run(['ocictl', '--root', store, 'fsck', '--quiet']).then(({ status }) => status),
    0,
  );
  await sh(`ocictl --root ${store} gc --quiet`);
  assert.equal(await sh(`ls ${store}/streams | grep -c toc-`), '1\n');
  assert.equal((await pull(`${store}-whole`, 'stargz:2')).status, 0);
  assert.deepEqual(await imageOf(`${store}-whole`, 'stargz:2'), { imageDigest, toc: undefined });
});

test('a layer that its table alone vouches for becomes a tree by its blob', async () => {
  const store = `${WORK}/stargz`;
  const layer = await layerOf('stargz:2');
  await sent();
  const { status, stderr } = await machine.run([
    ...['ocictl', '--root', store, 'convert', '--plain-http', '--to', 'tree', `${REGISTRY}/stargz:2`],
  ]);
  assert.equal(status, 0, stderr);
  const ofLayer = (await sent()).filter(({ path }) => path.includes(layer.digest));
  assert.deepEqual(
    ofLayer.map((each) => [each.status, each.bytes]),
    [[200, layer.size]],
  );
  assert.equal((await machine.run(['ocictl', '--root', store, 'fsck', '--quiet'])).status, 0);
});

test('zstd:chunked without tar-split data is known by its table, too', async () => {
  const store = `${WORK}/stargz`;
  assert.equal((await pull(store, 'plain:2')).status, 0);
  const { toc } = await imageOf(store, 'plain:2');
  const { annotations } = await layerOf('plain:2');
  assert.equal(toc, annotations['io.github.containers.zstd-chunked.manifest-checksum']);
});
