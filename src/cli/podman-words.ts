/**
 * What people type who know podman, where it is said otherwise here: the hint beside "unknown option" and "unknown
 * command". Each is one sentence that tells what to type instead.
 */

const NAMESPACES =
  'Leave it out: a container has namespaces of its own; --network chooses that of the network.';
const RECORDS = 'Choose a name with --unit; systemctl show --property=MainPID UNIT tells the process.';
const JOURNAL = 'Leave it out: the lines go to the journal, under the name that --log-tag says.';
const PLATFORM = 'Use --platform OS/ARCH[/VARIANT].';

const RUN_OPTIONS: Readonly<Record<string, string>> = {
  '--ipc': NAMESPACES,
  '--pid': NAMESPACES,
  '--uts': NAMESPACES,
  '--cgroupns': NAMESPACES,
  '--annotation': 'Use --label NAME=VALUE.',
  '--arch': PLATFORM,
  '--os': PLATFORM,
  '--variant': PLATFORM,
  '--attach': 'Use -i.',
  '-a': 'Use -i.',
  '--blkio-weight': 'Use --io-weight NUMBER.',
  '--cgroup-parent': 'Use --slice SLICE.',
  '--cidfile': RECORDS,
  '--pidfile': RECORDS,
  '--conmon-pidfile': RECORDS,
  '--cpu-period': 'Use --cpus NUMBER.',
  '--cpu-quota': 'Use --cpus NUMBER.',
  '--detach-keys': 'Leave it out: there is no detaching; run tmux around oci-run -it.',
  '--device-read-bps': 'Use -p "IOReadBandwidthMax=DEVICE SIZE".',
  '--device-write-bps': 'Use -p "IOWriteBandwidthMax=DEVICE SIZE".',
  '--env-host': 'Name each variable: -e NAME.',
  '--expose': 'Leave it out, or publish a port: -p HOST:CONTAINER.',
  '--gpus': 'Name the device nodes: --device /dev/dri.',
  '--health-startup-cmd':
    'Leave it out: --health-start-interval is how often a container is checked until it is healthy.',
  '--link': 'Put both on --network bridge, where a container is found by the name of its unit.',
  '--log-driver': JOURNAL,
  '--log-opt': JOURNAL,
  '--oom-score-adj': 'Use -p OOMScoreAdjust=NUMBER.',
  '--pod': 'Share the network of another container: --network container=UNIT.',
  '--publish-all': 'Name each port: -p HOST:CONTAINER.',
  '-P': 'Name each port: -p HOST:CONTAINER.',
  '--read-only-tmpfs': 'Leave it out: --read-only keeps /run, /tmp and /var/tmp writable, in memory.',
  '--replace': 'Stop the other one first: systemctl stop UNIT.',
  '--sdnotify': 'Use --notify, where the payload says it; or --notify=healthy.',
  '--secret': 'Use --credential NAME:FILE.',
  '--timeout': 'Use -p RuntimeMaxSec=SECONDS.',
  '--tz': 'Use -e TZ=ZONE.',
  '--volumes-from': 'Name each volume: -v NAME:DIR.',
};

const COMMANDS: Readonly<Record<string, string>> = {
  attach: 'Follow its lines with ocictl logs -f UNIT.',
  build: 'Build it with buildah or podman, and get it from there: oci-pull oci-archive:FILE.',
  container: 'Leave the word out, and say it as ocictl ps, exec or logs.',
  create: 'Start it with oci-run IMAGE.',
  events: 'Follow the journal: journalctl -f SYSLOG_IDENTIFIER=systemd.',
  image: 'Leave the word out, and say it as ocictl images, inspect or rm.',
  info: 'See ocictl du and ocictl ps.',
  prune: 'Use ocictl gc.',
  pull: 'Use oci-pull IMAGE.',
  restart: 'Use systemctl restart UNIT.',
  rmi: 'Use ocictl rm IMAGE.',
  run: 'Use oci-run IMAGE.',
  start: 'Use oci-run IMAGE: a container that has ended is gone.',
  stop: 'Use systemctl stop UNIT.',
  system: 'Use ocictl du, ocictl gc or ocictl fsck.',
  top: 'Use systemctl status UNIT.',
  unpause: 'Use ocictl resume UNIT.',
};

/** For `word` as it was typed, `--ipc=host` too; undefined where podman has no such word, or we have nothing to say. */
export function hintForPodman(program: string, word: string): string | undefined {
  const name = word.replace(/=.*$/s, '');
  const table = program === 'oci-run' ? RUN_OPTIONS : program === 'ocictl' ? COMMANDS : {};
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
