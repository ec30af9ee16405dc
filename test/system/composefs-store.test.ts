/** A store with images of format composefs: names, sharing, damage and its repair, conversion, differences, deletion. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { BUSYBOX, NGINX, REGISTRY } from './container.ts';

const machine = sharedMachine();
const ROOT = '/var/lib/composefs-test';
const USER = `${REGISTRY}/odd:user`;

const sh = async (text: string): Promise<string> => stdoutOf(await machine.script(text));
const ocictl = (command: string) => sh(`ocictl --json --root ${ROOT} ${command}`);
const json = async (command: string) => JSON.parse(await ocictl(command)) as Record<string, unknown>[];
const pull = (name: string) => sh(`oci-pull --quiet --root ${ROOT} --store-format composefs ${name}`);
const files = (where: string) => sh(`find ${ROOT}/${where} -type f | sort`);

interface Checked {
  damage: { kind: string; path?: string; problem: string; repaired: boolean }[];
}

/** Whatever its status. */
async function fsck(options = ''): Promise<Checked['damage']> {
  const { stdout } = await machine.script(`ocictl --json --root ${ROOT} fsck ${options}`);
  return (JSON.parse(stdout) as Checked).damage;
}

before(async () => {
  await sh(`rm -rf ${ROOT}`);
  for (const name of [NGINX, BUSYBOX, USER]) await pull(name);
});

test('images, inspect and tags tell of the format, and a present image is not written again', async () => {
  const images = (await json('images')) as { format: string; imageDigest: string }[];
  assert.deepEqual([...new Set(images.map(({ format }) => format))], ['composefs']);
  for (const { imageDigest } of images) assert.match(imageDigest, /^sha256:[0-9a-f]{64}$/);
  const objects = await files('objects');
  await pull(NGINX);
  assert.equal(await files('objects'), objects);
  await ocictl(`tag ${NGINX} other`);
  assert.match(
    await sh(`readlink ${ROOT}/tags/other.composefs`),
    /^\.\.\/images\/[0-9a-f]{64}\.composefs\n$/,
  );
  await ocictl('untag other');
  assert.deepEqual(await fsck(), []);
});

test('what two images share counts as shared', async () => {
  const { images } = JSON.parse(await ocictl('du')) as {
    images: { names: string[]; sharedBytes: number; uniqueBytes: number }[];
  };
  const busybox = images.find(({ names }) => names.includes(`${BUSYBOX}:latest`))!;
  assert.ok(busybox.sharedBytes > 1_000_000, `${busybox.sharedBytes} shared`);
  assert.ok(busybox.uniqueBytes < 500_000, `${busybox.uniqueBytes} unique`);
});

test('damage of objects, streams and images is told by its path, and repaired', async () => {
  const flip = (file: string) =>
    sh(`chmod u+w ${file}; printf X | dd of=${file} conv=notrunc bs=1 seek=200 status=none`);
  const large = (await sh(`find ${ROOT}/objects -type f -size +100k | sort`)).trim().split('\n');
  await flip(large[0]!);
  await sh(`rm ${large[1]}`);
  const found = await fsck();
  assert.deepEqual(found.map(({ kind, problem }) => `${kind} ${problem}`).sort(), [
    'object content differs',
    'object is missing',
  ]);
  await sh(
    `cd /var/tmp; openssl genpkey -algorithm ed25519 -out c.pem; openssl pkey -in c.pem -pubout -out c.pub`,
  );
  await ocictl(`sign ${BUSYBOX} --key /var/tmp/c.pem`);
  await ocictl(`sign ${NGINX} --key /var/tmp/c.pem`);
  for (const { path } of found) assert.match(path ?? '', /^'\w+\//);
  for (const [what, number] of [
    ['images/*/image.cfs', 1],
    ['streams/*', 2],
  ] as const)
    await flip((await sh(`ls ${ROOT}/${what} | sed -n ${number}p`)).trim());
  const repaired = await fsck('--repair --plain-http');
  assert.ok(repaired.length >= 3, `${repaired.length} damages`);
  assert.deepEqual(
    repaired.filter((one) => !one.repaired),
    [],
  );
  assert.deepEqual(await fsck(), []);
  // what was signed is what there is again
  for (const image of [BUSYBOX, NGINX]) await ocictl(`verify ${image} --key /var/tmp/c.pub`);
});

test('diff lists what an image has more or otherwise, alike in both formats', async () => {
  const differences = await ocictl(`diff ${BUSYBOX} ${USER}`);
  assert.deepEqual(
    (JSON.parse(differences) as { kind: string; path: string }[]).map(({ kind, path }) => `${kind} ${path}`),
    ['changed /etc/group', 'changed /etc/passwd', 'added /home/alice'],
  );
  await sh(`oci-pull --quiet ${BUSYBOX}; oci-pull --quiet ${USER}`);
  assert.equal(await sh(`ocictl --json diff ${BUSYBOX} ${USER}`), differences);
});

test('an image is converted to a tree, without any network, and back, under its names, to the same digest', async () => {
  const digest = async () =>
    ((await json('images')) as { names: string[]; imageDigest: string }[]).find(({ names }) =>
      names.includes(`${BUSYBOX}:latest`),
    )?.imageDigest;
  const before = await digest();
  await sh(`unshare --net ocictl --root ${ROOT} convert --to tree ${BUSYBOX}`);
  assert.equal(await digest(), undefined);
  const pulled = '/var/tmp/pulled';
  await sh(`oci-pull --quiet --root ${pulled} --store-format tree ${BUSYBOX}`);
  // of what the image has, and what both stores made by themselves
  assert.equal(
    await sh(`cd ${pulled}/layers
      for layer in $(ls | grep -v skeleton); do
        diff --recursive --no-dereference $layer ${ROOT}/layers/$layer
        getfattr --recursive --no-dereference --dump --match=- $layer >${pulled}/xattrs
        (cd ${ROOT}/layers && getfattr --recursive --no-dereference --dump --match=- $layer) | diff ${pulled}/xattrs -
        echo same
      done`),
    'same\n',
  );
  await sh(`rm -rf ${pulled}`);
  assert.deepEqual(await fsck(), []);
  await ocictl(`convert --to composefs ${BUSYBOX}`);
  assert.equal(await digest(), before);
  assert.deepEqual(await fsck(), []);
});

test('removing images leaves what others need, and nothing in the end', async () => {
  await ocictl(`rm ${NGINX}`);
  assert.deepEqual(await fsck(), []);
  await ocictl(`rm ${BUSYBOX} ${USER}`);
  await ocictl('gc --grace 0');
  assert.equal(
    await sh(`find ${ROOT}/objects ${ROOT}/streams ${ROOT}/objects-by-sha256 ! -type d | wc -l`),
    '0\n',
  );
});
