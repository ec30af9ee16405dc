/**
 * The keys of [Container] (podman-systemd.unit(5)): which option of `ocictl install` each becomes, or why none. Pure.
 *
 * Those that depend on another key (Image=, Exec=, User= with Group=, the names of a container) are in container.ts.
 */
import { booleanOf, type Outcome, refused } from './outcome.ts';
import { mountOption, networkOptions, secretOption, volumeOption } from './places.ts';
import type { Surroundings } from './quadlet-file.ts';

/** `last`: the last assignment counts; `each`: all of them; `words`: all words of all of them. */
export interface Rule {
  readonly take: 'last' | 'each' | 'words';
  readonly make: (value: string, around: Surroundings) => Outcome;
}

type Make = Rule['make'];

const option =
  (name: string): Make =>
  (value) => [`--${name}=${value}`];

const nothing: Make = () => [];

/** `yes` and `no` as two outcomes. */
const either =
  (yes: Outcome, no: Outcome = []): Make =>
  (value) => {
    const on = booleanOf(value);
    return on === undefined ? refused('it is neither yes nor no') : on ? yes : no;
  };

const oneOf =
  (words: readonly string[], reason: string): Make =>
  (value) =>
    words.includes(value) ? [] : refused(reason);

const last = (make: Make): Rule => ({ take: 'last', make });
const each = (make: Make): Rule => ({ take: 'each', make });
const words = (make: Make): Rule => ({ take: 'words', make });

const NO_LABELS = 'no labels of SELinux are set; the container runs as any service does';

const REFUSED: Readonly<Record<string, string>> = {
  ContainersConfModule: 'containers.conf is not read',
  EnvironmentHost: 'the environment of the host is not for containers; name each variable in Environment=',
  GIDMap: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
  GlobalArgs: 'there is no podman to take it',
  HealthLogDestination: 'results of health checks are in the journal',
  HealthMaxLogCount: 'results of health checks are in the journal',
  HealthMaxLogSize: 'results of health checks are in the journal',
  HttpProxy: 'variables of the host are not for containers; name each in Environment=',
  IP6: 'IPv6 addresses are not to be chosen',
  NoUsermap: 'a container always has a range of ids of its own',
  Pod: 'there are no pods; share the network of another container with Network=NAME.container',
  ReloadCmd: 'no command runs in the container when the unit is reloaded',
  ReloadSignal: 'no signal is sent when the unit is reloaded; use ocictl kill -s SIGNAL',
  RemapGid: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
  RemapUid: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
  RemapUidSize: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
  RemapUsers: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
  Retry: 'how often a pull is tried again is not to be chosen',
  RetryDelay: 'how often a pull is tried again is not to be chosen',
  Rootfs: 'only images are installed; see oci-run --bundle',
  SecurityLabelFileType: NO_LABELS,
  SecurityLabelLevel: NO_LABELS,
  SecurityLabelNested: NO_LABELS,
  SecurityLabelType: NO_LABELS,
  StartWithPod: 'there are no pods',
  SubGIDMap: 'ranges of ids do not come from /etc/subgid',
  SubUIDMap: 'ranges of ids do not come from /etc/subuid',
  UIDMap: 'a container has a range of 65536 ids; see --userns of oci-run(1)',
};

/** Key → options. */
export const CONTAINER_KEYS: Readonly<Record<string, Rule>> = {
  AddCapability: words(option('cap-add')),
  AddDevice: words((value) =>
    value.startsWith('-') ? refused('whether the device is there is not looked at') : [`--device=${value}`],
  ),
  AddHost: each(option('add-host')),
  Annotation: words(option('label')),
  AppArmor: last((value) => [`--security-opt=apparmor=${value}`]),
  AutoUpdate: last((value) =>
    value === 'registry' || value === 'local'
      ? [`--auto-update=${value}`]
      : refused('it is neither registry nor local'),
  ),
  // the payload is alone in its unit, as podman's is with split
  CgroupsMode: last(
    oneOf(['split', 'no-conmon', 'enabled'], 'the payload is always in the cgroup of its unit'),
  ),
  DNS: each(option('dns')),
  DNSOption: each(option('dns-option')),
  DNSSearch: each(option('dns-search')),
  DropCapability: words(option('cap-drop')),
  Entrypoint: last(option('entrypoint')),
  Environment: words((value) =>
    value.includes('=')
      ? [`--env=${value}`]
      : refused('without a value it would be a variable of the service, which has none'),
  ),
  EnvironmentFile: words((value, { inDirectory }) => [`--env-file=${inDirectory(value)}`]),
  ExposeHostPort: each(nothing), // says only what PublishPort= could publish
  GroupAdd: each((value) =>
    value === 'keep-groups' ? refused('groups of the host are not for containers') : [`--group-add=${value}`],
  ),
  HealthCmd: last((value) => (value === 'none' ? ['--no-healthcheck'] : [`--health-cmd=${value}`])),
  HealthInterval: last(option('health-interval')),
  HealthOnFailure: last(option('health-on-failure')),
  HealthRetries: last(option('health-retries')),
  HealthStartPeriod: last(option('health-start-period')),
  HealthStartupCmd: last(option('health-startup-cmd')),
  HealthStartupInterval: last(option('health-startup-interval')),
  HealthStartupRetries: last(option('health-startup-retries')),
  HealthStartupSuccess: last(option('health-startup-success')),
  HealthStartupTimeout: last(option('health-startup-timeout')),
  HealthTimeout: last(option('health-timeout')),
  IP: last(option('ip')),
  Label: words(option('label')),
  LogDriver: last(oneOf(['journald', 'passthrough'], 'the lines go to the journal')),
  LogOpt: each((value) =>
    value.startsWith('tag=')
      ? [`--log-tag=${value.slice('tag='.length)}`]
      : refused('the lines go to the journal; of its options there is tag='),
  ),
  Mask: last((value) => [`--security-opt=mask=${value}`]),
  Memory: last(option('memory')),
  Mount: words(mountOption),
  Network: each(networkOptions),
  NoNewPrivileges: last(either(['--security-opt=no-new-privileges'])),
  Notify: last((value) => {
    const on = booleanOf(value);
    if (value === 'healthy') return ['--notify=healthy'];
    return on === undefined ? refused('it is neither yes, no nor healthy') : on ? ['--notify'] : [];
  }),
  PidsLimit: last(option('pids-limit')),
  PublishPort: each(option('publish')),
  Pull: last(option('pull')),
  ReadOnly: last(either(['--read-only'])),
  ReadOnlyTmpfs: last(
    either(
      [],
      refused('with ReadOnly=yes there is always a file system in memory at /run, /tmp and /var/tmp'),
    ),
  ),
  RunInit: last(either(['--init'])),
  SeccompProfile: last((value, { inDirectory }) => [
    `--seccomp=${value === 'unconfined' ? value : inDirectory(value)}`,
  ]),
  Secret: words(secretOption),
  SecurityLabelDisable: last(either([], refused(NO_LABELS))),
  ShmSize: last(option('shm-size')),
  StopSignal: last(option('stop-signal')),
  StopTimeout: last(option('stop-timeout')),
  Sysctl: words(option('sysctl')),
  Timezone: last((value) =>
    value === 'local' ? ['--volume=/etc/localtime:/etc/localtime:ro'] : [`--env=TZ=${value}`],
  ),
  Tmpfs: each(option('tmpfs')),
  Ulimit: each((value) =>
    value === 'host' ? refused('limits of the host are not taken over') : [`--ulimit=${value}`],
  ),
  Unmask: last((value) => [`--security-opt=unmask=${value}`]),
  UserNS: last((value) => {
    if (value === 'auto' || value === 'auto:size=65536') return ['--userns=auto'];
    if (value === 'host') return ['--userns=host'];
    // with idmap, host id N is id N in what is shown of the host
    if (value === '') return [];
    return refused('a container has a fresh range of 65536 ids of the host');
  }),
  Volume: each(volumeOption),
  WorkingDir: last(option('workdir')),
  ...Object.fromEntries(Object.entries(REFUSED).map(([key, reason]) => [key, last(() => refused(reason))])),
};

/** Keys of [Container] that container.ts knows. */
export const JOINT_KEYS = new Set([
  'ContainerName',
  'Exec',
  'Group',
  'HostName',
  'Image',
  'NetworkAlias',
  'PodmanArgs',
  'ServiceName',
  'User',
]);
