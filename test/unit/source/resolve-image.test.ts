/** resolveImage over a source in memory: choice, verification, refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { hostPlatform } from '../../../src/source/host-platform.ts';
import type { ImageSource } from '../../../src/source/image-source.ts';
import { resolveImage } from '../../../src/source/resolve-image.ts';
import { fakeImage } from '../registry/fake-registry.ts';

const image = fakeImage();
const amd64 = parsePlatform('linux/amd64');
const json = (document: object) => Buffer.from(JSON.stringify(document));
const point = (bytes: Buffer, mediaType: string, more: object = {}) => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
  ...more,
});
const on = (platform: string) => ({
  platform: { os: platform.split('/')[0], architecture: platform.split('/')[1] },
});
const index = (...manifests: object[]) => json({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });

/** `replies` gives other bytes for a digest than the right ones. */
function memorySource(top: Buffer, blobs: Buffer[], replies = new Map<Digest, Buffer>()) {
  const all = new Map(blobs.map((blob) => [digestOf(blob), blob]));
  for (const [digest, blob] of replies) all.set(digest, blob);
  const asked: Digest[] = [];
  const get = (digest: Digest) => {
    asked.push(digest);
    return all.get(digest) ?? assert.fail(`asked for ${digest}`);
  };
  const source: ImageSource = {
    description: 'memory',
    localName: 'memory',
    async fetchManifest(digest) {
      const bytes = digest === undefined ? top : get(digest);
      return { bytes, mediaType: undefined, digest: digest ?? digestOf(bytes) };
    },
    async openBlob({ digest }) {
      const blob = get(digest);
      return {
        offset: 0,
        body: (async function* () {
          yield blob;
        })(),
      };
    },
    async close() {},
  };
  return { source, asked };
}

test('a manifest, and one behind two indexes', async () => {
  const plain = memorySource(image.manifest, [image.config]);
  const resolved = await resolveImage(plain.source, amd64);
  assert.deepEqual(resolved.manifestDescriptor, point(image.manifest, OCI_MANIFEST));
  assert.deepEqual(resolved.rawManifest, image.manifest);
  assert.deepEqual(resolved.manifest.layers, [image.layerDescriptor]);
  assert.equal(resolved.imageConfig.architecture, 'amd64');
  const inner = index(point(image.manifest, OCI_MANIFEST, on('linux/amd64')));
  const outer = index(point(inner, OCI_INDEX));
  const nested = await resolveImage(memorySource(outer, [inner, image.manifest, image.config]).source, amd64);
  assert.deepEqual(nested.manifestDescriptor, point(image.manifest, OCI_MANIFEST, on('linux/amd64')));
  const third = index(point(outer, OCI_INDEX));
  await assert.rejects(resolveImage(memorySource(third, [outer, inner]).source, amd64), {
    code: 'BAD_IMAGE',
    message: 'memory: image indexes are nested more than 2 deep',
  });
});

test('what is here is not asked for, but verified', async () => {
  const top = index(point(image.manifest, OCI_MANIFEST, on('linux/amd64')));
  const known = new Map([image.manifest, image.config].map((blob) => [digestOf(blob), blob]));
  const { source, asked } = memorySource(top, []);
  const resolved = await resolveImage(source, amd64, ({ digest }) => known.get(digest));
  assert.deepEqual(resolved.rawConfig, image.config);
  assert.deepEqual(asked, []);
  await assert.rejects(
    resolveImage(source, amd64, ({ digest, size }) => (known.has(digest) ? Buffer.alloc(size) : undefined)),
    { code: 'DIGEST_MISMATCH' },
  );
});

test('the platform', async () => {
  const top = index(
    point(image.manifest, OCI_MANIFEST, on('linux/arm64')),
    point(image.manifest, OCI_MANIFEST, on('linux/s390x')),
  );
  await assert.rejects(resolveImage(memorySource(top, []).source, amd64), {
    code: 'UNSUPPORTED',
    message: 'memory has no image for linux/amd64',
    detail: "It has: 'linux/arm64, linux/s390x'",
  });
  await assert.rejects(
    resolveImage(memorySource(image.manifest, [image.config]).source, parsePlatform('linux/arm64')),
    {
      code: 'UNSUPPORTED',
      message: "memory is an image for 'linux/amd64', not linux/arm64",
    },
  );
  const silent = fakeImage(undefined, { architecture: '' });
  await resolveImage(memorySource(silent.manifest, [silent.config]).source, parsePlatform('linux/arm64'));
  assert.equal(hostPlatform().os, 'linux');
});

test('bytes that do not match are refused', async () => {
  const top = index(point(image.manifest, OCI_MANIFEST, on('linux/amd64')));
  const swap = (wanted: Buffer, given: Buffer) =>
    resolveImage(
      memorySource(top, [image.manifest, image.config], new Map([[digestOf(wanted), given]])).source,
      amd64,
    );
  const same = (blob: Buffer) => Buffer.from(blob.toString().replace('2', '3').replace('linux', 'xunil'));
  await assert.rejects(swap(image.manifest, same(image.manifest)), { code: 'DIGEST_MISMATCH' });
  await assert.rejects(swap(image.config, same(image.config)), { code: 'DIGEST_MISMATCH' });
  await assert.rejects(swap(image.manifest, Buffer.concat([image.manifest, Buffer.from(' ')])), {
    code: 'SIZE_MISMATCH',
    message: `manifest ${image.manifestDigest}: got ${image.manifest.length + 1} bytes, expected ${image.manifest.length}`,
  });
  await assert.rejects(swap(image.config, image.config.subarray(1)), { code: 'SIZE_MISMATCH' });
});

test('documents that do not fit together', async () => {
  const manifest = (change: object) => json({ ...JSON.parse(image.manifest.toString()), ...change });
  const rejects = (top: Buffer, error: object) =>
    assert.rejects(resolveImage(memorySource(top, [image.config, image.manifest]).source, amd64), error);
  await rejects(manifest({ layers: [] }), {
    code: 'BAD_IMAGE',
    message: 'the image has 0 layers but 1 diff_ids',
  });
  await rejects(
    manifest({ config: { mediaType: OCI_CONFIG, digest: digestOf(image.config), size: 5_000_000 } }),
    {
      code: 'BAD_IMAGE',
      message: `blob ${digestOf(image.config)} has 5000000 bytes, more than the 4194304 allowed`,
    },
  );
  await rejects(
    manifest({ config: { mediaType: 'application/x', digest: digestOf(image.config), size: 5 } }),
    { code: 'UNSUPPORTED' },
  );
  await rejects(index(point(image.manifest, OCI_INDEX, on('linux/amd64'))), {
    code: 'BAD_IMAGE',
    message: /announced as/,
  });
});
