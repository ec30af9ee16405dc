/** The platform of this machine: Node's architecture name and, for the variant, /proc/cpuinfo. */
import { readFileSync } from 'node:fs';
import { machinePlatform, type Platform } from '../oci/platform.ts';

export function hostPlatform(): Platform {
  let cpuinfo = '';
  try {
    cpuinfo = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    // without /proc the baseline of the architecture is safe
  }
  return machinePlatform(process.arch, cpuinfo);
}
