/**
 * A pause is a unit: NAME-paused.service freezes the payload's cgroup when it starts and lets it go on when it stops.
 * systemd refuses to stop a unit that FreezeUnit() froze; of this one it stops the pause first (PartOf=, After=), also
 * at a shutdown, and the payload then hears its stop signal.
 *
 * Invariant: what systemd runs in the unit beside the payload (ExecStopPost=) is not frozen, wherever the payload has
 * a cgroup of its own for that.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitSettings } from './container-units.ts';
import { planMounts } from './mounts.ts';
import { boolean, exec, list, type Setting, seconds, string } from './setting.ts';
import { shellWord } from './shell.ts';
import { helperName } from './unit-name.ts';

/** Where the processes of a container are, below its unit's cgroup: DelegateSubgroup=, if that is set. */
export function payloadSubgroup(spec: RuntimeSpec): '/payload' | '/' {
  return planMounts(spec).cgroup === 'writable' ? '/payload' : '/';
}

export function pauseUnitName(unit: string): string {
  return `${helperName(unit, 'paused')}.service`;
}

/** `cgroup`: the payload's, an absolute path. */
export function pauseUnit(unit: string, slice: string, cgroup: string): UnitSettings {
  const payload = `${unit}.service`;
  const write = (value: 0 | 1) => `echo ${value} >${shellWord(`${cgroup}/cgroup.freeze`)}`;
  const frozen = `grep -qx 'frozen 1' ${shellWord(`${cgroup}/cgroup.events`)}`;
  const settings: Setting[] = [
    string('Description', `Pause of OCI container ${unit}`, 'Unit'),
    list('BindsTo', [payload], 'Unit'),
    list('PartOf', [payload], 'Unit'),
    list('After', [payload], 'Unit'),
    string('CollectMode', 'inactive-or-failed', 'Unit'),
    string('Slice', slice),
    string('Type', 'oneshot'),
    boolean('RemainAfterExit', true),
    // a process that waits for a disk freezes later
    seconds('TimeoutStartSec', FREEZE_MAX_SECONDS),
    exec('ExecStart', ['/bin/sh', '-c', `${write(1)}; until ${frozen}; do sleep 0.02; done`]),
    // Post: also after a start that took too long; the payload may be gone
    exec('ExecStopPost', ['/bin/sh', '-c', `${write(0)} 2>/dev/null || :`]),
  ];
  return { name: pauseUnitName(unit), settings };
}

const FREEZE_MAX_SECONDS = 10;
