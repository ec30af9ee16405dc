/** Manifests and media types: one document has one meaning, or it is refused. */
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { file, tar } from '../unit/archive/tar-builder.ts';
import { badImage, type Case, hostile, refused } from './harness.ts';
import { ARCHITECTURE, type Edit, hashOf, type ImageSpec, type Json, OCI } from './image.ts';

const F = ['f "x"'];
const manifest = (edit: Edit): ImageSpec => ({ manifest: edit });
const set = (fields: Record<string, Json>) => manifest((m) => ({ ...m, ...fields }));
const DOCKER = {
  manifest: 'application/vnd.docker.distribution.manifest.v2+json',
  list: 'application/vnd.docker.distribution.manifest.list.v2+json',
  config: 'application/vnd.docker.container.image.v1+json',
  layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  foreign: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  schema1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
};

hostile('manifests', [
  ['plain', {}, F],
  ['without a mediaType', manifest(({ mediaType: _, ...m }) => m), F],
  ['with fields that nobody knows', set({ unknown: { deep: [1] }, 'x-y': null }), F],
  [
    'Docker schema 2',
    {
      configDescriptor: { mediaType: DOCKER.config },
      manifest: (m) => {
        m.mediaType = DOCKER.manifest;
        m.layers[0].mediaType = DOCKER.layer;
      },
      manifestDescriptor: { mediaType: DOCKER.manifest },
    },
    F,
  ],
  [
    'Docker schema 2 with OCI layers',
    {
      configDescriptor: { mediaType: DOCKER.config },
      manifest: (m) => {
        m.mediaType = DOCKER.manifest;
      },
      manifestDescriptor: { mediaType: DOCKER.manifest },
    },
    F,
  ],
  [
    'schemaVersion 1',
    set({ schemaVersion: 1 }),
    refused('UNSUPPORTED', 'the image has a Docker schema 1 manifest, a format withdrawn in 2019'),
  ],
  [
    'the media type of schema 1',
    set({ mediaType: DOCKER.schema1 }),
    refused('UNSUPPORTED', 'the image has a Docker schema 1 manifest, a format withdrawn in 2019'),
  ],
  [
    'announced as schema 1',
    { manifestDescriptor: { mediaType: DOCKER.schema1 } },
    refused('UNSUPPORTED', 'the image has a Docker schema 1 manifest, a format withdrawn in 2019'),
  ],
  ...[0, 3, '2', 2.5, null, undefined, true, [2], {}].map(
    (schemaVersion): Case => [
      `schemaVersion ${JSON.stringify(schemaVersion)}`,
      set({ schemaVersion }),
      badImage('manifest schemaVersion is not 2'),
    ],
  ),
  [
    'manifest and index in one',
    set({ manifests: [] }),
    badImage('the document is both an image manifest and an image index'),
  ],
  [
    'neither',
    manifest(({ schemaVersion, mediaType }) => ({ schemaVersion, mediaType })),
    badImage('the document is neither an image manifest nor an image index'),
  ],
  [
    'a manifest that says it is an index',
    set({ mediaType: OCI.index }),
    badImage(`the mediaType '${OCI.index}' does not fit the fields of an image manifest`),
  ],
  [
    'a manifest announced as an index',
    { manifestDescriptor: { mediaType: OCI.index } },
    badImage(`the manifest of type '${OCI.manifest}' was announced as '${OCI.index}'`),
  ],
  [
    'an OCI manifest announced as one of Docker',
    { manifestDescriptor: { mediaType: DOCKER.manifest } },
    badImage(`the manifest of type '${OCI.manifest}' was announced as '${DOCKER.manifest}'`),
  ],
  ['a manifest announced as octets', { manifestDescriptor: { mediaType: 'application/octet-stream' } }, F],
  ...[
    '',
    'application/json',
    `${OCI.manifest}; charset=utf-8`,
    OCI.manifest.toUpperCase(),
    OCI.layer,
    '\x1b[31m',
  ].map(
    (mediaType): Case => [
      `the mediaType ${JSON.stringify(mediaType)}`,
      set({ mediaType }),
      badImage(
        `the mediaType '${mediaType.replace('\x1b', '\\x1b')}' does not fit the fields of an image manifest`,
      ),
    ],
  ),
  ['a mediaType that is no string', set({ mediaType: 7 }), badImage('manifest mediaType is not a string')],
  ['a mediaType of null', set({ mediaType: null }), F],
  ['no configuration', manifest(({ config: _, ...m }) => m), badImage('manifest config is not an object')],
  ['a configuration that is a string', set({ config: 'x' }), badImage('manifest config is not an object')],
  [
    'a configuration without a mediaType',
    { configDescriptor: { mediaType: undefined } },
    badImage('manifest config mediaType is not a string'),
  ],
  ['no layers, and none in the configuration', { layers: [], manifest: ({ layers: _, ...m }) => m }, []],
  ['layers of null', { layers: [], manifest: (m) => ({ ...m, layers: null }) }, []],
  [
    'no layers, but a diffID',
    manifest(({ layers: _, ...m }) => m),
    badImage('the image has 0 layers but 1 diff_ids'),
  ],
  ['layers that are an object', set({ layers: {} }), badImage('manifest layers is not an array')],
  [
    'a layer that is null',
    manifest((m) => {
      m.layers[0] = null;
    }),
    badImage('manifest layer 1 is not an object'),
  ],
  [
    'a layer that is an array',
    manifest((m) => {
      m.layers[0] = [m.layers[0]];
    }),
    badImage('manifest layer 1 is not an object'),
  ],
  [
    '501 layers',
    manifest((m) => {
      m.layers = Array(501).fill(m.layers[0]);
    }),
    badImage('the manifest has 501 layers, more than the 500 allowed'),
  ],
  ...[-1, 1.5, '100', null, undefined, true].map(
    (size): Case => [
      `a layer of size ${JSON.stringify(size)}`,
      manifest((m) => {
        m.layers[0].size = size;
      }),
      badImage('manifest layer 1 size is not a non-negative integer'),
    ],
  ),
  ['annotations', set({ annotations: { a: 'b', '\x1b[2J': '\x1b[2J' } }), F],
  ['annotations of null, with null', set({ annotations: null }), F],
  [
    'an annotation that is a number',
    set({ annotations: { a: 7 } }),
    badImage("manifest annotations['a'] is not a string"),
  ],
  [
    'an annotation that is an object',
    set({ annotations: { a: {} } }),
    badImage("manifest annotations['a'] is not a string"),
  ],
  [
    'annotations that are an array',
    set({ annotations: ['a'] }),
    badImage('manifest annotations is not an object'),
  ],
  [
    'annotations of a layer that are a string',
    manifest((m) => {
      m.layers[0].annotations = 'a';
    }),
    badImage('manifest layer 1 annotations is not an object'),
  ],
  ['a subject', set({ subject: { mediaType: OCI.manifest, digest: hashOf('x'), size: 1 } }), F],
  ['a subject that is a string', set({ subject: 'x' }), badImage('manifest subject is not an object')],
  [
    'a subject with a path for a digest',
    set({ subject: { mediaType: OCI.manifest, digest: 'sha256:../x', size: 1 } }),
    badImage(/^manifest subject digest 'sha256:..\/x' is not/),
  ],
  ['an artifactType beside an image configuration', set({ artifactType: 'application/x' }), F],
  [
    'an artifactType that is an array',
    set({ artifactType: [] }),
    badImage('manifest artifactType is not a string'),
  ],
  [
    'an artifact',
    {
      configDescriptor: { mediaType: 'application/vnd.oci.empty.v1+json' },
      manifest: (m) => ({ ...m, artifactType: 'application/vnd.example.sbom' }),
    },
    refused(
      'UNSUPPORTED',
      "not a container image: its configuration has the type 'application/vnd.example.sbom'",
    ),
  ],
  [
    'a configuration of an unknown type',
    { configDescriptor: { mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    refused(
      'UNSUPPORTED',
      "not a container image: its configuration has the type 'application/vnd.cncf.helm.config.v1+json'",
    ),
  ],
  [
    'a configuration whose type is that of a layer',
    { configDescriptor: { mediaType: `${OCI.layer}+gzip` } },
    refused('UNSUPPORTED', `not a container image: its configuration has the type '${OCI.layer}+gzip'`),
  ],
]);

const layerType = (mediaType: string): ImageSpec =>
  manifest((m) => {
    m.layers[0].mediaType = mediaType;
  });
hostile('layer types', [
  ...[DOCKER.layer, DOCKER.foreign, `${OCI.layer.replace('v1.tar', 'nondistributable.v1.tar')}+gzip`].map(
    (type): Case => [type, layerType(type), F],
  ),
  ...[
    '',
    'application/octet-stream',
    'text/html',
    OCI.manifest,
    OCI.config,
    `${OCI.layer}+xz`,
    `${OCI.layer}+br`,
    `${OCI.layer}+gzip+gzip`,
    `${OCI.layer}.gzip`,
    `${OCI.layer}+GZIP`,
    `${OCI.layer}+gzip; x=y`,
    'application/vnd.oci.image.layer.v2.tar+gzip',
    '__proto__',
    'constructor',
    '\x1b]0;x\x07',
  ].map(
    (type): Case => [
      `${JSON.stringify(type)}`,
      layerType(type),
      refused(
        'UNSUPPORTED',
        `layer 1 is of an unknown type: '${type.replace('\x1b', '\\x1b').replace('\x07', '\\x07')}'`,
      ),
    ],
  ),
  [
    `${OCI.layer}+gzip+encrypted`,
    layerType(`${OCI.layer}+gzip+encrypted`),
    refused('UNSUPPORTED', `layer 1 is encrypted: '${OCI.layer}+gzip+encrypted'`),
  ],
  [
    'a foreign layer with urls that is here',
    manifest((m) => {
      m.layers[0].mediaType = DOCKER.foreign;
      m.layers[0].urls = ['http://127.0.0.1:1/x'];
    }),
    F,
  ],
  [
    'a foreign layer with urls that is not here',
    {
      manifest: (m) => {
        m.layers[0].mediaType = DOCKER.foreign;
        m.layers[0].urls = ['http://127.0.0.1:1/x', 'file:///etc/passwd'];
      },
      layout: (l) => writeFileSync(l.path(l.layers[0]!.digest), ''),
    },
    refused('SIZE_MISMATCH', /^got 0 bytes, expected/),
  ],
  [
    'urls that are a string',
    manifest((m) => {
      m.layers[0].urls = 'http://x';
    }),
    badImage('manifest layer 1 urls is not an array'),
  ],
  [
    'urls that are numbers',
    manifest((m) => {
      m.layers[0].urls = [7];
    }),
    badImage('manifest layer 1 urls[0] is not a string'),
  ],
]);

const embedded = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const rawConfig = Buffer.from(
  JSON.stringify({
    os: 'linux',
    architecture: ARCHITECTURE,
    config: {},
    rootfs: { type: 'layers', diff_ids: [hashOf(tar(file('f', 'x')))] },
  }),
);
const withConfigData = (data: Json, more: Partial<ImageSpec> = {}): ImageSpec => ({
  configDescriptor: { data },
  ...more,
});
hostile('content in descriptors', [
  ['that matches', withConfigData(embedded(rawConfig)), F],
  [
    'that matches, and no blob',
    withConfigData(embedded(rawConfig), { layout: (l) => writeFileSync(l.path(l.config.digest), '') }),
    F,
  ],
  [
    'that lies',
    withConfigData(embedded(Buffer.from(rawConfig.toString().replace('linux', 'linuy')))),
    refused('DIGEST_MISMATCH', /^manifest config data: got sha256:[0-9a-f]{64}, expected sha256:/),
  ],
  [
    'of another size',
    withConfigData(embedded(Buffer.from('{}'))),
    refused('SIZE_MISMATCH', /^manifest config data: got 2 bytes, expected [0-9]+$/),
  ],
  ['that is no base64', withConfigData('***'), badImage('manifest config data is not base64')],
  ['that is no string', withConfigData({}), badImage('manifest config data is not a string')],
  [
    'of a layer that lies',
    manifest((m) => {
      m.layers[0].data = embedded(Buffer.alloc(m.layers[0].size));
    }),
    refused('DIGEST_MISMATCH', /^manifest layer 1 data: got/),
  ],
  [
    'of a layer that matches',
    manifest((m) => {
      const bytes = gzipSync(tar(file('f', 'x')), { level: 1 });
      m.layers[0] = { ...m.layers[0], digest: hashOf(bytes), size: bytes.length, data: embedded(bytes) };
    }),
    F,
  ],
]);
