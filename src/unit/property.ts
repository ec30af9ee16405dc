/**
 * `--property NAME=VALUE`, as systemd-run(1) takes it: one setting of the payload's unit, typed by this table.
 *
 * Invariant: a property is one property. A value cannot bring another line, a specifier or a variable; and what the
 * container stands on (its root, user, namespaces, command) cannot be set here.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseIndexes } from './indexes.ts';
import {
  boolean,
  count32,
  cpuQuota,
  indexSet,
  limit,
  list,
  named,
  number,
  pairs,
  perDevice,
  resourceLimit,
  type Setting,
  seconds,
  string,
  unsigned,
  weight,
} from './setting.ts';

type Parse = (name: string, value: string) => Setting[];

const KINDS: readonly [Parse, string][] = [
  [
    (name, value) => [limit(name, parseBytes(name, value))],
    'MemoryMax MemoryHigh MemoryLow MemoryMin MemorySwapMax MemoryZSwapMax TasksMax',
  ],
  [
    (name, value) => [weight(name, parseWhole(name, value, 1, 10_000))],
    'CPUWeight IOWeight StartupCPUWeight StartupIOWeight',
  ],
  [(name, value) => [cpuQuota(Math.round(parsePercent(name, value) * 1e4))], 'CPUQuota'],
  [
    (name, value) => [indexSet(name as 'AllowedCPUs', parseIndexes(name, value))],
    'AllowedCPUs AllowedMemoryNodes',
  ],
  [
    (name, value) => [perDevice(name, [parseDeviceValue(name, value)])],
    'IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceWeight',
  ],
  [
    (name, value) => [boolean(name, parseBoolean(name, value))],
    'CPUAccounting MemoryAccounting TasksAccounting IOAccounting IPAccounting MemoryZSwapWriteback MemoryKSM',
  ],
  [
    (name, value) => [boolean(name, parseBoolean(name, value), 'Unit')],
    'RefuseManualStart RefuseManualStop IgnoreOnIsolate',
  ],
  [
    (name, value) => [seconds(name, parseSeconds(name, value))],
    'TimeoutStartSec TimeoutStopSec TimeoutAbortSec RestartSec RestartMaxDelaySec RuntimeMaxSec LogRateLimitIntervalSec',
  ],
  [
    (name, value) => [seconds(name, parseSeconds(name, value), 'Unit')],
    'StartLimitIntervalSec JobTimeoutSec',
  ],
  [(name, value) => [count32(name, parseWhole(name, value, 0, 2 ** 31))], 'StartLimitBurst'],
  [(name, value) => [unsigned(name, parseWhole(name, value, 0, 2 ** 31))], 'LogRateLimitBurst RestartSteps'],
  [
    (name, value) => [number(name, parseWhole(name, value, -1000, 1000))],
    'Nice OOMScoreAdjust CPUSchedulingPriority IOSchedulingPriority',
  ],
  [
    (name, value) => [string(name, value)],
    'Slice OOMPolicy Restart RestartMode ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMPreference LogNamespace SyslogIdentifier KillMode',
  ],
  [
    (name, value) => [string(name, value, 'Unit')],
    'Description CollectMode StartLimitAction FailureAction SuccessAction',
  ],
  [
    (name, value) => [
      list(
        name,
        value.split(/\s+/).filter((word) => word !== ''),
        'Unit',
      ),
    ],
    'After Before Wants Requires BindsTo PartOf Conflicts OnFailure OnSuccess RequiresMountsFor Documentation',
  ],
  [
    (name, value) => [pairs(name, [splitOnce(name, value, ':')], ':')],
    'LoadCredential LoadCredentialEncrypted',
  ],
  [(name, value) => [pairs(name, [splitOnce(name, value, ' ')], ' ')], 'DeviceAllow'],
  [
    (name, value) => resourceLimit(name, ...parseLimits(name, value)),
    'LimitAS LimitCORE LimitCPU LimitDATA LimitFSIZE LimitLOCKS LimitMEMLOCK LimitMSGQUEUE LimitNICE LimitNOFILE LimitNPROC LimitRSS LimitRTPRIO LimitRTTIME LimitSIGPENDING LimitSTACK',
  ],
  [(name, value) => [named(name, parseLevel(name, value), value)], 'LogLevelMax'],
];

const TABLE = new Map<string, Parse>(
  KINDS.flatMap(([parse, names]) => names.split(' ').map((name): [string, Parse] => [name, parse])),
);

/** Names that can be set, for the manual page. */
export const PROPERTY_NAMES: readonly string[] = [...TABLE.keys()].sort();

/** Throws USAGE for a bad value, UNSUPPORTED for a property that is not in the table. */
export function parseProperty(text: string): Setting[] {
  const [, name = '', value = ''] = /^([A-Za-z][A-Za-z0-9]*)=(.*)$/s.exec(text) ?? [];
  if (name === '')
    throw new OciError('USAGE', `--property: ${quote(text)} is not NAME=VALUE`, {
      hint: 'Write it as --property MemoryHigh=128M.',
    });
  const parse = TABLE.get(name);
  if (parse === undefined)
    throw new OciError('UNSUPPORTED', `--property: ${quote(name)} cannot be set here`, {
      hint: 'See oci-units(7) for what can; for files, users and namespaces there are options of oci-run.',
    });
  return parse(name, value);
}

function bad(name: string, value: string, what: string): OciError {
  return new OciError('USAGE', `--property: ${name}=${quote(value)} is not ${what}`, {
    hint: 'See systemd.exec(5) and systemd.resource-control(5).',
  });
}

function parseBytes(name: string, value: string): number {
  if (value === 'infinity') return Number.POSITIVE_INFINITY;
  const [, digits = '', unit = ''] = /^(\d{1,15})([KMGT]?)$/.exec(value) ?? [];
  const bytes = Number(digits) * 1024 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit);
  if (digits === '' || !Number.isSafeInteger(bytes)) throw bad(name, value, 'a size or a number');
  return bytes;
}

function parseWhole(name: string, value: string, min: number, max: number): number {
  const whole = /^-?\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if (!(whole >= min && whole <= max)) throw bad(name, value, `a number from ${min} to ${max}`);
  return whole;
}

function parsePercent(name: string, value: string): number {
  const [, digits = ''] = /^(\d{1,7}(?:\.\d{1,2})?)%$/.exec(value) ?? [];
  if (digits === '' || Number(digits) === 0) throw bad(name, value, 'a percentage, as 150%');
  return Number(digits);
}

function parseBoolean(name: string, value: string): boolean {
  if (['yes', 'true', 'on', '1'].includes(value)) return true;
  if (['no', 'false', 'off', '0'].includes(value)) return false;
  throw bad(name, value, 'yes or no');
}

const UNIT_SECONDS: Record<string, number> = {
  ...{ us: 1e-6, ms: 1e-3, s: 1, sec: 1, m: 60, min: 60, h: 3600, hr: 3600, d: 86400, w: 604800, '': 1 },
};

/** systemd.time(7): `90`, `1min 30s`, `infinity`. */
function parseSeconds(name: string, value: string): number {
  if (value === 'infinity') return Number.POSITIVE_INFINITY;
  let total = 0;
  const rest = value.replace(/(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]*)\s*/gy, (_, digits: string, unit: string) => {
    total += Number(digits) * (Object.hasOwn(UNIT_SECONDS, unit) ? UNIT_SECONDS[unit]! : Number.NaN);
    return '';
  });
  if (value === '' || rest !== '' || Number.isNaN(total)) throw bad(name, value, 'a time span, as 1min 30s');
  return total;
}

function parseDeviceValue(name: string, value: string): { device: string; value: number } {
  const [device, amount] = splitOnce(name, value, ' ');
  if (!device.startsWith('/')) throw bad(name, value, 'a path and a value');
  if (name === 'IODeviceWeight') return { device, value: parseWhole(name, amount.trim(), 1, 10_000) };
  const [, digits = '', unit = ''] = /^(\d{1,12})([KMGT]?)$/.exec(amount.trim()) ?? [];
  if (digits === '') throw bad(name, value, 'a path and a rate');
  // rates are in powers of 1000 (systemd.resource-control(5))
  return { device, value: Number(digits) * 1000 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit) };
}

function splitOnce(name: string, value: string, separator: string): [string, string] {
  const at = value.indexOf(separator);
  if (at < 1 || at === value.length - 1 || !/^[^\s"'\\]+$/.test(value.replace(separator, '')))
    throw bad(name, value, `two parts with ${quote(separator)} between them`);
  return [value.slice(0, at), value.slice(at + 1)];
}

function parseLimits(name: string, value: string): [number, number] {
  const parts = value.split(':').map((part) => (part === 'infinity' ? Infinity : parseBytes(name, part)));
  const [soft = 0, hard = soft] = parts;
  if (parts.length > 2 || soft > hard) throw bad(name, value, 'SOFT or SOFT:HARD');
  return [soft, hard];
}

const LEVELS = ['emerg', 'alert', 'crit', 'err', 'warning', 'notice', 'info', 'debug'];

function parseLevel(name: string, value: string): number {
  const level = LEVELS.indexOf(value);
  if (level < 0) throw bad(name, value, `one of ${LEVELS.join(', ')}`);
  return level;
}
