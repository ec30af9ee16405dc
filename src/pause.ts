/** Pausing a container and letting it go on: src/unit/pause.ts says how. */
import { type ContainerRecord, containerState, requirePid } from './containers.ts';
import type { Manager } from './systemd/manager.ts';
import { pauseUnit, pauseUnitName, payloadSubgroup } from './unit/pause.ts';

const STOP_MAX_MS = 10_000;

/** Idempotent. Returns when no process of the container runs any more. */
export async function pauseContainer(container: ContainerRecord, manager: Manager): Promise<void> {
  await requirePid(container, manager);
  if ((await containerState(container, manager)).state === 'frozen') return;
  await endPause(container, manager); // of a run of the payload that was killed meanwhile
  const properties = await manager.properties(`${container.unit}.service`);
  const cgroup = `/sys/fs/cgroup${properties.get('ControlGroup')}${payloadSubgroup(container.spec)}`;
  const slice = String(properties.get('Slice'));
  const { name, settings } = pauseUnit(container.unit, slice, cgroup.replace(/\/$/, ''));
  await manager.start({ name, properties: settings }, []);
}

/** Also one that `systemctl freeze` paused. */
export async function resumeContainer(container: ContainerRecord, manager: Manager): Promise<void> {
  const unit = `${container.unit}.service`;
  await endPause(container, manager);
  if ((await manager.properties(unit)).get('FreezerState') === 'frozen') await manager.thaw(unit);
}

async function endPause({ unit }: ContainerRecord, manager: Manager): Promise<void> {
  await manager.stop(pauseUnitName(unit));
  await manager.waitUntilInactive(pauseUnitName(unit), STOP_MAX_MS);
}
