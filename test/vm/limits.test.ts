/**
 * Limits on a kernel with every controller, under its own systemd: kept, changed and told; and one whole tour.
 * VM_LOG=FILE keeps what the machine said (docs/vm-tests.md).
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { type Disk, makeDisk, startVirtualMachine, type VirtualMachine } from '../machine/virtual-machine.ts';
import { writeBusyboxLayout } from './busybox-layout.ts';

const RUN_MAX_MS = 1_500_000; // emulated, on a machine that does other things

/** Says `VM TOPIC: …` lines, which the tests below look at. */
const SCRIPT = `
trap 'echo VM done' EXIT # also where something failed
say() { echo "VM $*"; }
group() { echo /sys/fs/cgroup/oci.slice/$1.service; }
quietly() { tr '\\n' ' '; }
cpu_usec() { sed -n 's/^usage_usec //p' $(group $1)/cpu.stat; }
now_usec() { echo $(($(date +%s%N) / 1000)); }
# what part of a CPU a container got in $2 seconds, in per cent
cpu_share() {
  local t0=$(now_usec) c0=$(cpu_usec $1); sleep $2; local c1=$(cpu_usec $1) t1=$(now_usec)
  echo $(((c1 - c0) * 100 / (t1 - t0)))
}
within() { local n=$1; shift; for i in $(seq $n); do "$@" && return; sleep 1; done; return 1; }
exists() { [ -e "$1" ]; }
missing() { [ ! -e "$1" ]; }

say machine: $(systemctl --version | head -1), $(uname -r), $(cut -d. -f1 /proc/uptime) s since the boot began
say controllers: $(cat /sys/fs/cgroup/cgroup.controllers)
oci-pull --quiet oci:/busybox busybox >/dev/null

say tour: begins
oci-run --quiet --unit tour --memory 64M --memory-reservation 16M --pids-limit 50 --cpus 0.5 --cpu-weight 300 \\
  --cpuset-cpus 0 --io-weight 200 -p 'IOReadBandwidthMax=/dev/vda 1M' -p 'IOWriteIOPSMax=/dev/vda 100' \\
  busybox sh -c 'echo hello from $0; head -c 300000 /dev/zero >/zeros; while :; do :; done' tour >/dev/null
for file in memory.max memory.low memory.oom.group pids.max cpu.max cpu.weight cpuset.cpus io.weight io.max; do
  say tour: $file: $(quietly <$(group tour)/$file)
done
say tour: disk: $(cat /sys/block/vda/dev)
say tour: ps: $(ocictl --json ps | jq -c '.[] | [.unit, .state, .command[0]]')
say tour: exec: $(ocictl exec tour id)
journalctl --sync
sync
say tour: logs: $(ocictl logs tour)
say tour: stats: $(ocictl --json stats tour | jq -c '.[0]')
ocictl stats --no-stream tour | sed 's/^/VM tour: table: /'
ocictl update tour --memory 96M --pids-limit 40 --cpus 0.7 --io-weight 300
for file in memory.max pids.max cpu.max io.weight; do say updated: $file: $(quietly <$(group tour)/$file); done
ocictl pause tour
say paused: $(quietly <$(group tour)/payload/cgroup.events) cpu $(cpu_share tour 3)
ocictl resume tour
say resumed: $(quietly <$(group tour)/payload/cgroup.events) cpu $(cpu_share tour 5)
touch /tmp/from-host
ocictl cp /tmp/from-host tour:/
ocictl cp tour:/from-host - | tar -tv --numeric-owner | sed 's/^/VM tour: cp: /'
systemctl kill --signal=KILL tour
within 60 missing /run/oci/containers/tour
say tour: left: "$(ls /run/oci/containers) $(ls /run/userdb) $(grep -c oci/containers /proc/self/mountinfo)"

say memory: begins
set +e
# a child of the payload is over the limit, and the payload would go on
oci-run --unit fat --wait --memory 64M busybox sh -c 'awk "BEGIN { s = \\"x\\"; while (1) s = s s }"; sleep 600' 2>/tmp/fat
say memory: status $?
sed 's/^/VM memory: said: /' /tmp/fat
set -e
oci-run --quiet --unit fat2 --memory 512M busybox sh -c \\
  'trap "awk \\"BEGIN { s = 1; while (1) s = s s }\\"" USR1; while :; do sleep 1; done' >/dev/null
ocictl update fat2 --memory 48M
(ocictl --json wait fat2 >/tmp/fat2 2>/tmp/fat2.said; echo done >>/tmp/fat2.said) &
sleep 30
ocictl kill -s USR1 fat2
within 120 grep -q done /tmp/fat2.said
say memory: wait: $(jq -c . /tmp/fat2)
sed 's/^/VM memory: wait said: /' /tmp/fat2.said
say memory: systemd: $(journalctl --no-pager -o cat -u fat2 | grep -i 'oom' | tail -1)

say bomb: begins
oci-run --unit bomb --wait --pids-limit 64 busybox sh -c 'mkfifo /f; (b() { b | b & }; b) & read x <>/f' >/tmp/bomb.out 2>&1 &
within 120 exists $(group bomb)/pids.events
within 120 grep -q '^max [1-9]' $(group bomb)/pids.events
t0=$(now_usec); ls / >/dev/null; t1=$(now_usec)
say bomb: ls on the host took $(((t1 - t0) / 1000)) ms
sleep 5
say bomb: pids.peak $(cat $(group bomb)/pids.peak), pids.current $(cat $(group bomb)/pids.current), pids.events $(quietly <$(group bomb)/pids.events)
say bomb: host tasks $(ls -d /proc/[0-9]*/task/[0-9]* | wc -l)
within 60 grep -q 'could not fork' /tmp/bomb.out || true
grep -m1 'could not fork: at' /tmp/bomb.out | sed 's/^/VM bomb: said: /' || true
systemctl kill --signal=KILL bomb
within 60 missing /run/oci/containers/bomb

say cpu: begins
oci-run --quiet --unit busy --cpus 0.2 busybox sh -c 'while :; do :; done' >/dev/null
sleep 2
say cpu: cpu.max $(cat $(group busy)/cpu.max) share $(cpu_share busy 10)
say cpu: $(grep -E 'nr_throttled' $(group busy)/cpu.stat)
ocictl update busy --cpus 0.6
say cpu: updated cpu.max $(cat $(group busy)/cpu.max) share $(cpu_share busy 10)
systemctl kill --signal=KILL busy
`;

let disk: Disk;
let machine: VirtualMachine;
let said = '';
before(async () => {
  disk = await makeDisk({
    scripts: { limits: SCRIPT },
    fill: (directory, root) => writeBusyboxLayout(join(directory, 'busybox'), join(root, 'usr/bin/busybox')),
  });
  machine = startVirtualMachine(disk, '/limits', { systemd: true });
  said = await machine.waitFor('VM done', RUN_MAX_MS);
  const log = process.env['VM_LOG'];
  if (log !== undefined) writeFileSync(log, said);
});
after(async () => {
  await machine.cut();
  disk.remove();
});

/** The lines about one topic, for the asserts and for who reads the log. */
function about(topic: string, t?: TestContext): string {
  // what stands before is systemd's greeting to a terminal
  const lines = said
    .split('\n')
    .flatMap((line) => /VM .*/.exec(line)?.[0] ?? [])
    .filter((line) => line.startsWith(`VM ${topic}:`));
  for (const line of lines) t?.diagnostic(line);
  return `${lines.map((line) => line.slice(`VM ${topic}: `.length)).join('\n')}\n`;
}

test('the machine has every controller', (t) => {
  about('machine', t);
  const controllers = about('controllers', t).trim().split(' ');
  for (const name of ['cpu', 'cpuset', 'io', 'memory', 'pids']) assert.ok(controllers.includes(name), said);
});

test('one whole tour: run, ps, exec, logs, stats with real numbers, cp, stop', (t) => {
  const tour = about('tour', t);
  assert.match(tour, /^ps: \["tour","active \(running\)","sh"\]$/m);
  assert.match(tour, /^exec: uid=0 gid=0/m);
  assert.match(tour, /^logs: hello from tour$/m);
  const stats = JSON.parse(/^stats: (.*)$/m.exec(tour)![1]!);
  assert.ok(stats.cpuPercent > 10 && stats.cpuPercent < 75, tour);
  assert.ok(stats.memoryBytes > 100_000 && stats.memoryBytes <= 64 * 2 ** 20, tour);
  assert.equal(stats.memoryMaxBytes, 64 * 2 ** 20);
  assert.deepEqual([stats.tasks, stats.tasksMax], [1, 50]);
  assert.equal(typeof stats.ioReadBytes, 'number');
  assert.ok(stats.ioWriteBytes >= 300_000, tour);
  assert.match(tour, /^table: tour +\d+\.\d% +[\d.]+ [kM]B +67\.1 MB +1\/50 +[\d.]+ [kM]?B +[\d.]+ [kM]B$/m);
  assert.match(tour, /^cp: -rw-r--r-- 0\/0 .* from-host$/m);
  assert.match(tour, /^left: +0$/m);
});

test('every limit is the kernel’s', () => {
  const tour = about('tour');
  const device = /^disk: (.*)$/m.exec(tour)![1]!;
  for (const [file, content] of Object.entries({
    'memory.max': String(64 * 2 ** 20),
    'memory.low': String(16 * 2 ** 20),
    'pids.max': '50',
    'cpu.max': '50000 100000',
    'cpu.weight': '300',
    'cpuset.cpus': '0',
    'io.weight': 'default 200',
    'io.max': `${device} rbps=1000000 wbps=max riops=max wiops=100`,
  }))
    assert.ok(tour.includes(`\n${file}: ${content}\n`), `${file}: ${tour}`);
});

test('update changes them live', (t) => {
  assert.equal(
    about('updated', t),
    `memory.max: ${96 * 2 ** 20}\npids.max: 40\ncpu.max: 70000 100000\nio.weight: default 300\n`,
  );
});

test('a paused container gets no processor', (t) => {
  assert.match(about('paused', t), /frozen 1 cpu 0$/m);
  assert.match(about('resumed', t), /frozen 0 cpu [1-9]\d$/m);
});

test('over its memory: the whole container is killed, by name', (t) => {
  const memory = about('memory', t);
  assert.match(memory, /^status 137$/m);
  assert.match(memory, /^said: oci-run: fat: killed: over its 64M of memory$/m);
  // the limit that ocictl update set
  const end = JSON.parse(/^wait: (.*)$/m.exec(memory)![1]!);
  const why = 'killed: over its 48M of memory';
  assert.deepEqual(end, { unit: 'fat2', status: 137, result: 'oom-kill', why });
  assert.match(memory, /^wait said: ocictl: fat2: killed: over its 48M of memory$/m);
});

test('a fork bomb stops at its limit, and says so; the host goes on', (t) => {
  const bomb = about('bomb', t);
  assert.match(bomb, /pids\.peak 64, pids\.current \d+, pids\.events max [1-9]/);
  assert.match(bomb, /^said: oci-run: bomb: could not fork: at its limit of 64 tasks$/m);
  assert.ok(Number(/^ls on the host took (\d+) ms$/m.exec(bomb)![1]) < 10_000, bomb);
  assert.ok(Number(/^host tasks (\d+)$/m.exec(bomb)![1]) < 400, bomb);
});

test('a processor is held at its quota, also at a new one', (t) => {
  const cpu = about('cpu', t);
  const share = (pattern: RegExp) => Number(pattern.exec(cpu)?.[1]);
  const first = share(/^cpu\.max 20000 100000 share (\d+)$/m);
  assert.ok(first >= 15 && first <= 25, cpu);
  const second = share(/^updated cpu\.max 60000 100000 share (\d+)$/m);
  assert.ok(second >= 50 && second <= 65, cpu);
  assert.ok(share(/^nr_throttled (\d+)$/m) > 0, cpu);
});
