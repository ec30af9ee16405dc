/** Numbers on the command line: memory sizes, CPU shares of time, counts. */
import { OciError, quote } from '../oci/errors.ts';

const UNIT_BYTES: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `256M`, `1.5g`, `4096`, `infinity` → bytes (Infinity for no limit). Units are powers of 1024, as in systemd and podman. */
export function parseSize(option: string, text: string): number {
  if (text === 'infinity' || text === '-1') return Number.POSITIVE_INFINITY;
  const match = /^(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?$/i.exec(text);
  const bytes = match ? Math.floor(Number(match[1]) * UNIT_BYTES[match[2]!.toLowerCase()]!) : Number.NaN;
  if (!Number.isSafeInteger(bytes) || bytes < 1)
    throw new OciError('USAGE', `${option}: ${quote(text)} is not a size`, {
      hint: `Write it as ${option} 256M.`,
    });
  return bytes;
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
