import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { openSource } from '../../../src/source/open-source.ts';
import { resolveImage } from '../../../src/source/resolve-image.ts';
import { fakeImage, readAll } from '../registry/fake-registry.ts';

const top = mkdtempSync(join(tmpdir(), 'ocictl-layout-'));
after(() => rmSync(top, { recursive: true }));
const image = fakeImage();
const other = fakeImage(Buffer.from('other layer'));
const REF_NAME = 'org.opencontainers.image.ref.name';
const entry = (bytes: Buffer, name?: string, mediaType = OCI_MANIFEST) => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
  ...(name === undefined ? {} : { annotations: { [REF_NAME]: name } }),
});
const amd64 = parsePlatform('linux/amd64');

function layout(entries: object[], name = 'My_App'): string {
  const directory = join(mkdtempSync(join(top, 'l-')), name);
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: entries }));
  for (const { manifest, config, layer } of [image, other])
    for (const blob of [manifest, config, layer]) put(directory, blob);
  return directory;
}
const blobPath = (directory: string, blob: Buffer) =>
  join(directory, 'blobs/sha256', digestHex(digestOf(blob)));
function put(directory: string, blob: Buffer): void {
  writeFileSync(blobPath(directory, blob), blob);
}

test('one image, and one of several by its tag', async () => {
  const one = await openSource(`oci:${layout([entry(image.manifest)])}`);
  const resolved = await resolveImage(one, amd64);
  assert.equal(resolved.manifestDescriptor.digest, image.manifestDigest);
  assert.deepEqual(Buffer.from(resolved.rawConfig), image.config);
  assert.equal(one.localName, 'localhost/my-app:latest');
  const { offset, body } = await one.openBlob(image.layerDescriptor, { offset: 6 });
  assert.deepEqual([offset, (await readAll(body)).toString()], [6, 'bytes']);
  await one.close();
  await one.close();

  const two = layout([entry(image.manifest, 'v1'), entry(other.manifest, 'quay.io/x/y:v2')]);
  for (const [tag, manifest, name] of [
    ['v1', image.manifestDigest, 'localhost/my-app:v1'],
    ['quay.io/x/y:v2', other.manifestDigest, 'quay.io/x/y:v2'],
  ] as const) {
    const source = await openSource(`oci:${two}:${tag}`);
    assert.equal((await source.fetchManifest()).digest, manifest);
    assert.equal(source.localName, name);
    await source.close();
  }
  await assert.rejects(openSource(`oci:${two}`), {
    code: 'USAGE',
    hint: `Name one of its images, for example oci:${two}:v1`,
  });
  await assert.rejects(openSource(`oci:${two}:v3`), {
    code: 'IMAGE_NOT_FOUND',
    message: `the layout '${two}' has no image 'v3', only 'v1', 'quay.io/x/y:v2'`,
  });
});

test('index.json as the index, and a nested index', async () => {
  const platform = (architecture: string) => ({ platform: { os: 'linux', architecture } });
  const manifests = [
    { ...entry(other.manifest), ...platform('arm64') },
    { ...entry(image.manifest), ...platform('amd64') },
  ];
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  const flat = await openSource(`oci:${layout(manifests)}`);
  assert.equal((await resolveImage(flat, amd64)).manifestDescriptor.digest, image.manifestDigest);
  await flat.close();
  const directory = layout([entry(index, 'multi', OCI_INDEX)]);
  put(directory, index);
  const nested = await openSource(`oci:${directory}`);
  assert.equal(nested.localName, 'localhost/my-app:multi');
  assert.equal((await resolveImage(nested, amd64)).manifestDescriptor.digest, image.manifestDigest);
  await nested.close();
});

test('nothing outside the layout is read, nothing blocks', async () => {
  const reads: [string, (directory: string) => void, string][] = [
    [
      'blob link',
      (d) => replace(blobPath(d, image.layer), (path) => symlinkSync('/etc/passwd', path)),
      'is a link or not what it should be',
    ],
    [
      'blob fifo',
      (d) => replace(blobPath(d, image.layer), (path) => execFileSync('mkfifo', [path])),
      'is not a regular file',
    ],
    [
      'blob directory',
      (d) => replace(blobPath(d, image.layer), (path) => mkdirSync(path)),
      'is not a regular file',
    ],
    [
      'algorithm link',
      (d) => replace(join(d, 'blobs/sha256'), (path) => symlinkSync(`${path}.moved`, path)),
      'is a link or not what it should be',
    ],
    [
      'blobs link',
      (d) => replace(join(d, 'blobs'), (path) => symlinkSync('blobs.moved', path)),
      'is a link or not what it should be',
    ],
    ['missing', (d) => replace(blobPath(d, image.layer), () => {}), 'the layout has no'],
  ];
  for (const [what, damage, message] of reads) {
    const directory = layout([entry(image.manifest)]);
    const source = await openSource(`oci:${directory}`);
    damage(directory);
    await assert.rejects(source.openBlob(image.layerDescriptor), (e: { code: string; message: string }) => {
      assert.equal(e.code, 'BAD_IMAGE', what);
      assert.ok(e.message.includes(message), `${what}: ${e.message}`);
      return true;
    });
    await source.close();
  }
  for (const name of ['index.json', 'oci-layout']) {
    const linked = layout([entry(image.manifest)]);
    replace(join(linked, name), (path) => symlinkSync(`${path}.moved`, path));
    await assert.rejects(openSource(`oci:${linked}`), {
      code: 'BAD_IMAGE',
      message: `'${name}' in the layout is a link or not what it should be`,
    });
    const fifo = layout([entry(image.manifest)]);
    replace(join(fifo, name), (path) => execFileSync('mkfifo', [path]));
    await assert.rejects(openSource(`oci:${fifo}`), {
      code: 'BAD_IMAGE',
      message: `'${name}' in the layout is not a regular file`,
    });
  }
});

function replace(path: string, create: (path: string) => void): void {
  renameSync(path, `${path}.moved`);
  create(path);
}

test('what is no layout', async () => {
  await assert.rejects(openSource('oci:/nonexistent:x'), {
    code: 'INPUT_NOT_FOUND',
    message: "cannot open the layout '/nonexistent': ENOENT",
  });
  await assert.rejects(openSource(`oci:${layout([])}`), { code: 'IMAGE_NOT_FOUND', message: /is empty$/ });
  const version = layout([entry(image.manifest)]);
  writeFileSync(join(version, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}');
  await assert.rejects(openSource(`oci:${version}`), { code: 'UNSUPPORTED' });
  const escaping = layout([{ ...entry(image.manifest), digest: 'sha256:../../../etc/passwd' }]);
  await assert.rejects(openSource(`oci:${escaping}`), { code: 'BAD_IMAGE' });
  const twice = layout([entry(image.manifest, 'a'), entry(other.manifest, 'a')]);
  await assert.rejects(openSource(`oci:${twice}:a`), { code: 'BAD_IMAGE', message: / has 2 images 'a'$/ });
});

test('a blob with more than its size stops there', async () => {
  const directory = layout([entry(image.manifest)]);
  writeFileSync(blobPath(directory, image.layer), Buffer.alloc(1_000_000));
  const source = await openSource(`oci:${directory}`);
  const { body } = await source.openBlob(image.layerDescriptor);
  assert.equal((await readAll(body)).length, image.layer.length + 1);
  await source.close();
});
