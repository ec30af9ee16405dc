/** The limits on the command line, by podman's names (podman-run(1)) → linux.resources. */
import { OciError, quote } from '../oci/errors.ts';
import type { Resources } from '../oci/runtime-spec.ts';
import { parseCount, parseCpus, parseSize } from './quantity.ts';

export interface ResourceTexts {
  memory?: string;
  memoryReservation?: string;
  memorySwap?: string;
  cpus?: string;
  cpuWeight?: string;
  cpuShares?: string;
  cpusetCpus?: string;
  cpusetMems?: string;
  ioWeight?: string;
  pidsLimit?: string;
}

const CPU_PERIOD_USEC = 100_000;
const PIDS_MAX = 4_194_304; // the kernel's PID_MAX_LIMIT
const WEIGHT_MAX = 10_000;
const SHARES_MIN = 2;
const SHARES_MAX = 262_144;
const INDEX_MAX = 8191; // the kernel's NR_CPUS where it is largest

export function parseResources(texts: ResourceTexts): Resources {
  const memory = {
    ...(texts.memory === undefined ? {} : { limit: size('--memory', texts.memory) }),
    ...(texts.memoryReservation === undefined
      ? {}
      : { reservation: size('--memory-reservation', texts.memoryReservation) }),
    ...(texts.memorySwap === undefined ? {} : { swap: parseSwap(texts.memorySwap, texts.memory) }),
  };
  const cpu = {
    ...(texts.cpus === undefined
      ? {}
      : { quota: Math.round(parseCpus(texts.cpus) * CPU_PERIOD_USEC), period: CPU_PERIOD_USEC }),
    ...(texts.cpuShares === undefined
      ? {}
      : { shares: parseCount('--cpu-shares', texts.cpuShares, SHARES_MIN, SHARES_MAX) }),
    ...(texts.cpusetCpus === undefined ? {} : { cpus: indexes('--cpuset-cpus', texts.cpusetCpus) }),
    ...(texts.cpusetMems === undefined ? {} : { mems: indexes('--cpuset-mems', texts.cpusetMems) }),
  };
  const unified = {
    ...(texts.cpuWeight === undefined
      ? {}
      : { 'cpu.weight': String(parseCount('--cpu-weight', texts.cpuWeight, 1, WEIGHT_MAX)) }),
    ...(texts.ioWeight === undefined
      ? {}
      : { 'io.weight': `default ${parseCount('--io-weight', texts.ioWeight, 1, WEIGHT_MAX)}` }),
  };
  return {
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(texts.pidsLimit === undefined
      ? {}
      : { pids: { limit: orMinusOne(parseCount('--pids-limit', texts.pidsLimit, 1, PIDS_MAX, true)) } }),
    ...(Object.keys(unified).length > 0 ? { unified } : {}),
  };
}

/** Memory and swap together, as podman counts. */
function parseSwap(text: string, memory: string | undefined): number {
  const swap = size('--memory-swap', text);
  const limit = memory === undefined ? -1 : size('--memory', memory);
  if (swap >= 0 && (limit < 0 || swap < limit))
    throw new OciError('USAGE', `--memory-swap: ${quote(text)} is memory and swap together`, {
      hint: 'Give --memory too, and no more than that.',
    });
  return swap;
}

function size(option: string, text: string): number {
  return orMinusOne(parseSize(option, text));
}

function orMinusOne(value: number): number {
  return value === Number.POSITIVE_INFINITY ? -1 : value;
}

function indexes(option: string, text: string): string {
  const isRange = (part: string) => {
    const [, first = '', last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    return first !== '' && Number(first) <= Number(last) && Number(last) <= INDEX_MAX;
  };
  if (text.split(',').every(isRange)) return text;
  throw new OciError('USAGE', `${option}: ${quote(text)} is not a list of numbers`, {
    hint: `Write it as ${option} 0-3,7.`,
  });
}
