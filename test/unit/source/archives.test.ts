/** oci-archive: and docker-archive:, good and hostile. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { createArchiveIndexer } from '../../../src/source/archive-index.ts';
import { openSource } from '../../../src/source/open-source.ts';
import { resolveImage } from '../../../src/source/resolve-image.ts';
import {
  type BuiltEntry,
  base256,
  directory,
  file,
  hardLink,
  symlink,
  tar,
  tarHeader,
} from '../archive/tar-builder.ts';
import { rejectsOci, throwsOci } from '../expect-error.ts';
import { type FakeImage, fakeImage, readAll } from '../registry/fake-registry.ts';

const top = mkdtempSync(join(tmpdir(), 'ocictl-archive-'));
after(() => rmSync(top, { recursive: true }));
const scratch = join(top, 'tmp');
mkdirSync(scratch);
const options = { env: { TMPDIR: scratch, HOME: top } };
const amd64 = parsePlatform('linux/amd64');
const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';

// Layers that are tars, and longer than what is read at a time.
const image = fakeImage(tar(file('hello', 'x'.repeat(300_000))));
const other = fakeImage(tar(file('other', 'y')));

let count = 0;
function save(bytes: Uint8Array, name = 'My_App.tar'): string {
  const path = join(mkdtempSync(join(top, `a${count++}-`)), name);
  writeFileSync(path, bytes);
  return path;
}

const blobName = (blob: Uint8Array) => `blobs/sha256/${digestHex(digestOf(blob))}`;
const blobFile = (blob: Buffer): BuiltEntry => ({ name: blobName(blob), data: blob });
const index = (...entries: [FakeImage, Record<string, string>?][]): BuiltEntry =>
  file(
    'index.json',
    JSON.stringify({
      schemaVersion: 2,
      manifests: entries.map(([{ manifest }, annotations]) => ({
        mediaType: OCI_MANIFEST,
        digest: digestOf(manifest),
        size: manifest.length,
        ...(annotations === undefined ? {} : { annotations }),
      })),
    }),
  );
const layoutFile = file('oci-layout', '{"imageLayoutVersion":"1.0.0"}');
const blobsOf = ({ manifest, config, layer }: FakeImage) => [manifest, config, layer].map(blobFile);
const ociTar = (...entries: [FakeImage, Record<string, string>?][]) =>
  tar(
    directory('blobs'),
    directory('blobs/sha256'),
    ...entries.flatMap(([one]) => blobsOf(one)),
    index(...entries),
    layoutFile,
  );

const saved = (...images: object[]): BuiltEntry => file('manifest.json', JSON.stringify(images));
const configName = ({ config }: FakeImage) => `${digestHex(digestOf(config))}.json`;
const dockerImage = (one: FakeImage, tags: string[] | null, layer = 'l/layer.tar') => ({
  Config: configName(one),
  RepoTags: tags,
  Layers: [layer],
});
const dockerTar = (tags: string[] | null = ['app:v1']) =>
  tar(
    saved(dockerImage(image, tags)),
    { name: configName(image), data: image.config },
    { name: 'l/layer.tar', data: image.layer },
  );

/** The whole image through the interface: the configuration's and the layer's bytes, and the name. */
async function readImage(name: string) {
  const source = await openSource(name, options);
  try {
    const { manifestDescriptor, manifest, rawConfig } = await resolveImage(source, amd64);
    const layers: Buffer[] = [];
    for (const layer of manifest.layers) {
      const bytes = await readAll((await source.openBlob(layer)).body);
      assert.equal(digestOf(bytes), layer.digest);
      assert.equal(bytes.length, layer.size);
      layers.push(bytes);
    }
    return { digest: manifestDescriptor.digest, manifest, rawConfig, layers, localName: source.localName };
  } finally {
    await source.close();
  }
}

test('oci-archive: plain, gzip and zstd, and the same as the layout it is of', async () => {
  const plain = ociTar([image, { [REF_NAME]: 'v1' }]);
  for (const [bytes, name] of [
    [plain, 'my-app.tar'],
    [gzipSync(plain), 'my-app.tar.gz'],
    [zstdCompressSync(plain), 'my-app.tar.zst'],
  ] as const) {
    const found = await readImage(`oci-archive:${save(bytes, name)}`);
    assert.equal(found.digest, image.manifestDigest);
    assert.deepEqual(found.layers, [image.layer]);
    assert.deepEqual(Buffer.from(found.rawConfig), image.config);
    assert.equal(found.localName, 'localhost/my-app:v1');
  }
  assert.deepEqual(readdirSync(scratch), []);
});

test('a blob from an offset, and no longer than it should be', async () => {
  for (const bytes of [ociTar([image]), gzipSync(ociTar([image]))]) {
    const source = await openSource(`oci-archive:${save(bytes)}`, options);
    const rest = await source.openBlob(image.layerDescriptor, { offset: 100_000 });
    assert.equal(rest.offset, 100_000);
    assert.deepEqual(await readAll(rest.body), image.layer.subarray(100_000));
    const short = await source.openBlob({ ...image.layerDescriptor, size: 10 });
    assert.deepEqual(await readAll(short.body), image.layer.subarray(0, 11));
    const abort = new AbortController();
    const { body } = await source.openBlob(image.layerDescriptor, { signal: abort.signal });
    abort.abort();
    await assert.rejects(readAll(body), { name: 'AbortError' });
    await source.close();
  }
});

test('an archive made by tar(1), with ./ before its names, long names and ids beyond a container’s', async () => {
  const dir = join(mkdtempSync(join(top, 'd-')), 'layout');
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  for (const { name, data } of [...blobsOf(image), index([image]), layoutFile])
    writeFileSync(join(dir, name as string), data!);
  for (const [i, flags] of [
    ['--format=gnu'],
    ['--format=pax'],
    ['--format=v7'],
    ['--format=ustar', '--sort=name'],
  ].entries()) {
    const path = join(dir, `../${i}.tar`);
    execFileSync('tar', [...flags, '--owner=:70000', '--group=:70000', '-cf', path, '-C', dir, '.']);
    assert.equal((await readImage(`oci-archive:${path}`)).digest, image.manifestDigest, flags[0]);
  }
});

test('several images: the error lists them, a tag, a full name or a number chooses', async () => {
  const path = save(
    ociTar(
      [image, { [REF_NAME]: 'latest', [CONTAINERD_NAME]: 'docker.io/library/app:latest' }],
      [other, { [REF_NAME]: 'latest', [CONTAINERD_NAME]: 'quay.io/x/y:latest' }],
    ),
  );
  await assert.rejects(openSource(`oci-archive:${path}`, options), {
    code: 'USAGE',
    message: `the archive '${path}' has 2 images: 'docker.io/library/app:latest', 'quay.io/x/y:latest'`,
    hint: `Name one of its images, for example oci-archive:${path}:docker.io/library/app:latest`,
  });
  await assert.rejects(openSource(`oci-archive:${path}:latest`, options), {
    code: 'BAD_IMAGE',
    hint: `Choose by number, for example oci-archive:${path}:@0`,
  });
  await assert.rejects(openSource(`oci-archive:${path}:v9`, options), {
    code: 'IMAGE_NOT_FOUND',
    message: `the archive '${path}' has no image 'v9', only 'docker.io/library/app:latest', 'quay.io/x/y:latest'`,
  });
  await rejectsOci(openSource(`oci-archive:${path}:@2`, options), 'IMAGE_NOT_FOUND', "no image '@2'");
  for (const [tag, digest, name] of [
    ['app', image.manifestDigest, 'docker.io/library/app:latest'],
    ['quay.io/x/y:latest', other.manifestDigest, 'quay.io/x/y:latest'],
    ['@0', image.manifestDigest, 'docker.io/library/app:latest'],
    ['@1', other.manifestDigest, 'quay.io/x/y:latest'],
  ] as const) {
    const found = await readImage(`oci-archive:${path}:${tag}`);
    assert.deepEqual([found.digest, found.localName], [digest, name], tag);
  }
});

test('names of an oci-archive', async () => {
  for (const [refName, localName] of [
    [undefined, 'localhost/my-app:latest'],
    ['v1', 'localhost/my-app:v1'],
    ['app:v1', 'localhost/app:v1'],
    ['ns/app', 'localhost/ns/app:latest'],
    ['localhost/app:v1', 'localhost/app:v1'],
    ['quay.io/x/y:z', 'quay.io/x/y:z'],
    ['Not A Name', 'localhost/my-app:latest'],
    ['../../etc:x', 'localhost/my-app:latest'],
  ] as const) {
    const path = save(ociTar([image, refName === undefined ? {} : { [REF_NAME]: refName }]));
    assert.equal((await readImage(`oci-archive:${path}`)).localName, localName);
  }
});

test('docker-archive: the manifest that is made of it', async () => {
  const path = save(dockerTar());
  const found = await readImage(`docker-archive:${path}`);
  const raw = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(image.config),
      size: image.config.length,
    },
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest: digestOf(image.layer),
        size: image.layer.length,
      },
    ],
  };
  assert.equal(found.digest, digestOf(Buffer.from(JSON.stringify(raw))));
  assert.deepEqual(found.layers, [image.layer]);
  assert.equal(found.localName, 'docker.io/library/app:v1');
  // The same image by other bytes around it is the same image.
  assert.equal((await readImage(`docker-archive:${save(gzipSync(dockerTar()))}`)).digest, found.digest);
  assert.equal(
    (await readImage(`docker-archive:${save(dockerTar(['else:v2', 'app:v1']))}:app:v1`)).digest,
    found.digest,
  );
});

test('docker-archive: layouts of docker, podman and other tools', async () => {
  const config = { name: configName(image), data: image.config };
  const hex = digestHex(digestOf(image.layer));
  const gzipped = gzipSync(image.layer);
  const zstd = zstdCompressSync(image.layer);
  const forms: [what: string, archive: Buffer, layer: Buffer][] = [
    [
      'docker before 25: VERSION, json, layer.tar, and the layer of another image behind a link',
      tar(
        directory('b'),
        file('b/VERSION', '1.0'),
        file('b/json', '{}'),
        symlink('b/layer.tar', '../a/layer.tar'),
        directory('a'),
        file('a/VERSION', '1.0'),
        { name: 'a/layer.tar', data: image.layer },
        config,
        saved(dockerImage(image, null, 'b/layer.tar')),
        file('repositories', '{"app":{"v1":"b"}}'),
      ),
      image.layer,
    ],
    [
      'podman: layers by diffID, with links for old readers',
      tar(
        { name: `${hex}.tar`, data: image.layer },
        symlink('x/layer.tar', `../${hex}.tar`),
        config,
        saved(dockerImage(image, [], `${hex}.tar`)),
      ),
      image.layer,
    ],
    [
      'docker since 25: blobs of an OCI layout',
      tar(
        directory('blobs'),
        ...blobsOf(image),
        index([image]),
        layoutFile,
        saved({ ...dockerImage(image, null, blobName(image.layer)), Config: blobName(image.config) }),
      ),
      image.layer,
    ],
    [
      'docker with the containerd store: the blobs are compressed',
      tar(
        blobFile(gzipped),
        blobFile(image.config),
        saved({ ...dockerImage(image, null, blobName(gzipped)), Config: blobName(image.config) }),
      ),
      gzipped,
    ],
    [
      'builders that write the digest as the name, and layers compressed',
      tar(
        { name: digestOf(image.config), data: image.config },
        { name: `${'0'.repeat(64)}.tar.gz`, data: gzipped },
        saved({ ...dockerImage(image, null, `${'0'.repeat(64)}.tar.gz`), Config: digestOf(image.config) }),
      ),
      gzipped,
    ],
    [
      'zstd, config.json, a hard link',
      tar(
        { name: './config.json', data: image.config },
        { name: './layer', data: zstd },
        hardLink('./again', './layer'),
        saved({ ...dockerImage(image, null, './again'), Config: './config.json' }),
      ),
      zstd,
    ],
  ];
  for (const [what, archive, layer] of forms) {
    const found = await readImage(`docker-archive:${save(archive)}`);
    assert.deepEqual(found.layers, [layer], what);
    assert.equal(found.manifest.config.digest, digestOf(image.config), what);
    assert.equal(found.localName, 'localhost/my-app:latest', what);
  }
});

test('docker-archive: several images', async () => {
  const archive = tar(
    saved(
      dockerImage(image, ['app:v1', 'quay.io/x/app:v1']),
      { ...dockerImage(other, ['app:v2'], 'other.tar') },
      { ...dockerImage(other, null, 'other.tar') },
    ),
    { name: configName(image), data: image.config },
    { name: configName(other), data: other.config },
    { name: 'l/layer.tar', data: image.layer },
    { name: 'other.tar', data: other.layer },
  );
  const path = save(archive);
  await assert.rejects(openSource(`docker-archive:${path}`, options), {
    code: 'USAGE',
    message: `the archive '${path}' has 3 images: 'app:v1', 'app:v2', '@2'`,
    hint: `Name one of its images, for example docker-archive:${path}:app:v1`,
  });
  for (const [ref, layer, name] of [
    ['app:v1', image.layer, 'docker.io/library/app:v1'],
    ['docker.io/library/app:v2', other.layer, 'docker.io/library/app:v2'],
    ['quay.io/x/app:v1', image.layer, 'quay.io/x/app:v1'],
    ['@2', other.layer, 'localhost/my-app:latest'],
  ] as const) {
    const found = await readImage(`docker-archive:${path}:${ref}`);
    assert.deepEqual([found.layers, found.localName], [[layer], name], ref);
  }
  await rejectsOci(
    openSource(`docker-archive:${path}:app`, options),
    'IMAGE_NOT_FOUND',
    "has no image 'app', only 'app:v1'",
  );
});

test('archives that are not what they are called', async () => {
  const cases: [name: string, bytes: Buffer, code: string, part: string][] = [
    ['docker-archive', ociTar([image]), 'BAD_IMAGE', 'has no manifest.json, but is an OCI layout'],
    ['docker-archive', tar(file('repositories', '{}')), 'UNSUPPORTED', 'docker older than 1.10'],
    ['docker-archive', tar(file('etc/passwd')), 'BAD_IMAGE', 'docker save did not write it'],
    ['oci-archive', dockerTar(), 'BAD_IMAGE', 'is not an OCI layout'],
    ['oci-archive', tar(file('x')), 'BAD_IMAGE', "the archive has no 'oci-layout'"],
    ['oci-archive', Buffer.from('no tar at all'.repeat(100)), 'BAD_ARCHIVE', 'not a tar header'],
    ['oci-archive', Buffer.alloc(0), 'BAD_IMAGE', "the archive has no 'oci-layout'"],
    ['oci-archive', gzipSync('no tar at all'.repeat(100)), 'BAD_ARCHIVE', 'not a tar header'],
    ['oci-archive', gzipSync(ociTar([image])).subarray(0, 400), 'BAD_ARCHIVE', 'cut short'],
    ['oci-archive', ociTar([image]).subarray(0, -2048 - 600), 'BAD_ARCHIVE', 'cut short'],
    ['oci-archive', Buffer.from('\xfd7zXZ\0\0', 'latin1'), 'UNSUPPORTED', 'is compressed by xz'],
    ['docker-archive', tar(saved()), 'IMAGE_NOT_FOUND', 'is empty'],
    ['oci-archive', tar(index(), layoutFile), 'IMAGE_NOT_FOUND', 'is empty'],
    ['docker-archive', tar(file('manifest.json', '{}')), 'BAD_IMAGE', 'manifest.json is not an array'],
    [
      'docker-archive',
      tar(file('manifest.json', '[{"Config":"a","Config":"b"}]')),
      'BAD_IMAGE',
      "the key 'Config' twice",
    ],
    [
      'docker-archive',
      tar(file('manifest.json', `[${' '.repeat(4_200_000)}]`)),
      'BAD_IMAGE',
      'has more than 4194304 bytes',
    ],
    ['docker-archive', tar(file('manifest.json', '['.repeat(100_000))), 'BAD_IMAGE', 'nested deeper'],
    ['docker-archive', tar(saved(dockerImage(image, null))), 'BAD_IMAGE', "the archive has no '"],
  ];
  for (const [transport, bytes, code, part] of cases)
    await rejectsOci(readImage(`${transport}:${save(bytes)}`), code as 'BAD_IMAGE', part);
  assert.deepEqual(readdirSync(scratch), []);
});

test('docker archives that lie', async () => {
  const config = { name: configName(image), data: image.config };
  const layer = { name: 'l/layer.tar', data: image.layer };
  const swapped = { name: 'l/layer.tar', data: other.layer };
  const rejects = (
    code: 'BAD_IMAGE' | 'DIGEST_MISMATCH' | 'UNSUPPORTED',
    part: string,
    ...entries: BuiltEntry[]
  ) => rejectsOci(readImage(`docker-archive:${save(tar(...entries))}`), code, part);
  const good = saved(dockerImage(image, null));
  await rejects('DIGEST_MISMATCH', 'configuration', good, { ...config, data: other.config }, layer);
  await rejects(
    'BAD_IMAGE',
    'manifest.json has 2 layers, the configuration 1 diff_ids',
    saved({ ...dockerImage(image, null), Layers: ['l/layer.tar', 'l/layer.tar'] }),
    config,
    layer,
  );
  await rejects('UNSUPPORTED', "the layer 'l/layer.tar' is compressed by bzip2", good, config, {
    ...layer,
    data: 'BZh91AY',
  });
  // What is not the layer that the configuration names shows when it is read: its digest is the diffID.
  const source = await openSource(`docker-archive:${save(tar(good, config, swapped))}`, options);
  const { manifest } = await resolveImage(source, amd64);
  assert.equal(manifest.layers[0]!.digest, digestOf(image.layer));
  const bytes = await readAll((await source.openBlob(manifest.layers[0]!)).body);
  assert.notEqual(digestOf(bytes), manifest.layers[0]!.digest);
  await source.close();
});

test('hostile archives: nothing outside is read, one name is one member', async () => {
  const rejects = (code: 'BAD_IMAGE' | 'BAD_ARCHIVE', part: string, ...entries: (BuiltEntry | Buffer)[]) =>
    rejectsOci(readImage(`oci-archive:${save(tar(...entries))}`), code, part);
  const good = [...blobsOf(image), index([image]), layoutFile];
  const without = (name: string) => good.filter((entry) => entry.name !== name);
  const layer = blobName(image.layer);
  await rejects('BAD_IMAGE', `the archive has '${layer}' twice`, ...good, blobFile(image.layer));
  await rejects('BAD_IMAGE', "the archive has 'index.json' twice", ...good, {
    ...index([other]),
    name: './index.json',
  });
  for (const target of ['/etc/passwd', '../../../../../../etc/passwd', '../../../x'])
    await rejects(
      'BAD_IMAGE',
      `'${layer}' leads out of the archive`,
      ...without(layer),
      symlink(layer, target),
    );
  await rejects('BAD_IMAGE', `the archive has no '${layer}'`, ...without(layer), symlink(layer, 'gone'));
  await rejects(
    'BAD_IMAGE',
    'behind more than 8 links',
    ...without(layer),
    symlink(layer, digestHex(digestOf(image.layer))),
  );
  for (const name of [`../${layer}`, `/${layer}`, `x/../${layer}`, `./../${layer}`])
    await rejects('BAD_IMAGE', `the archive has no '${layer}'`, ...without(layer), {
      ...blobFile(image.layer),
      name,
    });
  for (const type of ['3', '5', '6'])
    await rejects('BAD_IMAGE', `the archive has no '${layer}'`, ...without(layer), { name: layer, type });
  await rejects('BAD_IMAGE', 'is stored as a sparse file', ...without(layer), {
    name: layer,
    data: image.layer,
    pax: { 'GNU.sparse.realsize': '307200', 'GNU.sparse.map': `0,${image.layer.length}` },
  });
  for (const size of [base256(2n ** 62n, 12), base256(2n ** 50n, 12), 8 ** 11 - 1])
    await assert.rejects(
      readImage(
        `oci-archive:${save(Buffer.concat([tar(...good).subarray(0, -1024), tarHeader({ name: 'claim', size }), Buffer.alloc(4096)]))}`,
      ),
      { code: 'BAD_ARCHIVE' },
    );
  // A link to a member is no way out.
  assert.equal(
    (
      await readImage(
        `oci-archive:${save(tar(...without(layer), { name: 'here', data: image.layer }, symlink(layer, '../../here')))}`,
      )
    ).digest,
    image.manifestDigest,
  );
});

test('too many members, and what follows the end', () => {
  const indexer = createArchiveIndexer();
  const many = Buffer.concat(Array.from({ length: 1000 }, (_, i) => tarHeader({ name: `f${i}` })));
  for (let i = 0; i < 100; i++) indexer.push(many);
  throwsOci(() => indexer.push(many), 'BAD_ARCHIVE', 'more than 100000 members');
});

test('zeros after the end are not read, zeros inside a compressed archive take no space', async () => {
  const huge = save(ociTar([image]));
  const fd = openSync(huge, 'r+');
  ftruncateSync(fd, 1024 ** 4); // a terabyte of hole
  closeSync(fd);
  assert.equal((await readImage(`oci-archive:${huge}`)).digest, image.manifestDigest);
  const bomb = tar(...blobsOf(image), index([image]), layoutFile, {
    name: 'zeros',
    size: 512 * 1024 * 1024,
  }).subarray(0, -1024);
  const zeros = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
  const packed = Buffer.concat([zstdCompressSync(bomb), ...Array.from({ length: 9 }, () => zeros)]);
  const source = await openSource(`oci-archive:${save(packed)}`, options);
  const [fdLink] = readdirSync('/proc/self/fd').filter((name) => {
    try {
      return execFileSync('readlink', [`/proc/${process.pid}/fd/${name}`]).includes(scratch);
    } catch {
      return false;
    }
  });
  const blocks = Number(execFileSync('stat', ['-L', '-c', '%b', `/proc/${process.pid}/fd/${fdLink}`]));
  assert.ok(blocks * 512 < 2 * 1024 * 1024, `${blocks} blocks`);
  await source.close();
});

test('only a regular file, and nothing blocks', async () => {
  const dir = mkdtempSync(join(top, 'odd-'));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  symlinkSync(save(ociTar([image])), join(dir, 'link.tar'));
  await rejectsOci(
    openSource(`oci-archive:${dir}/fifo`, options),
    'INPUT_NOT_FOUND',
    'is not a regular file',
  );
  await rejectsOci(openSource(`docker-archive:${dir}`, options), 'INPUT_NOT_FOUND', 'is not a regular file');
  await rejectsOci(openSource('oci-archive:/dev/zero', options), 'INPUT_NOT_FOUND', 'is not a regular file');
  await rejectsOci(
    openSource(`oci-archive:${dir}/none:v1`, options),
    'INPUT_NOT_FOUND',
    `'${dir}/none': ENOENT`,
  );
  // The file the user names may be a link: it is the user's.
  assert.equal((await readImage(`oci-archive:${dir}/link.tar`)).digest, image.manifestDigest);
  await rejectsOci(
    openSource(`oci-archive:${save(gzipSync(ociTar([image])))}`, { env: { TMPDIR: join(dir, 'none') } }),
    'IO_ERROR',
    'cannot unpack the archive into',
  );
  assert.ok(readFileSync(join(dir, 'link.tar')).length > 0);
});
