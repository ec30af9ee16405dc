/**
 * One setting of a unit in both of its forms: the property of StartTransientUnit() (org.freedesktop.systemd1(5)) and
 * the lines of a unit file (systemd.exec(5), systemd.service(5), systemd.resource-control(5)).
 *
 * Invariant: a value arrives byte for byte in either form. In text every specifier, quote, variable and line break
 * is escaped here and nowhere else.
 */

export interface Setting {
  readonly section: 'Unit' | 'Service' | 'Socket';
  /** D-Bus: name, type signature and value (bigint for `t`, number for other numbers, Uint8Array for `ay`). */
  readonly property: string;
  readonly signature: string;
  readonly value: unknown;
  /** The lines of a unit file, without a line break at the end. */
  readonly lines: readonly string[];
}

type Section = Setting['section'];

export function string(name: string, value: string, section: Section = 'Service'): Setting {
  return setting(section, name, 's', value, [`${name}=${escapeSpecifiers(value)}`]);
}

/** A string whose D-Bus property is named otherwise than the line in the file. */
export function stringAs(property: string, name: string, value: string): Setting {
  return setting('Service', property, 's', value, [`${name}=${escapeSpecifiers(value)}`]);
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
export function seconds(name: string, value: number): Setting {
  const usec = BigInt(Math.round(value * 1e6));
  return setting('Service', name.replace(/Sec$/, 'USec'), 't', usec, [`${name}=${value}s`]);
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

export function list(name: string, values: readonly string[], section: Section = 'Service'): Setting {
  return setting(section, name, 'as', values, [`${name}=${values.map(quoteWord).join(' ')}`]);
}

/** ListenFIFO= of a socket unit. */
export function listenFifo(path: string): Setting {
  return setting('Socket', 'Listen', 'a(ss)', [['FIFO', path]], [`ListenFIFO=${escapeSpecifiers(path)}`]);
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

/** BindPaths= or BindReadOnlyPaths=. A missing source is an error. */
export function binds(name: 'BindPaths' | 'BindReadOnlyPaths', paths: readonly Bind[]): Setting {
  return setting(
    'Service',
    name,
    'a(ssbt)',
    paths.map((path) => [path.source, path.destination, false, path.recursive ? BigInt(MS_REC) : 0n]),
    paths.map((path) => {
      const words = [path.source, path.destination].map((part) => part.replace(/[\\:]/g, '\\$&'));
      return `${name}=${quoteWord(`${words.join(':')}:${path.recursive ? 'rbind' : 'norbind'}`)}`;
    }),
  );
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

/** An empty CapabilityBoundingSet=. */
export function noCapabilities(): Setting {
  return setting('Service', 'CapabilityBoundingSet', 't', 0n, ['CapabilityBoundingSet=']);
}

/** A command of ours, with fixed words. */
export function exec(name: 'ExecStart' | 'ExecStop' | 'ExecStopPost', argv: readonly string[]): Setting {
  return setting('Service', name, 'a(sasb)', [[argv[0], argv, false]], [`${name}=${commandLine(argv)}`]);
}

/** A command of ours beside a payload: as root of the host, outside the container; its failure is ignored. */
export function execPrivileged(name: 'ExecStopPost', argv: readonly string[]): Setting {
  const flags = ['ignore-failure', 'privileged', 'no-env-expand'];
  return setting(
    'Service',
    `${name}Ex`,
    'a(sasas)',
    [[argv[0], argv, flags]],
    [`${name}=-+:${commandLine(argv)}`],
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
