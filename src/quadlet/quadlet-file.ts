/** A Quadlet file that was read, its names, and what its keys may refer to. Pure. */
import { posix } from 'node:path';
import { OciError, quote } from '../oci/errors.ts';
import { sectionOf, type UnitText } from './unit-syntax.ts';

export type QuadletKind = 'container' | 'volume' | 'network' | 'image';

export interface QuadletFile {
  /** As it was named. */
  readonly path: string;
  /** Absolute. */
  readonly directory: string;
  /** `web.container`. */
  readonly file: string;
  /** `web`; of a template `web@`. */
  readonly stem: string;
  readonly kind: QuadletKind;
  readonly unit: UnitText;
}

/** What values of one file may refer to. */
export interface Surroundings {
  /** A path that may be relative to the file. */
  readonly inDirectory: (path: string) => string;
  /** `data.volume` → the volume. */
  readonly volumes: ReadonlyMap<string, string>;
  /** `app.network` → the network. */
  readonly networks: ReadonlyMap<string, string>;
  /** `app.image` → what it pulls. */
  readonly images: ReadonlyMap<string, string>;
  /** `web.container` → its service, without suffix. */
  readonly containers: ReadonlyMap<string, string>;
  /** Whether podman would run the container with the ids of the host. */
  readonly hostIds: boolean;
  readonly credentialFile: HostFacts['credentialFile'];
}

/** What is to be known of the machine. */
export interface HostFacts {
  readonly hostName: string;
  /** Where systemd keeps a credential of this name, as its own search would find it. */
  readonly credentialFile: (
    name: string,
  ) => { readonly path: string; readonly encrypted: boolean } | undefined;
}

/** Throws USAGE where the name says no kind, or another one than those. */
export function parseFileName(path: string): Pick<QuadletFile, 'file' | 'stem' | 'kind'> {
  const file = posix.basename(path);
  const [, stem = '', kind = ''] = /^(.*)\.([a-z]+)$/s.exec(file) ?? [];
  const known = (['container', 'volume', 'network', 'image'] as const).find((each) => each === kind);
  const [fits, instance] = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}(?:@([A-Za-z0-9_.-]*))?$/.exec(stem) ?? [];
  const isTemplate = instance === '' && known === 'container';
  if (fits !== undefined && known !== undefined && (instance === undefined || isTemplate))
    return { file, stem, kind: known };
  if (/^(pod|kube|build)$/.test(kind))
    throw new OciError('UNSUPPORTED', `${quote(file)}: there are no .${kind} units`, {
      hint: 'Name .container, .volume, .network and .image files.',
    });
  if (instance !== undefined && known !== undefined)
    throw new OciError('UNSUPPORTED', `${quote(file)}: only .container files can be templates, as NAME@`, {
      hint: 'Import the template, and start its instances: systemctl enable --now NAME@INSTANCE.',
    });
  throw new OciError('USAGE', `${quote(path)} is not named as a Quadlet file is`, {
    hint: 'Name .container, .volume, .network and .image files.',
  });
}

export const SECTION: Readonly<Record<QuadletKind, string>> = {
  container: 'Container',
  volume: 'Volume',
  network: 'Network',
  image: 'Image',
};

/** The last value of a key of the file's own section. */
function ownValue({ kind, unit }: QuadletFile, key: string): string | undefined {
  return sectionOf(unit, SECTION[kind]).get(key)?.at(-1)?.value;
}

export function surroundingsOf(
  file: QuadletFile,
  files: readonly QuadletFile[],
  { credentialFile }: HostFacts,
): Surroundings {
  const named = (kind: QuadletKind, name: (each: QuadletFile) => string) =>
    new Map(files.filter((each) => each.kind === kind).map((each) => [each.file, name(each)]));
  const userNS = ownValue(file, 'UserNS') ?? '';
  return {
    inDirectory: (path) => posix.resolve(file.directory, path),
    volumes: named('volume', volumeName),
    networks: named('network', networkName),
    images: named('image', (each) => ownValue(each, 'Image') ?? ''),
    containers: named('container', serviceName),
    hostIds: !/^(auto|host)/.test(userNS),
    credentialFile,
  };
}

export const VOLUME_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/** Never a path, whatever the file says. */
function volumeName(file: QuadletFile): string {
  const name = ownValue(file, 'VolumeName');
  return name !== undefined && VOLUME_NAME.test(name) ? name : `systemd-${file.stem}`;
}

/** A bridge has its name, which is short: without podman's `systemd-`. */
export function networkName(file: QuadletFile): string {
  return ownValue(file, 'NetworkName') ?? file.stem;
}

/** Without suffix. */
export function serviceName(file: QuadletFile): string {
  return (ownValue(file, 'ServiceName') ?? file.stem).replace(/\.service$/, '');
}
