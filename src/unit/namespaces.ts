/** linux.namespaces: which ones systemd makes, and which ones the setup unit made in the container's own range. */
import type { Linux } from '../oci/runtime-spec.ts';
import { rangeUserName } from '../uid/range.ts';
import { mountDir, type UnitContext } from './context.ts';
import { type Setting, string, stringAs } from './setting.ts';

export function namespaceSettings(linux: Linux, context: UnitContext): Setting[] {
  const types = new Set(linux.namespaces.map((namespace) => namespace.type));
  const mnt = mountDir(context);
  const user = rangeUserName(context.unit);
  return [
    // by name: the setup unit publishes it anew at every start. This user owns the container's user namespace, so
    // the shim may join it without any capability
    string('User', user),
    string('Group', user),
    ...(types.has('network') ? [string('NetworkNamespacePath', `${mnt}/netns`)] : []),
    ...(types.has('ipc') ? [string('IPCNamespacePath', `${mnt}/ipcns`)] : []),
    ...(types.has('pid') ? [string('PrivatePIDs', 'yes')] : []),
    // not 'strict', nor a read-only /sys/fs/cgroup: systemd still enters DelegateSubgroup= through it (219/CGROUP)
    ...(types.has('cgroup') ? [stringAs('ProtectControlGroupsEx', 'ProtectControlGroups', 'private')] : []),
  ];
}
