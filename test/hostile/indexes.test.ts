/** Image indexes and the layout's own files: one image for a platform, found in one way, or a refusal. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { badImage, hostile, refused } from './harness.ts';
import {
  ARCHITECTURE,
  hashOf,
  type ImageSpec,
  type Json,
  OCI,
  type Stored,
  TAG,
  type WrittenLayout,
} from './image.ts';

const F = ['f "x"'];
const embedded = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const here = { os: 'linux', architecture: ARCHITECTURE };
const elsewhere = { os: 'linux', architecture: ARCHITECTURE === 's390x' ? 'riscv64' : 's390x' };
/** Puts what `make` returns in the place of the manifest in index.json. */
function top(make: (l: WrittenLayout, own: Json) => Json, more: ImageSpec = {}): ImageSpec {
  return {
    ...more,
    layout: (l) => {
      const own = { mediaType: OCI.manifest, ...l.manifest };
      point(l, { mediaType: OCI.index, ...l.putJson(make(l, own)) });
    },
  };
}
function point(l: WrittenLayout, entry: Json): void {
  const path = join(l.directory, 'index.json');
  const index = JSON.parse(readFileSync(path, 'utf8'));
  index.manifests[0] = { annotations: index.manifests[0].annotations, ...entry };
  writeFileSync(path, JSON.stringify(index));
}
const index = (...manifests: Json[]): Json => ({ schemaVersion: 2, mediaType: OCI.index, manifests });
/** Another image: the same layers, and this for its configuration. */
function other(l: WrittenLayout, fields: Json): Stored {
  const config = JSON.parse(readFileSync(l.path(l.config.digest), 'utf8'));
  const document = JSON.parse(readFileSync(l.path(l.manifest.digest), 'utf8'));
  return l.putJson({
    ...document,
    config: { mediaType: OCI.config, ...l.putJson({ ...config, ...fields }) },
  });
}
const bogus = { mediaType: OCI.manifest, digest: hashOf('nothing'), size: 7 };
const none = `oci:LAYOUT:${TAG} has no image for linux/${ARCHITECTURE}`;
hostile('indexes', [
  ['one entry', top((_, own) => index({ ...own, platform: here })), F],
  ['of Docker', top((_, own) => ({ ...index({ ...own, platform: here }), mediaType: undefined })), F],
  ['without a mediaType', top((_, own) => ({ schemaVersion: 2, manifests: [own] })), F],
  [
    'the right one among others',
    top((_, own) =>
      index(
        { ...bogus, platform: elsewhere },
        { ...own, platform: here },
        { ...bogus, platform: { os: 'windows', architecture: ARCHITECTURE } },
      ),
    ),
    F,
  ],
  [
    'two of one platform: the first',
    top((_, own) => index({ ...own, platform: here }, { ...bogus, platform: here })),
    F,
  ],
  [
    'an attestation of a build',
    top((_, own) =>
      index({ ...bogus, platform: { os: 'unknown', architecture: 'unknown' } }, { ...own, platform: here }),
    ),
    F,
  ],
  [
    'entries of unknown types are passed over',
    top((_, own) =>
      index({ ...bogus, mediaType: 'application/x', platform: here }, { ...own, platform: here }),
    ),
    F,
  ],
  [
    'names of other tools for the architecture',
    top((_, own) =>
      index({
        ...own,
        platform: { os: 'linux', architecture: ARCHITECTURE === 'amd64' ? 'x86_64' : 'aarch64' },
      }),
    ),
    F,
  ],
  ['no entries', top(() => index()), refused('UNSUPPORTED', none)],
  [
    'none for this platform',
    top((_, own) => index({ ...own, platform: elsewhere })),
    refused('UNSUPPORTED', none),
  ],
  [
    'only of unknown types',
    top(() => index({ ...bogus, mediaType: 'application/x' })),
    refused('UNSUPPORTED', none),
  ],
  [
    'none for this platform, names with control characters',
    top((_, own) => index({ ...own, platform: { os: '\x1b[2J', architecture: '\x07\n' } })),
    refused('UNSUPPORTED', none),
  ],
  [
    'an entry that says this platform, but is for another',
    top((l) =>
      index({
        mediaType: OCI.manifest,
        ...other(l, { architecture: elsewhere.architecture }),
        platform: here,
      }),
    ),
    refused(
      'UNSUPPORTED',
      `oci:LAYOUT:${TAG} is an image for 'linux/${elsewhere.architecture}', not linux/${ARCHITECTURE}`,
    ),
  ],
  [
    'an entry of the wrong size',
    top((_, own) => index({ ...own, size: own.size + 1, platform: here })),
    refused('SIZE_MISMATCH', /^manifest sha256:[0-9a-f]{64}: got [0-9]+ bytes, expected [0-9]+$/),
  ],
  [
    'an entry that is not there',
    top(() => index({ ...bogus, platform: here })),
    badImage(/^the layout has no 'blobs\/sha256\//),
  ],
  [
    'an entry that says it is an index, but is not',
    top((_, own) => index({ ...own, mediaType: OCI.index, platform: here })),
    badImage(`the manifest of type '${OCI.manifest}' was announced as '${OCI.index}'`),
  ],
  [
    'an entry with its content',
    top((l, own) => index({ ...own, platform: here, data: embedded(readFileSync(l.path(own.digest))) })),
    F,
  ],
  [
    'an entry with other content',
    top((l, own) => index({ ...own, platform: here, data: embedded(Buffer.alloc(l.manifest.size)) })),
    refused('DIGEST_MISMATCH', /^index entry 1 data: got/),
  ],
  [
    'nested once',
    top((l, own) => index({ mediaType: OCI.index, ...l.putJson(index({ ...own, platform: here })) })),
    F,
  ],
  [
    'nested twice',
    top((l, own) =>
      index({
        mediaType: OCI.index,
        ...l.putJson(index({ mediaType: OCI.index, ...l.putJson(index(own)) })),
      }),
    ),
    badImage(`oci:LAYOUT:${TAG}: image indexes are nested more than 2 deep`),
  ],
  [
    'a file that is an index of itself',
    {
      layout: (l) => {
        const entry = { mediaType: OCI.index, digest: hashOf('loop'), size: 1 };
        const bytes = JSON.stringify(index(entry));
        writeFileSync(l.path(entry.digest), bytes);
        point(l, { ...entry, size: bytes.length });
      },
    },
    refused('DIGEST_MISMATCH', /^manifest in 'LAYOUT': got sha256:/),
  ],
  [
    'index and manifest in one',
    top((_, own) => ({ ...index({ ...own, platform: here }), config: own, layers: [] })),
    badImage('the document is both an image manifest and an image index'),
  ],
  [
    'with an empty list of layers beside',
    top((_, own) => ({ ...index({ ...own, platform: here }), layers: [] })),
    badImage('the document is both an image manifest and an image index'),
  ],
  [
    'that says it is a manifest',
    top((_, own) => ({ ...index(own), mediaType: OCI.manifest })),
    badImage(`the mediaType '${OCI.manifest}' does not fit the fields of an image index`),
  ],
  [
    'manifests that are an object',
    top(() => ({ ...index(), manifests: {} })),
    badImage('index manifests is not an array'),
  ],
  [
    'a platform that is a string',
    top((_, own) => index({ ...own, platform: 'linux/amd64' })),
    badImage('index entry 1 platform is not an object'),
  ],
  ['a platform of null', top((_, own) => index({ ...own, platform: null })), F],
  [
    'a platform of numbers',
    top((_, own) => index({ ...own, platform: { os: 1, architecture: 2 } })),
    badImage('index entry 1 platform os is not a string'),
  ],
  [
    'a platform named __proto__',
    top((_, own) =>
      index({ ...bogus, platform: { os: 'linux', architecture: '__proto__' } }, { ...own, platform: here }),
    ),
    F,
  ],
  [
    'a platform with a variant that nobody knows',
    top((_, own) => index({ ...bogus, platform: { ...here, variant: 'v99' } }, { ...own, platform: here })),
    F,
  ],
  [
    '20000 entries',
    top((_, own) =>
      index(...Array.from({ length: 20000 }, () => ({ ...bogus, platform: elsewhere })), {
        ...own,
        platform: here,
      }),
    ),
    F,
  ],
  [
    'schemaVersion 3',
    top((_, own) => ({ ...index(own), schemaVersion: 3 })),
    badImage('manifest schemaVersion is not 2'),
  ],
]);

const layoutFile = (name: string, content: string): ImageSpec => ({
  layout: (l) => writeFileSync(join(l.directory, name), content),
});
hostile('the layout', [
  [
    'oci-layout of another version',
    layoutFile('oci-layout', '{"imageLayoutVersion":"2.0.0"}'),
    refused('UNSUPPORTED', "the layout 'LAYOUT' has the version '2.0.0'"),
  ],
  [
    'oci-layout without a version',
    layoutFile('oci-layout', '{}'),
    badImage('oci-layout imageLayoutVersion is not a string'),
  ],
  ['oci-layout that is no JSON', layoutFile('oci-layout', 'hello'), badImage('oci-layout is not valid JSON')],
  [
    'oci-layout of a megabyte',
    layoutFile('oci-layout', ' '.repeat(1024 * 1024)),
    badImage("'oci-layout' in the layout has more than 4096 bytes"),
  ],
  ['an empty index.json', layoutFile('index.json', ''), badImage('index.json is not valid JSON')],
  [
    'index.json without manifests',
    layoutFile('index.json', '{"schemaVersion":2}'),
    badImage('index.json manifests is not an array'),
  ],
  [
    'index.json of 5 MiB',
    layoutFile('index.json', ' '.repeat(5 * 1024 * 1024)),
    badImage("'index.json' in the layout has more than 4194304 bytes"),
  ],
  [
    'no image of that name',
    {
      index: (i) => {
        i.manifests[0].annotations = { 'org.opencontainers.image.ref.name': '\x1b[31mother' };
      },
    },
    refused('IMAGE_NOT_FOUND', "the layout 'LAYOUT' has no image 'hostile', only '\\x1b[31mother'"),
  ],
  [
    'two images of that name',
    {
      index: (i) => {
        i.manifests.push({ ...i.manifests[0], digest: hashOf('x') });
      },
    },
    badImage("the layout 'LAYOUT' has 2 images 'hostile'"),
  ],
]);
