/** What the tests of containers share: starting one, reading its unit, and the proof that nothing is left of it. */
import assert from 'node:assert/strict';
import { type Machine, stdoutOf } from '../machine/machine.ts';

export const REGISTRY = '127.0.0.1:5000';
export const BUSYBOX = `${REGISTRY}/busybox`;
export const NGINX = `${REGISTRY}/nginx`;

/** Properties of a unit, as `systemctl show` prints them. */
export async function unitProperties(
  machine: Machine,
  unit: string,
  ...names: string[]
): Promise<Record<string, string>> {
  const text = stdoutOf(await machine.run(['systemctl', 'show', `--property=${names.join(',')}`, unit]));
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

/** First host id of the user namespace of a unit's main process. */
export async function rangeOf(machine: Machine, unit: string): Promise<number> {
  const { MainPID } = await unitProperties(machine, unit, 'MainPID');
  const map = stdoutOf(await machine.run(['cat', `/proc/${MainPID}/uid_map`]))
    .trim()
    .split(/\s+/)
    .map(Number);
  assert.deepEqual([map[0], map[2]], [0, 65536]);
  return map[1]!;
}

/** What a container may leave behind, one line each; empty when nothing is left. The rest only where its record is gone. */
export async function leftovers(machine: Machine): Promise<string> {
  const script = `
find /run/oci/containers /run/userdb /var/lib/oci/writable -mindepth 1 -maxdepth 1 2>/dev/null | grep . && exit
grep -h oci/containers /proc/[0-9]*/mountinfo 2>/dev/null | sort -u || true
lsns --noheadings --output TYPE,NS,USER --type user | awk '$3 != "root"'
systemctl list-units --all --plain --no-legend | grep -i 'OCI container ' || true
find /sys/fs/cgroup/oci.slice -mindepth 1 -type d 2>/dev/null || true
getent passwd | grep '^oci-' || true`;
  return stdoutOf(await machine.script(script)).trim();
}

/** Ends all containers without waiting for their stop timeouts: those of a test that failed half-way, and its last one. */
export async function endContainers(machine: Machine): Promise<void> {
  await machine.script(`
units=$(systemctl list-units --plain --no-legend | grep 'OCI container ' || true)
[ -n "$units" ] || exit 0
all=$(echo "$units" | cut -d' ' -f1)
systemctl stop --no-block $all
systemctl kill --signal=KILL $(echo "$units" | awk '$5 == "OCI" { print $1 }') || true
systemctl stop $all || true`);
}

/** Waits until nothing of a container is left: `systemctl stop` returns before the setup unit's teardown has ended. */
export async function assertNothingLeft(machine: Machine): Promise<void> {
  let left = '';
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    left = await leftovers(machine);
    if (left === '') return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(left, '');
}
