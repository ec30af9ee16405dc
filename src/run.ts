/**
 * The story of a run: write the bundle, have systemd start its units, wait where asked to.
 *
 * Invariants
 * - The bundle directory is the container's record. Whoever makes it holds a lock on it until systemd has answered;
 *   from then on its removal is the setup unit's business. A start that fails leaves nothing.
 * - Nothing of ours runs for a detached container.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { claimBundle } from './claim-bundle.ts';
import { moveInPlace } from './host/cgroup-move.ts';
import { tryLockDirectory } from './host/lock.ts';
import type { Terminal } from './host/terminal.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import { formatRuntimeSpec } from './oci/runtime-spec.ts';
import type { PreparedContainer } from './prepare-container.ts';
import type { UseRecord } from './store/image-users.ts';
import type { Store } from './store/store.ts';
import type { Manager, ServiceEnd, TransientUnit } from './systemd/manager.ts';
import { hasEnded, haveEnded, unitStates } from './systemd/systemctl.ts';
import type { UnitSettings } from './unit/container-units.ts';
import { mountDir } from './unit/context.ts';
import { startHint } from './unit/end.ts';
import { HEALTH_SCRIPT } from './unit/health.ts';

const TEARDOWN_MAX_MS = 30_000;
/** Less than a grace period of RCU lasts. */
const MOVE_MS = 4;

/** Where a container's root comes from, for the record that keeps it from being removed. */
export interface ImageUse {
  store: Store;
  digest: Digest;
  /** Images that it mounts. */
  also?: readonly Digest[];
}

/**
 * Starts the container and returns when its payload runs, or its sockets listen. Throws EXISTS where the unit's name is
 * taken. `image`: undefined for a bundle, whose files are nobody's but the user's. `attach`: is given the terminal of a
 * container that has one, before the payload starts.
 */
export async function startContainer(
  container: PreparedContainer,
  image: ImageUse | undefined,
  manager: Manager,
  attach?: (terminal: Terminal) => void,
): Promise<void> {
  checkHost();
  await waitWhileEnding(container, manager);
  // under the store's lock, so that no removal of images comes between their lookup and the record of their use
  using _store = await image?.store.lock('shared');
  if (image !== undefined && ![image.digest, ...(image.also ?? [])].every(image.store.hasImage))
    throw new OciError('IMAGE_NOT_FOUND', `an image of ${quote(container.unit)} was removed meanwhile`, {
      hint: 'Pull it again.',
    });
  using _name = claimName(container);
  try {
    writeBundle(container, container.bundleDir, image?.store.useRecord(image.digest, ...(image.also ?? [])));
    mkdirSync(dirname(container.context.writableDir), { recursive: true, mode: 0o700 });
    if (container.context.rootfs !== undefined) await makeMountPointsIn(container.context.rootfs, container);
  } catch (error) {
    rmSync(container.bundleDir, { recursive: true, force: true });
    throw error;
  }
  const { units } = container;
  const moving = setInterval(moveInPlace, MOVE_MS);
  try {
    await startUnits(container, manager, attach);
  } catch (error) {
    // a unit that exists is somebody else's
    if (!(error instanceof OciError && error.code === 'EXISTS'))
      await manager.waitUntilInactive(units.setup.name, TEARDOWN_MAX_MS);
    runTeardown(container); // where systemd refused the units nothing else would
    throw error;
  } finally {
    clearInterval(moving);
  }
}

async function startUnits(
  { units, spec, context, bundleDir }: PreparedContainer,
  manager: Manager,
  attach: ((terminal: Terminal) => void) | undefined,
): Promise<void> {
  const { payload, socket, helpers } = units;
  const hint = startHint(spec);
  const started = { ...transient(payload), ...(hint === undefined ? {} : { hint }) };
  const start = () =>
    socket === undefined
      ? manager.start(started, helpers.map(transient))
      : manager.start(transient(socket), [...helpers, payload].map(transient));
  const { terminal: wanted, user, consoleSize } = spec.process;
  if (!wanted) return start();
  const [{ openTerminal }, { answerTerminalRequest }] = await Promise.all([
    import('./host/terminal.ts'),
    import('./host/terminal-request.ts'),
  ]);
  let terminal: Terminal | undefined;
  const open = () => {
    terminal = openTerminal(`${mountDir(context)}/dev/pts`, { uid: user.uid, size: consoleSize });
    attach?.(terminal);
  };
  try {
    await answerTerminalRequest(bundleDir, open, start);
    terminal?.started();
  } catch (error) {
    terminal?.close();
    throw error;
  }
}

/** Waits for the payload's end, for `output`, and for the container's namespaces and mounts to be gone. */
export async function waitForContainer(
  container: PreparedContainer,
  manager: Manager,
  output: () => Promise<void>,
): Promise<ServiceEnd> {
  const end = await manager.waitForEnd(container.units.payload.name);
  await output();
  await manager.waitUntilInactive(container.units.setup.name, TEARDOWN_MAX_MS);
  return end;
}

function transient({ name, settings }: UnitSettings): TransientUnit {
  return { name, properties: settings };
}

/** One of this name that has just been stopped is gone a moment later: ending-containers.ts. */
async function waitWhileEnding(
  { unit, bundleDir, units }: PreparedContainer,
  manager: Manager,
): Promise<void> {
  if (!isFree(bundleDir)) return;
  const { payload, setup } = units;
  // behind a socket the setup outlives the payload
  const [setupState = '', ...states] = unitStates([setup.name, payload.name, `${unit}.socket`]);
  if (states.every(hasEnded) && /^(active|deactivating)$/.test(setupState))
    await manager.waitUntilInactive(setup.name, TEARDOWN_MAX_MS);
}

/** Whether it is there and no oci-run holds it. */
function isFree(bundleDir: string): boolean {
  using lock = tryLockDirectory(bundleDir);
  return lock !== undefined;
}

/** Throws EXISTS where the name is taken. */
function claimName(container: PreparedContainer): Disposable {
  const { payload, setup } = container.units;
  const claim = claimBundle(container.bundleDir, {
    hasEnded: () => haveEnded([payload.name, setup.name]),
    clear: () => runTeardown(container),
  });
  if (claim !== undefined) return claim;
  throw new OciError('EXISTS', `unit ${quote(payload.name)} exists`, {
    hint: `Choose another name with --name, or end that one first: systemctl stop ${container.unit}.`,
  });
}

/** In a tree that the container writes to; an image's layers get theirs by a layer of their own. */
async function makeMountPointsIn(root: string, { context }: PreparedContainer): Promise<void> {
  const { makeMountPoints } = await import('./host/mount-points.ts');
  makeMountPoints({ root, ...context.scaffold, idBase: context.idBase });
}

/** What the setup unit needs and others want to know, into a directory that nobody else can enter. */
export function writeBundle(
  container: PreparedContainer,
  directory: string,
  record: UseRecord | undefined,
): void {
  const { units } = container;
  const write = (name: string, text: string) =>
    writeFileSync(`${directory}/${name}`, text, { mode: 0o600, flag: 'wx' });
  if (record !== undefined) write('image.json', `${JSON.stringify(record)}\n`);
  write('config.json', formatRuntimeSpec(container.spec));
  write('setup', units.setupScript);
  write('teardown', units.teardownScript);
  if (units.healthScript !== undefined) write(HEALTH_SCRIPT, units.healthScript);
  // read in the container, by its root
  if (units.seccompFilter !== undefined)
    writeFileSync(`${directory}/seccomp`, units.seccompFilter, { mode: 0o444, flag: 'wx' });
}

function runTeardown(container: PreparedContainer): void {
  spawnSync('/bin/sh', ['-s'], {
    input: container.units.teardownScript,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
}

/** User= names a range that only nss-systemd knows: without it systemd ends the payload with 217/USER. */
export function checkHost(): void {
  if (process.geteuid?.() !== 0)
    throw new OciError('DENIED', 'only root can start containers', { hint: 'Run the command with sudo.' });
  let nsswitch = '';
  try {
    nsswitch = readFileSync('/etc/nsswitch.conf', 'utf8');
  } catch {}
  if (!/^passwd:.*\bsystemd\b/m.test(nsswitch))
    throw new OciError(
      'UNAVAILABLE',
      'the host cannot look up dynamic users: nss-systemd is missing in /etc/nsswitch.conf',
      {
        hint: 'Install it: apt install libnss-systemd, or dnf install systemd-libs.',
      },
    );
}
