/**
 * `--userns host`: a container without a user namespace, whose ids are the host's. Nothing infers it: only the option
 * makes the annotation, and prepare-bundle.ts refuses that in a bundle.
 *
 * Invariants (security)
 * - The shim is root of the host until setpriv has made it the payload. Its unit bounds what it can do: the container's
 *   capabilities, and what joining a namespace and becoming a user need.
 * - What only the user namespace kept from the container's root has to be kept from it by mounts: whatever the unit
 *   shows it of the host is read-only (filesystem.ts), and so is its cgroup (bundle/runtime-spec.ts).
 * - A limit of user namespaces would be the whole host's: a filter refuses them instead (seccomp.ts).
 */
import { ANNOTATION } from '../oci/annotations.ts';
import { CAPABILITIES } from '../oci/capability.ts';
import type { Process, RuntimeSpec } from '../oci/runtime-spec.ts';
import { capabilityBounds, type Setting } from './setting.ts';
import { capabilityList } from './shim.ts';

export function hasHostUsers({ annotations }: RuntimeSpec): boolean {
  return annotations[ANNOTATION.userns] === 'host';
}

/** For setns(2) and filters of system calls; for setpriv(1). */
const SHIM_CAPABILITIES = ['CAP_SYS_ADMIN', 'CAP_SETPCAP', 'CAP_SETUID', 'CAP_SETGID'];

/** For nsenter(1) to look at the namespaces of a process of another user, and to enter its root. */
const ENTER_CAPABILITIES = ['CAP_SYS_PTRACE', 'CAP_SYS_CHROOT'];

/** Of the payload's unit: what the shim may have. */
export function hostUserSettings({ process }: RuntimeSpec): Setting[] {
  return [capabilityBounds(bounds(process, SHIM_CAPABILITIES))];
}

/**
 * Words before nsenter(1) where it enters such a container: a payload with CAP_SYS_ADMIN can put something else in the
 * place of the shim (joinAll() in shim.ts), which has no more than this then.
 */
export function boundedArgv(spec: RuntimeSpec): string[] {
  if (!hasHostUsers(spec)) return [];
  const names = bounds(spec.process, [...SHIM_CAPABILITIES, ...ENTER_CAPABILITIES]);
  return ['setpriv', '--inh-caps=-all', `--bounding-set=${capabilityList(names)}`, '--'];
}

function bounds({ capabilities }: Process, added: readonly string[]): string[] {
  const names = new Set([...(capabilities?.bounding ?? []), ...added]);
  return CAPABILITIES.filter((name) => names.has(name));
}
