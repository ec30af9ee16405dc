/** .volume, .network and .image files. Pure. */

import { unknownSections } from './container.ts';
import { booleanOf, type Complaint, isRefused, type Outcome, type Part, refused } from './outcome.ts';
import { networkName, type QuadletFile, SECTION, VOLUME_NAME } from './quadlet-file.ts';
import { type Assignment, sectionOf } from './unit-syntax.ts';
import { unquoted } from './words.ts';

type Rules = Readonly<Record<string, (value: string) => Outcome>>;

const no =
  (reason: string): (() => Outcome) =>
  () =>
    refused(reason);
const PODMAN = 'there is no podman to take it';
const NAMED = () => [];

const VOLUME_KEYS: Rules = {
  Copy: (value) => (booleanOf(value) ? [] : refused('a volume always begins with what the image has there')),
  Driver: (value) => (value === 'local' ? [] : refused('a volume is a directory of the store')),
  Group: no('a volume belongs to the users of its container'),
  Label: no('volumes have no labels'),
  User: no('a volume belongs to the users of its container'),
  VolumeName: (value) => (VOLUME_NAME.test(value) ? [] : refused('it is no name of a volume')),
  ServiceName: no('a volume has no unit'),
  ...rest(
    'Device Image Options Type',
    'a volume is a directory of the store; mount it on the host and use Volume=/DIR',
  ),
};

const NETWORK_KEYS: Rules = {
  DisableDNS: (value) => (booleanOf(value) ? ['dns = false'] : []),
  Driver: (value) => (value === 'bridge' ? [] : refused('every network is a bridge')),
  Internal: (value) => (booleanOf(value) ? ['internal = true'] : []),
  IPAMDriver: (value) => (value === 'host-local' ? [] : refused('addresses are given out by netavark')),
  IPv6: (value) => (booleanOf(value) ? ['ipv6'] : []),
  NetworkDeleteOnStop: () => [], // a bridge goes with its last container
  NetworkName: NAMED,
  Subnet: (value) => (/^[0-9A-Fa-f.:/]+$/.test(value) ? [`subnet ${value}`] : refused('it is no subnet')),
  DNS: no('containers ask the name servers of the host; use DNS= in their files'),
  Gateway: (value) => [`gateway ${value}`],
  InterfaceName: no('the bridge is named as the network is'),
  IPRange: no('any address of the subnet may be given out'),
  Label: no('networks have no labels'),
  Options: no('options of drivers are not passed on'),
  ServiceName: no('a network has no unit'),
};

const IMAGE_KEYS: Rules = {
  Arch: (value) => [`arch ${value}`],
  AuthFile: (value) => [`--authfile=${value}`],
  CertDir: (value) => [`--cert-dir=${value}`],
  Creds: (value) => [`--creds=${value}`],
  Image: NAMED,
  ImageTag: no('the image has the name that it was pulled by; see ocictl tag'),
  OS: (value) => [`os ${value}`],
  Policy: (value) => [`--pull=${value}`],
  ServiceName: no('an image has no unit'),
  TLSVerify: (value) => [`--tls-verify=${value}`],
  Variant: (value) => [`variant ${value}`],
  AllTags: no('one image is pulled'),
  DecryptionKey: no('encrypted layers cannot be read'),
  ...rest('Retry RetryDelay', 'how often a pull is tried again is not to be chosen'),
};

function rest(keys: string, reason: string): Rules {
  return Object.fromEntries(keys.split(' ').map((key) => [key, no(reason)]));
}

const OTHERS = rest('ContainersConfModule GlobalArgs PodmanArgs', PODMAN);

interface Read {
  readonly parts: readonly Part[];
  readonly complaints: readonly Complaint[];
}

/** Each key by its rule. [Unit] and the like would be for a unit that there is not. */
function read(file: QuadletFile, rules: Rules): Read {
  const parts: Part[] = [];
  const complaints: Complaint[] = [...file.unit.complaints, ...unknownSections(file)];
  const complain = ({ line, key }: Assignment, reason: string) =>
    complaints.push({ line, key: `${key}=`, reason });
  for (const [key, assignments] of sectionOf(file.unit, SECTION[file.kind])) {
    const rule = { ...OTHERS, ...rules }[key];
    for (const assignment of assignments) {
      const outcome = assignment.value.includes('%')
        ? refused('specifiers are not replaced here')
        : (rule?.(unquoted(assignment.value)) ?? refused('there is no such key'));
      if (isRefused(outcome)) complain(assignment, outcome.refused);
      else if (outcome.length > 0) parts.push({ line: assignment.line, key: `${key}=`, words: outcome });
    }
  }
  for (const assignment of file.unit.assignments)
    if (/^(Unit|Service|Install)$/.test(assignment.section) && assignment.key !== 'Description')
      complain(assignment, `a ${file.kind} has no unit`);
  return { parts, complaints };
}

/** A volume is made at its first use: there is nothing to do but to know its name. */
export function translateVolume(file: QuadletFile): Pick<Read, 'complaints'> {
  return read(file, VOLUME_KEYS);
}

export interface NetworkImport extends Pick<Read, 'complaints'> {
  readonly name: string;
  /** As oci.conf has them; none: one has to be found. */
  readonly subnets: readonly string[];
  readonly ipv6: boolean;
  /** Further lines of its section. */
  readonly lines: readonly string[];
}

export function translateNetwork(file: QuadletFile): NetworkImport {
  const { parts, complaints } = read(file, NETWORK_KEYS);
  const words = parts.flatMap((part) => part.words);
  const subnets = words.flatMap((word) => /^subnet (.*)$/s.exec(word)?.[1] ?? []);
  const others = parts.filter(
    ({ words: [word = ''] }) =>
      word.startsWith('gateway ') &&
      !subnets.some((subnet) => gatewayOf(subnet) === word.slice('gateway '.length)),
  );
  return {
    name: networkName(file),
    subnets,
    ipv6: words.includes('ipv6'),
    lines: words.filter((word) => word.includes(' = ')),
    complaints: [
      ...complaints,
      ...others.map(({ line, key }) => ({
        line,
        key,
        reason: 'the gateway is the first address of the subnet',
      })),
    ],
  };
}

/** 10.1.0.1 of 10.1.0.0/24, fd00::1 of fd00::/64. */
function gatewayOf(subnet: string): string {
  const base = subnet.replace(/\/.*$/s, '');
  return base.endsWith('::') ? `${base}1` : base.replace(/\d+$/, (last) => String(Number(last) + 1));
}

export interface ImageImport extends Read {
  readonly image: string;
}

/** `parts`: options for pulling. */
export function translateImage(file: QuadletFile): ImageImport {
  const { parts, complaints } = read(file, IMAGE_KEYS);
  const image = sectionOf(file.unit, 'Image').get('Image')?.at(-1);
  const [os, arch, variant] = ['os', 'arch', 'variant'].map((name) =>
    parts
      .flatMap((part) => {
        const [word = ''] = part.words;
        return word.startsWith(`${name} `) ? { part, value: word.slice(name.length + 1) } : [];
      })
      .at(-1),
  );
  const plain = parts.filter(({ words }) => words[0]!.startsWith('--'));
  const asked = (os ?? arch ?? variant)?.part;
  const all: Complaint[] = [...complaints];
  if (asked !== undefined && arch === undefined)
    all.push({ line: asked.line, key: asked.key, reason: 'without Arch= there is no platform' });
  else if (asked !== undefined) {
    const words = [os?.value ?? 'linux', arch?.value, ...(variant === undefined ? [] : [variant.value])];
    plain.push({ ...asked, words: [`--platform=${words.join('/')}`] });
  }
  if (image === undefined) all.push({ line: 1, key: 'Image=', reason: 'it is missing' });
  return { image: unquoted(image?.value ?? ''), parts: plain, complaints: all };
}
