/**
 * oci:DIR[:TAG]: an image in a layout directory (image-spec image-layout.md).
 *
 * Invariant: DIR itself may be a link, nothing below it may: every step is opened by O_NOFOLLOW from the directory
 * before, and only regular files are read, so that a foreign layout shows us no file outside it and blocks on no
 * fifo.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { RawManifest } from '../oci/content.ts';
import { type Descriptor, readDescriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, digestOf, verifyDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import { asArray, asObject, asString, parseJson } from '../oci/json.ts';
import { MANIFEST_MAX_BYTES } from '../oci/limits.ts';
import { formatReference, parseName, parseReference, withDefaultTag } from '../oci/reference.ts';
import type { ImageSource } from './image-source.ts';

const REF_NAME = 'org.opencontainers.image.ref.name';
const LAYOUT_FILE_MAX_BYTES = 4096;
const READ_BYTES = 256 * 1024;

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
const FILE_FLAGS = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

/** `spec` is what follows `oci:`. The first colon ends the directory, as in other tools. */
export function openOciLayoutSource(spec: string): ImageSource {
  const colon = spec.indexOf(':');
  const directory = resolve(colon < 0 ? spec : spec.slice(0, colon));
  const tag = colon < 0 ? undefined : spec.slice(colon + 1);
  const root = openRoot(directory);
  try {
    const layout = asObject(readJson(root, 'oci-layout', LAYOUT_FILE_MAX_BYTES), 'oci-layout');
    const version = asString(layout['imageLayoutVersion'], 'oci-layout imageLayoutVersion');
    if (!version.startsWith('1.'))
      throw new OciError('UNSUPPORTED', `the layout ${quote(directory)} has the version ${quote(version)}`);
    const rawIndex = readBelow(root, ['index.json'], MANIFEST_MAX_BYTES);
    const index = asObject(parseJson(rawIndex, MANIFEST_MAX_BYTES, 'index.json'), 'index.json');
    const entries = asArray(index['manifests'], 'index.json manifests').map((entry, i) =>
      readDescriptor(entry, `index.json entry ${i + 1}`),
    );
    const chosen = chooseTop(entries, tag, directory);
    return layoutSource(root, directory, chosen, rawIndex, tag);
  } catch (error) {
    closeSync(root);
    throw error;
  }
}

function layoutSource(
  root: number,
  directory: string,
  chosen: Descriptor | undefined,
  rawIndex: Buffer,
  tag: string | undefined,
): ImageSource {
  const refName = chosen?.annotations?.[REF_NAME] ?? tag;
  let closed = false;
  return {
    description: `oci:${directory}${tag === undefined ? '' : `:${tag}`}`,
    localName: localName(directory, refName),
    async fetchManifest(digest?: Digest): Promise<RawManifest> {
      const wanted = digest ?? chosen?.digest;
      if (wanted === undefined) return { bytes: rawIndex, mediaType: undefined, digest: digestOf(rawIndex) };
      const bytes = readBelow(root, blobPath(wanted), MANIFEST_MAX_BYTES);
      verifyDigest(bytes, wanted, `manifest in ${quote(directory)}`);
      return { bytes, mediaType: digest === undefined ? chosen?.mediaType : undefined, digest: wanted };
    },
    async openBlob(descriptor, { offset = 0, signal } = {}) {
      const handle = await openBelow(root, blobPath(descriptor.digest));
      return { offset, body: readBlob(handle, offset, descriptor.size + 1, signal) };
    },
    async close() {
      if (!closed) closeSync(root);
      closed = true;
    },
  };
}

/** The entry of that tag; without one the only entry. undefined: index.json is itself the index to choose from. */
function chooseTop(
  entries: readonly Descriptor[],
  tag: string | undefined,
  directory: string,
): Descriptor | undefined {
  const names = entries.flatMap(({ annotations }) => annotations?.[REF_NAME] ?? []);
  const hint =
    names.length === 0
      ? 'Leave out the tag: the images of this layout have none.'
      : `Name one of its images, for example oci:${directory}:${quote(names[0]!).slice(1, -1)}`;
  if (tag !== undefined) {
    const found = entries.filter(({ annotations }) => annotations?.[REF_NAME] === tag);
    if (found.length === 1) return found[0]!;
    const what = found.length === 0 ? 'no image' : `${found.length} images`;
    throw new OciError(
      found.length === 0 ? 'IMAGE_NOT_FOUND' : 'BAD_IMAGE',
      `${what} ${quote(tag)} in ${quote(directory)}`,
      {
        hint,
      },
    );
  }
  if (entries.length === 1) return entries[0]!;
  if (entries.length === 0) throw new OciError('IMAGE_NOT_FOUND', `the layout ${quote(directory)} is empty`);
  if (names.length === 0) return undefined;
  throw new OciError('USAGE', `the layout ${quote(directory)} has ${entries.length} images`, { hint });
}

/** A tag that is a full name is the name; else the directory's name in `localhost/`, with the tag. */
function localName(directory: string, refName: string | undefined): string {
  if (refName !== undefined) {
    try {
      const name = parseName(refName);
      if (name.domain !== undefined) return formatReference(withDefaultTag(parseReference(refName)));
    } catch {
      // a tag in a layout is any text
    }
  }
  const words = basename(directory)
    .toLowerCase()
    .match(/[a-z0-9]+/g) ?? ['image'];
  const tag =
    refName !== undefined && /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(refName) ? refName : 'latest';
  return `localhost/${words.join('-').slice(0, 100)}:${tag}`;
}

function blobPath(digest: Digest): string[] {
  return ['blobs', digestAlgorithm(digest), digestHex(digest)];
}

function openRoot(directory: string): number {
  try {
    return openSync(directory, O_RDONLY | O_DIRECTORY);
  } catch (error) {
    throw new OciError(
      'INPUT_NOT_FOUND',
      `cannot open the layout ${quote(directory)}: ${(error as NodeJS.ErrnoException).code}`,
      {
        hint: 'Write oci:DIR or oci:DIR:TAG, where DIR has an index.json.',
        cause: error,
      },
    );
  }
}

/** Opens each directory on the way by the descriptor of the one before; returns the path of the last step. */
function walk<T>(root: number, path: readonly string[], use: (path: string) => T): T {
  const opened: number[] = [];
  try {
    let at = root;
    for (const name of path.slice(0, -1)) {
      at = openSync(`/proc/self/fd/${at}/${name}`, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      opened.push(at);
    }
    return use(`/proc/self/fd/${at}/${path.at(-1)}`);
  } catch (error) {
    if (error instanceof OciError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const name = quote(path.join('/'));
    if (code === 'ENOENT') throw new OciError('BAD_IMAGE', `the layout has no ${name}`, { cause: error });
    if (code === 'ELOOP' || code === 'ENOTDIR' || code === 'ENXIO')
      throw new OciError('BAD_IMAGE', `${name} in the layout is a link or not what it should be`, {
        cause: error,
      });
    throw new OciError('IO_ERROR', `cannot read ${name} in the layout: ${code}`, { cause: error });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function readJson(root: number, name: string, maxBytes: number): unknown {
  return parseJson(readBelow(root, [name], maxBytes), maxBytes, name);
}

function readBelow(root: number, path: readonly string[], maxBytes: number): Buffer {
  return walk(root, path, (last) => {
    const fd = openSync(last, FILE_FLAGS);
    try {
      const status = fstatSync(fd);
      if (!status.isFile()) throw notAFile(path);
      if (status.size > maxBytes)
        throw new OciError('BAD_IMAGE', `${quote(path.join('/'))} has more than ${maxBytes} bytes`);
      return readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  });
}

async function openBelow(root: number, path: readonly string[]): Promise<FileHandle> {
  // The check is made on a descriptor, which the handle then opens again through /proc: never a link or a fifo.
  const fd = walk(root, path, (last) => openSync(last, FILE_FLAGS));
  try {
    if (!fstatSync(fd).isFile()) throw notAFile(path);
    return await open(`/proc/self/fd/${fd}`, O_RDONLY);
  } finally {
    closeSync(fd);
  }
}

function notAFile(path: readonly string[]): OciError {
  return new OciError('BAD_IMAGE', `${quote(path.join('/'))} in the layout is not a regular file`);
}

async function* readBlob(
  handle: FileHandle,
  offset: number,
  end: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    for (let position = offset; position < end; ) {
      signal?.throwIfAborted();
      const length = Math.min(READ_BYTES, end - position);
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(length), 0, length, position);
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}
