/**
 * [Unit], [Service], [Install] and [Quadlet] of a .container file: what of them a service of ours takes over. Pure.
 *
 * Invariant: a key that would change how the payload is kept from the host is refused by name.
 */
import { OciError } from '../oci/errors.ts';
import { PROPERTY_NAMES, parseProperty } from '../unit/property.ts';
import { booleanOf, type Outcome, refused } from './outcome.ts';
import type { QuadletFile } from './quadlet-file.ts';

type Sections = 'Unit' | 'Service' | 'Install' | 'Quadlet';

const OTHER_PROGRAMS =
  'no other program is run beside the payload; put it into a service of its own, and order the two';
const OURS = 'it is what keeps the payload off the host, and not to be chosen';
const FOR_PODMAN = 'it would be for podman; use Environment= in [Container]';
const CONDITIONS = 'write it into a drop-in: systemctl edit';

/** What is said of keys that are refused; /^…$/ of the key. */
const REASONS: readonly [RegExp, string][] = [
  [/^Exec[A-Z]/, OTHER_PROGRAMS],
  [/^(Environment|EnvironmentFile|PassEnvironment|UnsetEnvironment)$/, FOR_PODMAN],
  [/^(Condition|Assert)/, CONDITIONS],
  [
    /^(User|Group|DynamicUser|Private|Protect|Restrict|Root|Bind|ReadOnly|ReadWrite|Inaccessible|Temporary|Mount|NoNew|Capability|Ambient|SystemCall|Namespace|Network|IPC|Delegate|NotifyAccess|PIDFile|Standard)/,
    OURS,
  ],
];

/** Sets of units (systemd.unit(5)) that install has options for. */
const ORDER_OPTIONS: Readonly<Record<string, string>> = {
  After: 'after',
  Requires: 'requires',
  Wants: 'wants',
};
const UNIT_LISTS = new Set(['Before', 'BindsTo', 'PartOf', 'Conflicts', 'OnFailure', 'OnSuccess']);

/** One assignment of those sections, its specifiers replaced. */
export function sectionOption(
  section: Sections,
  key: string,
  value: string,
  files: readonly QuadletFile[],
  serviceOf: (file: string) => string | undefined,
): Outcome {
  if (section === 'Quadlet')
    // by default an order after the network, for a pull; here images are pulled before
    return key === 'DefaultDependencies' && booleanOf(value) !== undefined
      ? []
      : refused('there is no such key');
  if (key === 'DefaultInstance' && section === 'Install')
    return refused('instances are enabled by their names: systemctl enable NAME@INSTANCE');
  if (section === 'Install')
    return key === 'WantedBy'
      ? value.split(/\s+/).map((unit) => `--wanted-by=${unit}`)
      : refused('a service can be wanted only; use WantedBy=');
  if (section === 'Unit' && (Object.hasOwn(ORDER_OPTIONS, key) || UNIT_LISTS.has(key)))
    return unitList(key, value, files, serviceOf);
  if (key === 'Type')
    return value === 'notify' ? [] : refused('how the unit is started is said by Notify= in [Container]');
  if (key === 'Slice') return [`--slice=${value}`];
  if (key === 'RestartMode')
    return value === 'direct' ? [] : refused('between two runs the unit is never stopped');
  const settings = propertyOf(section, key, value);
  // the setup unit must not see the payload's unit stopped between two runs
  return key === 'Restart' && !('refused' in settings)
    ? [...settings, ...(value === 'no' ? [] : ['--property=RestartMode=direct'])]
    : settings;
}

function propertyOf(section: 'Unit' | 'Service', key: string, value: string): Outcome {
  if (!PROPERTY_NAMES.includes(key)) {
    const reason = REASONS.find(([pattern]) => pattern.test(key))?.[1];
    return refused(reason ?? `it cannot be set here; ${CONDITIONS}`);
  }
  try {
    const [setting] = parseProperty(`${key}=${value}`);
    if (setting?.section !== section) return refused(`it belongs into [${setting?.section ?? 'Service'}]`);
  } catch (error) {
    if (error instanceof OciError) return refused(error.message.replace(/^--property: /, ''));
    throw error;
  }
  return [`--property=${key}=${value}`];
}

/** Units of other Quadlet files have other names here, or are none: networks and volumes are made when needed. */
function unitList(
  key: string,
  value: string,
  files: readonly QuadletFile[],
  serviceOf: (file: string) => string | undefined,
): Outcome {
  const made = new Set(
    files
      .filter(({ kind }) => kind !== 'container')
      .flatMap(({ file, stem, kind }) => [file, `${stem}-${kind}.service`]),
  );
  const units: string[] = [];
  for (const word of value.split(/\s+/)) {
    if (made.has(word)) continue;
    const unit = word.endsWith('.container') ? serviceOf(word) : word;
    if (unit === undefined || /\.(volume|network|image|pod|kube|build)$/.test(unit))
      return refused(`${word} is not among the files that are imported`);
    units.push(unit.includes('.') && unit === word ? unit : `${unit}.service`);
  }
  const option = ORDER_OPTIONS[key];
  if (option !== undefined) return units.map((unit) => `--${option}=${unit}`);
  return units.map((unit) => `--property=${key}=${unit}`);
}
