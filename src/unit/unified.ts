/** linux.resources.unified: files of cgroup v2 that systemd has a setting for; systemd owns the files themselves. */
import { quote } from '../oci/errors.ts';
import { parseIndexes } from './indexes.ts';
import { refusal } from './refuse.ts';
import { cpuQuota, cpuQuotaPeriod, indexSet, limit, type Setting, weight } from './setting.ts';

const FILES: Record<string, (value: string, field: string) => Setting[]> = {
  'memory.min': bytes('MemoryMin'),
  'memory.low': bytes('MemoryLow'),
  'memory.high': bytes('MemoryHigh'),
  'memory.max': bytes('MemoryMax'),
  'memory.swap.max': bytes('MemorySwapMax'),
  'memory.zswap.max': bytes('MemoryZSwapMax'),
  'pids.max': bytes('TasksMax'),
  'cpu.weight': (value, field) => [weight('CPUWeight', whole(value, field, 1, 10_000))],
  'cpu.idle': (value, field) => (whole(value, field, 0, 1) === 1 ? [weight('CPUWeight', 0)] : []),
  'cpu.max': cpuMax,
  'cpuset.cpus': (value, field) => [indexSet('AllowedCPUs', parseIndexes(field, value))],
  'cpuset.mems': (value, field) => [indexSet('AllowedMemoryNodes', parseIndexes(field, value))],
  'io.weight': (value, field) => [
    weight('IOWeight', whole(value.replace(/^default\s+/, ''), field, 1, 10_000)),
  ],
};

export function unifiedSettings(unified: Readonly<Record<string, string>>): Setting[] {
  return Object.entries(unified).flatMap(([file, value]) => {
    const field = `linux.resources.unified[${quote(file)}]`;
    const translate = Object.hasOwn(FILES, file) ? FILES[file] : undefined;
    if (translate === undefined)
      throw refusal(
        field,
        'systemd has no setting for it',
        'Remove it, or set it with -p in systemd’s own words.',
      );
    return translate(value.trim(), field);
  });
}

function bytes(property: string): (value: string, field: string) => Setting[] {
  return (value, field) => [
    limit(property, value === 'max' ? Infinity : whole(value, field, 0, Number.MAX_SAFE_INTEGER)),
  ];
}

/** `MAX PERIOD`, microseconds. */
function cpuMax(value: string, field: string): Setting[] {
  const [quota = '', period = '100000'] = value.split(/\s+/);
  if (quota === 'max') return [];
  const periodUsec = whole(period, field, 1000, 1_000_000);
  const usecPerSecond = Math.round((whole(quota, field, 1000, Number.MAX_SAFE_INTEGER) / periodUsec) * 1e6);
  return [cpuQuota(usecPerSecond), ...(periodUsec === 100_000 ? [] : [cpuQuotaPeriod(periodUsec)])];
}

function whole(text: string, field: string, min: number, max: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max))
    throw refusal(
      field,
      `${quote(text)} is not a number from ${min} to ${max}`,
      'Correct it: see the kernel’s cgroup-v2 documentation.',
    );
  return value;
}
