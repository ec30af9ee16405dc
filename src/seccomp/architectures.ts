/**
 * Architectures that filters are compiled for: AUDIT_ARCH_* of linux/audit.h, word size, system calls.
 * All of them are little-endian.
 */
import { normalisePlatform } from '../oci/platform.ts';
import { AARCH64, ARM, I386, X86_64 } from './syscall-tables.ts';

export interface Architecture {
  /** As profiles call it. */
  name: string;
  /** seccomp_data.arch. */
  audit: number;
  bits: 32 | 64;
  calls: ReadonlyMap<string, number>;
  /** Architectures whose programs the same kernel runs. */
  compatible: readonly string[];
  /** Numbers from here on are another calling convention, which is not offered. */
  limit?: number;
}

const ARCHITECTURES: Readonly<Record<string, () => Architecture>> = {
  SCMP_ARCH_X86_64: () => ({
    name: 'SCMP_ARCH_X86_64',
    audit: 0xc000_003e,
    bits: 64,
    calls: parseTable(X86_64),
    compatible: ['SCMP_ARCH_X86'],
    limit: 0x4000_0000, // __X32_SYSCALL_BIT
  }),
  SCMP_ARCH_X86: () => ({
    name: 'SCMP_ARCH_X86',
    audit: 0x4000_0003,
    bits: 32,
    calls: parseTable(I386),
    compatible: [],
  }),
  SCMP_ARCH_AARCH64: () => ({
    name: 'SCMP_ARCH_AARCH64',
    audit: 0xc000_00b7,
    bits: 64,
    calls: parseTable(AARCH64),
    compatible: ['SCMP_ARCH_ARM'],
  }),
  SCMP_ARCH_ARM: () => ({
    name: 'SCMP_ARCH_ARM',
    audit: 0x4000_0028,
    bits: 32,
    calls: parseTable(ARM).set('sync_file_range2', 341), // both names are in use for this number
    compatible: [],
  }),
};

/** What profiles call a machine's architecture, in Go's or Node's word for it; undefined: there is no table. */
export function architectureName(machine: string): string | undefined {
  const { architecture } = normalisePlatform({ os: 'linux', architecture: machine });
  return Object.hasOwn(NAMES, architecture) ? NAMES[architecture] : undefined;
}

const NAMES: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  '386': 'SCMP_ARCH_X86',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
};

const made = new Map<string, Architecture>();

/** undefined where there is no table of its calls. */
export function architecture(name: string): Architecture | undefined {
  if (!made.has(name) && Object.hasOwn(ARCHITECTURES, name)) made.set(name, ARCHITECTURES[name]!());
  return made.get(name);
}

function parseTable(table: string): Map<string, number> {
  const calls = new Map<string, number>();
  for (const line of table.trim().split('\n')) {
    const [first, ...names] = line.split(' ');
    for (const [index, name] of names.entries()) calls.set(name, Number(first) + index);
  }
  return calls;
}
