/**
 * The containers of this host, by their records in the run root and what systemd says of their units.
 *
 * Invariant: the record says that there is a container, systemd alone says how it is.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory, readTextIfThere } from './host/files.ts';
import type { PublishedPort } from './oci/address.ts';
import { ANNOTATION } from './oci/annotations.ts';
import { OciError, quote } from './oci/errors.ts';
import { type HealthCheck, parseHealthCheck } from './oci/health-check.ts';
import type { RuntimeSpec } from './oci/runtime-spec.ts';
import { type Manager, UINT64_MAX } from './systemd/manager.ts';
import { HEALTH_OUTPUT, HEALTH_STATE, type Health, readHealth } from './unit/health.ts';
import { payloadSubgroup } from './unit/pause.ts';
import type { NetavarkInput } from './unit/setup-network.ts';

export interface ContainerRecord {
  /** Without `.service`. */
  readonly unit: string;
  readonly spec: RuntimeSpec;
  readonly network: Pick<ContainerState, 'addresses' | 'ports'>;
  readonly directory: string;
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
  /** On a bridge: its own addresses, and the ports of the host that lead to it. */
  readonly addresses: readonly string[];
  readonly ports: readonly PublishedPort[];
  /** undefined: it has no health check. */
  readonly health: ContainerHealth | undefined;
}

export interface ContainerHealth extends Health {
  readonly check: HealthCheck;
  readonly lastOutput: string;
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
  return listDirectory(join(runRoot, 'containers'))
    .sort()
    .flatMap((unit) => {
      const record = readRecord(runRoot, unit);
      return record === undefined ? [] : [record];
    });
}

/** undefined where there is no record of it. */
export function findContainer(runRoot: string, unit: string): ContainerRecord | undefined {
  return unit === '' || unit.includes('/') || unit.startsWith('.') ? undefined : readRecord(runRoot, unit);
}

/** Throws INPUT_NOT_FOUND. `name` may end in `.service`. */
export function requireContainer(runRoot: string, name: string): ContainerRecord {
  const unit = name.replace(/\.service$/, '');
  const record = findContainer(runRoot, unit);
  if (record !== undefined) return record;
  throw new OciError('INPUT_NOT_FOUND', `no container ${quote(unit)} is running`, {
    hint: 'List the containers with: ocictl ps.',
  });
}

export async function containerState(container: ContainerRecord, manager: Manager): Promise<ContainerState> {
  const { unit, spec, network } = container;
  const properties = await manager.properties(`${unit}.service`);
  const frozen =
    properties.get('FreezerState') === 'frozen' || isFrozen(String(properties.get('ControlGroup')), spec);
  const started = number(properties.get('ExecMainStartTimestamp'));
  return {
    unit,
    image: spec.annotations[ANNOTATION.image] ?? '',
    digest: spec.annotations[ANNOTATION.digest] ?? '',
    state: frozen ? 'frozen' : `${properties.get('ActiveState')} (${properties.get('SubState')})`,
    pid: number(properties.get('MainPID')) ?? 0,
    started: started === undefined || started === 0 ? undefined : new Date(started / 1000).toISOString(),
    command: spec.process.args,
    ...network,
    health: healthOf(container, properties),
  };
}

/** `properties`: of its unit. */
export function healthOf(
  { spec, directory }: Pick<ContainerRecord, 'spec' | 'directory'>,
  properties: ReadonlyMap<string, unknown>,
): ContainerHealth | undefined {
  const text = spec.annotations[ANNOTATION.healthCheck];
  if (text === undefined) return undefined;
  const run = String(properties.get('ExecMainStartTimestampMonotonic'));
  return {
    ...readHealth(readTextIfThere(join(directory, HEALTH_STATE)), run),
    check: parseHealthCheck(text),
    lastOutput: readTextIfThere(join(directory, HEALTH_OUTPUT)) ?? '',
  };
}

function isFrozen(cgroup: string, spec: RuntimeSpec): boolean {
  try {
    const path = `/sys/fs/cgroup${cgroup}${payloadSubgroup(spec)}/cgroup.events`;
    return cgroup !== '' && /^frozen 1$/m.test(readFileSync(path, 'utf8'));
  } catch {
    return false; // it has ended meanwhile
  }
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
export async function requirePid(
  container: ContainerRecord,
  manager: Manager,
  paused: 'as well' | 'refused' = 'as well',
): Promise<number> {
  const { pid, state } = await containerState(container, manager);
  if (state === 'frozen' && paused === 'refused')
    throw new OciError('UNAVAILABLE', `container ${quote(container.unit)} is paused`, {
      hint: `Let it go on first: ocictl resume ${container.unit}.`,
    });
  if (pid > 0) return pid;
  throw new OciError('UNAVAILABLE', `container ${quote(container.unit)} has no process: it is ${state}`, {
    hint: `Look at it with systemctl status ${container.unit}.`,
  });
}

/** undefined for "not set" and "no limit". */
function number(value: unknown): number | undefined {
  if (typeof value === 'bigint') return value === UINT64_MAX ? undefined : Number(value);
  return typeof value === 'number' ? value : undefined;
}

function readRecord(runRoot: string, unit: string): ContainerRecord | undefined {
  const directory = join(runRoot, 'containers', unit);
  const spec = readJSON<RuntimeSpec>(join(directory, 'config.json'));
  if (spec === undefined) return undefined;
  return {
    unit,
    spec,
    directory,
    network: networkOf(readJSON<NetavarkInput>(join(directory, 'network.json'))),
  };
}

function networkOf(input: NetavarkInput | undefined): ContainerRecord['network'] {
  if (input === undefined) return { addresses: [], ports: [] };
  return {
    addresses: Object.values(input.networks).flatMap(({ static_ips }) => static_ips),
    ports: input.port_mappings.map((port) => ({
      ...(port.host_ip === '' ? {} : { hostAddress: port.host_ip }),
      hostPort: port.host_port,
      containerPort: port.container_port,
      protocol: port.protocol,
      count: port.range,
    })),
  };
}

/** Undefined for a file that is being made or removed. */
function readJSON<T>(path: string): T | undefined {
  const text = readTextIfThere(path);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as T);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
