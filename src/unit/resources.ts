/** linux.resources → systemd.resource-control(5). */
import type { Resources } from '../oci/runtime-spec.ts';
import { cpuQuota, limit, type Setting } from './setting.ts';

export function resourceSettings(resources: Resources): Setting[] {
  const settings: Setting[] = [];
  const { memory, cpu, pids } = resources;
  if (memory?.limit !== undefined) settings.push(limit('MemoryMax', orInfinity(memory.limit)));
  if (memory?.reservation !== undefined) settings.push(limit('MemoryLow', orInfinity(memory.reservation)));
  if (cpu?.quota !== undefined && cpu.quota > 0)
    settings.push(cpuQuota(Math.round((cpu.quota / (cpu.period ?? CPU_PERIOD_DEFAULT_USEC)) * 1e6)));
  if (pids?.limit !== undefined) settings.push(limit('TasksMax', orInfinity(pids.limit)));
  return settings;
}

const CPU_PERIOD_DEFAULT_USEC = 100_000;

function orInfinity(value: number): number {
  return value < 0 ? Number.POSITIVE_INFINITY : value;
}
