/**
 * Containers that have ended and are not taken down yet: `systemctl stop` returns with the payload's end, a moment before
 * the setup unit's teardown has removed the record for which the container counts as a user of its image and volumes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { listContainers } from './containers.ts';
import { OciError } from './oci/errors.ts';
import { hasEnded, unitStates } from './systemd/systemctl.ts';

const TEARDOWN_MAX_MS = 5000;
const POLL_MS = 50;

/** Does it again while it throws BUSY and the teardown of a container that has ended is under way. */
export async function afterTeardowns<T>(runRoot: string, work: () => Promise<T>): Promise<T> {
  for (const deadline = performance.now() + TEARDOWN_MAX_MS; ; await sleep(POLL_MS)) {
    try {
      return await work();
    } catch (error) {
      const isBusy = error instanceof OciError && error.code === 'BUSY';
      if (!isBusy || performance.now() > deadline || !isAnyEnding(runRoot)) throw error;
    }
  }
}

/** One that is just being started looks the same. */
function isAnyEnding(runRoot: string): boolean {
  const units = listContainers(runRoot).map(({ unit }) => `${unit}.service`);
  return unitStates(units).some(hasEnded);
}
