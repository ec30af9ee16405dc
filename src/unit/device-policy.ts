/**
 * linux.resources.devices → DevicePolicy= and DeviceAllow=. Denied is what is not allowed: the standard nodes
 * (null, zero, full, random, urandom, tty, ptmx, pts) always are, as the specification wants it.
 */
import type { Resources } from '../oci/runtime-spec.ts';
import { refusal } from './refuse.ts';
import { pairs, type Setting, string } from './setting.ts';

type Rule = NonNullable<Resources['devices']>[number];

export function devicePolicySettings(rules: readonly Rule[]): Setting[] {
  // a rule for everything makes those before it void
  const lastForAll = rules.findLastIndex(isForAll);
  if (lastForAll >= 0 && rules[lastForAll]!.allow) {
    if (lastForAll !== rules.length - 1) throw exception();
    return [];
  }
  const later = rules.slice(lastForAll + 1);
  if (later.some((rule) => !rule.allow)) throw exception();
  return [
    string('DevicePolicy', 'closed'),
    ...(later.length > 0
      ? [
          pairs(
            'DeviceAllow',
            later.map((rule) => [deviceOf(rule), accessOf(rule)]),
            ' ',
          ),
        ]
      : []),
  ];
}

function exception(): Error {
  return refusal(
    'linux.resources.devices',
    'systemd knows no exceptions from what is allowed',
    'Deny everything first, then allow what is needed.',
  );
}

function isForAll({ type, major, minor, access }: Rule): boolean {
  return (
    (type === undefined || type === 'a') &&
    isAny(major) &&
    isAny(minor) &&
    (access === undefined || sorted(access) === 'mrw')
  );
}

function isAny(number: number | undefined): boolean {
  return number === undefined || number === -1;
}

function deviceOf({ type, major, minor }: Rule): string {
  const kind = type === 'c' ? 'char' : type === 'b' ? 'block' : undefined;
  if (kind === undefined)
    throw refusal('linux.resources.devices[].type', 'a rule needs a kind', 'Write c or b.');
  if (isAny(major) && !isAny(minor))
    throw refusal('linux.resources.devices[].minor', 'it has no major number', 'Give both.');
  if (isAny(major)) return `${kind}-*`;
  return isAny(minor) ? `${kind}-${major}` : `/dev/${kind}/${major}:${minor}`;
}

function accessOf({ access = 'rwm' }: Rule): string {
  if (!/^[rwm]+$/.test(access))
    throw refusal('linux.resources.devices[].access', 'only r, w and m exist', 'Write it as rwm.');
  return access;
}

function sorted(text: string): string {
  return [...text].sort().join('');
}
