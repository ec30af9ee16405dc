/** Volume=, Mount=, Network= and Secret=: values that name what is elsewhere, in another Quadlet file too. Pure. */
import { type Outcome, refused } from './outcome.ts';
import type { Surroundings } from './quadlet-file.ts';

/** Of the host, readable by everybody: shown as they are, also from file systems without id-mapped mounts. */
const PUBLIC =
  /^\/(etc\/(localtime|timezone|hosts|resolv\.conf|machine-id|ssl\/certs(\/.*)?)|(usr|proc|sys|dev)(\/.*)?)$/;

/** `[SOURCE:]CONTAINER[:OPTIONS]`. */
export function volumeOption(value: string, around: Surroundings): Outcome {
  const [first = '', destination, options = '', ...rest] = value.split(':');
  if (destination === undefined || rest.length > 0)
    return refused(
      rest.length > 0 ? 'it has too many parts' : 'it names no directory of the host and no volume',
    );
  const source = sourceOf(first, around);
  if (typeof source !== 'string') return source;
  const list: string[] = [];
  for (const each of options.split(',').filter((word) => word !== '')) {
    const kept = volumeWord(each, source);
    if (kept === undefined) return refused(`option ${each} cannot be honoured`);
    list.push(...kept);
  }
  if (needsMapping(source, around) && !list.includes('idmap')) list.push('idmap');
  return [`--volume=${[source, destination, ...(list.length > 0 ? [list.join(',')] : [])].join(':')}`];
}

/** What an option of podman's is here: nothing where it is so anyway; undefined where it cannot be had. */
function volumeWord(word: string, source: string): string[] | undefined {
  // nothing is labelled; a volume belongs to the users of its container and begins with what the image has
  if (word === 'z' || word === 'Z') return [];
  if (!source.startsWith('/') && (word === 'U' || word === 'copy')) return [];
  return /^(U|O|copy|nocopy|upperdir=.*|workdir=.*)$/.test(word) ? undefined : [word];
}

/** podman runs a container without UserNS= with the ids of the host: what is shown of it keeps its owners here, too. */
function needsMapping(source: string, { hostIds }: Surroundings): boolean {
  return source.startsWith('/') && hostIds && !PUBLIC.test(source);
}

function sourceOf(
  source: string,
  { inDirectory, volumes, images }: Surroundings,
): string | ReturnType<typeof refused> {
  const other = source.endsWith('.volume') ? volumes : source.endsWith('.image') ? images : undefined;
  if (other !== undefined)
    return other.get(source) ?? refused(`${source} is not among the files that are imported`);
  return source.startsWith('.') ? inDirectory(source) : source;
}

/** `type=…,source=…,…`. */
export function mountOption(value: string, around: Surroundings): Outcome {
  const parts = value.split(',');
  const type = parts.find((part) => part.startsWith('type='))?.slice('type='.length) ?? 'volume';
  const words: string[] = [];
  let mapped = false;
  for (const part of parts) {
    const [, name = '', text = ''] = /^(src|source)=(.*)$/s.exec(part) ?? [];
    if (name !== '') {
      const source = sourceOf(text, around);
      if (typeof source !== 'string') return source;
      words.push(`${name}=${source}`);
      mapped = type === 'bind' && needsMapping(source, around);
    } else if (!part.startsWith('relabel=')) words.push(part);
  }
  if (mapped && !words.some((word) => word.startsWith('idmap'))) words.push('idmap');
  return [`--mount=${words.join(',')}`];
}

/** `host`, `none`, `NAME.network[:ip=…]`, `NAME.container`, `bridge`, `ns:PATH`, or the name of a network. */
export function networkOptions(value: string, { networks, containers }: Surroundings): Outcome {
  if (/^(host|none|private|ns:.*)$/s.test(value)) return [`--network=${value}`];
  const [name = '', optionText] = value.split(/:(.*)/s);
  if (name === 'container') return [`--network=container=${optionText}`];
  if (name.endsWith('.container')) {
    const unit = containers.get(name);
    if (unit === undefined) return refused(`${name} is not among the files that are imported`);
    return optionText === undefined ? [`--network=container=${unit}`] : refused('it has options');
  }
  if (/^(pasta|slirp4netns)$/.test(name)) return refused(`${name} is not for services of the system`);
  const network = name.endsWith('.network') ? networks.get(name) : name;
  if (network === undefined) return refused(`${name} is not among the files that are imported`);
  const options: string[] = [];
  for (const each of optionText?.split(',') ?? []) {
    if (!each.startsWith('ip=')) return refused(`option ${each} cannot be honoured`);
    options.push(`--ip=${each.slice('ip='.length)}`);
  }
  return [network === 'bridge' ? '--network=bridge' : `--network=bridge:${network}`, ...options];
}

/**
 * `NAME[,type=mount|env][,target=FILE][,mode=0400]`: a credential that systemd has of that name. podman's own secrets
 * are in a store of its own.
 */
export function secretOption(value: string, { credentialFile }: Surroundings): Outcome {
  const [name = '', ...options] = value.split(',');
  const said = new Map(options.map((each) => [each.replace(/=.*$/s, ''), each.replace(/^[^=]*=?/s, '')]));
  const target = (said.get('target') ?? name).replace(/^\/run\/secrets\//, '');
  if (said.get('type') === 'env')
    return refused(
      `variables can be seen by everybody on this machine; where the image knows it, write Secret=${name} and Environment=${target}_FILE=/run/secrets/${name}`,
    );
  const other = [...said].find(
    ([key, text]) =>
      !(
        key === 'target' ||
        (key === 'type' && text === 'mount') ||
        (key === 'mode' && /^0?4[04]{2}$/.test(text))
      ),
  );
  if (other !== undefined)
    return refused(`${other[0]}: a credential is readable for the container's user, and for nobody else`);
  if (target.includes('/')) return refused('a credential is a file in /run/secrets');
  const file = credentialFile(name);
  if (file !== undefined) return [`--credential${file.encrypted ? '-encrypted' : ''}=${target}:${file.path}`];
  return refused(
    `podman's secrets are not read; put it there first: podman secret inspect --showsecret --format '{{.SecretData}}' ${name} >/etc/credstore/${name}`,
  );
}
