/**
 * What a container shows of the host: `-v` and `--mount` and `--tmpfs` (podman-run(1)) → mounts of the runtime spec.
 * A source without a slash is a volume of the store; its mount says so by an option of ours.
 */
import { IMAGE_OPTION, SUBPATH_OPTION, VOLUME_OPTION } from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { Mount } from '../oci/runtime-spec.ts';
import { parseFiniteSize } from './quantity.ts';

const FLAGS = ['ro', 'rw', 'nosuid', 'suid', 'nodev', 'dev', 'noexec', 'exec'];
const BIND_OPTIONS = new Set([
  ...FLAGS,
  ...['bind', 'rbind', 'private', 'rprivate', 'slave', 'rslave', 'idmap'],
]);

/** `[HOST|NAME:]CONTAINER[:OPTIONS]`. Throws USAGE for a bad form, UNSUPPORTED for options that cannot be honoured. */
export function parseVolume(text: string): Mount {
  const parts = text.split(':');
  const [source = '', destination = '', optionText = ''] = parts;
  if (parts.length < 2 || parts.length > 3 || source === '' || destination === '')
    throw usage('--volume', text, 'is not HOST:CONTAINER');
  const options = optionText === '' ? [] : optionText.split(',');
  return bindMount('--volume', text, source, destination, options);
}

/** `type=bind|volume|tmpfs|image,src=…,dst=…[,ro]…`; a value is everything between its `=` and the next comma. */
export function parseMount(text: string): Mount {
  const values = new Map<string, string>();
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const name = at < 0 ? part : part.slice(0, at);
    const key = MOUNT_KEYS[name] ?? name;
    if (values.has(key)) throw usage('--mount', text, `has ${quote(name)} twice`);
    values.set(key, at < 0 ? 'true' : part.slice(at + 1));
  }
  const take = (key: string) => {
    const value = values.get(key);
    values.delete(key);
    return value;
  };
  const type = take('type') ?? 'volume';
  const destination = take('destination') ?? '';
  const source = take('source') ?? '';
  const options = isTrue(take('ro')) ? ['ro'] : [];
  if (type === 'tmpfs') {
    if (source !== '') throw usage('--mount', text, 'has a source, which a tmpfs has not');
    for (const key of ['tmpfs-size', 'tmpfs-mode']) {
      const value = take(key);
      if (value !== undefined) options.push(`${key.slice('tmpfs-'.length)}=${value}`);
    }
    refuseRest(text, values);
    return temporaryMount('--mount', text, destination, options);
  }
  if (type === 'image') {
    const writable = isTrue(take('rw'));
    const subpath = take('subpath');
    refuseRest(text, values);
    return imageMount(text, source, destination, [...options, ...(writable ? ['rw'] : [])], subpath);
  }
  if (type !== 'bind' && type !== 'volume')
    throw new OciError('UNSUPPORTED', `--mount: type ${quote(type)} cannot be honoured`, {
      hint: 'Use bind, volume, tmpfs or image.',
    });
  if (source === '') throw usage('--mount', text, 'has no source');
  if (source.startsWith('/') !== (type === 'bind'))
    throw usage('--mount', text, `has a source that does not fit type=${type}`);
  const propagation = take('bind-propagation');
  if (propagation !== undefined) options.push(propagation);
  if (isTrue(take('bind-nonrecursive'))) options.push('bind');
  if (isTrue(take('idmap'))) options.push('idmap');
  refuseRest(text, values);
  return bindMount('--mount', text, source, destination, options);
}

const MOUNT_KEYS: Record<string, string> = {
  src: 'source',
  dst: 'destination',
  target: 'destination',
  readonly: 'ro',
  readwrite: 'rw',
};

function isTrue(value: string | undefined): boolean {
  return value === 'true' || value === '1';
}

function refuseRest(text: string, values: ReadonlyMap<string, string>): void {
  const [rest] = values.keys();
  if (rest !== undefined)
    throw new OciError('UNSUPPORTED', `--mount: ${quote(rest)} of ${quote(text)} cannot be honoured`, {
      hint: 'Leave it out.',
    });
}

/** `PATH[:OPTIONS]`. */
export function parseTmpfs(text: string): Mount {
  const at = text.indexOf(':');
  const destination = at < 0 ? text : text.slice(0, at);
  return temporaryMount('--tmpfs', text, destination, at < 0 ? [] : text.slice(at + 1).split(','));
}

function temporaryMount(option: string, text: string, destination: string, options: string[]): Mount {
  checkDestination(option, text, destination);
  const defaults = ['nosuid', 'nodev', 'mode=1777'];
  const wanted = options.map((each) => {
    const [name = '', value = ''] = each.split('=');
    if (name === 'size' && value !== '') return `size=${parseFiniteSize(option, value, 'size=64M')}`;
    if (name === 'mode' && /^[0-7]{1,4}$/.test(value)) return each;
    if (FLAGS.includes(each)) return each;
    throw new OciError(
      'UNSUPPORTED',
      `${option}: option ${quote(each)} of ${quote(text)} cannot be honoured`,
      {
        hint: `Use size=, mode=, ${FLAGS.join(', ')}.`,
      },
    );
  });
  const given = new Set(wanted.map((each) => each.replace(/^no(?=suid|dev)|=.*$/g, '')));
  return {
    destination,
    type: 'tmpfs',
    source: 'tmpfs',
    options: [
      ...defaults.filter((each) => !given.has(each.replace(/^no(?=suid|dev)|=.*$/g, ''))),
      'tmpcopyup',
      ...wanted,
    ],
  };
}

function bindMount(
  option: string,
  text: string,
  source: string,
  destination: string,
  options: readonly string[],
): Mount {
  checkDestination(option, text, destination);
  const isVolume = !source.startsWith('/');
  if (isVolume && !/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(source))
    throw usage(option, text, `has a source that is neither an absolute path nor the name of a volume`);
  for (const each of options)
    if (!BIND_OPTIONS.has(each) || (isVolume && each === 'idmap'))
      throw new OciError(
        'UNSUPPORTED',
        `${option}: option ${quote(each)} of ${quote(text)} cannot be honoured`,
        {
          hint: `Use ${[...BIND_OPTIONS].join(', ')}.`,
        },
      );
  if (options.includes('ro') && options.includes('rw')) throw usage(option, text, 'is both ro and rw');
  const rest = options.filter((each) => !['ro', 'rw', 'bind', 'rbind'].includes(each));
  return {
    destination,
    type: 'bind',
    source,
    options: [
      options.includes('bind') ? 'bind' : 'rbind',
      options.includes('ro') ? 'ro' : 'rw',
      ...rest,
      ...(isVolume ? [VOLUME_OPTION] : []),
    ],
  };
}

function imageMount(
  text: string,
  source: string,
  destination: string,
  access: readonly string[],
  subpath: string | undefined,
): Mount {
  checkDestination('--mount', text, destination);
  if (source === '') throw usage('--mount', text, 'has no source');
  if (access.length > 1) throw usage('--mount', text, 'is both ro and rw');
  if (subpath !== undefined && (!subpath.startsWith('/') || /[\x00-\x1f\x7f]/.test(subpath)))
    throw usage('--mount', text, 'has a subpath that is not absolute');
  return {
    destination,
    type: 'bind',
    source,
    options: [
      'rbind',
      access[0] ?? 'ro',
      ...['nosuid', 'nodev', IMAGE_OPTION],
      ...(subpath === undefined ? [] : [`${SUBPATH_OPTION}${subpath}`]),
    ],
  };
}

export function checkDestination(option: string, text: string, destination: string): void {
  if (!destination.startsWith('/')) throw usage(option, text, 'names a container path that is not absolute');
  if (destination.split('/').includes('..')) throw usage(option, text, "holds '..' in the container path");
  if (/^\/+\.?\/*$/.test(destination)) throw usage(option, text, 'would cover the whole container');
  if (/[\x00-\x1f\x7f]/.test(destination)) throw usage(option, text, 'holds a control character');
}

function usage(option: string, text: string, why: string): OciError {
  return new OciError('USAGE', `${option}: ${quote(text)} ${why}`, {
    hint: HINTS[option] ?? `Write it as ${option} /DIR.`,
  });
}

const HINTS: Record<string, string> = {
  '--volume': 'Write it as --volume /HOST/DIR:/CONTAINER/DIR[:ro], or --volume NAME:/CONTAINER/DIR.',
  '--mount': 'Write it as --mount type=bind,src=/HOST/DIR,dst=/CONTAINER/DIR[,ro].',
  '--tmpfs': 'Write it as --tmpfs /DIR[:size=64M,mode=1777].',
};
