/**
 * Platforms: `os/arch[/variant]` in Go's words (image-spec image-index.md "platform"), and which of an index's
 * platforms a machine can run.
 *
 * Invariant: a normalised Platform has no variant where the variant is the architecture's baseline (amd64 v1,
 * arm64 v8), so that equal platforms have equal parts.
 */
import { OciError, quote } from './errors.ts';
import { asObject, asString, optional } from './json.ts';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** `linux/arm64/v8`, `linux/amd64`, or `arm64` alone for Linux. Throws USAGE. */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/');
  if (text.length > 64 || parts.length > 3 || !parts.every((part) => /^[a-z0-9][a-z0-9._-]*$/.test(part)))
    throw new OciError('USAGE', `${quote(text)} is not a platform`, {
      hint: 'Write it as os/arch or os/arch/variant, for example linux/arm64.',
    });
  const [os, architecture, variant] = parts.length === 1 ? ['linux', parts[0]!] : parts;
  return normalisePlatform({ os: os!, architecture: architecture!, ...(variant ? { variant } : {}) });
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');
}

/** The platform field of a descriptor, in normal form. */
export function readPlatform(value: unknown, what: string): Platform {
  const object = asObject(value, what);
  const variant = optional(object['variant'], asString, `${what} variant`);
  return normalisePlatform({
    os: optional(object['os'], asString, `${what} os`) ?? '',
    architecture: optional(object['architecture'], asString, `${what} architecture`) ?? '',
    ...(variant ? { variant } : {}),
  });
}

/** What uname(2), Debian and Node call an architecture → what Go calls it, with the variant it implies. */
const ALIASES: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  x64: ['amd64'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
  i386: ['386'],
  i686: ['386'],
  ia32: ['386'],
  ppc64el: ['ppc64le'],
  loongarch64: ['loong64'],
};

/** The variants of an architecture, best first. A machine runs its own and every later one of the list. */
const VARIANTS: Readonly<Record<string, { order: readonly string[]; implied: string }>> = {
  amd64: { order: ['v4', 'v3', 'v2', 'v1'], implied: 'v1' },
  arm64: { order: ['v9', 'v8'], implied: 'v8' },
  arm: { order: ['v8', 'v7', 'v6', 'v5'], implied: 'v7' },
};
/** Baselines that are left out of the normal form. arm stays explicit: v7 is usual, not the least. */
const BASELINES: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8' };

export function normalisePlatform(platform: Platform): Platform {
  const alias = Object.hasOwn(ALIASES, platform.architecture) ? ALIASES[platform.architecture] : undefined;
  const architecture = alias?.[0] ?? platform.architecture;
  let variant = platform.variant ?? alias?.[1];
  if (variant !== undefined && /^[0-9]/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm') variant ??= VARIANTS['arm']!.implied;
  if (variant === BASELINES[architecture]) variant = undefined;
  return { os: platform.os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** How well a machine of platform `wanted` runs `offered`: 0 is best, undefined is not at all. */
export function platformRank(wanted: Platform, offered: Platform): number | undefined {
  const want = normalisePlatform(wanted);
  const offer = normalisePlatform(offered);
  if (want.os !== offer.os || want.architecture !== offer.architecture) return undefined;
  if (want.variant === offer.variant) return 0;
  const variants = VARIANTS[want.architecture];
  if (variants === undefined) return offer.variant === undefined ? 1 : undefined;
  const start = variants.order.indexOf(want.variant ?? variants.implied);
  const place = variants.order.indexOf(offer.variant ?? variants.implied);
  return start < 0 || place < start ? undefined : place - start;
}

/** The x86-64 microarchitecture levels, by the flags of /proc/cpuinfo; each level needs the ones before. */
const AMD64_LEVELS: readonly (readonly [level: string, flags: string])[] = [
  ['v2', 'cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3'],
  ['v3', 'abm avx avx2 bmi1 bmi2 f16c fma movbe xsave'],
  ['v4', 'avx512f avx512bw avx512cd avx512dq avx512vl'],
];

/** The machine's platform from process.arch and the text of /proc/cpuinfo. */
export function machinePlatform(arch: string, cpuinfo: string): Platform {
  const platform = normalisePlatform({ os: 'linux', architecture: arch });
  if (platform.architecture === 'amd64') {
    const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
    let variant: string | undefined;
    for (const [level, needed] of AMD64_LEVELS) {
      if (!needed.split(' ').every((flag) => flags.has(flag))) break;
      variant = level;
    }
    return { ...platform, ...(variant === undefined ? {} : { variant }) };
  }
  if (platform.architecture === 'arm') {
    const version = Number(/^CPU architecture\s*:\s*([0-9]+)/m.exec(cpuinfo)?.[1] ?? 7);
    return { ...platform, variant: `v${Math.min(Math.max(version, 5), 8)}` };
  }
  return platform;
}
