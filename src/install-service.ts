/**
 * The stories of `ocictl install` and `uninstall`, and the two steps that an update shares with them: making a version
 * of a service, and making it the current one.
 *
 * Invariants
 * - A new version is durable before anything refers to it; the rename of NAME.service is what makes it current.
 *   Killed at any point, the service is the old version or the new one, with its image and files in place.
 * - No file in /etc/systemd/system is touched that ocictl did not write.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { listContainers } from './containers.ts';
import { listDirectory, readTextIfThere, replaceFile, syncDirectory, syncFileSystem } from './host/files.ts';
import { MADE_OPTION, VOLUME_OPTION } from './oci/annotations.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { RuntimeSpec } from './oci/runtime-spec.ts';
import type { PreparedContainer } from './prepare-container.ts';
import { checkHost, type ImageUse, writeBundle } from './run.ts';
import {
  listServices,
  readService,
  type Service,
  type ServiceRequest,
  type ServiceVersion,
  serviceSpecs,
  UNIT_DIR,
} from './services.ts';
import { removeAny } from './store/remove-tree.ts';
import type { Store } from './store/store.ts';
import type { Manager } from './systemd/manager.ts';
import { resetFailed, runningUnits, systemctl } from './systemd/systemctl.ts';
import {
  isOurUnitFile,
  requiredProperties,
  serviceUnitFiles,
  starterScript,
  type UnitFile,
} from './unit/service-files.ts';
import { helperName, isTemplate } from './unit/unit-name.ts';

const STOP_MAX_MS = 30_000;

/** Throws EXISTS where the name belongs to a unit that ocictl did not install, or that runs just now. */
export async function refuseForeignUnits(name: string, manager: Manager): Promise<void> {
  for (const unit of unitNames(name)) {
    const text = readTextIfThere(join(UNIT_DIR, unit));
    if (text !== undefined && !isOurUnitFile(text)) throw foreign(unit, join(UNIT_DIR, unit));
  }
  if (isTemplate(name)) return;
  const fragment = String((await manager.properties(`${name}.service`)).get('FragmentPath') ?? '');
  if (fragment !== '' && fragment !== join(UNIT_DIR, `${name}.service`))
    throw foreign(`${name}.service`, fragment);
}

/** Throws EXISTS where a unit would be another service's, too: web-setup.service is a part of web. */
export function refuseSharedUnits(root: string, name: string): void {
  const own = new Set(unitNames(name));
  for (const { name: other } of listServices(root).filter((each) => each.name !== name)) {
    const shared = unitNames(other).find((unit) => own.has(unit));
    if (shared !== undefined)
      throw new OciError('EXISTS', `unit ${quote(shared)} is a part of service ${quote(other)}`, {
        hint: 'Choose another name with --name.',
      });
  }
}

function foreign(unit: string, path: string): OciError {
  return new OciError(
    'EXISTS',
    `refusing to touch unit ${quote(unit)}: ${quote(path)} is not of ocictl install`,
    {
      hint: path.startsWith('/run/systemd/generator')
        ? 'Move the file that it was generated from (of podman: *.container) away, and run: systemctl daemon-reload.'
        : 'Choose another name with --name.',
    },
  );
}

/** Throws EXISTS where somebody changed NAME.service itself: a new version would undo that. */
export function refuseEdited({ name, directory, current }: Service): void {
  if (current === undefined) return;
  const file = `${name}.service`;
  if (
    readTextIfThere(join(UNIT_DIR, file)) ===
    readTextIfThere(join(directory, String(current.number), 'units', file))
  )
    return;
  throw new OciError('EXISTS', `refusing to replace ${quote(join(UNIT_DIR, file))}: it was changed by hand`, {
    hint: `Move the changes into a drop-in with systemctl edit ${name}, then install it again: ocictl uninstall ${name}.`,
  });
}

/** Makes a version and makes it the current one; under the service's lock. What fails leaves the service as it was. */
export async function installVersion(
  service: Service,
  request: ServiceRequest,
  container: PreparedContainer,
  { store, digest }: ImageUse,
  { manager, runRoot, keep }: { manager: Manager; runRoot: string; keep: number },
): Promise<number> {
  const { name, versions } = service;
  try {
    const { number } = await addVersion(service, request, container, { store, digest });
    makeCurrent(service, number);
    return number;
  } catch (error) {
    if (versions.length === 0)
      await uninstallService(store, name, manager, { purge: false, runRoot }).catch(() => {});
    throw error;
  } finally {
    prune(readService(store.root, name), keep, store);
  }
}

/** Writes a version, not current yet; under the service's lock. The image is in the store. */
export async function addVersion(
  service: Service,
  request: ServiceRequest,
  container: PreparedContainer,
  { store, digest }: ImageUse,
): Promise<ServiceVersion> {
  checkHost();
  using _store = await store.lock('shared');
  if (!store.hasImage(digest))
    throw new OciError('IMAGE_NOT_FOUND', `the image of ${quote(service.name)} was removed meanwhile`, {
      hint: 'Pull it again.',
    });
  const { directory, name } = service;
  const number = nextNumber(service);
  const record = { ...request, digest, made: new Date().toISOString() };
  const fresh = join(directory, `.new-${randomBytes(6).toString('hex')}`);
  const place = { directory, version: number, sources: hostSources(container, store) };
  const files = serviceUnitFiles(container.units, place, request.order);
  mkdirSync(join(fresh, 'bundle'), { recursive: true, mode: 0o700 });
  mkdirSync(join(fresh, 'units'), { mode: 0o700 });
  const also = [...(container.context.images?.values() ?? [])].map((each) => each.manifestDigest as Digest);
  const { boot: _, ...use } = store.useRecord(digest, ...also); // it is read at later boots
  writeBundle(container, join(fresh, 'bundle'), use);
  for (const { name: file, text } of files) writeFileSync(join(fresh, 'units', file), text);
  writeFileSync(join(fresh, 'required'), requiredProperties(container.units));
  writeFileSync(join(fresh, 'service.json'), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  replaceFile(join(directory, 'setup'), starterScript({ ...container.context, directory }), 0o600);
  syncFileSystem(fresh);
  for (const [index, each] of [digest, ...also].entries())
    await store.addRoot(rootName(name, number, index), each);
  renameSync(fresh, join(directory, String(number)));
  syncDirectory(directory);
  return { number, record };
}

/** Greater than that of every version, also of one that is damaged. */
function nextNumber({ directory }: Service): number {
  return Math.max(0, ...listDirectory(directory).map(Number).filter(Number.isInteger)) + 1;
}

/** What must be mounted before the container can start, beside the store. */
function hostSources({ spec }: PreparedContainer, store: Store): string[] {
  return [
    ...new Set(
      spec.mounts
        .filter(({ source }) => source?.startsWith('/'))
        .map(({ source }) => source!)
        .filter((source) => !source.startsWith(`${store.root}/`)),
    ),
  ];
}

/** Makes the version current. systemd has it loaded when this returns; what runs goes on to run. */
export function makeCurrent({ name, directory }: Pick<Service, 'name' | 'directory'>, number: number): void {
  const units = join(directory, String(number), 'units');
  const files = listDirectory(units).map(
    (file): UnitFile => ({ name: file, text: readTextIfThere(join(units, file)) ?? '' }),
  );
  const isSwitch = (file: UnitFile) => file.name === `${name}.service`;
  for (const file of [...files.filter((each) => !isSwitch(each)), ...files.filter(isSwitch)])
    if (readTextIfThere(join(UNIT_DIR, file.name)) !== file.text)
      replaceFile(join(UNIT_DIR, file.name), file.text, 0o644);
  // a version before may have had sockets
  for (const unit of unitNames(name))
    if (!files.some((file) => file.name === unit) && readTextIfThere(join(UNIT_DIR, unit)) !== undefined) {
      systemctl('disable', unit);
      systemctl('stop', withInstances(unit));
      rmSync(join(UNIT_DIR, unit), { force: true });
    }
  systemctl('daemon-reload');
}

/** Removes versions but the current one, `keep` good ones before it and as many that failed; and left-overs. */
export function prune(service: Service, keep: number, store: Store): void {
  const { name, directory, versions, current } = service;
  const others = versions.filter(({ number }) => number !== current?.number).toReversed();
  // a newer one that did not fail is what a killed update left
  const before = others.filter(({ number }) => current === undefined || number < current.number);
  const kept = new Set([
    ...before.filter(({ failed }) => failed === undefined).slice(0, keep),
    ...others.filter(({ failed }) => failed !== undefined).slice(0, Math.max(keep, 1)),
    ...(current === undefined ? [] : [current]),
  ]);
  const keptNames = new Set([...kept].map(({ number }) => String(number)));
  for (const entry of listDirectory(directory)) {
    if (entry === 'setup' || entry === 'instances' || keptNames.has(entry)) continue;
    removeEntry(directory, entry);
  }
  removeRoots(store, name, keptNames);
}

function removeEntry(directory: string, entry: string): void {
  const old = join(directory, `.old-${randomBytes(6).toString('hex')}`);
  renameSync(join(directory, entry), old);
  removeAny(old);
}

/**
 * Stops the service and removes it with all its versions; under its lock. False where there was none. `purge`: also
 * its drop-ins, and the volumes that no other service and no running container names.
 */
export async function uninstallService(
  store: Store,
  name: string,
  manager: Manager,
  { purge, runRoot }: { purge: boolean; runRoot: string },
): Promise<boolean> {
  const { root } = store;
  const present = unitNames(name).filter((unit) => readTextIfThere(join(UNIT_DIR, unit)) !== undefined);
  const service = readService(root, name);
  const entries = listDirectory(service.directory);
  if (present.length > 0) {
    await refuseForeignUnits(name, manager);
    if (entries.length === 0)
      throw new OciError('EXISTS', `service ${quote(name)} was installed from another store`, {
        hint: 'Name that store with --root.',
      });
    // a socket unit first: it would start the payload again
    const startable = [`${name}.socket`, `${name}.service`].filter((unit) => present.includes(unit));
    const running = runningUnits(name);
    for (const unit of startable) {
      systemctl('disable', unit);
      systemctl('stop', withInstances(unit));
    }
    for (const unit of running)
      await manager.waitUntilInactive(`${helperName(unit, 'setup')}.service`, STOP_MAX_MS);
    for (const unit of present) rmSync(join(UNIT_DIR, unit), { force: true });
    if (purge) for (const unit of unitNames(name)) removeAny(join(UNIT_DIR, `${unit}.d`));
    syncDirectory(UNIT_DIR);
    resetFailed(present.map(withInstances));
    systemctl('daemon-reload');
  }
  if (purge) removeVolumes(service, root, runRoot);
  removeRoots(store, name);
  for (const entry of entries) removeAny(join(service.directory, entry));
  return entries.length > 0;
}

/** For systemctl: `web@.service` → all its instances; another unit is itself. */
function withInstances(unit: string): string {
  return unit.replace('@', '@*');
}

function removeVolumes(service: Service, root: string, runRoot: string): void {
  const others = listServices(root).filter(({ name }) => name !== service.name);
  const specs = [...others.flatMap(serviceSpecs), ...listContainers(runRoot).map(({ spec }) => spec)];
  const kept = new Set(specs.flatMap((spec) => volumesOf(spec, root)));
  const own = serviceSpecs(service).flatMap((spec) => volumesOf(spec, root));
  for (const volume of own) if (!kept.has(volume)) removeVolume(volume);
}

/** One that is the unit's own only if it is, with the link to it: ofTheUnit() in setup-mounts.ts. */
function removeVolume(path: string): void {
  const own = path.includes('/private/');
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || (own && stat.uid < FOREIGN_UID_BASE)) return;
  removeAny(path);
  const link = path.replace('/private/', '/');
  if (own && lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) rmSync(link);
}

/** Its named volumes and directories of its own. */
function volumesOf({ mounts }: RuntimeSpec, root: string): string[] {
  return mounts
    .filter(({ options }) => options?.includes(VOLUME_OPTION))
    .filter(
      ({ source = '', options }) =>
        dirname(source) === join(root, 'volumes') || options?.includes(MADE_OPTION),
    )
    .map(({ source = '' }) => source);
}

function unitNames(name: string): string[] {
  return [
    ...['.service', '.socket'].map((end) => name + end),
    `${helperName(name, 'setup')}.service`,
    ...['.socket', '.service'].map((end) => helperName(name, 'log') + end),
    ...['.service', '.timer'].map((end) => helperName(name, 'health') + end),
  ];
}

/** Of a version's own image, and of others that it mounts. */
function rootName(name: string, number: number, index = 0): string {
  return index === 0 ? `${name}@${number}` : `${name}@${number}+${index}`;
}

/** Also those that a killed command left: of versions that never came to be, or are gone without them. */
function removeRoots(store: Store, name: string, kept: ReadonlySet<string> = new Set()): void {
  for (const root of store.roots()) {
    const number = root.startsWith(`${name}@`) ? /^(\d+)(\+\d+)?$/.exec(root.slice(name.length + 1)) : null;
    if (number !== null && !kept.has(number[1]!)) store.removeRoot(root);
  }
}
