/**
 * Where the members of a tar lie: one walk over its headers, which may pass over what is between them.
 *
 * Invariant: a path of the index leads to at most one stretch of the archive; links are resolved among the members,
 * never on this machine. Names that no image has (absolute, with `..`, long) are left out.
 */
import { toByteString } from '../archive/byte-string.ts';
import { createTarParser } from '../archive/tar-parser.ts';
import { OciError, quote } from '../oci/errors.ts';
import { ARCHIVE_MEMBERS_MAX } from '../oci/limits.ts';

export interface Member {
  /** Offset in the archive. */
  readonly start: number;
  readonly size: number;
}

/** Finds a member by its path; undefined where there is none. Throws BAD_IMAGE for one that must not be used. */
export type FindMember = (path: string) => Member | undefined;

export interface ArchiveIndexer {
  /** The next bytes of the archive. Throws BAD_ARCHIVE. */
  push(bytes: Buffer): void;
  /** So many of the next bytes are content, and need not be the right ones. */
  readonly contentLeft: number;
  /** What follows does not count. */
  readonly ended: boolean;
  /** Throws BAD_ARCHIVE where the archive is cut short. */
  finish(): FindMember;
}

type Node =
  | { readonly kind: 'file'; start: number; readonly size: number; readonly sparse: boolean }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'twice' };

/** The longest path of an image archive is `blobs/sha512/` and 128 digits. */
const NAME_MAX_BYTES = 255;
const LINKS_MAX = 8;

export function createArchiveIndexer(): ArchiveIndexer {
  const nodes = new Map<string, Node>();
  let members = 0;
  let position = 0; // of the bytes at hand
  let pushed: Uint8Array = Buffer.alloc(0);
  let file: (Node & { kind: 'file' }) | undefined;
  let contentLeft = 0;

  function add(path: string, node: Node): void {
    const name = path.replace(/^(\.\/+)+/, '').replace(/\/+$/, '');
    if (name.length > NAME_MAX_BYTES || name.split('/').some((part) => /^\.{0,2}$/.test(part))) return;
    nodes.set(name, nodes.has(name) ? { kind: 'twice' } : node);
  }

  const handler = {
    entry(entry: { type: string; path: string; linkPath: string; size: number; sparse: boolean }) {
      if (++members > ARCHIVE_MEMBERS_MAX)
        throw refused('BAD_ARCHIVE', `the archive has more than ${ARCHIVE_MEMBERS_MAX} members`);
      const { type, path, linkPath, size, sparse } = entry;
      if (type === 'file') {
        file = { kind: 'file', start: 0, size, sparse };
        // A sparse file stores less than it is long, so it is not passed over.
        contentLeft = sparse ? 0 : size;
        add(path, file);
      } else if (type === 'hardLink') add(path, { kind: 'link', target: linkPath });
      else if (type === 'symlink')
        add(path, { kind: 'link', target: linkPath.startsWith('/') ? linkPath : `${path}/../${linkPath}` });
    },
    data(bytes: Buffer, offset: number) {
      // The parser does not copy: where its bytes lie in ours is where they lie in the archive.
      if (offset === 0) file!.start = position + (bytes.byteOffset - pushed.byteOffset);
      contentLeft = Math.max(0, contentLeft - bytes.length);
    },
    end() {
      contentLeft = 0;
    },
  };
  // The archive's own ids mean nothing: whoever made it may be any user.
  const parser = createTarParser(handler, { idMax: Number.MAX_SAFE_INTEGER });

  return {
    push(bytes) {
      pushed = bytes;
      parser.push(bytes);
      position += bytes.length;
    },
    get contentLeft() {
      return contentLeft;
    },
    get ended() {
      return parser.ended;
    },
    finish() {
      parser.end();
      return (path) => find(nodes, path);
    },
  };
}

function find(nodes: ReadonlyMap<string, Node>, path: string): Member | undefined {
  let name = toByteString(path);
  for (let links = 0; links <= LINKS_MAX; links++) {
    const resolved = resolve(name);
    if (resolved === undefined) throw refused('BAD_IMAGE', `${quote(path)} leads out of the archive`);
    const node = nodes.get(resolved);
    if (node === undefined) return undefined;
    if (node.kind === 'twice') throw refused('BAD_IMAGE', `the archive has ${quote(path)} twice`);
    if (node.kind === 'file') {
      if (node.sparse) throw refused('BAD_IMAGE', `${quote(path)} is stored as a sparse file`);
      return node;
    }
    name = node.target;
  }
  throw refused('BAD_IMAGE', `${quote(path)} is behind more than ${LINKS_MAX} links`);
}

/** The path without `.` and `..`; undefined where it is absolute or leads above the root. */
function resolve(path: string): string | undefined {
  if (path.startsWith('/')) return undefined;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..' && parts.pop() === undefined) return undefined;
    if (part !== '' && part !== '.' && part !== '..') parts.push(part);
  }
  return parts.join('/');
}

function refused(code: 'BAD_ARCHIVE' | 'BAD_IMAGE', message: string): OciError {
  return new OciError(code, message, { hint: 'Save the image again, with a current tool.' });
}
