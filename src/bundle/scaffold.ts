/**
 * What must exist in a container's root so that something can be mounted there, and what of the image is in the way.
 * Pure: `lookup` looks into the image's tree.
 *
 * Missing places are made below the image's layers. Where a /proc is a link, an /etc a file or a resolv.conf a
 * directory, or a layer of the image removed what was there, a layer above the image covers it; parents keep their
 * attributes there. Every path that comes out is canonical: nothing that is made or mounted later has to follow a link
 * of the image.
 */
import { OciError, quote } from '../oci/errors.ts';
import { NAME_MAX_BYTES } from '../oci/limits.ts';
import { canonicalPath } from './canonical-path.ts';

export interface RootEntry {
  kind: string;
  mode: number;
  uid: number;
  gid: number;
  target?: Uint8Array | undefined;
}

export interface Point {
  path: string;
  /** any: whatever the image has is right, and a file that another point asks for; otherwise a directory. */
  kind: 'directory' | 'file' | 'any';
}

export interface CoverEntry {
  path: string;
  kind: 'directory' | 'file';
  mode: number;
  /** As on disk; undefined for what is made new. */
  owner?: { uid: number; gid: number };
}

export interface Scaffold {
  directories: string[];
  files: string[];
  /** In the order in which they can be made. */
  cover: CoverEntry[];
}

/** Directories that are the container's own, whatever the image has there: no link is followed at these names. */
const OWN = ['/proc', '/sys', '/dev', '/run'];
const NO_LINK = [...OWN, '/run/.oci'];

export function planScaffold(
  points: readonly Point[],
  lookup: (path: string) => RootEntry | undefined,
  hides: (path: string) => boolean = () => false,
): Scaffold {
  const directories = new Set<string>();
  const files = new Set<string>();
  const cover = new Map<string, CoverEntry>();
  const placesOfFiles = points
    .filter(({ kind }) => kind === 'file')
    .map(({ path }) => canonicalPoint(path, lookup));
  const isAtFile = (place: string) => placesOfFiles.some((file) => `${place}/`.startsWith(`${file}/`));
  for (const { path, kind } of [...OWN.map((own): Point => ({ path: own, kind: 'directory' })), ...points]) {
    const place = canonicalPoint(path, lookup);
    if (place === '/' || (!OWN.includes(place) && /^\/(proc|sys|dev)\//.test(place))) continue;
    if (kind === 'any' && isAtFile(place)) continue;
    const obstacle =
      (kind === 'any' ? undefined : findObstacle(place, kind, lookup)) ?? hiddenPart(place, lookup, hides);
    if (obstacle !== undefined)
      addCover(cover, place, kind === 'file' ? 'file' : 'directory', obstacle, lookup);
    else if (kind !== 'file') directories.add(place);
    else if (lookup(place) === undefined) files.add(place);
  }
  return { directories: [...directories], files: [...files], cover: [...cover.values()] };
}

/** No real path needs more, and each name costs a walk. */
const NAMES_MAX = 100;

/**
 * Canonical, as the container will see the root: with its own directories, and a link that leads round covered. Throws
 * BAD_IMAGE for a path that cannot be made.
 */
export function canonicalPoint(path: string, lookup: (path: string) => RootEntry | undefined): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.length > NAMES_MAX || names.some((name) => Buffer.byteLength(name) > NAME_MAX_BYTES))
    throw new OciError('BAD_IMAGE', `path ${quote(path)} is too long to be made`, {
      hint: 'Look at the image with: ocictl inspect IMAGE.',
    });
  const readLink = (each: string) => {
    const entry = NO_LINK.includes(each) ? undefined : lookup(each);
    return entry?.kind === 'symlink' ? Buffer.from(entry.target ?? []).toString() : undefined;
  };
  let place = '';
  for (const name of names)
    try {
      place = canonicalPath(`${place}/${name}`, readLink).replace(/^\/$/, '');
    } catch {
      place += `/${name}`;
    }
  return place || '/';
}

/** The first part of the path that is not what it must be; undefined where the image has none of the rest. */
function findObstacle(
  place: string,
  kind: 'directory' | 'file',
  lookup: (path: string) => RootEntry | undefined,
): string | undefined {
  for (const prefix of prefixes(place)) {
    const entry = lookup(prefix);
    if (entry === undefined) return undefined;
    const isDirectory = entry.kind === 'directory';
    const fits =
      prefix !== place || kind === 'directory' ? isDirectory : !isDirectory && entry.kind !== 'symlink';
    if (!fits) return prefix;
  }
  return undefined;
}

/** The first part that is missing because a layer of the image removed it: below them it would be again. */
function hiddenPart(
  place: string,
  lookup: (path: string) => RootEntry | undefined,
  hides: (path: string) => boolean,
): string | undefined {
  const missing = prefixes(place).find((prefix) => lookup(prefix)?.kind !== 'directory');
  return missing !== undefined && lookup(missing) === undefined && hides(missing) ? missing : undefined;
}

function addCover(
  cover: Map<string, CoverEntry>,
  place: string,
  kind: 'directory' | 'file',
  obstacle: string,
  lookup: (path: string) => RootEntry | undefined,
): void {
  for (const prefix of prefixes(place)) {
    if (cover.has(prefix)) continue;
    const entry = prefix.length < obstacle.length ? lookup(prefix) : undefined;
    const ownKind = prefix === place ? kind : 'directory';
    cover.set(
      prefix,
      entry === undefined
        ? { path: prefix, kind: ownKind, mode: modeOf(prefix, ownKind) }
        : { path: prefix, kind: ownKind, mode: entry.mode, owner: { uid: entry.uid, gid: entry.gid } },
    );
  }
}

function modeOf(path: string, kind: 'directory' | 'file'): number {
  return kind === 'file' ? 0o644 : /^\/(var\/)?tmp$/.test(path) ? 0o1777 : 0o755;
}

/** `/a/b` → `/a`, `/a/b`. */
export function prefixes(path: string): string[] {
  const parts = path.split('/').slice(1);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`);
}
