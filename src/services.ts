/**
 * Installed services, as they lie on the disk:
 *
 *   ROOT/services/<name>/                 flock: whoever changes the service
 *     setup                               what NAME-setup.service runs (unit/service-files.ts)
 *     instances/<instance>                of a template: empty; one for each that was ever started
 *     <version>/service.json              ServiceRecord
 *     <version>/bundle/                   what a start copies into the run root: config.json, setup, teardown, …
 *     <version>/units/                    the unit files, as they are in /etc/systemd/system while it is current
 *     <version>/required                  what systemd must have loaded of NAME.service
 *     <version>/failed                    why the version is not to be gone to by itself again
 *     .new-…, .old-…                      being made and being removed: nobody looks at them
 *   ROOT/roots/<name>@<version>.mstack    keeps the version's image
 *   /etc/systemd/system/<name>.service    says which version is current
 *
 * Invariant: a version is there whole or not at all, and never changes but for `failed`.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory, readTextIfThere } from './host/files.ts';
import { lockDirectory, type Waiting } from './host/lock.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import type { RuntimeSpec } from './oci/runtime-spec.ts';
import { type UnitOrder, versionOfUnitFile } from './unit/service-files.ts';
import { INSTANCE } from './unit/unit-name.ts';

export const UNIT_DIR = '/etc/systemd/system';

/** What was asked for, in the words of the command line: every version is made from it anew. */
export interface ServiceRequest {
  /** What updates follow. */
  readonly image: string;
  readonly command: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly slice: string;
  readonly order: UnitOrder;
  readonly autoUpdate?: 'registry' | 'local';
  /** How long the payload has to stay active for an update to count. */
  readonly healthGraceSeconds: number;
}

export interface ServiceRecord extends ServiceRequest {
  readonly digest: Digest;
  /** ISO 8601. */
  readonly made: string;
}

export interface ServiceVersion {
  readonly number: number;
  readonly record: ServiceRecord;
  readonly failed?: string;
}

export interface Service {
  readonly name: string;
  readonly directory: string;
  /** Oldest first. */
  readonly versions: readonly ServiceVersion[];
  /** undefined where the unit file is gone. */
  readonly current: ServiceVersion | undefined;
}

/** The unit that a user starts and enables: that of the sockets where there are some. `unit`: of a template, one instance. */
export function startedUnit(
  { name, directory }: Pick<Service, 'name' | 'directory'>,
  number: number,
  unit = name,
): string {
  return existsSync(join(directory, String(number), 'units', `${name}.socket`))
    ? `${unit}.socket`
    : `${unit}.service`;
}

function serviceDirectory(root: string, name: string): string {
  return join(root, 'services', name);
}

/** Every service that is installed, by name. */
export function listServices(root: string): Service[] {
  return listDirectory(join(root, 'services'))
    .sort()
    .map((name) => readService(root, name))
    .filter(({ current }) => current !== undefined);
}

/** Also of a service that is not there: it has no versions. */
export function readService(root: string, name: string): Service {
  const directory = serviceDirectory(root, name);
  const versions = listDirectory(directory)
    .filter((entry) => /^[1-9]\d{0,8}$/.test(entry))
    .map(Number)
    .sort((a, b) => a - b)
    .flatMap((number) => readVersion(directory, number) ?? []);
  const text = readTextIfThere(join(UNIT_DIR, `${name}.service`));
  const number = text === undefined ? undefined : versionOfUnitFile(text, directory);
  return { name, directory, versions, current: versions.find((version) => version.number === number) };
}

/** Throws INPUT_NOT_FOUND. `name` may end in `.service`. */
export function requireService(root: string, name: string): Service & { readonly current: ServiceVersion } {
  const plain = name.replace(/\.service$/, '');
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]*@?$/.test(plain)) {
    const service = readService(root, plain);
    if (service.current !== undefined) return { ...service, current: service.current };
  }
  throw new OciError('INPUT_NOT_FOUND', `no service ${quote(plain)} is installed`, {
    hint: 'List them with ocictl versions, or install one: ocictl install IMAGE --name NAME.',
  });
}

/** What its containers are, of all versions and all instances that ever were. */
export function serviceSpecs({
  directory,
  versions,
}: Pick<Service, 'directory' | 'versions'>): RuntimeSpec[] {
  const instances = listDirectory(join(directory, 'instances'));
  return versions.flatMap(({ number }) => {
    const text = readFileSync(join(directory, String(number), 'bundle/config.json'), 'utf8');
    return [text, ...instances.map((instance) => text.replaceAll(INSTANCE, instance))].map(
      (each) => JSON.parse(each) as RuntimeSpec,
    );
  });
}

/** Whoever changes a service holds this. A service that comes to nothing leaves nothing. */
export async function lockService(root: string, name: string, waiting: Waiting): Promise<Disposable> {
  mkdirSync(join(root, 'services'), { recursive: true, mode: 0o700 });
  const directory = serviceDirectory(root, name);
  const lock = await lockDirectory(directory, `the service ${quote(name)}`, waiting);
  return {
    [Symbol.dispose]: () => {
      if (listDirectory(directory).length === 0) rmSync(directory, { recursive: true, force: true });
      lock.release();
    },
  };
}

function readVersion(directory: string, number: number): ServiceVersion | undefined {
  const path = join(directory, String(number));
  const text = readTextIfThere(join(path, 'service.json'));
  if (text === undefined) return undefined;
  const failed = readTextIfThere(join(path, 'failed'))?.trim();
  return {
    number,
    record: JSON.parse(text) as ServiceRecord,
    ...(failed === undefined ? {} : { failed }),
  };
}
