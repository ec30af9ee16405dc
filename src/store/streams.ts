/**
 * What a layer's tar says, kept by its diffID: so a layer that is here is never fetched again, whatever lies below it.
 *
 * A stream is records (composefs/layer-record.ts) in pieces, each a length of 4 bytes and so many bytes of zstd; the last
 * line is `E` and a StreamRecord as JSON, with the digest of all lines before. Invariant: streams/<hex> exists only
 * complete and durable, and after all its objects.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { LayerRecord } from '../composefs/inode.ts';
import { formatRecord, parseRecord } from '../composefs/layer-record.ts';
import { listDirectory } from '../host/files.ts';
import { type DiffID, type Digest, digestHex } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { Layout } from './layout.ts';
import { problemOf } from './problem.ts';

/**
 * A layer's diffID, or `toc:` and the digest of its table of contents, where that alone vouches for it: such a layer is
 * never found by its diffID (chunked-layer.ts).
 */
export type StreamKey = DiffID | `toc:${string}`;

export interface StreamRecord {
  readonly diffID?: DiffID;
  /** Digest of the table that vouches for it, instead of a diffID. */
  readonly toc?: Digest;
  /** Bytes of file content, not compressed. */
  readonly sizeBytes: number;
  readonly entries: number;
  /** Digest of all records, as text. */
  readonly records: Digest;
}

export interface StreamFile {
  add(record: LayerRecord): void;
  finish(facts: Omit<StreamRecord, 'records'>): void;
  close(): void;
}

const PIECE_CHARS = 1 << 20;
/** A piece ends after the record that fills it: one of that length is refused when it is read, and never written. */
const PIECE_MAX_BYTES = 64 << 20;

export function streamsDirectory({ root }: Pick<Layout, 'root'>): string {
  return join(root, 'streams');
}

/** By what the layer of an image is kept. */
export function streamKey({ diffID, toc }: { readonly diffID: DiffID; readonly toc?: Digest }): StreamKey {
  return toc === undefined ? diffID : `toc:${digestHex(toc)}`;
}

/** The entry of streams/. */
export function streamFileName(key: StreamKey): string {
  return key.startsWith('toc:') ? key.replace(':', '-') : digestHex(key as DiffID);
}

export function streamPath(layout: Pick<Layout, 'root'>, key: StreamKey): string {
  return join(streamsDirectory(layout), streamFileName(key));
}

export function hasStream(layout: Pick<Layout, 'root'>, key: StreamKey): boolean {
  return existsSync(streamPath(layout, key));
}

export function listStreams(layout: Pick<Layout, 'root'>): string[] {
  return listDirectory(streamsDirectory(layout));
}

export function createStreamFile(path: string): StreamFile {
  const fd = openSync(path, 'wx', 0o600);
  const hash = createHash('sha256');
  let text = '';
  let open = true;
  const flush = () => {
    const piece = zstdCompressSync(Buffer.from(text, 'latin1'));
    const framed = Buffer.concat([Buffer.alloc(4), piece]);
    framed.writeUInt32LE(piece.length);
    for (let at = 0; at < framed.length; ) at += writeSync(fd, framed, at);
    text = '';
  };
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  return {
    close,
    add(record) {
      const line = formatRecord(record);
      hash.update(line, 'latin1');
      text += line;
      if (text.length >= PIECE_CHARS) flush();
    },
    finish(facts) {
      const records = `sha256:${hash.digest('hex')}` as Digest;
      text += `E ${JSON.stringify({ ...facts, records })}\n`;
      flush();
      close();
    },
  };
}

/** Every record; throws IO_ERROR when the stream is damaged, at its end at the latest. */
export function* readStream(path: string): Generator<LayerRecord, StreamRecord> {
  const hash = createHash('sha256');
  for (const line of lines(path)) {
    try {
      if (line.startsWith('E ')) {
        const record = JSON.parse(line.slice(2)) as StreamRecord;
        if (record.records !== `sha256:${hash.digest('hex')}`) throw new Error('its digest is another');
        return record;
      }
      hash.update(`${line}\n`, 'latin1');
      yield parseRecord(line);
    } catch (error) {
      if (error instanceof OciError) throw error;
      throw damaged(path, error);
    }
  }
  throw damaged(path, new Error('it is cut short'));
}

function* lines(path: string): Generator<string> {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (error) {
    throw damaged(path, error);
  }
  for (let at = 0; at < file.length; ) {
    let text: string;
    let next: number;
    try {
      next = at + 4 + file.readUInt32LE(at);
      text = zstdDecompressSync(file.subarray(at + 4, next), { maxOutputLength: PIECE_MAX_BYTES }).toString(
        'latin1',
      );
    } catch (error) {
      throw damaged(path, error);
    }
    yield* text.slice(0, -1).split('\n');
    at = next;
  }
}

function damaged(path: string, cause: unknown): OciError {
  return new OciError('IO_ERROR', `the stored layer ${quote(path)} is damaged: ${problemOf(cause)}`, {
    hint: 'Repair it: ocictl fsck --repair',
    cause,
  });
}
