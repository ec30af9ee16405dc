/**
 * Keeps the kernel from letting a service's start wait for its cgroup. Whoever moves a process into a cgroup, as systemd
 * does for each, waits for a grace period of RCU first (kernel/cgroup/cgroup.c, cgroup_threadgroup_rwsem), which at 250 Hz
 * is 8 to 16 ms and twice in the start of a container; unless another move is over only just. So this process is moved
 * to where it is already, a moment before.
 *
 * Invariant: no process changes its cgroup. Where this cannot be done, as on cgroup v1, it is not done.
 */
import { readFileSync, writeFile } from 'node:fs';

let target: string | undefined;
let isMoving = false;

/** Begins a move from the cgroup that this process is in to the same one, unless one is under way; returns at once. */
export function moveInPlace(): void {
  target ??= procsFile();
  if (target === '' || isMoving) return;
  isMoving = true;
  // 0: whoever writes
  writeFile(target, '0', (error) => {
    isMoving = false;
    if (error) target = '';
  });
}

/** The file of this process's cgroup that takes processes (cgroups(7), /proc/pid/cgroup); empty where it is not found. */
function procsFile(): string {
  try {
    const path = /^0::(\/.*)$/m.exec(readFileSync('/proc/self/cgroup', 'latin1'))?.[1];
    return path === undefined ? '' : `/sys/fs/cgroup${path}/cgroup.procs`;
  } catch {
    return '';
  }
}
