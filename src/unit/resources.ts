/** linux.resources → systemd.resource-control(5), in the units of either side. */
import type { Resources } from '../oci/runtime-spec.ts';
import { devicePolicySettings } from './device-policy.ts';
import { parseIndexes } from './indexes.ts';
import { refusal } from './refuse.ts';
import { cpuQuota, cpuQuotaPeriod, indexSet, limit, perDevice, type Setting, weight } from './setting.ts';
import { unifiedSettings } from './unified.ts';

export function resourceSettings(resources: Resources): Setting[] {
  return [...limitSettings(resources), ...devicePolicySettings(resources.devices ?? [])];
}

/** What can also be changed while the unit runs. */
export function limitSettings(resources: Resources): Setting[] {
  const settings = [
    ...memorySettings(resources.memory ?? {}),
    ...cpuSettings(resources.cpu ?? {}),
    ...pidsSettings(resources.pids),
    ...blockIOSettings(resources.blockIO ?? {}),
  ];
  // unified has the last word, as the specification wants it
  const unified = unifiedSettings(resources.unified ?? {});
  const replaced = new Set(unified.map(({ property }) => property));
  return [...settings.filter(({ property }) => !replaced.has(property)), ...unified];
}

function memorySettings(memory: NonNullable<Resources['memory']>): Setting[] {
  const settings: Setting[] = [];
  if (memory.limit !== undefined && memory.limit !== 0)
    settings.push(limit('MemoryMax', orInfinity(memory.limit)));
  if (memory.reservation !== undefined && memory.reservation !== 0)
    settings.push(limit('MemoryLow', orInfinity(memory.reservation)));
  if (memory.swap !== undefined && memory.swap !== 0)
    settings.push(limit('MemorySwapMax', swapOnly(memory.swap, memory.limit)));
  return settings;
}

/** The specification counts memory and swap together, cgroup v2 swap alone. */
function swapOnly(swap: number, memoryLimit = 0): number {
  if (swap < 0) return Number.POSITIVE_INFINITY;
  if (memoryLimit <= 0 || swap < memoryLimit)
    throw refusal(
      'linux.resources.memory.swap',
      'it counts memory and swap together, and the limit of memory is not below it',
      'Set linux.resources.memory.limit too, to no more than that.',
    );
  return swap - memoryLimit;
}

const CPU_PERIOD_DEFAULT_USEC = 100_000;

function cpuSettings(cpu: NonNullable<Resources['cpu']>): Setting[] {
  const settings: Setting[] = [];
  if (cpu.idle === 1) settings.push(weight('CPUWeight', 0));
  else if (cpu.shares !== undefined && cpu.shares !== 0)
    settings.push(weight('CPUWeight', cpuWeightOf(cpu.shares)));
  if (cpu.quota !== undefined && cpu.quota > 0) {
    const period = cpu.period || CPU_PERIOD_DEFAULT_USEC;
    settings.push(cpuQuota(Math.round((cpu.quota / period) * 1e6)));
    if (period !== CPU_PERIOD_DEFAULT_USEC) settings.push(cpuQuotaPeriod(period));
  }
  if (cpu.cpus) settings.push(indexSet('AllowedCPUs', parseIndexes('linux.resources.cpu.cpus', cpu.cpus)));
  if (cpu.mems)
    settings.push(indexSet('AllowedMemoryNodes', parseIndexes('linux.resources.cpu.mems', cpu.mems)));
  return settings;
}

/**
 * Shares (2..262144, default 1024) as a weight (1..10000, default 100), the curve through the three points that runc
 * and crun use: defaults stay defaults.
 */
export function cpuWeightOf(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const l = Math.log2(shares);
  return Math.ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34));
}

/** -1 and 0 are no limit, as docker(1) and podman(1) write it. */
function pidsSettings(pids: Resources['pids']): Setting[] {
  return pids?.limit === undefined ? [] : [limit('TasksMax', pids.limit <= 0 ? Infinity : pids.limit)];
}

function blockIOSettings(blockIO: NonNullable<Resources['blockIO']>): Setting[] {
  const settings: Setting[] = [];
  if (blockIO.weight) settings.push(weight('IOWeight', ioWeightOf(blockIO.weight)));
  const weights = (blockIO.weightDevice ?? []).flatMap(({ major, minor, weight: value }) =>
    value ? [{ device: blockDevice(major, minor), value: ioWeightOf(value) }] : [],
  );
  if (weights.length > 0) settings.push(perDevice('IODeviceWeight', weights));
  for (const [property, throttles] of [
    ['IOReadBandwidthMax', blockIO.throttleReadBpsDevice],
    ['IOWriteBandwidthMax', blockIO.throttleWriteBpsDevice],
    ['IOReadIOPSMax', blockIO.throttleReadIOPSDevice],
    ['IOWriteIOPSMax', blockIO.throttleWriteIOPSDevice],
  ] as const)
    if (throttles !== undefined && throttles.length > 0)
      settings.push(
        perDevice(
          property,
          throttles.map(({ major, minor, rate }) => ({ device: blockDevice(major, minor), value: rate })),
        ),
      );
  return settings;
}

/** blkio.weight (10..1000) as io.weight (1..10000). */
export function ioWeightOf(blkioWeight: number): number {
  return Math.max(1, Math.min(10000, Math.round(1 + ((blkioWeight - 10) * 9999) / 990)));
}

/** A name that systemd reads without looking the device up. */
function blockDevice(major: number, minor: number): string {
  return `/dev/block/${major}:${minor}`;
}

function orInfinity(value: number): number {
  return value < 0 ? Number.POSITIVE_INFINITY : value;
}
