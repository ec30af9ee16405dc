/** The part of the setup script that makes the container's range of host ids and its namespaces. */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, SLOT_MAX, SLOT_MIN } from '../uid/range.ts';
import type { Mount } from './fstab.ts';
import { hasHostUsers } from './host-users.ts';
import { fixedRange, type NamespaceOrigin, type NamespacePlan } from './namespaces.ts';
import type { SeccompPlan } from './seccomp.ts';
import { fstabWord, shellWord } from './shell.ts';
import { capabilityList } from './shim.ts';
import { sysctls } from './sysctl.ts';

/** `B`: the container's first host id, published in userdb as the user that the payload's unit names. */
export function rangeLines(spec: RuntimeSpec): string {
  if (hasHostUsers(spec)) return '\nB=0';
  const fixed = fixedRange(spec.linux);
  return `
[ -d /run/oci ] || mkdir -p -m 700 /run/oci
[ -d /run/userdb ] || mkdir -p /run/userdb
exec 9>/run/oci/range.lock
flock 9
${fixed === undefined ? NEXT_RANGE : fixedRangeLines(fixed.base)}
${PUBLISH_RANGE}`;
}

function fixedRangeLines(base: number): string {
  return `B=${base}
[ ! -e /run/userdb/$B.user ] || fail "the range of host ids from $B on is in use"`;
}

/** The next free slot after the last one given out, so that two starts never share a range soon. */
const NEXT_RANGE = `slot=${SLOT_MIN - 1}
[ ! -s /run/oci/range.last ] || read -r slot </run/oci/range.last
tries=0
# true when ids of the range are delegated to somebody by /etc/subuid or /etc/subgid
delegated() {
  for file in /etc/subuid /etc/subgid; do
    [ -r $file ] || continue
    while IFS=: read -r _ first count _; do
      case $first$count in '' | *[!0-9]*) continue ;; esac
      [ "$first" -ge $((B + ${RANGE_SIZE})) ] || [ $((first + count)) -le "$B" ] || return 0
    done <$file
  done
  return 1
}
while :; do
  tries=$((tries + 1))
  [ $tries -le ${SLOT_MAX} ] || fail 'no free range of user ids'
  slot=$((slot + 1))
  [ $slot -ge ${SLOT_MIN} ] && [ $slot -le ${SLOT_MAX} ] || slot=${SLOT_MIN}
  B=$((slot * ${RANGE_SIZE}))
  [ ! -e /run/userdb/$B.user ] && [ ! -e /run/systemd/nspawn-uid/$B ] || continue
  ! delegated || continue
  getent passwd $B >/dev/null &
  ! getent group $B >/dev/null && ! wait $! || continue
  break
done
echo $slot >/run/oci/range.last`;

const PUBLISH_RANGE = `echo $B >"$BUNDLE/range"
for key in "$ROOT_USER" $B; do
  printf '{"userName":"%s","uid":%s,"gid":%s,"realName":"Root of OCI container %s","disposition":"container"}\\n' \\
    "$ROOT_USER" $B $B "$NAME" >"/run/userdb/$key.user"
  printf '{"groupName":"%s","gid":%s,"disposition":"container"}\\n' "$ROOT_USER" $B >"/run/userdb/$key.group"
done
exec 9>&-`;

/**
 * All by one process with host uid B, so that B may join the user namespace without capabilities; with one capability
 * until then, since a host may refuse namespaces to processes of none. The process stops itself and holds them until
 * they are mounted. Meanwhile another one writes their settings. `as_root`: runs a command as the container's root, for
 * what is to be done with the image's files.
 */
export function namespaceLines(
  spec: RuntimeSpec,
  plan: NamespacePlan,
  seccomp: SeccompPlan | undefined,
): string {
  const own = (['net', 'ipc', 'uts'] as const)
    .filter((name) => plan[name === 'net' ? 'network' : name] === 'own')
    .map((name) => ` --${name}`)
    .join('');
  const settings = [
    ...(plan.network === 'own' ? ['ip link set lo up'] : []),
    ...(seccomp?.noUserNamespaces ? ['echo 0 >/proc/sys/user/max_user_namespaces'] : []),
    ...(areOwn(plan) ? writes(spec, 'container') : []),
  ];
  const entered = hasHostUsers(spec) ? own : ` --user${own} -S 0 -G 0`;
  const inside = `
nsenter --target $holder${entered} sh -euc ${shellWord(settings.join('\n'))} &
settings=$!`;
  return `${hasHostUsers(spec) ? holderLines(own) : userHolderLines(own)}
${settings.length === 0 ? 'settings=' : inside.trim()}`;
}

/** `own`: options of unshare(1). */
function userHolderLines(own: string): string {
  return `
holder=$(setpriv --reuid $B --regid $B --clear-groups --inh-caps +sys_admin --ambient-caps +sys_admin \\
  unshare --user${own} ${HOLD} &)
[ -n "$holder" ] || fail 'cannot make the namespaces: look at sysctl user.max_user_namespaces'
echo "0 $B $SIZE" >/proc/$holder/uid_map
echo "0 $B $SIZE" >/proc/$holder/gid_map
as_root() { nsenter --user="$BUNDLE/mnt/userns" -S 0 -G 0 "$@"; }`;
}

/** Root of the container may do with the image's files what it may where it has a user namespace: no device is made. */
function holderLines(own: string): string {
  return `
holder=$(unshare${own} ${HOLD} &)
[ -n "$holder" ] || fail 'cannot make the namespaces'
as_root() { setpriv --inh-caps=-all --bounding-set=${capabilityList(OF_FILES)} -- "$@"; }`;
}

const HOLD = `sh -c 'echo $$; exec >&-; kill -STOP $$'`;
const OF_FILES = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_SETFCAP'];

/** Before anything relies on what the namespaces are set to. */
const NAMESPACES_SET = `
[ -z "$settings" ] || wait $settings || fail 'cannot set up the namespaces'`;

/** Whether what belongs to the network and ipc namespaces can be written where those are made. */
function areOwn({ network, ipc }: NamespacePlan): boolean {
  return network === 'own' && ipc === 'own';
}

export function namespaceMounts(spec: RuntimeSpec, { network, ipc, uts }: NamespacePlan): Mount[] {
  return [
    ...(hasHostUsers(spec) ? [] : [namespaceMount('user', '/proc/$holder/ns/user')]),
    ...otherMount('net', network),
    ...otherMount('ipc', ipc),
    ...otherMount('uts', uts),
  ];
}

function otherMount(name: 'net' | 'ipc' | 'uts', origin: NamespaceOrigin): Mount[] {
  if (origin === 'host') return [];
  return [namespaceMount(name, origin === 'own' ? `/proc/$holder/ns/${name}` : fstabWord(origin.path))];
}

function namespaceMount(name: string, source: string): Mount {
  return { source, target: `${name}ns`, type: 'none', options: 'bind' };
}

/**
 * What is written inside the namespaces, also those that are joined: names, sysctls; and the queues of the ipc
 * namespace. By a process that UTS_AND_IPC_SET waits for.
 */
export function utsAndIPC(spec: RuntimeSpec, plan: NamespacePlan): string {
  const { network, ipc, uts } = plan;
  const net = network === 'host' ? [] : ['--net=netns'];
  const both = [...(ipc === 'host' ? [] : ['--ipc=ipcns']), ...(uts === 'host' ? [] : ['--uts=utsns'])];
  const domain = spec.domainname ? [`echo ${shellWord(spec.domainname)} >/proc/sys/kernel/domainname`] : [];
  // names belong to root of the host, what belongs to network and ipc to root of the container
  const byHost = [
    ...(uts === 'own' ? ['echo "$1" >/proc/sys/kernel/hostname', ...domain] : []),
    ...writes(spec, 'host'),
    'mount -t mqueue -o X-mount.mkdir,nosuid,noexec,nodev mqueue dev/mqueue',
  ];
  const byContainer = areOwn(plan) ? [] : writes(spec, 'container');
  return [
    NAMESPACES_SET,
    ...(byContainer.length > 0
      ? [
          command(
            [...(hasHostUsers(spec) ? [] : ['--user=userns', '-S 0', '-G 0']), ...net, ...both],
            byContainer,
          ),
        ]
      : []),
    `${command([...net, ...both], byHost)} &`,
    'names=$!',
  ].join('\n');
}

export const UTS_AND_IPC_SET = `
wait $names || fail 'cannot set up the uts and ipc namespaces'`;

function writes(spec: RuntimeSpec, writer: 'container' | 'host'): string[] {
  return sysctls(spec)
    .filter(({ by }) => by === writer)
    .map(({ path, value }) => `echo ${shellWord(value)} >${shellWord(`/proc/sys/${path}`)}`);
}

function command(entered: readonly string[], lines: readonly string[]): string {
  const enter = entered.length > 0 ? `nsenter ${entered.join(' ')} ` : '';
  return `${enter}sh -euc ${shellWord(lines.join('\n'))} sh "$HOSTNAME"`;
}
