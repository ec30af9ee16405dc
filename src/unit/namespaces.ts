/**
 * linux.namespaces: which ones systemd makes, which ones the setup unit makes in the container's own range, which
 * ones are joined.
 *
 * Every container has a user namespace, also where the bundle asks for none: nothing of an image runs with ids of
 * the host, unless an option says so (host-users.ts). Every container has a mount namespace, because a service with a root
 * directory has.
 */
import { quote } from '../oci/errors.ts';
import type { Linux, NamespaceType, RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, rangeUserName, SLOT_MIN } from '../uid/range.ts';
import { mountDir, type UnitContext } from './context.ts';
import { hasHostUsers, hostUserSettings } from './host-users.ts';
import type { MountPlan } from './mounts.ts';
import { refusal } from './refuse.ts';
import { type Setting, string, stringAs } from './setting.ts';

export interface NamespacePlan {
  /** own: made for the container; host: none; otherwise the path of one to join. */
  network: NamespaceOrigin;
  ipc: NamespaceOrigin;
  uts: 'own' | 'host';
  pid: 'own' | 'host';
  cgroup: 'own' | 'host';
}

export type NamespaceOrigin = 'own' | 'host' | { path: string };

export function planNamespaces({ namespaces }: Linux): NamespacePlan {
  const origin = (type: NamespaceType): NamespaceOrigin => {
    const found = namespaces.filter((namespace) => namespace.type === type);
    if (found.length > 1) throw refusal('linux.namespaces', `${type} is there twice`, 'Leave one of them.');
    if (found[0] === undefined) return 'host';
    return found[0].path ? { path: found[0].path } : 'own';
  };
  const withoutPath = (type: NamespaceType, why: string): 'own' | 'host' => {
    const found = origin(type);
    if (typeof found === 'object')
      throw refusal(
        `linux.namespaces: ${type} by path ${quote(found.path)}`,
        why,
        'Leave out the path: the container then has its own.',
      );
    return found;
  };
  withoutPath('user', 'each start has a range of ids of its own');
  withoutPath('mount', 'a service with a root directory has its own');
  if (origin('time') !== 'host')
    throw refusal('linux.namespaces: time', 'systemd cannot make one', 'Leave it out.');
  return {
    network: origin('network'),
    ipc: origin('ipc'),
    uts: withoutPath('uts', 'the container’s root has no power over it'),
    pid: withoutPath('pid', 'systemd cannot join one'),
    cgroup: withoutPath('cgroup', 'systemd cannot join one'),
  };
}

export function namespaceSettings(spec: RuntimeSpec, mounts: MountPlan, context: UnitContext): Setting[] {
  const plan = planNamespaces(spec.linux);
  const mnt = mountDir(context);
  return [
    // by name: the setup unit publishes it anew at every start. This user owns the container's user namespace, so
    // the shim may join it without any capability. Its group is that of its record: Group= would be looked up by name, too
    ...(hasHostUsers(spec) ? hostUserSettings(spec) : [string('User', rangeUserName(context.unit))]),
    ...(plan.network === 'host' ? [] : [string('NetworkNamespacePath', `${mnt}/netns`)]),
    ...(plan.ipc === 'host' ? [] : [string('IPCNamespacePath', `${mnt}/ipcns`)]),
    ...(plan.pid === 'host' ? [] : [string('PrivatePIDs', 'yes')]),
    ...cgroupProtection(plan.cgroup, mounts.cgroup),
  ];
}

function cgroupProtection(namespace: 'own' | 'host', mount: MountPlan['cgroup']): Setting[] {
  const word =
    namespace === 'own'
      ? mount === 'read-only'
        ? 'strict'
        : 'private'
      : mount === 'read-only'
        ? 'yes'
        : undefined;
  return word === undefined ? [] : [stringAs('ProtectControlGroupsEx', 'ProtectControlGroups', word)];
}

/** The range of host ids that linux.uidMappings and gidMappings ask for; undefined: any free one of 65536. */
export function fixedRange(linux: Linux): { base: number; size: number } | undefined {
  const uid = linux.uidMappings ?? [];
  const gid = linux.gidMappings ?? [];
  if (uid.length === 0 && gid.length === 0) return undefined;
  const [map] = uid;
  const why =
    map === undefined || uid.length !== 1 || JSON.stringify(uid) !== JSON.stringify(gid)
      ? 'users and groups do not have one and the same range'
      : map.containerID !== 0
        ? 'the range does not begin with id 0'
        : map.size < RANGE_SIZE_MIN || map.size > RANGE_SIZE
          ? `a range has ${RANGE_SIZE_MIN} to ${RANGE_SIZE} ids`
          : map.hostID < HOST_ID_MIN || map.hostID + map.size > HOST_ID_MAX
            ? `a range lies between ${HOST_ID_MIN} and ${HOST_ID_MAX}`
            : map.hostID % RANGE_SIZE !== 0 && map.hostID + map.size > SLOT_MIN * RANGE_SIZE
              ? `a range above ${SLOT_MIN * RANGE_SIZE} begins at a multiple of ${RANGE_SIZE}`
              : undefined;
  if (why !== undefined)
    throw refusal('linux.uidMappings', why, 'Leave the mappings out: the container gets a range of its own.');
  return { base: map!.hostID, size: map!.size };
}

/** devpts alone wants group 5; what is smaller serves nobody. */
const RANGE_SIZE_MIN = 1024;
/** Below are the host's own users; 2^31-1 and above break programs that count ids in signed numbers. */
const HOST_ID_MIN = 65536;
const HOST_ID_MAX = 2 ** 31 - 65536 * 2;
