/**
 * What people type who know podman or systemctl, where it is said otherwise here: the hint beside "unknown option" and
 * "unknown command". Each is one sentence that tells what to type instead; docs/from-podman.md has the same as a table.
 */

const NAMESPACES =
  'Leave it out: a container has namespaces of its own; --network chooses that of the network.';
const RECORDS = 'Choose a name with --name; systemctl show --property=MainPID UNIT tells the process.';
const JOURNAL = 'Leave it out: the lines go to the journal, under the name that --log-tag says.';
const PLATFORM = 'Use --platform OS/ARCH[/VARIANT].';

const RUN_OPTIONS: Readonly<Record<string, string>> = {
  '-a': 'Use -i.',
  '--annotation': 'Use --label NAME=VALUE.',
  '--arch': PLATFORM,
  '--attach': 'Use -i.',
  '--blkio-weight': 'Use --io-weight NUMBER.',
  '--cgroup-parent': 'Use --slice SLICE.',
  '--cgroupns': NAMESPACES,
  '--cgroups': 'Leave it out: the payload is always in the cgroup of its unit.',
  '--cidfile': RECORDS,
  '--conmon-pidfile': RECORDS,
  '--cpu-period': 'Use --cpus NUMBER.',
  '--cpu-quota': 'Use --cpus NUMBER.',
  '--detach-keys': 'Leave it out: there is no detaching; run tmux around oci-run -it.',
  '--device-cgroup-rule': 'Name each device: --device /dev/NAME.',
  '--device-read-bps': 'Use -p "IOReadBandwidthMax=DEVICE SIZE".',
  '--device-write-bps': 'Use -p "IOWriteBandwidthMax=DEVICE SIZE".',
  '--dns-opt': 'Use --dns-option OPTION.',
  '--domainname': 'Say it in the host name: --hostname NAME.DOMAIN.',
  '--env-host': 'Name each variable: -e NAME.',
  '--expose': 'Leave it out, or publish a port: -p HOST:CONTAINER.',
  '--gidmap': 'Use --userns BASE:SIZE.',
  '--gpus': 'Name the device nodes: --device /dev/dri.',
  '--health-startup-cmd':
    'Leave it out: --health-start-interval is how often a container is checked until it is healthy.',
  '--hostuser': 'Leave it out: a container has a range of user ids of its own; or use --userns host.',
  '--http-proxy': 'Name each variable: -e http_proxy.',
  '--ip6': 'Leave it out: a bridge with an IPv6 subnet gives an address.',
  '--ipc': NAMESPACES,
  '--label-file': 'Name each label: --label NAME=VALUE.',
  '--link': 'Put both on --network bridge, where a container is found by the name of its unit.',
  '--log-driver': JOURNAL,
  '--log-opt': JOURNAL,
  '--mac-address': 'Leave it out: the bridge gives an address.',
  '--memory-swappiness': 'Use -p MemorySwapMax=SIZE.',
  '--network-alias': 'Use --hostname NAME: a container is found by the names of its unit and its host.',
  '--no-hosts': 'Leave it out, or show a file of your own: -v FILE:/etc/hosts.',
  '--oom-kill-disable': 'Leave it out, or use -p OOMPolicy=continue.',
  '--oom-score-adj': 'Use -p OOMScoreAdjust=NUMBER.',
  '--os': PLATFORM,
  '-P': 'Name each port: -p HOST:CONTAINER.',
  '--pid': NAMESPACES,
  '--pidfile': RECORDS,
  '--pod': 'Share the network of another container: --network container=UNIT.',
  '--publish-all': 'Name each port: -p HOST:CONTAINER.',
  '--read-only-tmpfs': 'Leave it out: --read-only keeps /run, /tmp and /var/tmp writable, in memory.',
  '--replace': 'Stop the other one first: systemctl stop UNIT.',
  '--rmi': 'Leave it out, and remove the image later: ocictl rm IMAGE.',
  '--rootfs': 'Use --bundle DIR, with the tree in DIR/rootfs.',
  '--runtime': 'Leave it out: systemd starts the payload.',
  '--sdnotify': 'Use --notify, where the payload says it; or --notify=healthy.',
  '--secret': 'Use --credential NAME:FILE.',
  '--sig-proxy': 'Leave it out: in the foreground signals are always passed on.',
  '--storage-opt': 'Leave it out: what is written goes to the file system of the store.',
  '--systemd': 'Leave it out: /run is writable, and the cgroup is the container’s own.',
  '--timeout': 'Use -p RuntimeMaxSec=SECONDS.',
  '--tz': 'Use -e TZ=ZONE.',
  '--uidmap': 'Use --userns BASE:SIZE.',
  '--umask': 'Set it in the command: sh -c "umask 077; exec COMMAND".',
  '--unsetenv': 'Set it to nothing: -e NAME=.',
  '--uts': NAMESPACES,
  '--variant': PLATFORM,
  '--volumes-from': 'Name each volume: -v NAME:DIR.',
};

const IMAGES = 'Here it is about images; to end a container: systemctl stop UNIT.';
const JSON_HINT = 'Use --json; jq(1) chooses what of it.';
const QUADLET = 'Use ocictl install IMAGE --name NAME, or ocictl import FILE.container.';
const NO_RECORD = 'Leave it out: a container that has ended is gone; ocictl ps shows all others.';

/** Commands, `COMMAND SUBCOMMAND` below volume, and `COMMAND --option`, or `* --option` of any command. */
const COMMANDS: Readonly<Record<string, string>> = {
  attach: 'Follow its lines with ocictl logs -f UNIT.',
  build: 'Build it with buildah or podman, and get it from there: oci-pull oci-archive:FILE.',
  checkpoint: 'Use ocictl pause UNIT.',
  commit: 'Write a Containerfile and build it: what a container has written goes with it.',
  compose: 'Install each service, all with --network bridge: ocictl install IMAGE --name NAME.',
  container: 'Leave the word out, and say it as ocictl ps, exec or logs.',
  create: 'Start it with oci-run IMAGE.',
  disable: 'Use systemctl disable NAME.',
  enable: 'Use systemctl enable NAME, or ocictl install --enable.',
  events: 'Follow the journal: journalctl -f SYSLOG_IDENTIFIER=systemd.',
  export: 'Use ocictl cp UNIT:/ - >FILE.tar.',
  generate: QUADLET,
  healthcheck: 'See ocictl ps; to check now: systemctl start UNIT-health.service.',
  image: 'Leave the word out, and say it as ocictl images, inspect or rm.',
  info: 'See ocictl du and ocictl ps.',
  init: 'Start it with oci-run IMAGE.',
  kube: QUADLET,
  list: 'Use ocictl ps.',
  load: 'Use oci-pull docker-archive:FILE.',
  ls: 'Use ocictl ps.',
  manifest: 'Use skopeo inspect --raw docker://IMAGE.',
  network: 'Write a section [network.NAME] into /etc/oci/oci.conf: see NETWORKS in oci-run(1).',
  play: QUADLET,
  pod: 'Share the network of another container: oci-run --network container=UNIT.',
  prune: 'Use ocictl gc.',
  pull: 'Use oci-pull IMAGE.',
  push: 'Use skopeo copy, from where the image was built: the store keeps files, not archives.',
  quadlet: QUADLET,
  rename: 'Stop it, and start it again with another --name.',
  restart: 'Use systemctl restart UNIT.',
  restore: 'Use ocictl resume UNIT.',
  rmi: 'Use ocictl rm IMAGE.',
  run: 'Use oci-run IMAGE.',
  save: 'Use skopeo copy docker://IMAGE docker-archive:FILE: the store keeps files, not archives.',
  search: 'Search where the registry has its pages; skopeo list-tags docker://NAME tells the tags.',
  secret: 'Use --credential NAME:FILE of oci-run and ocictl install.',
  start:
    'Use oci-run IMAGE: a container that has ended is gone; or systemctl start NAME, if it is installed.',
  status: 'Use systemctl status UNIT.',
  stop: 'Use systemctl stop UNIT.',
  system: 'Use ocictl du, ocictl gc or ocictl fsck.',
  top: 'Use systemctl status UNIT, or systemd-cgtop.',
  unmount: 'Use ocictl umount IMAGE.',
  unpause: 'Use ocictl resume UNIT.',
  version: 'Use ocictl --version.',
  'volume create': 'Leave it out: -v NAME:DIR makes the volume at the first start.',
  'volume exists': 'Use ocictl volume ls.',
  'volume export': 'Use tar -C /var/lib/oci/volumes/NAME -c . >FILE.tar.',
  'volume inspect': 'Use ocictl volume ls --json.',
  'volume list': 'Use ocictl volume ls.',
  'volume prune': 'Use ocictl volume rm NAME, for those that ocictl volume ls shows without users.',
  'exec --detach': 'Leave it out, and end the line with &.',
  'exec -d': 'Leave it out, and end the line with &.',
  'exec --env-file': 'Name each variable: -e NAME=VALUE.',
  'exec --privileged': 'Leave it out: a command has what the container has.',
  'images --all': 'Leave it out: all of them are listed.',
  'images -a': 'Leave it out: all of them are listed.',
  'inspect -f': JSON_HINT,
  'logs --timestamps': 'Use journalctl -u UNIT, which tells the times.',
  'logs -t': 'Use journalctl -u UNIT, which tells the times.',
  'ps --last': NO_RECORD,
  'ps --latest': NO_RECORD,
  'ps -l': NO_RECORD,
  'ps -n': NO_RECORD,
  'rm --all': 'Use ocictl gc, after ocictl untag NAME.',
  'rm -a': 'Use ocictl gc, after ocictl untag NAME.',
  'rm --force': IMAGES,
  'rm -f': IMAGES,
  'rm --volumes': IMAGES,
  'update --restart': 'Use systemctl edit NAME, or install it again with --restart.',
  '* --filter': JSON_HINT,
  '* --format': JSON_HINT,
  '* --latest': 'Name the container.',
  '* --no-trunc': 'Use --json, which has all of it.',
};

/**
 * For `word` as it was typed, `--ipc=host` too; undefined where podman has no such word, or we have nothing to say.
 * `command`: of ocictl, the first of its words that is no option.
 */
export function hintForPodman(program: string, word: string, command = ''): string | undefined {
  const name = word.replace(/=.*$/s, '');
  const keys =
    program !== 'ocictl'
      ? [name]
      : name.startsWith('-')
        ? [`${command} ${name}`, `* ${name}`]
        : [command === name ? name : `${command} ${name}`];
  const table = program === 'ocictl' ? COMMANDS : program === 'oci-pull' ? {} : RUN_OPTIONS;
  const key = keys.find((each) => Object.hasOwn(table, each));
  return key === undefined ? undefined : table[key];
}
