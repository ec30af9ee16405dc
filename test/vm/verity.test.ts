/**
 * A kernel with fs-verity: what is done to a composefs image behind the store's back is seen when it is read, or the
 * start is refused by the file's name. The image is mkcomposefs's; it and its objects get their fs-verity by fsverity(1).
 * VM_LOG=FILE keeps what the machine said (docs/vm-tests.md).
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { type Disk, makeDisk, startVirtualMachine, type VirtualMachine } from '../machine/virtual-machine.ts';
import { writeBusyboxLayout } from './busybox-layout.ts';

const RUN_MAX_MS = 2_400_000; // emulated, on a machine that does other things
const STORE = '/var/lib/oci';

/** Says `VM TOPIC: …` lines, which the tests below look at. */
const SCRIPT = `
trap 'echo VM done' EXIT # also where something failed
say() { echo "VM $*"; }
oci-pull --quiet oci:/busybox tree >/dev/null
oci-pull --quiet oci:/busybox box >/dev/null

hex=$(ocictl --json images | jq -r '.[0].digest[7:]')
cp -a "$(ocictl mount tree)" /var/tmp/tree
ocictl umount tree
mkdir /var/tmp/tree/data /var/tmp/new
for f in replaced swapped cut raw whole; do head -c 10000 /dev/urandom >/var/tmp/tree/data/$f; done
mkdir -m 700 ${STORE}/objects
digest=$(mkcomposefs --min-version=1 --digest-store=${STORE}/objects --print-digest /var/tmp/tree /var/tmp/new/image.cfs)
cp -a ${STORE}/images/$hex.mstack/.oci /var/tmp/new/
jq --arg d $digest '. + {format: "composefs", imageDigest: $d}' <${STORE}/images/$hex.mstack/.oci/image.json >/var/tmp/new/.oci/image.json
mv /var/tmp/new ${STORE}/images/$hex.composefs
ln -s ../images/$hex.composefs ${STORE}/tags/box.composefs
rm -r ${STORE}/images/$hex.mstack ${STORE}/tags/*.mstack
image=${STORE}/images/$hex.composefs/image.cfs
cd ${STORE}/objects
# the object of a file
object() { fsverity digest --compact /var/tmp/tree/$1 | sed 's,..,&/,'; }
again() { # put a good copy back
  rm -f "$1"; cp "$2" "$1"; fsverity enable "$1"; sync "$1"; echo 3 >/proc/sys/vm/drop_caches; }
run() { oci-run --quiet --wait -i "$@" 2>&1; }
read_all='for f in whole replaced swapped cut raw; do cat /data/$f >/dev/null && echo "read $f"; done'
held_setup() { journalctl --sync; journalctl -b -o cat --no-pager -u held-setup | grep refusing | tail -1; }
# one byte of the file's first block, on the disk itself
spoil() {
  sync
  # FIBMAP
  block=$(perl -e 'open F, "<", $ARGV[0]; $b = pack "L", 0; ioctl F, 1, $b or die; print unpack "L", $b' "$1")
  printf X | dd of=/dev/vda bs=1 seek=$((block * 4096 + 100)) conv=notrunc,fsync 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
}

say machine: $(uname -r), $(systemctl --version | head -1), $(cut -d. -f1 /proc/uptime) s since the boot began
for o in */*; do fsverity enable $o 2>/dev/null || fsverity measure $o >/dev/null; done
say first: status of require: $(run --verity=require box true >/tmp/said; echo $?) $(head -1 /tmp/said)
fsverity enable $image
say first: image $(fsverity measure $image | cut -d' ' -f1) is sha256:$digest
say first: objects $(ls */* | wc -l), guarded $(fsverity measure */* | wc -l)
say first: write $( (echo x >>$(object data/whole)) 2>&1 | sed 's/.*: //')

ocictl --quiet install box --name held --verity=require sleep 600 >/dev/null
systemctl start held
say held: $(grep -m1 -o 'overlay oci-held.*' /proc/self/mountinfo)
run --verity=require box sh -c "$read_all; echo x >>/data/whole; cat /data/whole | wc -c" | sed 's/^/VM held: whole: /'
say held: auto $(run --unit auto box sh -c "grep -c ' / / .*verity=require' /proc/self/mountinfo")
say held: off $(run --unit off --verity=off box sh -c "grep -c ' / / .*verity=require' /proc/self/mountinfo")
say held: mount $(d=$(ocictl mount box); grep -o "$d.*verity=require" /proc/self/mountinfo | grep -o 'verity=require'; ocictl umount box)
systemctl stop held

o=$(object data/replaced); rm $o; cp /var/tmp/tree/data/whole $o # without fs-verity
o=$(object data/swapped); rm $o; cp /var/tmp/tree/data/whole $o; fsverity enable $o # with that of another file
o=$(object data/cut); cp $o /var/tmp/cut; truncate -s 4096 /var/tmp/cut; rm $o; cp /var/tmp/cut $o; fsverity enable $o
spoil $(object data/raw)
run --verity=require box sh -c "$read_all" | sed 's/^/VM objects: require: /'
run --verity=off box sh -c "cat /data/raw >/dev/null && echo raw was read" | sed 's/^/VM objects: off: /'
dmesg | grep -i -E 'verity' | tail -4 | sed 's/^\\[[^]]*\\] */VM objects: kernel: /'
for f in replaced swapped cut raw; do again $(object data/$f) /var/tmp/tree/data/$f; done
run --verity=require box sh -c "$read_all" | sed 's/^/VM objects: again: /'

o=$(object bin/busybox); rm $o; cp /var/tmp/tree/bin/busybox $o; printf X | dd of=$o bs=1 seek=5000 conv=notrunc 2>/dev/null
say command: status $(run --verity=require box true >/tmp/said; echo $?) $(head -1 /tmp/said)
again $o /var/tmp/tree/bin/busybox

cp $image /var/tmp/image.cfs
rm $image; cp /var/tmp/image.cfs $image # the same bytes, and nobody guards them
say image: unguarded: $(run --verity=require box true >/tmp/said; echo $?) $(head -1 /tmp/said)
say image: unguarded at boot: $(systemctl start held 2>/dev/null; echo $?) $(held_setup)
printf X | dd of=$image bs=1 seek=1300 conv=notrunc 2>/dev/null
say image: edited: $(run box true >/tmp/said; echo $?) $(head -1 /tmp/said)
say image: edited at boot: $(systemctl start held 2>/dev/null; echo $?) $(held_setup)
again $image /var/tmp/image.cfs
spoil $image
say image: spoiled: $(run box true >/tmp/said; echo $?) $(head -1 /tmp/said)
again $image /var/tmp/image.cfs
say image: again: $(run --verity=require box echo ran)
systemctl start held && say image: again at boot
systemctl stop held
`;

let disk: Disk;
let machine: VirtualMachine;
let said = '';
before(async () => {
  disk = await makeDisk({
    scripts: { verity: SCRIPT },
    fill: (directory, root) => writeBusyboxLayout(join(directory, 'busybox'), join(root, 'usr/bin/busybox')),
  });
  machine = startVirtualMachine(disk, '/verity', { systemd: true });
  said = await machine.waitFor('VM done', RUN_MAX_MS);
  const log = process.env['VM_LOG'];
  if (log !== undefined) writeFileSync(log, said);
});
after(async () => {
  await machine?.cut();
  disk?.remove();
});

/** The lines about one topic, for the asserts and for who reads the log. */
function about(topic: string, t: TestContext): string[] {
  const lines = said
    .split('\n')
    .flatMap((line) => /VM .*/.exec(line)?.[0] ?? [])
    .filter((line) => line.startsWith(`VM ${topic}:`));
  for (const line of lines) t.diagnostic(line);
  return lines.map((line) => line.slice(`VM ${topic}: `.length));
}

test('the kernel guards image and objects, and --verity=require asks for it', (t) => {
  about('machine', t);
  const [early = '', image = '', objects = '', write] = about('first', t);
  assert.match(early, /^status of require: 69 .*its files have no fs-verity/, said);
  const [, got, wanted] = /^image (sha256:[0-9a-f]{64}) is (.*)$/.exec(image) ?? [];
  assert.equal(got, wanted);
  const [, all, guarded] = /^objects (\d+), guarded (\d+)$/.exec(objects) ?? [];
  assert.equal(guarded, all);
  assert.equal(write, 'write Operation not permitted');
});

test('what runs has verity=require where it can, and reads and writes as ever', (t) => {
  const lines = about('held', t);
  assert.match(lines[0] ?? '', /^overlay oci-held rw,lowerdir=l1:l0::l1o,.*verity=require/, said);
  assert.deepEqual(lines.slice(1), [
    ...['whole', 'replaced', 'swapped', 'cut', 'raw'].map((name) => `whole: read ${name}`),
    'whole: 10002',
    'auto 1',
    'off 0',
    'mount verity=require',
  ]);
});

test('an object replaced, swapped, cut or changed on the disk cannot be read; put back, it can', (t) => {
  const lines = about('objects', t);
  const of = (what: string) =>
    lines.flatMap((line) => (line.startsWith(`${what}: `) ? [line.slice(what.length + 2)] : []));
  const required = of('require');
  assert.deepEqual(
    required,
    [
      'read whole',
      ...['replaced', 'swapped', 'cut'].map((name) => `cat: can't open '/data/${name}': Input/output error`),
      'cat: read error: Input/output error',
    ],
    said,
  );
  assert.ok(
    !of('off').includes('raw was read'),
    'the file system itself refuses what its fs-verity does not cover',
  );
  assert.deepEqual(
    of('again'),
    ['whole', 'replaced', 'swapped', 'cut', 'raw'].map((name) => `read ${name}`),
  );
});

test('a command whose object was changed does not run', (t) => {
  assert.match(about('command', t)[0] ?? '', /^status (?!0 )\d+ /, said);
});

test('an image that was changed, in its file or on the disk, is refused by its name; put back, it runs', (t) => {
  const lines = about('image', t);
  const of = (what: string) =>
    lines.find((line) => line.startsWith(`${what}: `))?.slice(what.length + 2) ?? '';
  assert.match(of('unguarded'), /^69 oci-run: --verity=require: .*its files have no fs-verity/, said);
  assert.match(of('unguarded at boot'), /^1 .*image\.cfs has no fs-verity any more/);
  assert.match(of('edited'), /^65 oci-run: .*image\.cfs' has the fs-verity digest sha256:/);
  assert.match(of('edited at boot'), /^1 .*image\.cfs is not sha256:/);
  assert.match(of('spoiled'), /^65 oci-run: .*image\.cfs' cannot be read: EIO/);
  assert.equal(of('again'), 'ran');
  assert.ok(lines.includes('again at boot'), said);
});
