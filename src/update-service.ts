/**
 * The stories of `ocictl update`, `rollback` and `auto-update`: one installed service goes to another version, and
 * back by itself where the payload does not stay up, or is not healthy.
 *
 * Invariant: the image of the new version is in the store, verified, before anything of the service changes.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findContainer, healthOf } from './containers.ts';
import { readTextIfThere } from './host/files.ts';
import { addVersion, makeCurrent, prune, refuseEdited } from './install-service.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote, toOciError } from './oci/errors.ts';
import { verdictMaxSeconds } from './oci/health-check.ts';
import type { PreparedContainer } from './prepare-container.ts';
import {
  readService,
  type Service,
  type ServiceRequest,
  type ServiceVersion,
  startedUnit,
} from './services.ts';
import type { StoredImage } from './store/images.ts';
import type { Store } from './store/store.ts';
import type { Manager } from './systemd/manager.ts';
import { logAbout, resetFailed, runningUnits, systemctl } from './systemd/systemctl.ts';

export type InstalledService = Service & { readonly current: ServiceVersion };

export interface UpdateContext {
  readonly store: Store;
  readonly runRoot: string;
  readonly manager: Manager;
  /** Old versions that stay beside the current one. */
  readonly keep: number;
  /** The container that a request makes of an image. */
  readonly prepare: (request: ServiceRequest, image: StoredImage, name: string) => Promise<PreparedContainer>;
}

/** An image in the store, and its name there. */
export interface FoundImage {
  readonly image: StoredImage;
  readonly name: string;
}

export interface UpdateResult {
  readonly service: string;
  readonly version: number;
  readonly digest: Digest;
  /** False: it was this version already. */
  readonly changed: boolean;
  /** False: nothing of it runs, so it will be this version at its next start. */
  readonly running: boolean;
}

/** Goes to a new version with this image; `request` may differ from the current one's. Under the service's lock. */
export async function updateService(
  service: InstalledService,
  request: ServiceRequest,
  { image, name }: FoundImage,
  context: UpdateContext,
): Promise<UpdateResult> {
  const { current } = service;
  refuseEdited(service);
  if (image.digest === current.record.digest && request.image === current.record.image)
    return finishSwitch(service, context);
  const container = await context.prepare(request, image, name);
  try {
    const version = await addVersion(service, request, container, {
      store: context.store,
      digest: image.digest,
    });
    const running = await switchTo(service, version, context);
    return { service: service.name, version: version.number, digest: image.digest, changed: true, running };
  } finally {
    prune(readService(context.store.root, service.name), context.keep, context.store);
  }
}

/** Goes back to the newest good version before the current one. Under the service's lock. */
export async function rollBackService(
  service: InstalledService,
  context: UpdateContext,
): Promise<UpdateResult> {
  const { name, current, versions } = service;
  refuseEdited(service);
  const target = versions.findLast(({ number, failed }) => number < current.number && failed === undefined);
  if (target === undefined)
    throw new OciError('INPUT_NOT_FOUND', `service ${quote(name)} has no version before ${current.number}`, {
      hint: `See what there is with ocictl versions ${name}.`,
    });
  if (!context.store.hasImage(target.record.digest))
    throw new OciError('IMAGE_NOT_FOUND', `version ${target.number} of ${quote(name)} has lost its image`, {
      hint: `Fetch it again: ocictl update ${name} --to ${target.record.digest}.`,
    });
  markFailed(service, current.number, 'rolled back by hand');
  const running = await switchTo(service, target, context);
  return { service: name, version: target.number, digest: target.record.digest, changed: true, running };
}

/** Whether a version with this image was tried already and given up. */
export function wasGivenUp({ versions }: Service, digest: Digest): boolean {
  return versions.some(({ record, failed }) => record.digest === digest && failed !== undefined);
}

/** What an update that was killed after its switch has not done yet. */
async function finishSwitch(service: InstalledService, context: UpdateContext): Promise<UpdateResult> {
  const { name, current } = service;
  makeCurrent(service, current.number);
  const units = runningUnits(name);
  const stale = units.filter((unit) => runningDigest(unit, context.runRoot) !== current.record.digest);
  for (const unit of stale) systemctl('restart', startedUnit(service, current.number, unit));
  const changed = stale.length > 0;
  const running = units.length > 0;
  return { service: name, version: current.number, digest: current.record.digest, changed, running };
}

/** True when the service ran, and now runs the version. Throws UNAVAILABLE after having gone back to the current one. */
async function switchTo(
  service: InstalledService,
  { number, record }: ServiceVersion,
  context: UpdateContext,
): Promise<boolean> {
  const { name, current } = service;
  const units = runningUnits(name);
  makeCurrent(service, number);
  if (units.length === 0) return false;
  const why = await restartAll(service, units, number, record.healthGraceSeconds, context);
  if (why === undefined) {
    for (const unit of units)
      logAbout(`${unit}.service`, `updated to version ${number} (${record.digest})`, 'info');
    return true;
  }
  markFailed(service, number, why);
  makeCurrent(service, current.number);
  const grace = Math.min(record.healthGraceSeconds, BACK_GRACE_SECONDS);
  const worse = await restartAll(service, units, current.number, grace, context);
  const now =
    worse === undefined
      ? `version ${current.number} runs again`
      : `version ${current.number} does not run either: ${worse}`;
  const message = `version ${number} (${record.digest}) is not good: ${why}; rolled back: ${now}`;
  for (const unit of units) logAbout(`${unit}.service`, message, 'warning');
  throw new OciError('UNAVAILABLE', `service ${quote(name)}: ${message}`, {
    hint: `See why with: journalctl -u ${name}.`,
  });
}

const BACK_GRACE_SECONDS = 2;

/** One after the other, of a template's instances; ends at the first that is not good. */
async function restartAll(
  service: Service,
  units: readonly string[],
  number: number,
  graceSeconds: number,
  context: UpdateContext,
): Promise<string | undefined> {
  for (const unit of units) {
    const why = await restart(service, unit, number, graceSeconds, context);
    if (why !== undefined) return unit === service.name ? why : `${unit}: ${why}`;
  }
  return undefined;
}

/** Restarts what runs of the service; what is wrong with it, if it does not stay up for so long and become healthy. */
async function restart(
  service: Service,
  unit: string,
  number: number,
  graceSeconds: number,
  { manager, runRoot }: UpdateContext,
): Promise<string | undefined> {
  const payload = `${unit}.service`;
  const started = startedUnit(service, number, unit);
  try {
    resetFailed([payload]);
    systemctl('restart', started);
  } catch (error) {
    return toOciError(error).message;
  }
  // behind a socket it runs only when it is needed
  if (started !== payload && (await stateOf(payload, manager)) === 'inactive') return undefined;
  return whatIsWrong(unit, graceSeconds, runRoot, manager);
}

const POLL_MS = 100;

/** Watches that the payload stays active in one and the same run, for the grace time and until it is healthy. */
async function whatIsWrong(
  name: string,
  graceSeconds: number,
  runRoot: string,
  manager: Manager,
): Promise<string | undefined> {
  const began = performance.now();
  let first: string | undefined;
  for (;;) {
    const properties = await manager.properties(`${name}.service`);
    const state = String(properties.get('ActiveState'));
    if (state !== 'active' && state !== 'reloading')
      return `its payload ended (${properties.get('Result')}, status ${properties.get('ExecMainStatus')})`;
    const run = `${properties.get('MainPID')} ${properties.get('NRestarts')}`;
    first ??= run;
    if (run !== first) return 'its payload ended and was started again';
    const container = findContainer(runRoot, name);
    const health = container && healthOf(container, properties);
    if (health?.status === 'unhealthy') return `it is ${await statusTextOf(name, manager)}`;
    const seconds = (performance.now() - began) / 1000;
    const done = health === undefined || health.status === 'healthy';
    if (done && seconds >= graceSeconds) return undefined;
    if (health !== undefined && seconds >= graceSeconds + verdictMaxSeconds(health.check))
      return 'nobody knows whether it is healthy';
    await sleep(POLL_MS);
  }
}

/** Asked for after the state was seen: it says why from then on, and not before. */
async function statusTextOf(name: string, manager: Manager): Promise<string> {
  return String((await manager.properties(`${name}.service`)).get('StatusText'));
}

async function stateOf(unit: string, manager: Manager): Promise<string> {
  return String((await manager.properties(unit)).get('ActiveState'));
}

function runningDigest(name: string, runRoot: string): string | undefined {
  const text = readTextIfThere(join(runRoot, 'containers', name, 'image.json'));
  return text === undefined ? undefined : (JSON.parse(text) as { digest?: string }).digest;
}

function markFailed({ directory }: Service, number: number, why: string): void {
  writeFileSync(join(directory, String(number), 'failed'), `${why}\n`, { mode: 0o600 });
}
