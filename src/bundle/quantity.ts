/** Numbers on the command line: memory sizes, CPU shares of time, counts. */
import { OciError, quote } from '../oci/errors.ts';

const UNIT_BYTES: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `256M`, `1.5g`, `4096`, `infinity` → bytes (Infinity for no limit). Units are powers of 1024, as in systemd and podman. */
export function parseSize(option: string, text: string, example = `${option} 256M`): number {
  if (text === 'infinity' || text === '-1') return Number.POSITIVE_INFINITY;
  const match = /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i.exec(text);
  const bytes = match ? Math.floor(Number(match[1]) * UNIT_BYTES[match[2]!.toLowerCase()]!) : Number.NaN;
  if (!Number.isSafeInteger(bytes) || bytes < 1) throw noSize(option, text, example);
  return bytes;
}

/** A size that has an end; `example` shows how it is written. */
export function parseFiniteSize(option: string, text: string, example = `${option} 64M`): number {
  const bytes = text === '-1' || text === 'infinity' ? Number.NaN : parseSize(option, text, example);
  if (!Number.isNaN(bytes)) return bytes;
  throw noSize(option, text, example);
}

function noSize(option: string, text: string, example: string): OciError {
  return new OciError('USAGE', `${option}: ${quote(text)} is not a size`, {
    hint: `Write it as ${example}.`,
  });
}

/** `1.5` → 1.5 CPUs. */
export function parseCpus(text: string): number {
  const cpus = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  // systemd's smallest quota is 1 ms a period of 100 ms
  if (!(cpus >= 0.01 && cpus <= 10_000))
    throw new OciError('USAGE', `--cpus: ${quote(text)} is not a number of CPUs`, {
      hint: 'Write it as --cpus 1.5.',
    });
  return cpus;
}

/** A whole number in min..max, or Infinity for `-1` and `infinity` where that is allowed. */
export function parseCount(
  option: string,
  text: string,
  min: number,
  max: number,
  unlimited = false,
): number {
  if (unlimited && (text === 'infinity' || text === '-1')) return Number.POSITIVE_INFINITY;
  const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(count >= min && count <= max))
    throw new OciError('USAGE', `${option}: ${quote(text)} is not a whole number from ${min} to ${max}`, {
      hint: `Write it as ${option} ${Math.max(min, Math.min(max, 100))}.`,
    });
  return count;
}

const UNIT_SECONDS: Record<string, number> = { ms: 1e-3, s: 1, m: 60, h: 3600, '': 1 };

/** `30s`, `1m30s`, `500ms`, `30` → seconds, as Go programs write and podman-run(1) takes them. */
export function parseDuration(option: string, text: string, min: number, max: number): number {
  const isDuration = /^(\d{1,9}(\.\d{1,9})?(ms|s|m|h))+$|^\d{1,9}(\.\d{1,9})?$/.test(text);
  const parts = isDuration ? [...text.matchAll(/([\d.]+)([a-z]*)/g)] : [];
  const seconds = parts.reduce((sum, [, digits, unit]) => sum + Number(digits) * UNIT_SECONDS[unit!]!, 0);
  if (isDuration && seconds >= min && seconds <= max) return seconds;
  throw new OciError('USAGE', `${option}: ${quote(text)} is not a time from ${min}s to ${max}s`, {
    hint: `Write it as ${option} 30s.`,
  });
}
