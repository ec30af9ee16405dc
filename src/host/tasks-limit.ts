/** The pids controller's events of one cgroup (the kernel's cgroup-v2 documentation, "PID"). */
import { readFileSync, watch } from 'node:fs';

/**
 * Calls `onLimit` once, with the limit, when a process of `cgroup` cannot fork for its limit, or could not already.
 * Never, where the controller is missing. The watch ends with the cgroup and does not keep this process.
 */
export function watchTasksLimit(cgroup: string, onLimit: (limit: number) => void): void {
  if (cgroup === '') return;
  const directory = `/sys/fs/cgroup${cgroup}`;
  // before Linux 6.11 a failure is counted where the process is, which may be a delegated cgroup
  const files = ['pids.events', 'payload/pids.events'].map((name) => `${directory}/${name}`);
  let told = false;
  const look = (file: string) => {
    const limit = Number(readText(`${directory}/pids.max`));
    if (told || !(limit > 0) || !/^max [1-9]/m.test(readText(file))) return;
    told = true;
    onLimit(limit);
  };
  for (const file of files) {
    try {
      watch(file, { persistent: false }, () => look(file)).on('error', () => {});
    } catch {
      continue;
    }
    look(file);
  }
}

/** Empty when the file is not there (any more). */
function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
