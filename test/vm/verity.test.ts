/**
 * A kernel with fs-verity: a pull has it guard what is stored. What is done to that behind the store's back is seen when
 * it is read, or the start is refused; fsck names it, and fsck --repair heals it from the image's source.
 * VM_LOG=FILE keeps what the machine said (docs/vm-tests.md).
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { type Disk, makeDisk, startVirtualMachine, type VirtualMachine } from '../machine/virtual-machine.ts';
import { writeBusyboxLayout } from './busybox-layout.ts';

const RUN_MAX_MS = 2_400_000; // emulated, on a machine that does other things
const STORE = '/var/lib/oci';
/** What each file of the image is for: what happens to its object. */
const FILES = ['whole', 'replaced', 'swapped', 'cut', 'bare', 'gone', 'odd', 'raw'];

/** Says `VM TOPIC: …` lines, which the tests below look at. */
const SCRIPT = `
trap 'echo VM done' EXIT # also where something failed
say() { echo "VM $*"; }
said() { sed "s/^/VM $1: /"; }
cd ${STORE} 2>/dev/null || { mkdir -m 700 ${STORE}; cd ${STORE}; }
# the object of a file, by another program than ours
object() { fsverity digest --compact $1 | sed 's,^..,objects/&/,'; }
guarded() { say "$1: objects $(ls objects/*/* | wc -l), guarded $(fsverity measure objects/*/* 2>/dev/null | wc -l), by another digest than their name $(
  fsverity measure objects/*/* 2>/dev/null | sed 's,objects/\\(..\\)/,\\1,' | awk '$1 != "sha256:" $2' | wc -l)"; }
run() { oci-run --quiet --wait -i "$@" 2>&1; }
read_all='for f in ${FILES.join(' ')}; do cat /data/$f >/dev/null && echo "read $f"; done'
held_setup() { journalctl --sync; journalctl -b -o cat --no-pager -u held-setup | grep refusing | tail -1; }
start_held() { systemctl start held 2>/dev/null && { systemctl stop held; echo started; } || held_setup; }
fsck() { local status=0; ocictl fsck \${2-} >/tmp/fsck 2>&1 || status=$?; { sort /tmp/fsck; echo "status $status"; } | said "$1"; }
# one byte of the file's first block, on the disk itself
spoil() {
  sync
  # FIBMAP
  block=$(perl -e 'open F, "<", $ARGV[0]; $b = pack "L", 0; ioctl F, 1, $b or die; print unpack "L", $b' "$1")
  printf X | dd of=/dev/vda bs=1 seek=$((block * 4096 + 100)) conv=notrunc,fsync 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
}

say machine: $(uname -r), $(systemctl --version | head -1), $(cut -d. -f1 /proc/uptime) s since the boot began
oci-pull --quiet --store-format composefs oci:/busybox box >/dev/null
image=$(echo images/*/image.cfs)
say first: image $(fsverity measure $image | cut -d' ' -f1) is $(jq -r '"sha256:" + .imageDigest' images/*/.oci/image.json)
guarded first
for file in $image $(object /data/whole); do (echo x >>$file) 2>&1 | sed 's/.*: /VM first: write: /'; done

ocictl --quiet install box --name held --verity=require sleep 600 >/dev/null
systemctl start held
say held: $(grep -m1 -o 'overlay oci-held.*' /proc/self/mountinfo)
systemctl stop held
run box sh -c "grep -o ' / / .*verity=require' /proc/self/mountinfo | grep -c .; $read_all; echo x >>/data/whole; wc -c </data/whole" | said 'held: auto'
say held: mount $(d=$(ocictl mount box); grep -o "$d.*verity=require" /proc/self/mountinfo | grep -o 'verity=require'; ocictl umount box)

good="$(object /data/whole) $(object /usr/bin/busybox) $image"
stat -c '%n %i %Z' $good >/tmp/good
o=$(object /data/replaced); rm $o; cp /data/whole $o # without fs-verity
o=$(object /data/swapped); rm $o; cp /data/whole $o; fsverity enable $o # with that of another file
o=$(object /data/cut); rm $o; head -c 4096 /data/cut >$o; fsverity enable $o
o=$(object /data/bare); rm $o; cp /data/bare $o # the same bytes, and nobody guards them
rm $(object /data/gone)
o=$(object /data/odd); rm $o; ln -s ../nowhere $o
spoil $(object /data/raw)
run --verity=require box sh -c "$read_all" | said 'objects: require'
run --verity=off box sh -c "grep -c ' / / .*verity=require' /proc/self/mountinfo; cat /data/raw >/dev/null && echo raw was read" | said 'objects: off'
dmesg | grep -i 'verity.*corrupt' | tail -2 | sed 's/^\\[[^]]*\\] */VM objects: kernel: /'
fsck 'objects: fsck'
fsck 'objects: repair' --repair
fsck 'objects: fsck again'
stat -c '%n %i %Z' $good | cmp - /tmp/good && say 'objects: the good ones are the same files'
guarded objects
run --verity=require box sh -c "$read_all" | said 'objects: again'

o=$(object /usr/bin/busybox); rm $o; cp /usr/bin/busybox $o; printf X | dd of=$o bs=1 seek=5000 conv=notrunc 2>/dev/null
say command: status $(run --verity=require box true >/tmp/said; echo $?) $(head -1 /tmp/said)
fsck 'command: repair' --repair

cp $image /var/tmp/image.cfs
rm $image; cp /var/tmp/image.cfs $image # the same bytes, and nobody guards them
say image: unguarded: $(run --verity=require box true >/tmp/said; echo $?) $(cat /tmp/said)
say image: unguarded at boot: $(start_held)
fsck 'image: unguarded: fsck'
fsck 'image: unguarded: repair' --repair
say image: unguarded: healed: $(start_held)
rm $image; cp /var/tmp/image.cfs $image; printf X | dd of=$image bs=1 seek=1300 conv=notrunc 2>/dev/null
say image: edited: $(run box true >/tmp/said; echo $?) $(head -1 /tmp/said)
say image: edited at boot: $(start_held)
fsck 'image: edited: repair' --repair
spoil $image
say image: spoiled: $(run box true >/tmp/said; echo $?) $(head -1 /tmp/said)
fsck 'image: spoiled: repair' --repair
guarded image
say image: $(fsverity measure $image | cut -d' ' -f1) is $(jq -r '"sha256:" + .imageDigest' images/*/.oci/image.json)
run --verity=require box sh -c "$read_all" | said 'image: again'
say image: again at boot: $(start_held)
fsck 'image: in the end'
`;

let disk: Disk;
let machine: VirtualMachine;
let said = '';
before(async () => {
  const files = Object.fromEntries(FILES.map((name) => [name, randomBytes(10_000)]));
  disk = await makeDisk({
    scripts: { verity: SCRIPT },
    fill(directory, root) {
      writeBusyboxLayout(join(directory, 'busybox'), join(root, 'usr/bin/busybox'), files);
      mkdirSync(join(directory, 'data'));
      for (const [name, content] of Object.entries(files))
        writeFileSync(join(directory, 'data', name), content);
    },
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
function about(topic: string, t?: TestContext): string[] {
  const lines = said
    .split('\n')
    .flatMap((line) => /VM .*/.exec(line)?.[0] ?? [])
    .filter((line) => line.startsWith(`VM ${topic}: `));
  for (const line of lines) t?.diagnostic(line);
  return lines.map((line) => line.slice(`VM ${topic}: `.length));
}

const digests = (line: string | undefined) =>
  /^image (sha256:[0-9a-f]{64}) is (.*)$/.exec(line ?? '')?.slice(1);
const of = (lines: readonly string[], what: string) =>
  lines.flatMap((line) => (line.startsWith(`${what}: `) ? [line.slice(what.length + 2)] : []));
const reads = (names: readonly string[]) => names.map((name) => `read ${name}`);
/** What fsck says of an object, without its digest. */
const problems = (lines: readonly string[]) =>
  lines.map((line) => line.replace(/^object [0-9a-f]{12}: /, ''));

test('a pull has the kernel guard image and objects', (t) => {
  about('machine', t);
  const [image, objects, ...writes] = about('first', t);
  const [got, recorded] = digests(image) ?? [];
  assert.ok(got, said);
  assert.equal(got, recorded);
  assert.equal(objects, 'objects 9, guarded 9, by another digest than their name 0');
  assert.deepEqual(writes, Array(2).fill('write: Operation not permitted'));
});

test('what runs has verity=require where it can, and reads and writes as ever', (t) => {
  const [mount, ...lines] = about('held', t);
  assert.match(mount ?? '', /^overlay oci-held rw,lowerdir=l1:l0::l1o,.*verity=require/, said);
  assert.deepEqual(of(lines, 'auto'), ['1', ...reads(FILES), '10002']);
  assert.equal(lines.at(-1), 'mount verity=require');
});

test('an object that somebody changed cannot be read; fsck names its file, and repair heals it alone', (t) => {
  const lines = about('objects', t);
  assert.deepEqual(
    of(lines, 'require'),
    [
      'read whole',
      ...['replaced', 'swapped', 'cut', 'bare'].map(
        (name) => `cat: can't open '/data/${name}': Input/output error`,
      ),
      ...['gone', 'odd'].map((name) => `cat: can't open '/data/${name}': No such file or directory`),
      'cat: read error: Input/output error', // raw
    ],
    said,
  );
  // the file system itself refuses what its fs-verity does not cover
  assert.deepEqual(of(lines, 'off'), ['0', 'cat: read error: Input/output error']);
  const found = [
    "'data/bare': has no fs-verity",
    "'data/cut': content differs",
    "'data/gone': is missing",
    "'data/odd': is no file",
    "'data/raw': cannot be read: EIO",
    "'data/replaced': content differs",
    "'data/swapped': content differs",
  ];
  assert.deepEqual(problems(of(lines, 'fsck')).sort(), [
    ...found,
    'ocictl: 1 layers of 1 images: 7 damaged',
    'ocictl: repair it: ocictl fsck --repair',
    'status 65',
  ]);
  const [verdict, fetching, status, ...repaired] = [
    ...of(lines, 'repair').filter((line) => !line.startsWith('object')),
    ...problems(of(lines, 'repair').filter((line) => line.startsWith('object'))).sort(),
  ];
  assert.match(fetching ?? '', /^ocictl: fetching layer [0-9a-f]{12} again from oci:\/busybox$/);
  assert.equal(verdict, 'ocictl: 1 layers of 1 images: 7 damaged, all repaired');
  assert.equal(status, 'status 0');
  assert.deepEqual(
    repaired,
    found.map((line) => `${line}: repaired`),
  );
  assert.deepEqual(of(lines, 'fsck again'), ['ocictl: 1 layers of 1 images: clean', 'status 0']);
  assert.ok(lines.includes('the good ones are the same files'), said);
  assert.ok(lines.includes('objects 9, guarded 9, by another digest than their name 0'), said);
  assert.deepEqual(of(lines, 'again'), reads(FILES));
});

test('a command whose object was changed does not run', (t) => {
  const lines = about('command', t);
  assert.match(lines[0] ?? '', /^status (?!0 )\d+ /, said);
  assert.ok(of(lines, 'repair').includes('status 0'), said);
});

test('an image that lost its guard, or was changed, is refused by its name, and repaired', (t) => {
  const lines = about('image', t);
  const one = (what: string) => of(lines, what)[0] ?? '';
  assert.match(
    one('unguarded'),
    /^69 oci-run: --verity=require: .*its file has no fs-verity .*fsck --repair/,
    said,
  );
  assert.match(one('unguarded at boot'), /image\.cfs has no fs-verity any more/);
  assert.match(one('unguarded: fsck'), /^image [0-9a-f]{12}: image\.cfs has no fs-verity$/);
  assert.match(one('unguarded: repair'), /^image [0-9a-f]{12}: image\.cfs has no fs-verity: repaired$/);
  assert.equal(one('unguarded: healed'), 'started');
  assert.match(one('edited'), /^65 oci-run: .*image\.cfs' has the fs-verity digest sha256:/);
  assert.match(one('edited at boot'), /image\.cfs is not sha256:/);
  assert.match(one('edited: repair'), /^image [0-9a-f]{12}: image\.cfs content differs: repaired$/);
  assert.match(one('spoiled'), /^65 oci-run: .*image\.cfs' cannot be read: EIO/);
  assert.match(one('spoiled: repair'), /^image [0-9a-f]{12}: image\.cfs cannot be read: EIO: repaired$/);
  for (const what of ['unguarded', 'edited', 'spoiled'])
    assert.ok(of(lines, `${what}: repair`).includes('status 0'), said);
  assert.ok(lines.includes('objects 9, guarded 9, by another digest than their name 0'), said);
  assert.deepEqual(of(lines, 'again'), reads(FILES));
  assert.equal(one('again at boot'), 'started');
  assert.deepEqual(of(lines, 'in the end'), ['ocictl: 1 layers of 1 images: clean', 'status 0']);
});
