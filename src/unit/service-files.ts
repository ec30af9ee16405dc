/**
 * An installed container: the units of a transient one (container-units.ts) as files in /etc/systemd/system, and
 * beside the store what they need, since /run is empty after a boot.
 *
 * Invariants
 * - NAME.service alone says which version of the service is meant, by RequiresMountsFor=: it names the version's
 *   directory. Renaming a new NAME.service over the old one is therefore the whole switch; the script that
 *   NAME-setup.service runs goes by what systemd has loaded.
 * - systemd ignores lines of a file that it does not understand, where it refuses them over D-Bus. So before anything
 *   starts, the script makes sure that systemd has loaded each line that keeps the payload off the host.
 */
import { OciError, quote } from '../oci/errors.ts';
import type { ContainerUnits, UnitSettings } from './container-units.ts';
import { exec, isPlainPath, list, type Setting, seconds } from './setting.ts';
import { shellWord } from './shell.ts';
import { INSTANCE } from './unit-name.ts';
import { unitText } from './unit-text.ts';

/** What a user of systemd says about a unit's place among others. */
export interface UnitOrder {
  readonly after: readonly string[];
  readonly requires: readonly string[];
  readonly wants: readonly string[];
  readonly wantedBy: readonly string[];
}

export interface ServicePlace {
  /** Of the service, beside the store; it holds its versions. */
  readonly directory: string;
  readonly version: number;
  /** Directories of the host that the container shows. */
  readonly sources: readonly string[];
}

export interface UnitFile {
  readonly name: string;
  readonly text: string;
}

const NOTICE =
  '# Made by ocictl install, and made anew by ocictl update. Changes belong into a drop-in: systemctl edit\n';

/** The unit files, NAME.service last. */
export function serviceUnitFiles(units: ContainerUnits, place: ServicePlace, order: UnitOrder): UnitFile[] {
  const started = (units.socket ?? units.payload).name;
  const helpers = units.helpers.map((unit) =>
    unit === units.setup ? setupUnit(unit, started, place) : unit,
  );
  const socket = units.socket === undefined ? [] : [units.socket];
  // how often the container may be started is the business of NAME.service alone
  const unlimited = helpers.map(({ name, settings }) => ({
    name,
    settings: [
      ...settings.filter(({ property }) => property !== 'StartLimitIntervalUSec'),
      seconds('StartLimitIntervalSec', 0, 'Unit'),
    ],
  }));
  return [...unlimited, ...socket, payloadUnit(units.payload, place, order)]
    .map((unit) => (unit.name === started ? installable(unit, order) : unit))
    .map(({ name, settings }) => ({
      name: name.replace(INSTANCE, ''),
      text:
        NOTICE +
        unitText(settings.filter(({ property }) => property !== 'CollectMode')).replaceAll(INSTANCE, '%i'),
    }));
}

function payloadUnit(unit: UnitSettings, place: ServicePlace, order: UnitOrder): UnitSettings {
  return {
    name: unit.name,
    settings: [
      ...unit.settings,
      list('RequiresMountsFor', [versionDirectory(place)], 'Unit'),
      ...some('After', order.after, 'Unit'),
      ...some('Requires', order.requires, 'Unit'),
      ...some('Wants', order.wants, 'Unit'),
    ],
  };
}

/** The unit that a user starts and enables: the payload's, or that of its sockets. */
function installable(unit: UnitSettings, { wantedBy }: UnitOrder): UnitSettings {
  return { name: unit.name, settings: [...unit.settings, ...some('WantedBy', wantedBy, 'Install')] };
}

function setupUnit(unit: UnitSettings, started: string, place: ServicePlace): UnitSettings {
  return {
    name: unit.name,
    settings: [
      ...unit.settings.filter(({ property }) => property !== 'ExecStart'),
      exec('ExecStart', [
        '/bin/sh',
        `${place.directory}/setup`,
        ...(started.includes(INSTANCE) ? [INSTANCE] : []),
      ]),
      list('RequiresMountsFor', [place.directory, ...place.sources], 'Unit'),
      // systemctl restart NAME is a fresh start: a new range of ids, a new writable layer
      list('PartOf', [started], 'Unit'),
    ],
  };
}

function some(name: string, units: readonly string[], section: 'Unit' | 'Install'): Setting[] {
  return units.length === 0 ? [] : [list(name, units, section)];
}

function versionDirectory({ directory, version }: ServicePlace): string {
  if (!isPlainPath(directory))
    throw new OciError('UNSUPPORTED', `no service can be installed from the store at ${quote(directory)}`, {
      hint: 'Use a store whose path has no spaces, quotes, colons and backslashes.',
    });
  return `${directory}/${version}`;
}

/** The version that the text of a NAME.service means; undefined where it is not of the service in `directory`. */
export function versionOfUnitFile(text: string, directory: string): number | undefined {
  for (const [, path = ''] of text.matchAll(/^RequiresMountsFor=(\S+)$/gm)) {
    const version = path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : '';
    if (/^[1-9]\d{0,8}$/.test(version)) return Number(version);
  }
  return undefined;
}

/** Whether `ocictl install` wrote the text. */
export function isOurUnitFile(text: string): boolean {
  return text.startsWith(NOTICE);
}

/** Without one of these the payload would see or be more of the host than a container may. */
const GUARDED = new Set([
  'RootDirectory',
  'User',
  'PrivatePIDs',
  'NetworkNamespacePath',
  'IPCNamespacePath',
  'ProtectControlGroupsEx',
  'BindLogSockets',
]);

/** Lines that `systemctl show` must print of NAME.service: the file `required` of a version. */
export function requiredProperties(units: ContainerUnits): string {
  const lines = units.payload.settings
    .filter(({ property }) => GUARDED.has(property))
    .map(({ property, signature, value }: Setting) =>
      signature === 'b' ? `${property}=${value ? 'yes' : 'no'}` : `${property}=${value}`,
    );
  return `${lines.join('\n')}\n`;
}

export interface StarterPlaces {
  readonly unit: string;
  /** ServicePlace.directory. */
  readonly directory: string;
  readonly bundleDir: string;
  readonly writableDir: string;
}

/** The file `setup` of a service: finds the version, makes its bundle and runs its own setup. */
export function starterScript({ unit, directory, bundleDir, writableDir }: StarterPlaces): string {
  const isInstance = unit.includes(INSTANCE);
  const text = `#!/bin/sh
# Start of ${unit.replace(INSTANCE, '')}.service: made by ocictl install.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
NAME=${shellWord(unit)}
SERVICE=${shellWord(directory)}
BUNDLE=${shellWord(bundleDir)}
WRITABLE=${shellWord(writableDir)}
${STARTER}${isInstance ? ITS_INSTANCE : ''}${CHECK}`;
  return isInstance ? text.replace('\nNAME=', () => INSTANCE_LINES).replaceAll(INSTANCE, () => '"$1"') : text;
}

/** Its name becomes part of a user's name (src/uid/range.ts). */
const INSTANCE_LINES = `
case $1 in
  '' | *[!a-z0-9_-]* | ???????????????????*)
    echo "'$1' is no name for an instance: use at most 18 of a-z, 0-9, _ and -" >&2
    exit 1 ;;
esac
NAME=`;

/** Who removes the service finds what each had. INSTANCE as a pattern that does not match itself: the word is replaced in the script, too. */
const ITS_INSTANCE = `mkdir -p "$SERVICE/instances"
: >"$SERVICE/instances/$1"
for file in config.json setup teardown health required; do
  [ ! -e "$BUNDLE/$file" ] || sed -i "s/oci0[i]nstance/$1/g" "$BUNDLE/$file"
done
`;

const STARTER = `fail() { echo "$NAME-setup: $*" >&2; exit 1; }

# the version that systemd has loaded, which is not the one on the disk between an update and its daemon-reload
VERSION=
for path in $(systemctl show --value --property=RequiresMountsFor "$NAME.service"); do
  case $path in "$SERVICE"/*) VERSION=$path ;; esac
done
[ -n "$VERSION" ] && [ -e "$VERSION/service.json" ] || fail "no version of it in $SERVICE: see ocictl versions $NAME"

# what a start that was cut off has left
[ ! -e "$BUNDLE/teardown" ] || sh "$BUNDLE/teardown" || :
rm -rf --one-file-system "$BUNDLE"
mkdir -p /run/oci "\${BUNDLE%/*}" "\${WRITABLE%/*}"
cp -a "$VERSION/bundle" "$BUNDLE"
cp "$VERSION/required" "$BUNDLE/required"
`;

const CHECK = `
properties=$(sed 's/=.*//' "$VERSION/required" | paste -s -d , -)
ignored=$(systemctl show --property="$properties" "$NAME.service" | grep -vxFf - "$BUNDLE/required") &&
  fail "refusing to start: systemd has not loaded $(echo "$ignored" | paste -s -d ' ' -)"

exec sh "$BUNDLE/setup"
`;
