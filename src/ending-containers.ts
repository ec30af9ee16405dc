/**
 * Containers that have ended and are not taken down yet: `systemctl stop` returns with the payload's end, a moment before
 * the setup unit's teardown has removed the record for which the container counts as a user of its image and volumes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { OciError } from './oci/errors.ts';
import { hasEnded, unitStates } from './systemd/systemctl.ts';

const TEARDOWN_MAX_MS = 5000;
const POLL_MS = 50;

/** Does it again while it throws BUSY for nothing but containers that have ended. */
export async function afterTeardowns<T>(work: () => Promise<T>, states = unitStates): Promise<T> {
  for (const deadline = performance.now() + TEARDOWN_MAX_MS; ; await sleep(POLL_MS)) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > deadline || !isOfEnded(error, states)) throw error;
    }
  }
}

/** One that is just being started looks the same. */
function isOfEnded(error: unknown, states: typeof unitStates): boolean {
  if (!(error instanceof OciError) || error.code !== 'BUSY' || error.containers.length === 0) return false;
  return states(error.containers.map((unit) => `${unit}.service`)).every(hasEnded);
}
