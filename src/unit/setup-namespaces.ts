/** The part of the setup script that makes the container's range of host ids and its namespaces. */
import type { Linux, RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE, SLOT_MAX, SLOT_MIN } from '../uid/range.ts';
import { fixedRange, type NamespaceOrigin, type NamespacePlan } from './namespaces.ts';
import type { SeccompPlan } from './seccomp.ts';
import { shellWord } from './shell.ts';
import { sysctls } from './sysctl.ts';

/** `B`: the container's first host id, published in userdb as the user that the payload's unit names. */
export function rangeLines(linux: Linux): string {
  const fixed = fixedRange(linux);
  return `
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
printf '{"userName":"%s","uid":%s,"gid":%s,"realName":"Root of OCI container %s","disposition":"container"}\\n' \\
  "$ROOT_USER" $B $B "$NAME" >"/run/userdb/$ROOT_USER.user"
printf '{"groupName":"%s","gid":%s,"disposition":"container"}\\n' "$ROOT_USER" $B >"/run/userdb/$ROOT_USER.group"
ln -s "$ROOT_USER.user" /run/userdb/$B.user
ln -s "$ROOT_USER.group" /run/userdb/$B.group
exec 9>&-`;

/** Made by a process with host uid B, so that B may join it without capabilities. */
export const USER_NAMESPACE = `
# one fifo each: a writer of the first could still hold the second one open, and close it too early
mkfifo user-ready other-ready
setpriv --reuid $B --regid $B --clear-groups unshare --user sh -c 'echo; exec sleep 60' >user-ready &
holder=$!
read -r _ <user-ready || fail 'cannot make a user namespace: look at sysctl user.max_user_namespaces'
echo "0 $B $SIZE" >/proc/$holder/uid_map
echo "0 $B $SIZE" >/proc/$holder/gid_map
mount --bind /proc/$holder/ns/user userns
kill $holder`;

/** The others that are the container's own, held by a process until the setup's end; and those it joins. */
export function namespaceLines(
  { network, ipc, uts }: NamespacePlan,
  seccomp: SeccompPlan | undefined,
): string {
  const own = [
    ...(network === 'own' ? ['--net'] : []),
    ...(ipc === 'own' ? ['--ipc'] : []),
    ...(uts === 'own' ? ['--uts'] : []),
  ];
  const inside = [
    ...(network === 'own' ? ['ip link set lo up'] : []),
    ...(seccomp?.noUserNamespaces ? ['echo 0 >/proc/sys/user/max_user_namespaces'] : []),
    'echo',
    'exec sleep 3600',
  ].join('; ');
  return [
    `
nsenter --user=userns -S 0 -G 0 unshare ${[...own, 'sh', '-euc'].join(' ')} ${shellWord(inside)} >other-ready &
holder=$!
read -r _ <other-ready || fail 'cannot make the other namespaces'`,
    ...bindNamespace('net', network),
    ...bindNamespace('ipc', ipc),
    ...bindNamespace('uts', uts),
  ].join('\n');
}

function bindNamespace(name: 'net' | 'ipc' | 'uts', origin: NamespaceOrigin): string[] {
  if (origin === 'host') return [];
  const path = origin === 'own' ? `/proc/$holder/ns/${name}` : shellWord(origin.path);
  return [`mount --bind ${path} ${name}ns`];
}

/** What is written inside the namespaces: names, sysctls; and the queues of the ipc namespace. */
export function utsAndIPC(spec: RuntimeSpec, { network, ipc, uts }: NamespacePlan): string {
  const net = network === 'host' ? [] : ['--net=netns'];
  const both = [...(ipc === 'host' ? [] : ['--ipc=ipcns']), ...(uts === 'host' ? [] : ['--uts=utsns'])];
  const domain = spec.domainname ? [`echo ${shellWord(spec.domainname)} >/proc/sys/kernel/domainname`] : [];
  const settings = sysctls(spec);
  const write = (writer: 'container' | 'host') =>
    settings
      .filter(({ by }) => by === writer)
      .map(({ path, value }) => `echo ${shellWord(value)} >${shellWord(`/proc/sys/${path}`)}`);
  // names belong to root of the host, what belongs to network and ipc to root of the container
  const byHost = [
    ...(uts === 'own' ? ['echo "$1" >/proc/sys/kernel/hostname', ...domain] : []),
    ...write('host'),
    'mount -t mqueue -o nosuid,noexec,nodev mqueue dev/mqueue',
  ];
  const byContainer = write('container');
  return [
    '',
    command([...net, ...both], byHost),
    ...(byContainer.length > 0
      ? [command(['--user=userns', '-S 0', '-G 0', ...net, ...both], byContainer)]
      : []),
    'chown $B:$B dev/mqueue',
  ].join('\n');
}

function command(entered: readonly string[], lines: readonly string[]): string {
  const enter = entered.length > 0 ? `nsenter ${entered.join(' ')} ` : '';
  return `${enter}sh -euc ${shellWord(lines.join('\n'))} sh "$HOSTNAME"`;
}
