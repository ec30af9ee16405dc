/**
 * The containers of this host, by their records in the run root and what systemd says of their units.
 *
 * Invariant: the record says that there is a container, systemd alone says how it is.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ANNOTATION } from './oci/annotations.ts';
import { OciError, quote } from './oci/errors.ts';
import type { RuntimeSpec } from './oci/runtime-spec.ts';
import type { Manager } from './systemd/manager.ts';

export interface ContainerRecord {
  /** Without `.service`. */
  readonly unit: string;
  readonly spec: RuntimeSpec;
}

export interface ContainerState {
  readonly unit: string;
  readonly image: string;
  readonly digest: string;
  /** systemd's ActiveState and SubState; `frozen` where it is paused. */
  readonly state: string;
  /** 0 when no payload runs. */
  readonly pid: number;
  /** ISO 8601; undefined when it has not started. */
  readonly started: string | undefined;
  readonly command: readonly string[];
}

export interface ContainerUsage {
  readonly unit: string;
  /** Nanoseconds of processor time since the start; undefined where the kernel does not account for it. */
  readonly cpuNsec: number | undefined;
  readonly memoryBytes: number | undefined;
  readonly memoryMaxBytes: number | undefined;
  readonly tasks: number | undefined;
  readonly tasksMax: number | undefined;
  readonly ioReadBytes: number | undefined;
  readonly ioWriteBytes: number | undefined;
}

/** Every container with a readable record, by name. One that goes away meanwhile is left out. */
export function listContainers(runRoot: string): ContainerRecord[] {
  return directoryNames(join(runRoot, 'containers')).flatMap((unit) => {
    const spec = readSpec(runRoot, unit);
    return spec === undefined ? [] : [{ unit, spec }];
  });
}

/** Throws INPUT_NOT_FOUND. `name` may end in `.service`. */
export function requireContainer(runRoot: string, name: string): ContainerRecord {
  const unit = name.replace(/\.service$/, '');
  const spec =
    unit === '' || unit.includes('/') || unit.startsWith('.') ? undefined : readSpec(runRoot, unit);
  if (spec !== undefined) return { unit, spec };
  throw new OciError('INPUT_NOT_FOUND', `no container ${quote(unit)} is running`, {
    hint: 'List the containers with: ocictl ps.',
  });
}

export async function containerState(
  { unit, spec }: ContainerRecord,
  manager: Manager,
): Promise<ContainerState> {
  const properties = await manager.properties(`${unit}.service`);
  const frozen = properties.get('FreezerState') === 'frozen';
  const started = number(properties.get('ExecMainStartTimestamp'));
  return {
    unit,
    image: spec.annotations[ANNOTATION.image] ?? '',
    digest: spec.annotations[ANNOTATION.digest] ?? '',
    state: frozen ? 'frozen' : `${properties.get('ActiveState')} (${properties.get('SubState')})`,
    pid: number(properties.get('MainPID')) ?? 0,
    started: started === undefined || started === 0 ? undefined : new Date(started / 1000).toISOString(),
    command: spec.process.args,
  };
}

export async function containerUsage({ unit }: ContainerRecord, manager: Manager): Promise<ContainerUsage> {
  const properties = await manager.properties(`${unit}.service`);
  const value = (name: string) => number(properties.get(name));
  return {
    unit,
    cpuNsec: value('CPUUsageNSec'),
    memoryBytes: value('MemoryCurrent'),
    memoryMaxBytes: value('MemoryMax'),
    tasks: value('TasksCurrent'),
    tasksMax: value('TasksMax'),
    ioReadBytes: value('IOReadBytes'),
    ioWriteBytes: value('IOWriteBytes'),
  };
}

/** The main process of a running container. Throws UNAVAILABLE when there is none at this moment. */
export async function requirePid(container: ContainerRecord, manager: Manager): Promise<number> {
  const { pid, state } = await containerState(container, manager);
  if (pid > 0) return pid;
  throw new OciError('UNAVAILABLE', `container ${quote(container.unit)} has no process: it is ${state}`, {
    hint: `Look at it with systemctl status ${container.unit}.`,
  });
}

const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

/** systemd writes "not set" and "no limit" as the greatest number. */
function number(value: unknown): number | undefined {
  if (typeof value === 'bigint') return value === UINT64_MAX ? undefined : Number(value);
  return typeof value === 'number' ? value : undefined;
}

function readSpec(runRoot: string, unit: string): RuntimeSpec | undefined {
  try {
    return JSON.parse(readFileSync(join(runRoot, 'containers', unit, 'config.json'), 'utf8')) as RuntimeSpec;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR' || error instanceof SyntaxError) return undefined; // being made or removed
    throw error;
  }
}

function directoryNames(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
