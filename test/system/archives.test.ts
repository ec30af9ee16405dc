/** Archives as podman and skopeo write them: the same layers as from the registry, the names that podman gives. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { BUSYBOX, NGINX } from './container.ts';

const machine = sharedMachine();
const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));
const DIR = '/var/tmp/archives';

const pulled = async (name: string) => {
  const { digest, name: localName } = JSON.parse(await sh(`oci-pull --json --quiet ${name}`));
  const { layers } = JSON.parse(await sh(`ocictl --json inspect ${localName}`));
  return { digest, localName, chain: layers.map(({ chainID }: { chainID: string }) => chainID) };
};
let registry: Awaited<ReturnType<typeof pulled>>;

before(async () => {
  registry = await pulled(NGINX);
  await sh(`mkdir -p ${DIR}
    podman --log-level=error pull --quiet ${NGINX} ${BUSYBOX} >/dev/null
    podman --log-level=error pull --quiet ${BUSYBOX} >/dev/null
    podman tag ${NGINX} localhost/web:v1
    podman save --quiet --format docker-archive -o ${DIR}/docker.tar localhost/web:v1
    podman save --quiet --multi-image-archive -o ${DIR}/many.tar localhost/web:v1 ${BUSYBOX}
    podman save --quiet --format oci-archive -o ${DIR}/oci.tar localhost/web:v1
    skopeo copy --quiet docker://${NGINX} oci-archive:${DIR}/exact.tar:web:v2
    skopeo copy --quiet docker://${NGINX} docker-archive:${DIR}/skopeo.tar:web:v3
    gzip -1 <${DIR}/docker.tar >${DIR}/docker.tar.gz; zstd -q -1 ${DIR}/docker.tar`);
});

after(async () => {
  await sh(`rm -rf ${DIR}; podman rmi --all --force >/dev/null
    ocictl --quiet rm localhost/web:v1 localhost/web:v2 docker.io/library/web:v3 ${BUSYBOX}`);
});

test('docker-archive of podman, also compressed: the layers of the registry', async () => {
  const plain = await pulled(`docker-archive:${DIR}/docker.tar`);
  assert.equal(plain.localName, 'localhost/web:v1');
  assert.deepEqual(plain.chain, registry.chain);
  for (const suffix of ['gz', 'zst'])
    assert.deepEqual(await pulled(`docker-archive:${DIR}/docker.tar.${suffix}`), plain);
  assert.equal(await sh('find /var/tmp -name ".ocictl-*"'), '');
});

test('one of several images', async () => {
  const listed = await machine.run(['oci-pull', `docker-archive:${DIR}/many.tar`]);
  assert.equal(listed.status, 64);
  assert.match(listed.stderr, /has 2 images: 'localhost\/web:v1', '127\.0\.0\.1:5000\/busybox:latest'/);
  const web = await pulled(`docker-archive:${DIR}/many.tar:localhost/web:v1`);
  assert.deepEqual(web.chain, registry.chain);
  const busybox = await pulled(`docker-archive:${DIR}/many.tar:@1`);
  assert.equal(busybox.localName, `${BUSYBOX}:latest`);
});

test('oci-archive of podman and skopeo', async () => {
  const podman = await pulled(`oci-archive:${DIR}/oci.tar`);
  assert.deepEqual([podman.localName, podman.chain], ['localhost/web:v1', registry.chain]);
  const skopeo = await pulled(`oci-archive:${DIR}/exact.tar`);
  assert.deepEqual([skopeo.localName, skopeo.digest], ['localhost/web:v2', registry.digest]);
});

test('docker-archive of skopeo gets the name that podman load gives it', async () => {
  const skopeo = await pulled(`docker-archive:${DIR}/skopeo.tar`);
  const loaded = await sh(`podman --log-level=error load --quiet -i ${DIR}/skopeo.tar`);
  assert.equal(loaded, `Loaded image: ${skopeo.localName}\n`);
  assert.deepEqual(skopeo.chain, registry.chain);
});
