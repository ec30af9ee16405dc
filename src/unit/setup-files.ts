/** The parts of the setup script that make /dev and the files of /etc that the network belongs to. */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { HOST_GATEWAY, type NetworkFiles, type UnitContext } from './context.ts';
import { deviceLines } from './devices.ts';
import type { Mount } from './fstab.ts';
import type { MountPlan } from './mounts.ts';
import type { NamespaceOrigin, NamespacePlan } from './namespaces.ts';
import { gateway } from './setup-network.ts';
import { shellWord } from './shell.ts';
import { askForTerminal } from './terminal.ts';

export function deviceMounts({ devSize, shmOptions }: MountPlan): Mount[] {
  const options = `mode=755,nosuid,strictatime,size=${devSize},uid=$B,gid=$B`;
  const terminals = 'newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,uid=$B,gid=$((B + 5))';
  return [
    { source: 'oci-dev', target: 'dev', type: 'tmpfs', options },
    { source: 'devpts', target: 'dev/pts', type: 'devpts', options: terminals },
    {
      source: 'shm',
      target: 'dev/shm',
      type: 'tmpfs',
      options: ['rw', ...shmOptions, 'uid=$B', 'gid=$B'].join(','),
    },
  ];
}

/** /dev and an empty /etc. */
export function deviceTree({ stdio }: UnitContext): string {
  // the journal's streams cannot be opened by name: see log-units.ts
  return `
cp -a "$SHARED/${stdio === undefined ? 'tree-journal' : 'tree'}/." .`;
}

/** Once the files of /etc and the queues are there. */
export function ownTree(spec: RuntimeSpec, { networkFiles }: UnitContext): string {
  return `
chown -h $B:$B dev dev/* etc${networkFiles === undefined ? '' : ' etc/*'}
${deviceLines(spec).join('\n')}${askForTerminal(spec)}`;
}

/** /etc/hosts, /etc/hostname and /etc/resolv.conf; after the network, whose addresses they tell. */
export function networkFiles({ network }: NamespacePlan, context: UnitContext): string {
  const files = context.networkFiles;
  if (files === undefined) return '';
  return `
echo "$HOSTNAME" >etc/hostname
${hostsFile(files, network, context)}
${resolverFile(files, network, context)}`;
}

function hostsFile(
  files: NetworkFiles,
  network: NamespaceOrigin,
  { bridge, joinsNetworkOf }: UnitContext,
): string {
  const hostAddress = bridge === undefined ? '127.0.0.1' : gateway(bridge.network);
  const added = files.hosts.map((line) => `${line.replace(HOST_GATEWAY, hostAddress)}\n`).join('');
  return `{
  ${joinsNetworkOf === undefined ? `printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost\\n'` : fileOfOther(network, 'hosts')}
  for address in ${bridge === undefined ? '127.0.1.1' : '$IP4 $IP6'}; do echo "$address $HOSTNAME"; done
  printf %s ${shellWord(added)}
} >etc/hosts`;
}

/** Each kind of line is what the options say, or else what the host has. */
function resolverFile(
  { nameservers, searchDomains, resolverOptions }: NetworkFiles,
  network: NamespaceOrigin,
  { bridge, joinsNetworkOf }: UnitContext,
): string {
  const given = [
    ...(searchDomains.length > 0 && searchDomains[0] !== '.' ? [`search ${searchDomains.join(' ')}\n`] : []),
    ...(resolverOptions.length > 0 ? [`options ${resolverOptions.join(' ')}\n`] : []),
  ];
  const inherited = [
    ...(searchDomains.length > 0 ? [] : ['search', 'domain']),
    ...(resolverOptions.length > 0 ? [] : ['options']),
  ];
  const host =
    joinsNetworkOf !== undefined
      ? fileOfOther(network, 'resolv.conf')
      : network === 'host'
        ? 'cat /etc/resolv.conf'
        : network === 'own' && bridge === undefined
          ? ':'
          : UPSTREAM;
  const servers = `printf %s ${shellWord(nameservers.map((server) => `nameserver ${server}\n`).join(''))}`;
  // aardvark-dns asks the given servers
  const direct = nameservers.length > 0 ? servers : 'inherit nameserver';
  // without programs where the host has nothing to say
  const inherit =
    host === ':'
      ? 'inherit() { :; }'
      : `resolver=$({ ${host}; } 2>/dev/null || :)
inherit() { echo "$resolver" | grep -E "^($1)[[:space:]]" || :; }`;
  return `${inherit}
{
  ${bridge === undefined ? direct : `if [ $DNS = true ]; then echo "nameserver $GATEWAY"; else ${direct}; fi`}
  printf %s ${shellWord(given.join(''))}
  ${inherited.length > 0 ? `inherit '${inherited.join('|')}'` : ':'}
} >etc/resolv.conf`;
}

/** The host's servers but those on its loopback, where the container cannot reach them: resolved tells its own. */
const UPSTREAM = `file=/etc/resolv.conf
  ! grep -q '^nameserver 127\\.0\\.0\\.53' $file || file=/run/systemd/resolve/resolv.conf
  grep -vE '^nameserver[[:space:]]+(127\\.|::1)' $file`;

/** Of the container whose network is joined; its root may have made the file long. */
function fileOfOther(network: NamespaceOrigin, file: 'hosts' | 'resolv.conf'): string {
  const directory = typeof network === 'object' ? network.path.replace(/[^/]*$/, '') : '';
  return `head -c 64k ${shellWord(`${directory}etc/${file}`)}`;
}
