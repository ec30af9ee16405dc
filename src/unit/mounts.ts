/**
 * mounts of the runtime spec → what is done for each: a bind that systemd makes itself, one that the setup unit
 * prepares below its own directory (with flags, propagation or id mapping that systemd has no words for) and systemd
 * then binds, or one of the standard file systems that every container has.
 *
 * Invariant: the host never resolves a destination; systemd does it inside the root directory. Where systemd would
 * mistake the destination's name, planted-mounts.ts goes there without following any link.
 */
import {
  CREDENTIALS_OPTION,
  IMAGE_OPTION,
  MADE_OPTION,
  SUBPATH_OPTION,
  VOLUME_OPTION,
} from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { Mount, RuntimeSpec } from '../oci/runtime-spec.ts';
import { refusal } from './refuse.ts';
import { isPlainPath } from './setting.ts';

export interface MountPlan {
  binds: BindMount[];
  temporary: TemporaryFileSystem[];
  /** `size=` of the tmpfs at /dev. */
  devSize: string;
  /** Options of the tmpfs at /dev/shm. */
  shmOptions: readonly string[];
  /** Where /run is a tmpfs. */
  run?: Pick<TemporaryFileSystem, 'options' | 'copyUp'>;
  sysReadOnly: boolean;
  cgroup: 'read-only' | 'writable';
}

export interface BindMount {
  source: string;
  destination: string;
  recursive: boolean;
  readOnly: boolean;
  /** Directory or file below the container's mounts that the setup unit prepares; absent: systemd binds the source. */
  name?: string;
  /** Of mount(8), for what is prepared. */
  flags: readonly string[];
  propagation?: 'private' | 'slave';
  /** Ids of the source as they are on disk from this one on; undefined: not mapped. */
  idBase?: 'container' | 'foreign';
  /** Made at the first start, with what the image has at the destination. */
  isVolume: boolean;
  /** Outside the store: it is not taken over from the host, and what lies below private/ has a link beside that. */
  isMade: boolean;
  /** It has the unit's credentials, and no source. */
  isCredentials: boolean;
  /** Whose a new volume is, where the image says nothing, and the credentials are: ids of the container. */
  owner: { uid: number; gid: number };
  /** The source is an image, and this a canonical path in it. */
  imagePath?: string;
}

export interface TemporaryFileSystem {
  destination: string;
  /** Of mount(8). */
  options: readonly string[];
  /** Directory below the container's mounts. */
  name: string;
  readOnly: boolean;
  /** Begins with what the root has there. */
  copyUp: boolean;
  /** Instead of the mode that was copied: what is said after `tmpcopyup`. */
  mode?: string;
}

/** Type by destination of what the recipe brings along, and the options it honours or has anyway. */
const STANDARD: Record<string, { types: string[]; options: RegExp }> = {
  '/proc': { types: ['proc'], options: /^(rw|nosuid|nodev|noexec|relatime)$/ },
  '/dev': { types: ['tmpfs'], options: /^(rw|nosuid|noexec|strictatime|mode=0?755|size=\d+[kmg]?)$/ },
  '/dev/pts': {
    types: ['devpts'],
    options: /^(rw|nosuid|noexec|newinstance|ptmxmode=0?666|mode=0?620|gid=5)$/,
  },
  '/dev/shm': { types: ['tmpfs'], options: /^(rw|nosuid|nodev|noexec|relatime|mode=0?1777|size=\d+[kmg]?)$/ },
  '/dev/mqueue': { types: ['mqueue'], options: /^(rw|nosuid|nodev|noexec|relatime)$/ },
  '/sys': { types: ['sysfs'], options: /^(rw|ro|nosuid|nodev|noexec|relatime)$/ },
  '/sys/fs/cgroup': {
    types: ['cgroup', 'cgroup2'],
    options: /^(rw|ro|nosuid|nodev|noexec|relatime|rprivate|private|nsdelegate)$/,
  },
};

/** Places that cannot be covered: the recipe stands on them. */
const OURS = new Set(['/', '/proc', '/dev', '/dev/pts', '/sys', '/sys/fs/cgroup', '/run/.oci']);

export function planMounts(spec: RuntimeSpec): MountPlan {
  const plan: MountPlan = {
    binds: [],
    temporary: [],
    devSize: '64k',
    shmOptions: [],
    sysReadOnly: false,
    cgroup: 'writable',
  };
  const others: Mount[] = [];
  for (const [index, mount] of spec.mounts.entries()) {
    const destination = destinationOf(mount, index);
    const standard = Object.hasOwn(STANDARD, destination) ? STANDARD[destination] : undefined;
    if (standard?.types.includes(mount.type ?? '')) {
      const unfit = mount.options?.find((option) => !standard.options.test(option));
      if (unfit !== undefined) throw unfitOption(unfit, destination);
      if (destination === '/dev')
        plan.devSize = mount.options?.find((option) => option.startsWith('size='))?.slice(5) ?? plan.devSize;
      if (destination === '/dev/shm') plan.shmOptions = mount.options ?? [];
      if (destination === '/sys') plan.sysReadOnly = mount.options?.includes('ro') ?? false;
      if (destination === '/sys/fs/cgroup')
        plan.cgroup = mount.options?.includes('ro') ? 'read-only' : 'writable';
      continue;
    }
    // a later mount at the same place covers the earlier one
    const covered = others.findIndex((other) => other.destination === destination);
    if (covered >= 0) others.splice(covered, 1);
    others.push({ ...mount, destination });
  }
  // what is planted may lie in any other
  const hasOdd = others.some(({ destination }) => !isPlainPath(destination));
  for (const mount of others) {
    if (OURS.has(mount.destination))
      throw refusal(
        `the mount at ${quote(mount.destination)}`,
        'the container’s own lies there',
        'Mount something below it.',
      );
    if (isBind(mount)) {
      const bind = planBind(mount, plan.binds.length, hasOdd, spec.process.user);
      if (bind.destination === '/run' && bind.idBase !== undefined)
        throw refusal(
          `the mount at '/run' with mapped ids`,
          'systemd puts files of the host’s root there',
          'Mount it below /run.',
        );
      plan.binds.push(bind);
    } else if (mount.type === 'tmpfs' && mount.destination === '/run') plan.run = temporaryOptions(mount);
    else if (mount.type === 'tmpfs') plan.temporary.push(planTemporary(mount, plan.temporary.length));
    else
      throw refusal(
        `the mount at ${quote(mount.destination)}`,
        `type ${quote(mount.type ?? '')} is none of bind and tmpfs`,
        'Mount it on the host and bind it.',
      );
  }
  return plan;
}

export function isBind(mount: Mount): boolean {
  return mount.type === 'bind' || (mount.options?.some((option) => /^r?bind$/.test(option)) ?? false);
}

/** Without `.`, doubled and trailing slashes. */
export function withoutDots(path: string): string {
  return `/${path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')}`;
}

function destinationOf(mount: Mount, index: number): string {
  if (!mount.destination.startsWith('/') || mount.destination.split('/').includes('..'))
    throw new OciError(
      'BAD_IMAGE',
      `config.json: mounts[${index}].destination ${quote(mount.destination)} is not an absolute path`,
      { hint: 'Write it as /DIR, without ..' },
    );
  return withoutDots(mount.destination);
}

/** OCI options that mount(8) has under the same name, for a mount of its own. */
const FLAGS =
  /^(nosuid|suid|nodev|dev|noexec|exec|noatime|atime|relatime|norelatime|strictatime|nostrictatime|nodiratime|diratime|nosymfollow|symfollow)$/;

function planBind(
  mount: Mount,
  index: number,
  hasOdd: boolean,
  { uid, gid }: { uid: number; gid: number },
): BindMount {
  const bind: BindMount = {
    source: mount.source ?? '',
    destination: mount.destination,
    recursive: true,
    readOnly: false,
    flags: [],
    isVolume: false,
    isMade: false,
    isCredentials: false,
    owner: { uid, gid },
  };
  const flags: string[] = [];
  for (const option of mount.options ?? [])
    if (option === 'bind') bind.recursive = false;
    else if (option === 'rbind') bind.recursive = true;
    else if (option === 'ro' || option === 'rro') bind.readOnly = true;
    else if (option === 'rw' || option === 'rrw') bind.readOnly = false;
    else if (option === 'private' || option === 'rprivate') bind.propagation = 'private';
    else if (option === 'slave' || option === 'rslave') bind.propagation = 'slave';
    else if (option === 'idmap' || option === 'ridmap') bind.idBase = 'container';
    else if (option === VOLUME_OPTION) {
      bind.idBase = 'foreign';
      bind.isVolume = true;
    } else if (option === MADE_OPTION) bind.isMade = true;
    else if (option === CREDENTIALS_OPTION) bind.isCredentials = true;
    else if (option === IMAGE_OPTION) {
      bind.idBase = 'foreign';
      bind.imagePath ??= '/';
    } else if (option.startsWith(SUBPATH_OPTION)) bind.imagePath = option.slice(SUBPATH_OPTION.length);
    else if (FLAGS.test(option)) flags.push(option);
    else if (/^r?shared$/.test(option))
      throw refusal(
        `option ${quote(option)} of the mount at ${quote(mount.destination)}`,
        'what a service mounts stays in the service',
        'Use rslave: mounts of the host then appear in the container.',
      );
    else throw unfitOption(option, mount.destination);
  if ((mount.uidMappings?.length ?? 0) > 0 || (mount.gidMappings?.length ?? 0) > 0)
    throw refusal(
      `mounts[].uidMappings of ${quote(mount.destination)}`,
      'the container’s range of host ids is known at its start only',
      'Use the option idmap without mappings: host id N is then the container’s id N.',
    );
  const isPrepared =
    flags.length > 0 ||
    bind.propagation !== undefined ||
    bind.idBase !== undefined ||
    bind.isCredentials ||
    hasOdd ||
    !isPlainPath(bind.source);
  return isPrepared ? { ...bind, flags, name: `bind${index}` } : bind;
}

function planTemporary(mount: Mount, index: number): TemporaryFileSystem {
  return { destination: mount.destination, name: `tmp${index}`, ...temporaryOptions(mount) };
}

function temporaryOptions(
  mount: Mount,
): Pick<TemporaryFileSystem, 'options' | 'readOnly' | 'copyUp' | 'mode'> {
  const options: string[] = [];
  const late = mount.options
    ?.slice(mount.options.indexOf('tmpcopyup'))
    .find((each) => each.startsWith('mode='));
  for (const option of mount.options ?? [])
    if (['tmpcopyup', 'ro', 'rw', 'rprivate', 'private'].includes(option)) continue;
    else if (FLAGS.test(option) || /^(size|nr_inodes|nr_blocks)=\d+[kmgKMG%]?$/.test(option))
      options.push(option);
    else if (/^mode=[0-7]{1,4}$/.test(option)) options.push(option);
    else throw unfitOption(option, mount.destination);
  return {
    options,
    readOnly: mount.options?.includes('ro') ?? false,
    copyUp: mount.options?.includes('tmpcopyup') ?? false,
    ...(late !== undefined && mount.options?.includes('tmpcopyup')
      ? { mode: late.slice('mode='.length) }
      : {}),
  };
}

function unfitOption(option: string, destination: string): OciError {
  return refusal(
    `option ${quote(option)} of the mount at ${quote(destination)}`,
    'it means nothing there',
    'Leave it out.',
  );
}
