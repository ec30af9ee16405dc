/** The part of the setup script that makes the container's range of host ids and its namespaces. */
import type { Linux, RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, SLOT_MAX, SLOT_MIN } from '../uid/range.ts';
import type { Mount } from './fstab.ts';
import { fixedRange, type NamespaceOrigin, type NamespacePlan } from './namespaces.ts';
import type { SeccompPlan } from './seccomp.ts';
import { fstabWord, shellWord } from './shell.ts';
import { sysctls } from './sysctl.ts';

/** `B`: the container's first host id, published in userdb as the user that the payload's unit names. */
export function rangeLines(linux: Linux): string {
  const fixed = fixedRange(linux);
  return `
[ -d /run/oci ] || mkdir -p -m 700 /run/oci
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
  ! getent passwd $B >/dev/null && ! getent group $B >/dev/null || continue
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
 * Made by a process with host uid B, so that B may join it without capabilities. Its holder waits at a fifo that nobody
 * opens; another one tells that it is there (one for each holder: a writer of the first could still hold the
 * second one open, and close it too early).
 */
export const USER_NAMESPACE = `
mkfifo user-ready other-ready hold
setpriv --reuid $B --regid $B --clear-groups unshare --user sh -c 'echo; read -r _ <hold' >user-ready &
user=$!
read -r _ <user-ready || fail 'cannot make a user namespace: look at sysctl user.max_user_namespaces'
echo "0 $B $SIZE" >/proc/$user/uid_map
echo "0 $B $SIZE" >/proc/$user/gid_map`;

/** The others that are the container's own, with their settings, held by a process until they are mounted. */
export function namespaceLines(
  spec: RuntimeSpec,
  plan: NamespacePlan,
  seccomp: SeccompPlan | undefined,
): string {
  const own = [
    ...(plan.network === 'own' ? ['--net'] : []),
    ...(plan.ipc === 'own' ? ['--ipc'] : []),
    ...(plan.uts === 'own' ? ['--uts'] : []),
  ];
  const inside = [
    ...(plan.network === 'own' ? ['ip link set lo up'] : []),
    ...(seccomp?.noUserNamespaces ? ['echo 0 >/proc/sys/user/max_user_namespaces'] : []),
    ...(areOwn(plan) ? writes(spec, 'container') : []),
    'echo',
    'read -r _ <hold',
  ].join('\n');
  return `
nsenter --user=/proc/$user/ns/user -S 0 -G 0 unshare ${[...own, 'sh', '-euc'].join(' ')} ${shellWord(inside)} >other-ready &
holder=$!
read -r _ <other-ready || fail 'cannot make the other namespaces'`;
}

/** Whether what belongs to the network and ipc namespaces can be written where those are made. */
function areOwn({ network, ipc }: NamespacePlan): boolean {
  return network === 'own' && ipc === 'own';
}

export function namespaceMounts({ network, ipc, uts }: NamespacePlan): Mount[] {
  return [
    namespaceMount('user', '/proc/$user/ns/user'),
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

/** What is written inside the namespaces: names, sysctls; and the queues of the ipc namespace. */
export function utsAndIPC(spec: RuntimeSpec, plan: NamespacePlan): string {
  const { network, ipc, uts } = plan;
  const net = network === 'host' ? [] : ['--net=netns'];
  const both = [...(ipc === 'host' ? [] : ['--ipc=ipcns']), ...(uts === 'host' ? [] : ['--uts=utsns'])];
  const domain = spec.domainname ? [`echo ${shellWord(spec.domainname)} >/proc/sys/kernel/domainname`] : [];
  // names belong to root of the host, what belongs to network and ipc to root of the container
  const byHost = [
    ...(uts === 'own' ? ['echo "$1" >/proc/sys/kernel/hostname', ...domain] : []),
    ...writes(spec, 'host'),
    'mount -t mqueue -o nosuid,noexec,nodev mqueue dev/mqueue',
  ];
  const byContainer = areOwn(plan) ? [] : writes(spec, 'container');
  return [
    '',
    command([...net, ...both], byHost),
    ...(byContainer.length > 0
      ? [command(['--user=userns', '-S 0', '-G 0', ...net, ...both], byContainer)]
      : []),
    'chown $B:$B dev/mqueue',
  ].join('\n');
}

function writes(spec: RuntimeSpec, writer: 'container' | 'host'): string[] {
  return sysctls(spec)
    .filter(({ by }) => by === writer)
    .map(({ path, value }) => `echo ${shellWord(value)} >${shellWord(`/proc/sys/${path}`)}`);
}

function command(entered: readonly string[], lines: readonly string[]): string {
  const enter = entered.length > 0 ? `nsenter ${entered.join(' ')} ` : '';
  return `${enter}sh -euc ${shellWord(lines.join('\n'))} sh "$HOSTNAME"`;
}
