/** Says so when a container cannot fork for its limit of tasks: the payload often does not. */
import type { Manager } from '../systemd/manager.ts';

/** Goes on until the container ends, without keeping this process. What went wrong here is no reason to fail. */
export function tellTasksLimit(unit: string, manager: Manager, tell: (message: string) => void): void {
  Promise.all([manager.controlGroup(`${unit}.service`), import('../host/tasks-limit.ts')])
    .then(([cgroup, { watchTasksLimit }]) =>
      watchTasksLimit(cgroup, (limit) => tell(`${unit}: could not fork: at its limit of ${limit} tasks`)),
    )
    .catch(() => {});
}
