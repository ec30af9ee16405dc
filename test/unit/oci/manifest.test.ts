import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseEntry, type ImageIndex } from '../../../src/oci/image-index.ts';
import { checkRunnable, type Manifest, parseManifestOrIndex } from '../../../src/oci/manifest.ts';
import {
  DOCKER_CONFIG,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_MANIFEST,
} from '../../../src/oci/media-type.ts';
import { parsePlatform } from '../../../src/oci/platform.ts';

const digest = (c: string) => `sha256:${c.repeat(64)}`;
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const config = { mediaType: OCI_CONFIG, digest: digest('c'), size: 7 };
const layer = { mediaType: LAYER, digest: digest('1'), size: 9 };
const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] };
const entry = (platform: string | undefined, c: string, more: object = {}) => ({
  mediaType: OCI_MANIFEST,
  digest: digest(c),
  size: 1,
  ...(platform === undefined
    ? {}
    : {
        platform: {
          os: platform.split('/')[0],
          architecture: platform.split('/')[1],
          variant: platform.split('/')[2],
        },
      }),
  ...more,
});
const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry('linux/amd64', 'a')] };
const parse = (document: unknown, declared?: string) =>
  parseManifestOrIndex(Buffer.from(JSON.stringify(document)), declared);

test('a manifest', () => {
  assert.deepEqual(parse(manifest, `${OCI_MANIFEST}; charset=utf-8`), {
    kind: 'manifest',
    mediaType: OCI_MANIFEST,
    config,
    layers: [layer],
    annotations: {},
  });
  const nulls = parse({ ...manifest, layers: null, annotations: null, subject: null }) as Manifest;
  assert.deepEqual([nulls.layers, nulls.annotations, nulls.subject], [[], {}, undefined]);
  const { mediaType: _, ...bare } = manifest;
  assert.equal(parse(bare).mediaType, OCI_MANIFEST);
  assert.equal(parse(bare, DOCKER_MANIFEST).mediaType, DOCKER_MANIFEST);
  assert.equal(parse(bare, 'application/octet-stream').mediaType, OCI_MANIFEST);
  assert.equal(
    parse({ ...manifest, mediaType: DOCKER_MANIFEST }, DOCKER_MANIFEST).mediaType,
    DOCKER_MANIFEST,
  );
  assert.equal(parse(index).kind, 'index');
});

test('confusion is refused', () => {
  const bad: [string, unknown, string | undefined, RegExp][] = [
    ['both', { ...manifest, manifests: [] }, undefined, /both an image manifest and an image index/],
    ['both, one null', { ...index, layers: [] }, undefined, /both/],
    ['index with config', { ...index, config }, undefined, /both/],
    ['neither', { schemaVersion: 2 }, undefined, /neither/],
    [
      'own type of an index',
      { ...manifest, mediaType: OCI_INDEX },
      undefined,
      /does not fit the fields of an image manifest/,
    ],
    [
      'own type of a manifest',
      { ...index, mediaType: OCI_MANIFEST },
      undefined,
      /does not fit the fields of an image index/,
    ],
    ['own type unknown', { ...manifest, mediaType: 'x/y' }, undefined, /does not fit/],
    ['announced as an index', manifest, OCI_INDEX, /announced as/],
    ['announced as docker', manifest, DOCKER_MANIFEST, /announced as/],
    ['announced as a list', index, DOCKER_LIST, /announced as/],
    ['bare, announced as an index', { ...manifest, mediaType: undefined }, OCI_INDEX, /announced as/],
    ['no schemaVersion', { ...manifest, schemaVersion: undefined }, undefined, /schemaVersion is not 2/],
    ['schemaVersion 3', { ...manifest, schemaVersion: 3 }, undefined, /schemaVersion is not 2/],
    ['schemaVersion text', { ...manifest, schemaVersion: '2' }, undefined, /schemaVersion is not 2/],
    ['no config', { ...manifest, config: undefined }, undefined, /manifest config is not an object/],
    ['an array', [], undefined, /manifest is not an object/],
    [
      'layer digest',
      { ...manifest, layers: [{ ...layer, digest: 'sha256:../../etc' }] },
      undefined,
      /manifest layer 1 digest/,
    ],
    [
      'layer size',
      { ...manifest, layers: [{ ...layer, size: -1 }] },
      undefined,
      /manifest layer 1 size is not a non-negative integer/,
    ],
    [
      'layer size 2^53',
      { ...manifest, layers: [layer, { ...layer, size: 2 ** 53 }] },
      undefined,
      /manifest layer 2 size/,
    ],
    ['too many layers', { ...manifest, layers: Array(501).fill(layer) }, undefined, /501 layers/],
  ];
  for (const [what, document, declared, message] of bad)
    assert.throws(
      () => parse(document, declared),
      (e: { code?: string; message: string }) => {
        assert.equal(e.code, 'BAD_IMAGE', what);
        assert.match(e.message, message, what);
        return true;
      },
    );
});

test('schema 1 is refused clearly', () => {
  const message = 'the image has a Docker schema 1 manifest, a format withdrawn in 2019';
  assert.throws(() => parse({ schemaVersion: 1, fsLayers: [] }), { code: 'UNSUPPORTED', message });
  const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
  assert.throws(() => parse(manifest, type), { code: 'UNSUPPORTED', message });
});

test('only container images are runnable', () => {
  const check = (document: unknown) => checkRunnable(parse(document) as Manifest);
  check(manifest);
  check({ ...manifest, config: { ...config, mediaType: DOCKER_CONFIG } });
  assert.throws(
    () =>
      check({ ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } }),
    {
      code: 'UNSUPPORTED',
      message:
        "not a container image: its configuration has the type 'application/vnd.cncf.helm.config.v1+json'",
    },
  );
  assert.throws(
    () => check({ ...manifest, layers: [layer, { ...layer, mediaType: `${LAYER}+encrypted` }] }),
    {
      code: 'UNSUPPORTED',
      message: `layer 2 is encrypted: '${LAYER}+encrypted'`,
    },
  );
  assert.throws(
    () => check({ ...manifest, layers: [{ ...layer, mediaType: 'application/vnd.in-toto+json' }] }),
    {
      message: "layer 1 is of an unknown type: 'application/vnd.in-toto+json'",
    },
  );
});

test('the entry of an index', () => {
  const zstd = { annotations: { 'io.github.containers.compression.zstd': 'true' } };
  const choose = (entries: object[], platform: string) =>
    chooseEntry(parse({ ...index, manifests: entries }) as ImageIndex, parsePlatform(platform))?.digest[7];
  const amd64 = [
    entry('linux/arm64', 'b'),
    entry('linux/amd64', 'a'),
    entry('linux/amd64/v3', 'd'),
    entry('linux/amd64/v2', 'c'),
    entry('linux/amd64', 'e', zstd),
    entry('unknown/unknown', 'f'),
  ];
  assert.equal(choose(amd64, 'linux/amd64'), 'e');
  assert.equal(choose(amd64, 'linux/amd64/v2'), 'c');
  assert.equal(choose(amd64, 'linux/amd64/v4'), 'd');
  assert.equal(choose(amd64, 'linux/arm64'), 'b');
  assert.equal(choose(amd64, 'linux/s390x'), undefined);
  assert.equal(
    choose([entry('linux/arm/v6', 'a'), entry('linux/arm/v7', 'b'), entry('linux/arm/v5', 'c')], 'linux/arm'),
    'b',
  );
  assert.equal(choose([entry(undefined, 'a'), entry('linux/amd64', 'b')], 'linux/amd64/v4'), 'b');
  assert.equal(choose([entry('linux/arm64', 'a'), entry(undefined, 'b')], 'linux/amd64'), 'b');
  assert.equal(choose([entry('linux/amd64', 'a', { mediaType: 'x/y' })], 'linux/amd64'), undefined);
  assert.equal(choose([], 'linux/amd64'), undefined);
});
