/**
 * A layer that is here as a stream → its tree, without its blob: the counterpart of applyLayer().
 *
 * Invariant: what comes of it is, but for holes in files, what applyLayer() makes of the layer's tar. A stream has all of the
 * tar that a tree depends on, in its order, and was verified by the diffID when it was stored. Now its records are by their
 * digest, and content by that of the object it is in.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { atEntry, refusing } from '../archive/refusal.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import type { Inode, LayerRecord } from '../composefs/inode.ts';
import { createVerityHash } from '../composefs/verity-digest.ts';
import type { AppliedLayer, ApplyOptions } from './apply-layer.ts';
import { dataOf, holeBytes, type ObjectPaths, objectPath } from './objects.ts';
import { readStream } from './streams.ts';
import { createTreeWriter, type TreeWriter } from './tree-writer.ts';

/** May cross a thread boundary. */
export interface UnpackOptions extends Pick<ApplyOptions, 'treeDir' | 'idBase' | 'bottom'> {
  /** The file of the stream. */
  readonly path: string;
  readonly objects: ObjectPaths;
}

/** Of what is stored, not of what is being written. */
class Damage extends Error {}

/**
 * undefined where the stream or one of its objects is missing or damaged: what is in `treeDir` is then worth nothing.
 * Throws OciError: BAD_ARCHIVE, IO_ERROR.
 */
export function unpackStream({ path, objects, ...options }: UnpackOptions): AppliedLayer | undefined {
  const writer = createTreeWriter(options.treeDir, options);
  try {
    const records = readStream(path);
    let next = reading(() => records.next());
    for (; !next.done; next = reading(() => records.next())) {
      const entry = entryOf(next.value);
      const inode = next.value.kind === 'inode' ? next.value.inode : undefined;
      refusing(
        () => atEntry(entry.path),
        () => (inode?.type === 'file' ? writeFile(writer, entry, inode, objects) : writer.entry(entry)),
      );
    }
    const { sizeBytes, entries } = next.value;
    return { unsettled: writer.finish(), sizeBytes, entries, sums: writer.sums };
  } catch (error) {
    if (error instanceof Damage) return undefined;
    throw error;
  } finally {
    writer.close();
  }
}

function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new Damage('it cannot be read', { cause });
  }
}

const WHITEOUT: Omit<TarEntry, 'path'> = {
  ...{ type: 'file', linkPath: '', mode: 0, uid: 0, gid: 0, size: 0, sparse: false },
  ...{ mtime: { seconds: 0, nanoseconds: 0 }, deviceMajor: 0, deviceMinor: 0, xattrs: undefined },
};

/** What the tar said, as far as it matters. */
function entryOf(record: LayerRecord): TarEntry {
  const { kind, path } = record;
  if (kind === 'inode') return { ...record.inode, path, linkPath: record.inode.target, sparse: false };
  if (kind === 'hardLink') return { ...WHITEOUT, type: 'hardLink', path, linkPath: record.target };
  if (kind === 'opaque') return { ...WHITEOUT, path: `${path}/.wh..wh..opq` };
  const name = path.lastIndexOf('/') + 1;
  return { ...WHITEOUT, path: `${path.slice(0, name)}.wh.${path.slice(name)}` };
}

function writeFile(writer: TreeWriter, entry: TarEntry, inode: Inode, objects: ObjectPaths): void {
  const { object, inline } = inode;
  if (object !== undefined) {
    writeObject(writer, entry, objectPath(objects, object), object);
    return;
  }
  writer.entry(entry);
  if (inline !== undefined) writer.data(inline, 0);
  writer.end();
}

function writeObject(writer: TreeWriter, entry: TarEntry, path: string, digest: string): void {
  const fd = reading(() => openSync(path, 'r'));
  try {
    const stat = fstatSync(fd);
    if (stat.size !== entry.size) throw new Damage('it has another size');
    writer.entry({ ...entry, sparse: holeBytes(stat) > 0 });
    const verity = createVerityHash();
    const pieces = dataOf(fd, entry.size);
    let end = 0;
    for (let next = reading(() => pieces.next()); !next.done; next = reading(() => pieces.next())) {
      const { bytes, offset } = next.value;
      verity.skip(offset - end);
      verity.update(bytes);
      writer.data(bytes, offset);
      end = offset + bytes.length;
    }
    verity.skip(entry.size - end);
    if (verity.digest() !== digest) throw new Damage('it has another digest');
    writer.end();
  } finally {
    closeSync(fd);
  }
}
