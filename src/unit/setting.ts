/**
 * One setting of a unit in both of its forms: the property of StartTransientUnit() (org.freedesktop.systemd1(5)) and
 * the lines of a unit file (systemd.exec(5), systemd.service(5), systemd.resource-control(5)).
 *
 * Invariant: a value arrives byte for byte in either form. In text every specifier, quote, variable and line break
 * is escaped here and nowhere else.
 */

import { CAPABILITIES } from '../oci/capability.ts';
import { OciError, quote } from '../oci/errors.ts';

export interface Setting {
  readonly section: 'Unit' | 'Service' | 'Socket' | 'Timer' | 'Install';
  /** D-Bus: name, type signature and value (bigint for `t`, number for other numbers, Uint8Array for `ay`). */
  readonly property: string;
  readonly signature: string;
  readonly value: unknown;
  /** The lines of a unit file, without a line break at the end. */
  readonly lines: readonly string[];
}

type Section = Setting['section'];

export function string(name: string, value: string, section: Section = 'Service'): Setting {
  return setting(section, name, 's', value, [`${name}=${plainValue(name, value)}`]);
}

/** A string whose D-Bus property is named otherwise than the line in the file. */
export function stringAs(property: string, name: string, value: string): Setting {
  return setting('Service', property, 's', value, [`${name}=${plainValue(name, value)}`]);
}

/** MountFlags=: the propagation of the payload's mounts (mount(2)). */
export function mountFlags(flags: number, word: string): Setting {
  return setting('Service', 'MountFlags', 't', BigInt(flags), [`MountFlags=${word}`]);
}

export function boolean(name: string, value: boolean, section: Section = 'Service'): Setting {
  return setting(section, name, 'b', value, [`${name}=${value ? 'yes' : 'no'}`]);
}

/** A byte or task count; Infinity is `infinity`. */
export function limit(name: string, value: number): Setting {
  const infinite = value === Number.POSITIVE_INFINITY;
  return setting('Service', name, 't', infinite ? UINT64_MAX : BigInt(value), [
    `${name}=${infinite ? 'infinity' : value}`,
  ]);
}

/** A time span: `TimeoutStopUSec` on the bus, `TimeoutStopSec` in the file. */
export function seconds(name: string, value: number, section: Section = 'Service'): Setting {
  const infinite = value === Number.POSITIVE_INFINITY;
  const usec = infinite ? UINT64_MAX : BigInt(Math.round(value * 1e6));
  return setting(section, name.replace(/Sec$/, 'USec'), 't', usec, [
    `${name}=${infinite ? 'infinity' : `${value}s`}`,
  ]);
}

/** One of a timer's times, counted from an event (systemd.timer(5)). */
export function monotonicTimer(name: 'OnUnitInactiveSec', value: number): Setting {
  const usec = BigInt(Math.round(value * 1e6));
  return setting('Timer', 'TimersMonotonic', 'a(st)', [[name, usec]], [`${name}=${value}s`]);
}

/** A number of times, of the unit itself: StartLimitBurst=. */
export function count32(name: string, value: number): Setting {
  return setting('Unit', name, 'u', value, [`${name}=${value}`]);
}

export function unsigned(name: string, value: number): Setting {
  return setting('Service', name, 'u', value, [`${name}=${value}`]);
}

/** Two words with a separator: LoadCredential=, DeviceAllow=. Neither holds a control character. */
export function pairs(
  name: string,
  values: readonly (readonly [string, string])[],
  separator: string,
): Setting {
  return setting(
    'Service',
    name,
    'a(ss)',
    values,
    values.map((words) => `${name}=${escapeSpecifiers(words.join(separator))}`),
  );
}

/** SetCredential=: name and value, of which the file has the odd characters as C escapes. */
export function setCredentials(values: readonly (readonly [string, string])[]): Setting {
  const inWords = (text: string) =>
    [...Buffer.from(text)]
      .map((byte) => String.fromCharCode(byte))
      .map((c) =>
        /[A-Za-z0-9_./:=@,+-]/.test(c) ? c : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
      )
      .join('');
  return setting(
    'Service',
    'SetCredential',
    'a(say)',
    values.map(([name, value]) => [name, Buffer.from(value)]),
    values.map(([name, value]) => `SetCredential=${name}:${inWords(value)}`),
  );
}

/** The period of a CPU quota: `CPUQuotaPeriodUSec` on the bus. */
export function cpuQuotaPeriod(usec: number): Setting {
  return setting('Service', 'CPUQuotaPeriodUSec', 't', BigInt(usec), [`CPUQuotaPeriodSec=${usec}us`]);
}

/** CPU time: `CPUQuotaPerSecUSec` on the bus, per cent in the file. */
export function cpuQuota(usecPerSecond: number): Setting {
  return setting('Service', 'CPUQuotaPerSecUSec', 't', BigInt(usecPerSecond), [
    `CPUQuota=${Number((usecPerSecond / 1e4).toFixed(2))}%`,
  ]);
}

/** A signal by number; its name goes to the file. */
export function signal(name: string, number: number, text: string): Setting {
  return setting('Service', name, 'i', number, [`${name}=${text}`]);
}

export function mode(name: string, value: number, section: Section = 'Service'): Setting {
  return setting(section, name, 'u', value, [`${name}=${value.toString(8).padStart(4, '0')}`]);
}

/** A signed number: Nice=, OOMScoreAdjust=, CPUSchedulingPriority=. */
export function number(name: string, value: number): Setting {
  return setting('Service', name, 'i', value, [`${name}=${value}`]);
}

/** A number with a name of its own in the file: CPUSchedulingPolicy=fifo is 1 on the bus. */
export function named(name: string, value: number, text: string): Setting {
  return setting('Service', name, 'i', value, [`${name}=${text}`]);
}

/** CPUWeight= and IOWeight=; 0 is CPUWeight=idle. */
export function weight(name: string, value: number): Setting {
  return setting('Service', name, 't', BigInt(value), [`${name}=${value === 0 ? 'idle' : value}`]);
}

/** A limit of setrlimit(2): hard on `LimitNOFILE`, soft on `LimitNOFILESoft`, both in one line. */
export function resourceLimit(name: string, soft: number, hard: number): Setting[] {
  const word = (value: number) => (value === Number.POSITIVE_INFINITY ? 'infinity' : String(value));
  const bus = (value: number) => (value === Number.POSITIVE_INFINITY ? UINT64_MAX : BigInt(value));
  return [
    setting('Service', name, 't', bus(hard), [`${name}=${word(soft)}:${word(hard)}`]),
    setting('Service', `${name}Soft`, 't', bus(soft), []),
  ];
}

/** A set of CPUs or memory nodes: a bitmap on the bus, lowest bit first; `0-3,7` in the file. */
export function indexSet(name: 'AllowedCPUs' | 'AllowedMemoryNodes', indexes: ReadonlySet<number>): Setting {
  const bytes = Buffer.alloc(Math.floor(Math.max(...indexes) / 8) + 1);
  for (const index of indexes) bytes[index >> 3]! |= 1 << (index & 7);
  return setting('Service', name, 'ay', bytes, [`${name}=${[...indexes].sort((a, b) => a - b).join(' ')}`]);
}

/** A weight or rate per block device, named by its numbers. */
export function perDevice(name: string, values: readonly { device: string; value: number }[]): Setting {
  return setting(
    'Service',
    name,
    'a(st)',
    values.map(({ device, value }) => [device, BigInt(value)]),
    values.map(({ device, value }) => `${name}=${device} ${value}`),
  );
}

export function list(name: string, values: readonly string[], section: Section = 'Service'): Setting {
  return setting(section, name, 'as', values, [`${name}=${values.map(quoteWord).join(' ')}`]);
}

/** What a socket unit listens on: ListenStream=8080 is Stream and 8080. */
export type Listen = readonly ['Stream' | 'Datagram' | 'FIFO', string];

export function listen(values: readonly Listen[]): Setting {
  const lines = values.map(([kind, address]) => `Listen${kind}=${escapeSpecifiers(address)}`);
  return setting('Socket', 'Listen', 'a(ss)', values, lines);
}

/** Environment=: each assignment on a line of its own. */
export function environment(assignments: readonly string[]): Setting {
  return setting(
    'Service',
    'Environment',
    'as',
    assignments,
    assignments.map((entry) => `Environment=${quoteWord(entry)}`),
  );
}

/** LogExtraFields=: `FIELD=value`, one line each. */
export function logExtraFields(fields: readonly string[]): Setting {
  return setting(
    'Service',
    'LogExtraFields',
    'aay',
    fields.map((field) => Buffer.from(field)),
    [`LogExtraFields=${fields.map(quoteWord).join(' ')}`],
  );
}

export interface Bind {
  source: string;
  destination: string;
  recursive: boolean;
}

const MS_REC = 16384;

/**
 * BindPaths= or BindReadOnlyPaths=. A missing source is an error. Only plain paths: systemd writes the others into
 * the file of a transient unit as they are, and reads something else at the next daemon-reload.
 */
export function binds(name: 'BindPaths' | 'BindReadOnlyPaths', paths: readonly Bind[]): Setting {
  const odd = paths
    .flatMap(({ source, destination }) => [source, destination])
    .find((path) => !isPlainPath(path));
  if (odd !== undefined)
    throw new OciError('UNSUPPORTED', `nothing can be mounted at ${quote(odd)}: systemd mistakes its name`, {
      hint: 'Use a path without spaces, quotes, colons and backslashes.',
    });
  return setting(
    'Service',
    name,
    'a(ssbt)',
    paths.map((path) => [path.source, path.destination, false, path.recursive ? BigInt(MS_REC) : 0n]),
    paths.map(
      ({ source, destination, recursive }) =>
        `${name}=${quoteWord(`${source}:${destination}:${recursive ? 'rbind' : 'norbind'}`)}`,
    ),
  );
}

export function isPlainPath(path: string): boolean {
  return !/[\s\x00-\x1f\x7f"'\\:]/.test(path);
}

/** ExecStart= and its kin of the payload: no variable of the unit is ever expanded in it. */
export function execVerbatim(name: 'ExecStart', argv: readonly string[]): Setting {
  return setting(
    'Service',
    `${name}Ex`,
    'a(sasas)',
    [[argv[0], argv, ['no-env-expand']]],
    [`${name}=:${commandLine(argv)}`],
  );
}

/** SystemCallFilter= as a list of what is refused. */
export function refusedCalls(names: readonly string[]): Setting {
  return setting(
    'Service',
    'SystemCallFilter',
    '(bas)',
    [false, names],
    [`SystemCallFilter=~${names.join(' ')}`],
  );
}

/** An empty CapabilityBoundingSet=. */
export function noCapabilities(): Setting {
  return capabilityBounds([]);
}

/** CapabilityBoundingSet=, by names of capabilities(7). */
export function capabilityBounds(names: readonly string[]): Setting {
  const bits = names.reduce((sum, name) => sum | (1n << BigInt(CAPABILITIES.indexOf(name))), 0n);
  return setting('Service', 'CapabilityBoundingSet', 't', bits, [`CapabilityBoundingSet=${names.join(' ')}`]);
}

/** RestrictNamespaces= that refuses user namespaces alone; on the bus what is allowed, by flags of clone(2). */
export function refusedUserNamespaces(): Setting {
  return setting('Service', 'RestrictNamespaces', 't', ALL_NAMESPACES - CLONE_NEWUSER, [
    'RestrictNamespaces=~user',
  ]);
}

/** RestrictAddressFamilies= as a list of what is refused. */
export function refusedFamilies(names: readonly string[]): Setting {
  return setting(
    'Service',
    'RestrictAddressFamilies',
    '(bas)',
    [false, names],
    [`RestrictAddressFamilies=~${names.join(' ')}`],
  );
}

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET of linux/sched.h. */
const ALL_NAMESPACES = 0x7e02_0000n;
const CLONE_NEWUSER = 0x1000_0000n;

/** A command of ours, with fixed words. */
export function exec(name: 'ExecStart' | 'ExecStop' | 'ExecStopPost', argv: readonly string[]): Setting {
  return setting('Service', name, 'a(sasb)', [[argv[0], argv, false]], [`${name}=${commandLine(argv)}`]);
}

/**
 * Beside or after the payload, as its user and in its tree: what it runs must be the shim's. systemd looks for the
 * program of every command below RootDirectory=, with `+` as root of the host: never that here. Its failure is ignored.
 */
export function execBeside(name: 'ExecStartPost' | 'ExecStopPost', argv: readonly string[]): Setting {
  return setting(
    'Service',
    `${name}Ex`,
    'a(sasas)',
    [[argv[0], argv, ['ignore-failure', 'no-env-expand']]],
    [`${name}=-:${commandLine(argv)}`],
  );
}

function commandLine(argv: readonly string[]): string {
  return argv.map(quoteWord).join(' ');
}

/** One word of a unit file: quoted where it must be, C escapes for control characters, `%` doubled. */
export function quoteWord(word: string): string {
  const escaped = escapeSpecifiers(word).replace(/[\x00-\x1f\x7f"\\]/g, (c) =>
    c === '"' || c === '\\' ? `\\${c}` : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return /^[A-Za-z0-9_./:=@%,+-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}

/**
 * A value that systemd reads to the end of its line, without quotes or escapes. A line break would begin another
 * setting, also in the file that systemd itself writes of a transient unit and reads again at a daemon-reload.
 */
function plainValue(name: string, value: string): string {
  if (/[\x00-\x1f\x7f]|^\s|\s$|\\$/.test(value))
    throw new OciError('UNSUPPORTED', `${quote(value)} cannot be the value of ${name}=`, {
      hint: 'Leave out control characters, spaces at the ends and a backslash at the end.',
    });
  return escapeSpecifiers(value);
}

function escapeSpecifiers(text: string): string {
  return text.replaceAll('%', '%%');
}

const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

function setting(
  section: Section,
  property: string,
  signature: string,
  value: unknown,
  lines: readonly string[],
): Setting {
  return { section, property, signature, value, lines };
}
