/**
 * What lies where in a store, and the checks on opening one.
 *
 *   ROOT/                                   0700, as every directory down to a layer's `tree`
 *     format                                "1\n"
 *     lock                                  flock: shared by who adds or uses, exclusive by who deletes
 *     layers/<chainID hex>/layer.json       LayerRecord
 *     layers/<chainID hex>/files            what the tree has to be, a line for each file (layer-files.ts)
 *     layers/<chainID hex>/tree/…           the layer as overlayfs wants it; owners FOREIGN_UID_BASE + id
 *     layers/skeleton/tree/…                empty mount points (/proc, /sys, …) for under every image
 *     images/<manifest digest hex>.mstack/  systemd.mstack(7)
 *         layer@0000-skeleton            -> ../../layers/skeleton/tree
 *         layer@0001-<12 hex>            -> ../../layers/<chainID hex>/tree, lowest first
 *         .oci/{manifest,config}.json       exact bytes; image.json: ImageRecord
 *     images/<manifest digest hex>.composefs/   the same image in the other format; a store has one of the two
 *         image.cfs                         EROFS: files up to 64 bytes are in it, larger ones in objects/
 *         .oci/…                            as above; image.json says format and imageDigest
 *     objects/ab/cdef…                      content of files by fs-verity digest (objects.ts)
 *     objects-by-sha256/ab/cdef…         -> <object>, by the plain digest of the content (objects.ts)
 *     streams/<diffID hex>                  what a layer's tar says (streams.ts)
 *     streams/toc-<hex>                     the same of a layer that its table of contents alone vouches for
 *     tags/<escaped name>.mstack         -> ../images/<manifest digest hex>.mstack
 *     roots/<escaped name>.mstack        -> the same, for images that must stay though they have no name: those of
 *                                           installed services
 *     services/<name>/                      installed services and their versions: src/services.ts
 *     writable/<unit>/                      what a running container writes; made and removed by its setup unit
 *     volumes/<name>/                       what `-v NAME:…` shows; ids of the foreign range; stays until somebody removes it
 *     staging/<name>/                       work in progress; its owner holds a flock on the directory
 *     staging/blobs/<blob digest hex>.partial   a download to be resumed; flock on the file
 *
 * Invariant: nothing outside staging/ is ever partial. Names in layers/ and images/ are digests (only lower-case
 * hex), names in tags/ are escaped, so no foreign text is ever a path.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { isErrno } from '../host/files.ts';
import { type ChainID, type Digest, digestHex } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { NAME_MAX_BYTES } from '../oci/limits.ts';

export type StoreFormat = 'tree' | 'composefs';

export interface Layout {
  readonly root: string;
  readonly layers: string;
  readonly images: string;
  readonly tags: string;
  readonly roots: string;
  readonly writable: string;
  readonly staging: string;
  readonly blobs: string;
  readonly lock: string;
}

const FORMAT = '1\n';
const TOP_LEVEL = new Set([
  'format',
  'lock',
  'layers',
  'images',
  'tags',
  'objects',
  'objects-by-sha256',
  'roots',
  'services',
  'staging',
  'streams',
  'writable',
  'volumes',
  'lost+found',
]);
const TREE_SUFFIX = '.mstack';
const COMPOSEFS_SUFFIX = '.composefs';
const SUFFIXES = [COMPOSEFS_SUFFIX, TREE_SUFFIX];
export const SKELETON = 'skeleton';

/** The paths of a store that may not be there. */
export function layoutBelow(root: string): Layout {
  const at = (name: string) => join(root, name);
  return {
    root,
    layers: at('layers'),
    images: at('images'),
    tags: at('tags'),
    roots: at('roots'),
    writable: at('writable'),
    staging: at('staging'),
    blobs: at('staging/blobs'),
    lock: at('lock'),
  };
}

/**
 * Checks that `root` is a store of ours and, with `create`, makes it one when it is missing or empty.
 * Without `create` a root that is missing or empty is no store yet: undefined.
 */
export function openLayout(root: string, create: boolean): Layout | undefined {
  const path = resolve(root);
  if (create) makeRoot(path);
  let real: string;
  try {
    real = realpathSync(path);
    checkRoot(real, create);
  } catch (error) {
    if (!create && isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  const layout = layoutBelow(real);
  if (!create && !existsSync(layout.images)) return undefined;
  if (create) {
    for (const directory of [
      layout.layers,
      layout.images,
      layout.tags,
      layout.roots,
      layout.staging,
      layout.blobs,
    ])
      mkdirSync(directory, { recursive: true, mode: 0o700 });
  }
  checkFormat(real, create);
  return layout;
}

function makeRoot(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
}

/** An empty directory of ours may become a store; anything else must look like one and be closed to others. */
function checkRoot(root: string, create: boolean): void {
  const fd = openSync(root, 'r');
  try {
    const stat = fstatSync(fd);
    if (!stat.isDirectory()) throw notAStore(root, 'is not a directory');
    if (stat.uid !== process.geteuid!())
      throw new OciError(
        'DENIED',
        `the store ${quote(root)} belongs to user ${stat.uid}, not to ${process.geteuid!()}`,
        {
          hint: 'Run the command as its owner, or name another store with --root.',
        },
      );
    const entries = readdirSync(root);
    if (!entries.every((name) => TOP_LEVEL.has(name))) throw notAStore(root, 'holds other files');
    if ((stat.mode & 0o077) === 0) return;
    if (create && entries.length === 0) {
      chmodSync(root, 0o700);
      return;
    }
    throw new OciError(
      'DENIED',
      `refusing the store ${quote(root)}: other users may enter it (mode ${modeText(stat.mode)})`,
      {
        hint: `Find out who changed it, then close it again: chmod 0700 ${root}`,
      },
    );
  } finally {
    closeSync(fd);
  }
}

function notAStore(root: string, why: string): OciError {
  return new OciError('CONFIG', `refusing ${quote(root)} as a store: it ${why}`, {
    hint: 'Name a store, an empty directory or a new one with --root.',
  });
}

function modeText(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

function checkFormat(root: string, create: boolean): void {
  const file = join(root, 'format');
  let format = '';
  try {
    format = readFileSync(file, 'utf8');
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  // Missing or empty: a new store, maybe one that another process is making at this moment.
  if (format === '' && create) writeFileSync(file, FORMAT, { mode: 0o600 });
  else if (format !== '' && format !== FORMAT)
    throw new OciError(
      'UNSUPPORTED',
      `the store ${quote(root)} has format ${quote(format.trim())}, expected 1`,
      {
        hint: 'Use the version of ocictl that wrote it, or name another store with --root.',
      },
    );
}

export function layerDirectory(layout: Layout, chainID: ChainID): string {
  return join(layout.layers, digestHex(chainID));
}

export function imageDirectory(layout: Layout, digest: Digest): string {
  return imagePath(layout, digestHex(digest));
}

/** Where the image is, in the format it has here; where it would be as a tree when it is not here. */
export function imagePath(layout: Layout, hex: string): string {
  const composefs = join(layout.images, imageFileName(hex, 'composefs'));
  return existsSync(composefs) ? composefs : join(layout.images, imageFileName(hex, 'tree'));
}

/** The entry of images/ for a digest's hex. */
export function imageFileName(hex: string, format: StoreFormat): string {
  return hex + (format === 'composefs' ? COMPOSEFS_SUFFIX : TREE_SUFFIX);
}

export function formatOfFile(fileName: string): StoreFormat {
  return fileName.endsWith(COMPOSEFS_SUFFIX) ? 'composefs' : 'tree';
}

/** The digest hex of an entry of images/, or of the target of one of tags/. */
export function hexOfImageFile(fileName: string): string | undefined {
  return /^([0-9a-f]{64}|[0-9a-f]{128})\.(?:mstack|composefs)$/.exec(fileName)?.[1];
}

/** `layer@0001-0123456789ab`; position 0 is the skeleton's. Four digits sort by name and by version alike. */
export function layerLinkName(position: number, name: string): string {
  return `layer@${String(position).padStart(4, '0')}-${name.slice(0, 12)}`;
}

/**
 * A name as a file in tags/: everything but plain characters as %XX, so that it is neither hidden nor a path, and
 * one name is one file.
 */
export function tagFileName(name: string, format: StoreFormat = 'tree'): string {
  if (name === '' || /[\x00-\x20\x7f]/.test(name))
    throw new OciError('USAGE', `${quote(name)} is not a name for an image`, {
      hint: 'Use letters, digits and . _ - / : @, without spaces.',
    });
  const escaped = [...Buffer.from(name)]
    .map((byte, index) => {
      const char = String.fromCharCode(byte);
      return /[A-Za-z0-9_:@+-]/.test(char) || (char === '.' && index > 0) ? char : percent(byte);
    })
    .join('');
  if (escaped.length + COMPOSEFS_SUFFIX.length > NAME_MAX_BYTES)
    throw new OciError('USAGE', `${quote(name)} is too long for a name of an image`, {
      hint: 'Give a short NAME of your own: oci-pull REF NAME',
    });
  return imageFileName(escaped, format);
}

/** The name behind a file in tags/; undefined when tagFileName() would never have made it. */
export function nameOfTagFile(fileName: string): string | undefined {
  const suffix = SUFFIXES.find((end) => fileName.endsWith(end));
  if (suffix === undefined) return undefined;
  const escaped = fileName.slice(0, -suffix.length);
  try {
    const name = decodeURIComponent(escaped);
    return tagFileName(name, formatOfFile(fileName)) === fileName ? name : undefined;
  } catch {
    return undefined;
  }
}

function percent(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}
