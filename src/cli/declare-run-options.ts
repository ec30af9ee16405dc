/**
 * The options of oci-run and ocictl install that shape a container and its unit, as commander has them; what their
 * texts mean is in run-options.ts. No placeholder makes the first column of --help wider than 36: the second one
 * then fits into 80.
 */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { trustOptions } from './trust-options.ts';

const each = (value: string, previous: string[] = []) => [...previous, value];

/** ./DIR is a directory where the user is now, also for a service that is made anew later. */
const eachVolume = (value: string, previous?: string[]) =>
  each(
    value.replace(/^\.\.?(?:\/[^:]*)?(?=:)/, (path) => resolve(path)),
    previous,
  );

/** The limits: of oci-run, and of ocictl update. */
export function resourceOptions(program: Command): Command {
  return program
    .optionsGroup('Limits:')
    .option('-m, --memory <size>', 'most memory, as 256M')
    .option('--memory-reservation <size>', 'memory that is taken last when memory gets short')
    .option('--memory-swap <size>', 'most memory and swap together')
    .option('--cpus <number>', "most CPUs' worth of time, as 1.5")
    .option('--cpu-weight <number>', 'share of the CPUs when they are busy, 1 to 10000 (default: 100)')
    .option('--cpu-shares <number>', 'the same as docker counts it, 2 to 262144')
    .option('--cpuset-cpus <list>', 'CPUs that may be used, as 0-3,7')
    .option('--cpuset-mems <list>', 'memory nodes that may be used')
    .option('--io-weight <number>', 'share of the disks when they are busy, 1 to 10000 (default: 100)')
    .option('--pids-limit <number>', 'most processes and threads');
}

export function containerOptions(program: Command): Command {
  resourceOptions(program)
    .option('--ulimit <name=soft[:hard]>', 'limit of setrlimit(2), as nofile=1024:4096', each)
    .optionsGroup('Process:')
    .option('-e, --env <name=value>', 'set an environment variable', each)
    .option('--env-file <file>', 'set the variables in a file', each)
    .option('-u, --user <user[:group]>', 'run as this user of the image')
    .option('--group-add <group>', 'add a supplementary group', each)
    .option('-w, --workdir <dir>', 'working directory')
    .option('--entrypoint <command>', "replace the image's entrypoint")
    .option('--init', 'run an init of the host as PID 1')
    .option('--stop-signal <signal>', "signal that stops the payload (default: the image's)")
    .option('--stop-timeout <seconds>', 'time from that signal to SIGKILL (default: 10)')
    .optionsGroup('Files:')
    .option(
      '-v, --volume <from:to[:options]>',
      'show a directory of the host, or a volume, in the container',
      eachVolume,
    )
    .option('--mount <type=…,src=…,dst=…>', 'the same in words: bind, volume, tmpfs or image', each)
    .option('--tmpfs <dir[:options]>', 'mount a file system in memory', each)
    .option('--read-only', "make the container's root read-only")
    .option('--state-dir <[name:]dir>', "show the unit's own /var/lib/NAME there", each)
    .option('--cache-dir <[name:]dir>', "show the unit's own /var/cache/NAME there", each)
    .option('--logs-dir <[name:]dir>', "show the unit's own /var/log/NAME there", each)
    .option('--config-dir <[name:]dir>', 'show /etc/NAME there, read-only', each)
    .option('--credential <name[:file|=value]>', 'give the container a secret', each)
    .option('--credential-encrypted <name[:file]>', 'give it one that systemd-creds(1) encrypted', each)
    .option('--device <host[:container][:rwm]>', 'give the container a device', each)
    .option('--shm-size <size>', 'size of /dev/shm (default: 64M)')
    .optionsGroup('Network:')
    .option(
      '--net, --network <mode>',
      'private, none, host, bridge[:name], container=unit or ns:path (default: private, with ports bridge)',
    )
    .option('--publish <[host:]container>', 'lead a port of the host into the container', each)
    .option('--ip <address>', 'fixed address in the network of the bridge')
    .option('--hostname <name>', "host name inside (default: the unit's name)")
    .option('--add-host <name:address>', "add a line to /etc/hosts; host-gateway is the host's address", each)
    .option('--dns <address>', 'name server in /etc/resolv.conf', each)
    .option('--dns-search <domain>', 'domain in which names are looked up; . for none', each)
    .option('--dns-option <option>', 'option of resolv.conf(5)', each)
    .optionsGroup('Rights:')
    .option(
      '--userns <auto|host|base:size>',
      'range of host ids; auto: a fresh one; host: the host’s own',
      'auto',
    )
    .option('--cap-add <capability>', 'add a capability, or ALL', each)
    .option('--cap-drop <capability>', 'take a capability away, or ALL', each)
    .option(
      '--security-opt <option>',
      'no-new-privileges, apparmor=PROFILE, seccomp=PROFILE, mask=PATH, unmask=PATH',
      each,
    )
    .option(
      '--seccomp <default|unconfined|file>',
      'system calls that are refused (default: the default profile)',
    )
    .option('--sysctl <name=value>', 'set a kernel parameter of the container', each)
    .addOption(new Option('--privileged', 'not supported').hideHelp())
    .optionsGroup('Health:')
    .option('--health-cmd <command>', "check of the container's health (default: the image's)")
    .option('--health-interval <time>', 'time from one check to the next (default: 30s)')
    .option('--health-timeout <time>', 'longest time a check may take (default: 30s)')
    .option('--health-retries <number>', 'failures in a row that make it unhealthy (default: 3)')
    .option('--health-start-period <time>', 'time after the start in which failures do not count')
    .option('--health-start-interval <time>', 'the interval until the first success (default: 5s)')
    .option('--health-on-failure <action>', 'none, restart, stop or kill (default: none)')
    .option('--no-healthcheck', 'no check, whatever the image says')
    .optionsGroup('Unit:')
    .option('-l, --label <name=value>', 'add an annotation', each);
  return trustOptions(program.optionsGroup(IMAGE_GROUP));
}

/** Of the options on getting an image, and trusting it. */
export const IMAGE_GROUP = 'Image:';

export function unitOptions(program: Command): Command {
  return program
    .optionsGroup('Unit:')
    .option('--property <name=value>', 'set a property of the unit, as systemd-run does', each)
    .option('-p <property|port>', '--property, or where the value is a port --publish', each)
    .option(
      '--socket <address>',
      'listen there, and start the payload with that socket when it is needed',
      each,
    )
    .option('--notify', 'the payload says when it is ready, by sd_notify(3)')
    .option('--notify=healthy', 'it counts as started when it is healthy')
    .option('--restart <policy>', 'start it again: no, on-failure[:N], always or unless-stopped')
    .option('--log-tag <tag>', "identifier of its journal lines (default: the unit's name)")
    .option('--slice <slice>', 'slice of the unit', 'oci.slice');
}

export function pullOption(): Option {
  return new Option('--pull <policy>', 'when to pull')
    .choices(['missing', 'always', 'newer', 'never'])
    .default('missing');
}
