/**
 * Mounts at places whose names systemd mistakes: a blank, a quote, a colon or a backslash, which it writes as they are
 * into the file of a transient unit and reads as something else. The setup puts them into the trees that systemd then
 * binds as a whole: into the root, or the mount or directory of ours that covers the place.
 *
 * Invariant: no link is followed on the way. Each part is looked at and entered for itself, the kernel says where that
 * led, and what is mounted upon is the directory entered, whatever becomes of its name.
 */
import { OciError, quote } from '../oci/errors.ts';
import type { UnitContext } from './context.ts';
import type { MountPlan } from './mounts.ts';
import { isPlainPath } from './setting.ts';
import { shellWord } from './shell.ts';

export function plantedMounts(plan: MountPlan, context: UnitContext): string[] {
  const placed = [
    ...[...plan.binds, ...plan.temporary].map((mount) => ({
      ...mount,
      place: context.places?.get(mount.destination) ?? mount.destination,
    })),
    ...['/run', '/dev'].map((place) => ({
      destination: place,
      place,
      name: place.slice(1),
      readOnly: false,
    })),
  ];
  const planted = placed
    .filter(({ destination }) => !isPlainPath(destination))
    .sort((a, b) => a.place.length - b.place.length)
    .map(({ destination, place, name = '', readOnly }) => {
      const [outer] = placed
        .filter((other) => place.startsWith(`${other.place}/`))
        .sort((a, b) => b.place.length - a.place.length);
      if (/^\/(proc|sys)(\/|$)|^\/$/.test(place))
        throw cannotPlant(destination, 'the kernel’s own lies there');
      if (placed.some((other) => other.name !== name && other.place === place))
        throw cannotPlant(destination, `another mount lies at ${quote(place)}`);
      if (outer?.readOnly && !readOnly && isPlainPath(outer.destination))
        throw cannotPlant(destination, `the mount at ${quote(outer.destination)} is read-only`);
      const within = outer === undefined ? place.slice(1) : place.slice(outer.place.length + 1);
      return `plant ${outer?.name ?? 'rootfs'} ${shellWord(within)} ${name}${readOnly ? ' ,ro=recursive' : ''}`;
    });
  return planted.length === 0 ? [] : [PLANT, ...planted];
}

function cannotPlant(destination: string, why: string): OciError {
  return new OciError('UNSUPPORTED', `nothing can be mounted at ${quote(destination)}: ${why}`, {
    hint: 'Mount it at another place.',
  });
}

/**
 * Goes to the parent of $2 in $1 and leaves the name of its last part in $part. What is missing is made, by the
 * container's root where the host's has no id; as a file where $3 is one.
 */
export const REACH = `
reach() {
  case $3 in /*) what=$3 ;; *) what=$BUNDLE/mnt/$3 ;; esac
  cd -P "$1"
  here=$(pwd -P)
  rest=$2
  while :; do
    part=\${rest%%/*}
    case $rest in */*) rest=\${rest#*/} ;; *) rest= ;; esac
    [ ! -L "./$part" ] || fail "nothing can be mounted at $2: a part of it is a symbolic link"
    if [ -n "$rest" ] || [ -d "$what" ]; then new='mkdir -- "$0"'; else new='set -C; : >"$0"'; fi
    [ -e "./$part" ] || sh -c "$new" "./$part" 2>/dev/null || as_root sh -c "$new" "./$part"
    [ -n "$rest" ] || return 0
    enter "./$part"
  done
}
enter() {
  cd -P "$1"
  here=$here/\${1#./}
  [ "$(pwd -P; echo .)" = "$here
." ] || fail "nothing can be mounted below $here: a part of it is a symbolic link"
}`;

const PLANT = `
plant() (
  reach "$1" "$2" "$3"
  if [ -d "./$part" ]; then enter "./$part"; part=.; fi
  mount -c -o "rbind\${4:-}" "$BUNDLE/mnt/$3" "./$part"
)`;
