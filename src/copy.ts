/**
 * The story of a copy into or out of a running container.
 *
 * Invariants
 * - The container is only looked at from outside, by its main process's root: no program of it is run.
 * - Out of a container nothing gets an owner or a set-id bit of its choice: files belong to who copies them. Into a
 *   container they belong to its user. `archive` keeps the ids, as the container counts them; a tar stream always
 *   does.
 */
import { readFileSync } from 'node:fs';
import { showBytes, toByteString } from './archive/byte-string.ts';
import type { TarEntry } from './archive/tar-entry.ts';
import { createTarParser } from './archive/tar-parser.ts';
import { createTarWriter } from './archive/tar-writer.ts';
import { type ContainerRecord, requirePid } from './containers.ts';
import { containerEnd, type End, hostEnd } from './copy/ends.ts';
import { type IdMap, parseIdMap } from './copy/id-map.ts';
import { readTree } from './copy/read-tree.ts';
import { createTreeWriter, type Target, type TreeWriter } from './copy/write-tree.ts';
import { withFileIds } from './host/fs-ids.ts';
import {
  AT_FDCWD,
  check,
  close,
  errno,
  type FileStat,
  O_DIRECTORY,
  O_PATH,
  openat,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  statAt,
} from './host/syscalls.ts';
import { OciError, quote } from './oci/errors.ts';
import type { Manager } from './systemd/manager.ts';

export interface CopyRequest {
  container: ContainerRecord;
  direction: 'in' | 'out';
  /** `-` on the host's side is a tar stream. */
  source: string;
  destination: string;
  /** Keep the owners. */
  archive: boolean;
  /** The streams of `-`. */
  input: AsyncIterable<Uint8Array>;
  write(bytes: Buffer): void;
}

/** How many devices, fifos, sockets and files of the kernel were left out. */
export async function copyFiles(request: CopyRequest, manager: Manager): Promise<number> {
  const { container, direction } = request;
  const pid = await requirePid(container, manager);
  const root = check(openat(AT_FDCWD, `/proc/${pid}/root`, O_PATH | O_DIRECTORY), 'open', 'the root');
  try {
    const view: View = {
      end: containerEnd(root),
      uids: parseIdMap(readFileSync(`/proc/${pid}/uid_map`, 'utf8')),
      gids: parseIdMap(readFileSync(`/proc/${pid}/gid_map`, 'utf8')),
    };
    // its number may have become another's before the root was open
    if ((await requirePid(container, manager)) !== pid)
      throw new OciError('UNAVAILABLE', `container ${quote(container.unit)} was started anew meanwhile`, {
        hint: 'Try it again.',
      });
    return await (direction === 'in' ? copyIn(request, view) : copyOut(request, view));
  } finally {
    close(root);
  }
}

/** A container's files and ids, as the host sees them. */
interface View {
  end: End;
  uids: IdMap;
  gids: IdMap;
}

/** What the container shows for ids that it does not know. */
const OVERFLOW_ID = 65534;

type ReadIds = (stat: FileStat) => { uid: number; gid: number };

const hostIds: ReadIds = ({ uid, gid }) => ({ uid, gid });

function insideIds({ uids, gids }: View): ReadIds {
  return ({ uid, gid }) => ({
    uid: uids.toInside(uid) ?? OVERFLOW_ID,
    gid: gids.toInside(gid) ?? OVERFLOW_ID,
  });
}

function copyIn(
  { container, source, destination, archive, input }: CopyRequest,
  view: View,
): Promise<number> | number {
  const user = container.spec.process.user;
  const target: TargetRules = {
    owner: (entry) => ownerInside(archive || source === '-' ? entry : { ...entry, ...user }, view),
    mayWriteIn: (uid) => view.uids.toInside(uid) !== undefined,
    modeMask: archive || source === '-' ? 0o7777 : 0o777,
    makes: asRootInside(view),
  };
  return source === '-'
    ? unpack(input, view.end, destination, target)
    : copyTree(hostEnd, source, hostIds, view.end, destination, target);
}

function copyOut({ source, destination, archive, write }: CopyRequest, view: View): number {
  if (destination === '-') return pack(view.end, source, insideIds(view), write);
  const me = { uid: process.geteuid!(), gid: process.getegid!() };
  return copyTree(view.end, source, insideIds(view), hostEnd, destination, {
    owner: ({ uid, gid }) => (archive ? { uid, gid } : me),
    mayWriteIn: () => true,
    modeMask: 0o777,
    makes: (work) => work(),
  });
}

/** Volumes take files of the container's own ids only. */
function asRootInside({ uids, gids }: View): TargetRules['makes'] {
  const uid = uids.toHost(0);
  const gid = gids.toHost(0);
  if (uid === undefined || gid === undefined) return (work) => work();
  return (work) => withFileIds(uid, gid, work);
}

function ownerInside({ uid, gid, path }: TarEntry, { uids, gids }: View): { uid: number; gid: number } {
  const owner = { uid: uids.toHost(uid), gid: gids.toHost(gid) };
  if (owner.uid !== undefined && owner.gid !== undefined) return owner as { uid: number; gid: number };
  throw new OciError(
    'UNSUPPORTED',
    `the owner ${uid}:${gid} of ${showBytes(path)} does not exist in the container`,
    {
      hint: 'Copy without --archive: the files then belong to the user of the container.',
    },
  );
}

function pack(from: End, source: string, ids: ReadIds, write: (bytes: Buffer) => void): number {
  const opened = openSource(from, source);
  try {
    const tar = createTarWriter(write);
    const { leftOut } = readTree(opened.fd, opened.name, ids, tar);
    tar.finish();
    return leftOut;
  } finally {
    close(opened.fd);
  }
}

async function unpack(
  input: AsyncIterable<Uint8Array>,
  to: End,
  destination: string,
  rules: TargetRules,
): Promise<number> {
  const path = toByteString(destination);
  const fd = to.open(path, O_PATH | O_DIRECTORY);
  if (fd < 0) throw notFound(destination, 'is no directory');
  const writer = openWriter(to, path, fd, rules);
  try {
    const parser = createTarParser(writer);
    for await (const chunk of input) parser.push(chunk);
    parser.end();
    writer.finish();
    return writer.leftOut;
  } catch (error) {
    throw error instanceof OciError && error.code === 'BAD_ARCHIVE' ? badStream(error) : error;
  } finally {
    writer.close();
    close(fd);
  }
}

/** The archive is not an image's, of which the parser speaks. */
function badStream(error: OciError): OciError {
  return new OciError(error.code, error.message, {
    hint: 'Pass a whole tar stream, as tar -c makes it.',
    cause: error,
  });
}

interface TargetRules extends Omit<Target, 'directory'> {
  /** Has the work done by whom the files are made. */
  makes<Result>(work: () => Result): Result;
}

function openWriter(to: End, path: string, fd: number, { makes, ...rules }: TargetRules): TreeWriter {
  const writer = createTreeWriter({ ...rules, directory: (below) => to.directoryBelow(path, fd, below) });
  return {
    get leftOut() {
      return writer.leftOut;
    },
    entry: (entry) => makes(() => writer.entry(entry)),
    data: (bytes, offset) => makes(() => writer.data(bytes, offset)),
    end: () => makes(() => writer.end()),
    finish: () => makes(() => writer.finish()),
    close: () => makes(() => writer.close()),
  };
}

function copyTree(
  from: End,
  source: string,
  ids: ReadIds,
  to: End,
  destination: string,
  rules: TargetRules,
): number {
  const opened = openSource(from, source);
  try {
    const { path, fd, name } = openDestination(to, destination, opened);
    const writer = openWriter(to, path, fd, rules);
    try {
      const { leftOut } = readTree(opened.fd, name, ids, writer);
      writer.finish();
      return leftOut;
    } finally {
      writer.close();
      close(fd);
    }
  } finally {
    close(opened.fd);
  }
}

interface Source {
  fd: number;
  /** Its own name; empty where only what is in it is meant: `DIR/.`, the root. */
  name: string;
  isDirectory: boolean;
}

function openSource(end: End, typed: string): Source {
  const path = toByteString(typed);
  const fd = end.open(path, O_PATH);
  if (fd < 0) throw notFound(typed, 'does not exist');
  const stat = statAt(fd, '');
  const type = typeof stat === 'number' ? 0 : stat.mode & S_IFMT;
  if (type !== S_IFDIR && type !== S_IFREG) {
    close(fd);
    throw new OciError('UNSUPPORTED', `${quote(typed)} is neither a file nor a directory`, {
      hint: 'Name a file or a directory.',
    });
  }
  const last = path.endsWith('/.') ? '' : lastName(path);
  return { fd, name: last === '.' || last === '..' ? '' : last, isDirectory: type === S_IFDIR };
}

/** As cp(1) and podman-cp(1): into a directory that is there, else in the place of what is named. */
function openDestination(
  end: End,
  typed: string,
  source: Source,
): { path: string; fd: number; name: string } {
  const path = toByteString(typed);
  const fd = end.open(path, O_PATH | O_DIRECTORY);
  if (fd >= 0) return { path, fd, name: source.name };
  if (fd === -errno.ENOTDIR && source.isDirectory)
    throw new OciError('EXISTS', `${quote(typed)} is no directory`, {
      hint: 'Name a directory, or a new name.',
    });
  if (path.endsWith('/') && !source.isDirectory) throw notFound(typed, 'is no directory');
  const trimmed = path.replace(/\/+$/, '');
  const parent = trimmed.includes('/') ? trimmed.slice(0, trimmed.lastIndexOf('/') + 1) : '.';
  const name = lastName(path);
  const parentFd = name === '' || name === '..' ? -1 : end.open(parent, O_PATH | O_DIRECTORY);
  if (parentFd < 0) throw notFound(typed, 'is in no directory that exists');
  return { path: parent, fd: parentFd, name };
}

function lastName(path: string): string {
  return path.replace(/\/+$/, '').split('/').at(-1)!;
}

function notFound(typed: string, what: string): OciError {
  return new OciError('INPUT_NOT_FOUND', `${quote(typed)} ${what}`, { hint: 'Check the path.' });
}
