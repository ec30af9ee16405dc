/** The parts of the setup script that make /dev and the files of /etc that the network belongs to. */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { deviceLines } from './devices.ts';
import { NETWORK_FILES } from './filesystem.ts';
import { LOG_FIFO } from './log-units.ts';
import type { MountPlan } from './mounts.ts';
import type { NamespacePlan } from './namespaces.ts';
import { shellWord } from './shell.ts';
import { askForTerminal } from './terminal.ts';

export function deviceTree(spec: RuntimeSpec, mounts: MountPlan, context: UnitContext): string {
  // the journal's streams cannot be opened by name: see log-units.ts
  const [stdout, stderr] =
    context.stdio === undefined ? [LOG_FIFO, LOG_FIFO] : ['/proc/self/fd/1', '/proc/self/fd/2'];
  const shm = ['rw', ...mounts.shmOptions, 'uid=$B', 'gid=$B'].join(',');
  return `
mount -t tmpfs -o mode=755,nosuid,strictatime,size=${mounts.devSize},uid=$B,gid=$B oci-dev dev
cp -a "$SHARED/dev/." dev/
ln -s ${stdout} dev/stdout
ln -s ${stderr} dev/stderr
chown -hR $B:$B dev
${deviceLines(spec).join('\n')}
mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,uid=$B,gid=$((B + 5)) devpts dev/pts${askForTerminal(spec)}
mount -t tmpfs -o "${shm}" shm dev/shm`;
}

export function networkFiles({ network }: NamespacePlan, context: UnitContext): string {
  const files = context.networkFiles;
  if (files === undefined) return '';
  const hosts = files.hosts.map((line) => `${line}\n`).join('');
  const servers = files.nameservers.map((server) => `nameserver ${server}\n`).join('');
  return `
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost\\n127.0.1.1 %s\\n%s' "$HOSTNAME" ${shellWord(hosts)} >etc/hosts
echo "$HOSTNAME" >etc/hostname
${
  servers !== ''
    ? `printf %s ${shellWord(servers)} >etc/resolv.conf`
    : network === 'own'
      ? ': >etc/resolv.conf'
      : 'cp -L /etc/resolv.conf etc/resolv.conf 2>/dev/null || : >etc/resolv.conf'
}
chown $B:$B ${NETWORK_FILES.map((path) => path.slice(1)).join(' ')}`;
}
