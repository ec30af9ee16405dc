/**
 * Entries of a layer → objects and records: the composefs counterpart of tree-writer.ts. Nothing here depends on the
 * layers below; composefs/merge-layers.ts decides the rest.
 */
import { ENTRIES_MAX, splitPath, whiteoutOf } from '../archive/layer-path.ts';
import { storedXattr } from '../archive/layer-xattrs.ts';
import { Refusal } from '../archive/refusal.ts';
import type { TarEntry } from '../archive/tar-entry.ts';
import type { TarHandler } from '../archive/tar-parser.ts';
import { INLINE_MAX_BYTES, type Inode, type LayerRecord } from '../composefs/inode.ts';
import type { ObjectStage, ObjectWriter, StoredContent } from './objects.ts';

export const NO_CONTENT: StoredContent = { inline: Buffer.alloc(0) };

export interface StreamWriter extends TarHandler {
  /** `content`: of a file whose content is here, so that no data comes for it. */
  entry(entry: TarEntry, content?: StoredContent): void;
  /** Counted so far: tar entries, and bytes of file content. */
  readonly entries: number;
  readonly sizeBytes: number;
  close(): void;
}

/** All xattrs of a file, names and values: as much as an image can hold beside those that composefs adds. */
const XATTRS_MAX_BYTES = 65_535;

export function createStreamWriter(objects: ObjectStage, add: (record: LayerRecord) => void): StreamWriter {
  let entries = 0;
  let sizeBytes = 0;
  /** The file being read. */
  let file: { entry: TarEntry; path: string; writer: ObjectWriter | undefined; inline: Buffer } | undefined;

  function inodeOf(entry: TarEntry, content: Partial<Inode>): Inode {
    const { type, mode, uid, gid, mtime, deviceMajor, deviceMinor } = entry;
    if (type === 'hardLink') throw new TypeError('a hard link is no inode');
    return {
      type,
      mode: type === 'symlink' ? 0o777 : mode,
      uid,
      gid,
      mtime,
      size: 0,
      object: undefined,
      inline: undefined,
      target: type === 'symlink' ? entry.linkPath : '',
      deviceMajor,
      deviceMinor,
      xattrs: xattrsOf(entry),
      ...content,
    };
  }

  function check({ type, linkPath, deviceMajor, deviceMinor }: TarEntry): void {
    if (type === 'symlink' && linkPath === '') throw new Refusal('a symlink without a target');
    if (type === 'characterDevice' && deviceMajor === 0 && deviceMinor === 0)
      throw new Refusal('a character device 0:0, which is a whiteout to overlayfs');
  }

  return {
    get entries() {
      return entries;
    },
    get sizeBytes() {
      return sizeBytes;
    },
    entry(entry, known) {
      if (++entries > ENTRIES_MAX) throw new Refusal(`the layer has more than ${ENTRIES_MAX} entries`);
      const names = splitPath(entry.path);
      const path = names.join('/');
      const whiteout = whiteoutOf(names);
      if (names.length === 0 && entry.type !== 'directory')
        throw new Refusal(`the root of a layer cannot be a ${entry.type}`);
      if (whiteout !== undefined) {
        const parent = names.slice(0, -1);
        if (whiteout.kind === 'name') add({ kind: 'whiteout', path: [...parent, whiteout.hidden].join('/') });
        else if (whiteout.kind === 'opaque') add({ kind: 'opaque', path: parent.join('/') });
      } else if (entry.type === 'hardLink') {
        if (splitPath(entry.linkPath).length === 0) throw new Refusal('a hard link to a directory');
        add({ kind: 'hardLink', path, target: entry.linkPath });
      } else if (entry.type === 'file' && known !== undefined) {
        sizeBytes += entry.size;
        const content = entry.size === 0 ? {} : known;
        add({ kind: 'inode', path, inode: inodeOf(entry, { size: entry.size, ...content }) });
      } else if (entry.type === 'file') {
        const { size, sparse } = entry;
        const writer = size > INLINE_MAX_BYTES ? objects.create({ size, sparse }) : undefined;
        file = { entry, path, writer, inline: Buffer.alloc(writer === undefined ? size : 0) };
      } else {
        check(entry);
        add({ kind: 'inode', path, inode: inodeOf(entry, {}) });
      }
    },
    data(bytes, offset) {
      if (file === undefined) return; // the content of a whiteout
      if (file.writer !== undefined) file.writer.write(bytes, offset);
      else bytes.copy(file.inline, offset);
      sizeBytes += bytes.length;
    },
    end() {
      if (file === undefined) return;
      const { entry, path, writer, inline } = file;
      const { size } = entry;
      if (writer === undefined && size > 0) objects.remember(inline);
      const content =
        writer === undefined
          ? { size, inline: size === 0 ? undefined : inline }
          : { size, object: writer.finish(size) };
      file = undefined;
      add({ kind: 'inode', path, inode: inodeOf(entry, content) });
    },
    close() {
      file?.writer?.abort();
      file = undefined;
    },
  };
}

/** Ids are the container's own: the same image has the same digest everywhere. */
function xattrsOf({ type, xattrs }: TarEntry): Map<string, Buffer> | undefined {
  if (xattrs === undefined) return undefined;
  const stored = new Map<string, Buffer>();
  let bytes = 0;
  for (const [name, value] of xattrs) {
    const kept = storedXattr(name, value, type, 0);
    if (kept === undefined) continue;
    stored.set(name, kept);
    bytes += name.length + kept.length;
  }
  if (bytes > XATTRS_MAX_BYTES) throw new Refusal(`xattrs of ${bytes} bytes, more than ${XATTRS_MAX_BYTES}`);
  return stored.size === 0 ? undefined : stored;
}
