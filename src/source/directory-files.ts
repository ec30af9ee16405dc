/**
 * The files of an image in a directory.
 *
 * Invariant: the directory itself may be a link, nothing below it may: every step is opened by O_NOFOLLOW from the
 * directory before, and only regular files are read, so that a foreign layout shows us no file outside it and
 * blocks on no fifo.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { OciError, quote } from '../oci/errors.ts';
import type { FilePart, ImageFiles } from './image-files.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Throws INPUT_NOT_FOUND where there is no such directory. */
export function openDirectoryFiles(directory: string): ImageFiles {
  const root = openRoot(directory);
  let closed = false;
  return {
    kind: 'layout',
    place: directory,
    has(path) {
      try {
        closeSync(walk(root, path));
        return true;
      } catch {
        return false;
      }
    },
    async open(path): Promise<FilePart> {
      const fd = walk(root, path);
      try {
        const status = fstatSync(fd);
        if (!status.isFile()) throw badFile(`${quote(path)} in the layout is not a regular file`);
        // The check was made on a descriptor, which the handle now opens again through /proc: never a link or a fifo.
        const handle = await open(`/proc/self/fd/${fd}`, O_RDONLY);
        return { handle, start: 0, size: status.size, close: () => handle.close() };
      } finally {
        closeSync(fd);
      }
    },
    async close() {
      if (!closed) closeSync(root);
      closed = true;
    },
  };
}

function openRoot(directory: string): number {
  try {
    return openSync(directory, O_RDONLY | O_DIRECTORY);
  } catch (error) {
    throw new OciError(
      'INPUT_NOT_FOUND',
      `cannot open the layout ${quote(directory)}: ${(error as NodeJS.ErrnoException).code}`,
      { hint: 'Check the path: it must be a directory with an oci-layout file.', cause: error },
    );
  }
}

/** A descriptor of what lies at `path`, of any kind. */
function walk(root: number, path: string): number {
  const names = path.split('/');
  if (names.some((name) => name === '' || name === '.' || name === '..' || name.includes('\0')))
    throw badFile(`${quote(path)} is not a path in a layout`);
  let at = root;
  try {
    for (const [i, name] of names.entries()) {
      const flags = O_RDONLY | O_NOFOLLOW | (i < names.length - 1 ? O_DIRECTORY : O_NONBLOCK);
      const next = openSync(`/proc/self/fd/${at}/${name}`, flags);
      if (at !== root) closeSync(at);
      at = next;
    }
    return at;
  } catch (error) {
    if (at !== root) closeSync(at);
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw badFile(`the layout has no ${quote(path)}`, error);
    if (code === 'ELOOP' || code === 'ENOTDIR' || code === 'ENXIO')
      throw badFile(`${quote(path)} in the layout is a link or not what it should be`, error);
    throw new OciError('IO_ERROR', `cannot read ${quote(path)} in the layout: ${code}`, {
      hint: 'Check the permissions of its files and the disk.',
      cause: error,
    });
  }
}

function badFile(message: string, cause?: unknown): OciError {
  return new OciError('BAD_IMAGE', message, { hint: 'Copy the image again from where it came from.', cause });
}
