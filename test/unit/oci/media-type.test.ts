import assert from 'node:assert/strict';
import { test } from 'node:test';
import { essence, isNondistributable, layerCompression, manifestKind } from '../../../src/oci/media-type.ts';

test('layer types', () => {
  const table: [string, string | undefined, boolean][] = [
    ['application/vnd.oci.image.layer.v1.tar', 'none', false],
    ['application/vnd.oci.image.layer.v1.tar+gzip', 'gzip', false],
    ['application/vnd.oci.image.layer.v1.tar+zstd', 'zstd', false],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar', 'none', true],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'gzip', true],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+zstd', 'zstd', true],
    ['application/vnd.docker.image.rootfs.diff.tar', 'none', false],
    ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'gzip', false],
    ['application/vnd.docker.image.rootfs.diff.tar.zstd', 'zstd', false],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'gzip', true],
    ['application/vnd.oci.image.layer.v1.tar+gzip+encrypted', undefined, false],
    ['application/vnd.oci.image.layer.v1.tar.gzip', undefined, false],
    ['application/octet-stream', undefined, false],
    ['', undefined, false],
    ['constructor', undefined, false],
  ];
  for (const [type, compression, foreign] of table) {
    assert.equal(layerCompression(type), compression, type);
    assert.equal(isNondistributable(type), foreign, type);
  }
});

test('manifest types', () => {
  assert.equal(manifestKind('application/vnd.oci.image.index.v1+json'), 'index');
  assert.equal(manifestKind('application/vnd.docker.distribution.manifest.list.v2+json'), 'index');
  assert.equal(manifestKind('application/vnd.docker.distribution.manifest.v2+json'), 'manifest');
  assert.equal(manifestKind('application/vnd.docker.distribution.manifest.v1+prettyjws'), 'schema1');
  assert.equal(manifestKind('application/json'), undefined);
  assert.equal(essence('Application/JSON ; charset=utf-8'), 'application/json');
  assert.equal(essence(''), '');
});
