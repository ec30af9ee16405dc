/**
 * The files of an image in a tar archive, plain or compressed as a whole by gzip or zstd.
 *
 * Invariant: only a regular file is read, and never unpacked: members are read where they lie. A compressed archive
 * goes in one pass into a temporary file that has no name, so that nothing is left of it however we end.
 */
import { randomBytes } from 'node:crypto';
import { constants, writeSync } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createDecompressor, sniffCompression } from '../archive/decompress.ts';
import { OciError, quote } from '../oci/errors.ts';
import { ARCHIVE_UNPACKED_MAX_BYTES } from '../oci/limits.ts';
import { createArchiveIndexer, type FindMember } from './archive-index.ts';
import type { FilePart, ImageFiles } from './image-files.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
const READ_BYTES = 64 * 1024;
const UNPACK_READ_BYTES = 1024 * 1024;
const HEAD_BYTES = 8;
const ZEROS = Buffer.alloc(256 * 1024);

/** `env` gives TMPDIR. Throws INPUT_NOT_FOUND, UNSUPPORTED for other compressions, BAD_ARCHIVE. */
export async function openArchiveFiles(path: string, env: NodeJS.ProcessEnv): Promise<ImageFiles> {
  let handle = await openRegular(path);
  try {
    const { size } = await handle.stat();
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0);
    const compression = sniffCompression(head.subarray(0, bytesRead));
    let find: FindMember;
    if (compression === undefined) find = await index(handle, size);
    else if (compression === 'gzip' || compression === 'zstd') {
      const packed = handle;
      const directory = env['TMPDIR'] || '/var/tmp';
      handle = await openTemporary(directory);
      try {
        find = await unpack(packed, compression, handle, directory);
      } finally {
        await packed.close();
      }
    } else
      throw new OciError('UNSUPPORTED', `the archive ${quote(path)} is compressed by ${compression}`, {
        hint: `Unpack it first, with ${compression} -dk.`,
      });
    return archiveFiles(path, handle, find);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function archiveFiles(path: string, handle: FileHandle, find: FindMember): ImageFiles {
  return {
    kind: 'archive',
    place: path,
    has: (name) => find(name) !== undefined,
    async open(name): Promise<FilePart> {
      const member = find(name);
      if (member === undefined)
        throw new OciError('BAD_IMAGE', `the archive has no ${quote(name)}`, {
          hint: 'Save the image again: the archive is not complete.',
        });
      return { handle, start: member.start, size: member.size, close: async () => {} };
    },
    close: () => handle.close(),
  };
}

async function openRegular(path: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    throw new OciError(
      'INPUT_NOT_FOUND',
      `cannot open the archive ${quote(path)}: ${(error as NodeJS.ErrnoException).code}`,
      { hint: 'Check the path. The first colon in it begins the tag.', cause: error },
    );
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new OciError('INPUT_NOT_FOUND', `${quote(path)} is not a regular file`, {
    hint: 'Save the archive into a file first; a layout directory is oci:DIR.',
  });
}

async function index(handle: FileHandle, size: number): Promise<FindMember> {
  const indexer = createArchiveIndexer();
  const buffer = Buffer.alloc(READ_BYTES);
  for (let position = 0; position < size && !indexer.ended; ) {
    let bytes = buffer;
    if (indexer.contentLeft > size - position) break; // a claim beyond the end of the file
    if (indexer.contentLeft < READ_BYTES) {
      const { bytesRead } = await handle.read(buffer, 0, READ_BYTES, position);
      if (bytesRead === 0) break;
      bytes = buffer.subarray(0, bytesRead);
    }
    indexer.push(bytes);
    position += bytes.length;
  }
  return indexer.finish();
}

/** A new file that only we have. */
async function openTemporary(directory: string): Promise<FileHandle> {
  const path = join(directory, `.ocictl-${randomBytes(12).toString('hex')}`);
  try {
    const handle = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    await unlink(path);
    return handle;
  } catch (error) {
    throw cannotUnpack(directory, error);
  }
}

/** Unpacks up to the tar's end. Zeros become holes, so that a bomb of zeros takes no space. */
async function unpack(
  packed: FileHandle,
  compression: 'gzip' | 'zstd',
  unpacked: FileHandle,
  directory: string,
): Promise<FindMember> {
  const indexer = createArchiveIndexer();
  let unpackedBytes = 0;
  const write = (piece: Buffer) => {
    if (indexer.ended) return;
    indexer.push(piece);
    if (unpackedBytes + piece.length > ARCHIVE_UNPACKED_MAX_BYTES)
      throw new OciError(
        'BAD_ARCHIVE',
        `the archive unpacks to more than ${ARCHIVE_UNPACKED_MAX_BYTES} bytes`,
        {
          hint: 'Save fewer images into one archive.',
        },
      );
    if (ZEROS.compare(piece, 0, piece.length, 0, piece.length) !== 0)
      writeAll(unpacked.fd, piece, unpackedBytes);
    unpackedBytes += piece.length;
  };
  const decompressor = createDecompressor(compression, (piece) => {
    try {
      write(piece);
    } catch (error) {
      throw error instanceof OciError ? error : cannotUnpack(directory, error);
    }
  });
  try {
    const buffer = Buffer.alloc(UNPACK_READ_BYTES);
    for (let position = 0; !indexer.ended; ) {
      const { bytesRead } = await packed.read(buffer, 0, UNPACK_READ_BYTES, position);
      position += bytesRead;
      if (bytesRead > 0) await decompressor.write(buffer.subarray(0, bytesRead));
      else {
        await decompressor.end();
        break;
      }
    }
    await unpacked.truncate(unpackedBytes); // also where it ends with a hole
    return indexer.finish();
  } finally {
    decompressor.close();
  }
}

function writeAll(fd: number, piece: Buffer, position: number): void {
  for (let done = 0; done < piece.length; )
    done += writeSync(fd, piece, done, piece.length - done, position + done);
}

function cannotUnpack(directory: string, error: unknown): OciError {
  const { code } = error as NodeJS.ErrnoException;
  return new OciError('IO_ERROR', `cannot unpack the archive into ${quote(directory)}: ${code}`, {
    hint: 'Free some space there, or set TMPDIR to a directory that has it.',
    cause: error,
  });
}
