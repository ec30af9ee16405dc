/**
 * The power is cut during `ocictl convert`, both ways, and during `ocictl gc`. A first boot does all of it on a disk whose
 * writes are logged; a second one finds copies of that disk as they were at many moments in between. On each the
 * store is sound, and every image that had a name has it, whole.
 * VM_LOG=FILE keeps what the machines said (docs/vm-tests.md).
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { command } from '../../scripts/step.ts';
import { cacheDir } from '../machine/cache.ts';
import { type Disk, type FurtherDisk, makeDisk, startVirtualMachine } from '../machine/virtual-machine.ts';
import { type LoggedWrite, loggedBytes, readWriteLog, replayWrites } from '../machine/write-log.ts';
import { writeBusyboxLayout } from './busybox-layout.ts';

const RUN_MAX_MS = 1_800_000; // emulated, on a machine that does other things
const BLOCK_BYTES = 4096;
const FILE_SYSTEM_BLOCKS = 24_000;
/** The block after the file system is written between two steps. */
const MARK = 'VM MARK ';
const STEPS = ['to tree', 'to composefs', 'gc'] as const;
const CUTS_PER_STEP = 4;

const COMMON = `trap 'echo VM-DONE' EXIT # also where something failed
list() { # the files of an image, as a container sees them
  local d=$(ocictl --root $1 mount $2)
  (cd "$d"; { find . -printf '%p %y %m %U:%G %n %l %Ts\\n'; find . -type f -exec sha256sum {} +; } | sort | sha256sum | cut -c1-12)
  umount -R "$d"
  rm -rf /run/oci/mounts
}
say() { echo "VM $*"; }`;

const SCRIPTS = {
  work: `${COMMON}
mkdir -p /var/lib/oci
mount -t ext4 /dev/vdb /var/lib/oci
chmod 700 /var/lib/oci
mark() {
  sync
  printf '%-${BLOCK_BYTES}s' "${MARK}$*" >/tmp/mark
  dd if=/tmp/mark of=/dev/vdb bs=${BLOCK_BYTES} count=1 seek=${FILE_SYSTEM_BLOCKS} oflag=direct conv=notrunc,fsync status=none
}
for name in box other; do oci-pull --quiet --store-format composefs oci:/$name $name >/dev/null; done
mark ${STEPS[0]}
ocictl --quiet convert --to tree box
mark end
say tree: $(list /var/lib/oci box)
mark ${STEPS[1]}
ocictl --quiet convert --to composefs box
mark end
say composefs: $(list /var/lib/oci box)
ocictl --quiet untag other
mark ${STEPS[2]}
ocictl gc --grace 0
mark end`,
  look: `${COMMON}
mkdir /tmp/store
for disk in /dev/vd[b-z]; do
  mount -t ext4 $disk /tmp/store
  say cut: \${disk#/dev/} \\
    format $(ls /tmp/store/images | sed 's/^[0-9a-f]*\\.//' | sort | tr '\\n' ' ') \\
    fsck $(ocictl --root /tmp/store --json fsck | jq -c .damage) \\
    box $(list /tmp/store box) \\
    gc $(ocictl --root /tmp/store --quiet gc --grace 0 | wc -l) \\
    fsck $(ocictl --root /tmp/store --json fsck | jq -c .damage) \\
    left $(find /tmp/store/staging -mindepth 1 ! -name blobs | wc -l) $(ls /tmp/store/images | wc -l)
  umount /tmp/store
done`,
};

interface Cut {
  readonly step: string;
  /** How many of all writes the disk has. */
  readonly writes: number;
}

let disk: Disk;
let directory: string;
let worked = '';
let looked = '';
let cuts: Cut[];
before(async () => {
  const file = () => randomBytes(10_000);
  const shared = { a: file(), b: file(), c: file(), d: file() };
  disk = await makeDisk({
    scripts: SCRIPTS,
    fill(root, programs) {
      const busybox = join(programs, 'usr/bin/busybox');
      writeBusyboxLayout(join(root, 'box'), busybox, { ...shared, e: file(), f: file() });
      writeBusyboxLayout(join(root, 'other'), busybox, { ...shared, g: file(), h: file() });
    },
  });
  directory = mkdtempSync(join(cacheDir(), 'cuts-'));
  const [blank, store, log] = ['blank', 'store', 'log'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const make = `truncate -s ${(FILE_SYSTEM_BLOCKS + 1) * BLOCK_BYTES} "$0"
    mkfs.ext4 -q -b ${BLOCK_BYTES} -O verity "$0" ${FILE_SYSTEM_BLOCKS}
    cp --sparse=always "$0" "$1"; : >"$2"`;
  await command(['sh', '-euc', make, blank, store, log], { quiet: true });
  worked = await boot('work', [{ path: store, log }]);

  const writes = readWriteLog(log);
  cuts = cutsOf(writes, log);
  const disks: FurtherDisk[] = [];
  for (const [index, cut] of cuts.entries()) {
    const path = join(directory, `cut${index}`);
    await command(['cp', '--sparse=always', blank, path], { quiet: true });
    replayWrites(log, writes.slice(0, cut.writes), path);
    disks.push({ path });
  }
  looked = await boot('look', disks);
  const kept = process.env['VM_LOG'];
  if (kept !== undefined) writeFileSync(kept, `${worked}\n${JSON.stringify(cuts)}\n${looked}`);
});
after(() => {
  if (directory !== undefined) rmSync(directory, { recursive: true });
  disk?.remove();
});

/** What it said until it had done its script. */
async function boot(script: keyof typeof SCRIPTS, disks: readonly FurtherDisk[]): Promise<string> {
  const machine = startVirtualMachine(disk, `/${script}`, { disks });
  try {
    return await machine.waitFor('VM-DONE', RUN_MAX_MS);
  } finally {
    await machine.cut();
  }
}

/** Of each step the moment before it, moments between two flushes of the disk, and the moment after it. */
function cutsOf(writes: readonly LoggedWrite[], log: string): Cut[] {
  const marks = writes.flatMap((write, index) => {
    if (write.offset !== FILE_SYSTEM_BLOCKS * BLOCK_BYTES || write.bytes === 0) return [];
    return [{ index, name: loggedBytes(log, write).toString().slice(MARK.length).trim() }];
  });
  return STEPS.flatMap((step) => {
    const at = marks.findIndex(({ name }) => name === step);
    assert.ok(at >= 0 && marks[at + 1] !== undefined, worked);
    const [from, to] = [marks[at]!.index, marks[at + 1]!.index];
    const flushes = writes.flatMap(({ isFlush }, index) =>
      isFlush && index > from && index < to ? [index] : [],
    );
    const between = flushes.map((flush, i) => Math.ceil((flush + (flushes[i + 1] ?? to)) / 2));
    const chosen = Array.from(
      { length: CUTS_PER_STEP },
      (_, i) => between[Math.floor((i * between.length) / CUTS_PER_STEP)]!,
    );
    return [from, ...chosen, to].map((index) => ({ step, writes: index + 1 }));
  });
}

/** What follows `VM topic: `, of each such line. */
function about(text: string, topic: string): string[] {
  return [...text.matchAll(/^VM (.*?): (.*)$/gm)].flatMap(([, what, rest]) =>
    what === topic ? [rest!] : [],
  );
}

interface Found {
  /** Of the images that are there. */
  readonly formats: string;
  /** What fsck finds, before and after gc. */
  readonly damage: readonly string[];
  /** What the image has that had a name all the time. */
  readonly box: string;
  /** In staging/ and in images/, after gc. */
  readonly left: string;
}

function found(t: TestContext, step: string): Found[] {
  return about(looked, 'cut').flatMap((line, index) => {
    const cut = cuts[index]!;
    if (cut.step !== step) return [];
    t.diagnostic(`${step}, after ${cut.writes} writes: ${line}`);
    const [, formats, first, box, , second, left] =
      /^vd\w format (.*?) fsck (\S+) box (\S*) gc (\d+) fsck (\S+) left (.*)$/.exec(line) ?? [];
    return [{ formats: formats!, damage: [first!, second!], box: box!, left: left! }];
  });
}

for (const [step, from, to, images] of [
  ['to tree', 'composefs composefs', 'composefs mstack', '2'],
  ['to composefs', 'composefs mstack', 'composefs composefs', '2'],
  ['gc', 'composefs composefs', 'composefs', '1'],
] as const)
  test(`a power cut during ${step === 'gc' ? 'gc' : `convert --to ${step.slice(3)}`}`, (t) => {
    assert.equal(about(looked, 'cut').length, cuts.length, looked);
    const states = found(t, step);
    assert.equal(states.length, CUTS_PER_STEP + 2);
    assert.deepEqual([states[0]!.formats, states.at(-1)!.formats], [from, to]);
    const [box] = about(worked, 'tree');
    assert.match(box ?? '', /^[0-9a-f]{12}$/, worked);
    assert.deepEqual(about(worked, 'composefs'), [box]);
    for (const state of states) {
      assert.deepEqual(state.damage, ['[]', '[]'], looked);
      assert.equal(state.box, box);
      assert.equal(state.left, `0 ${images}`);
    }
  });
