/**
 * Writing credentials: into the file that podman writes, or through the helper that this file names.
 *
 * Invariant: the file is replaced as a whole, by a rename of a new file (0600, synced) beside it, under a kernel lock
 * on its directory; keys that we do not know stay. A crash leaves the old file, and at most a hidden new one.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { lockDirectory, type Waiting } from '../host/lock.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import { DOCKER_HUB } from '../oci/reference.ts';
import { eraseFromHelper, storeInHelper } from './credential-helper.ts';
import {
  AUTH_FILE_MAX_BYTES,
  type AuthFile,
  DOCKER_HUB_KEY,
  findHelper,
  hostOfKey,
  parseAuthFile,
  serverOf,
} from './credentials.ts';
import { readSmallFile } from './small-file.ts';

export interface AuthFilePlace {
  /** --authfile. */
  readonly authfile?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Put before /run, for tests. */
  readonly root: string;
  readonly waiting?: Waiting;
}

/** Where the credentials are now: a file, or docker-credential-X. */
export interface Kept {
  readonly path: string;
  readonly helper: string | undefined;
}

/** `--authfile`, $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, /run/containers/UID/auth.json. */
export function authFilePath({ authfile, env, root }: AuthFilePlace): string {
  const named = authfile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) return resolve(named);
  const runtime = env['XDG_RUNTIME_DIR'] || join(root, '/run/containers', String(process.getuid!()));
  return env['XDG_RUNTIME_DIR'] ? join(runtime, 'containers/auth.json') : join(runtime, 'auth.json');
}

/** Replaces what is known for the host. */
export function storeCredentials(
  host: string,
  credentials: { username: string; password: string },
  place: AuthFilePlace,
): Promise<Kept> {
  return edit(place, async (auths, file) => {
    const helper = helperFor(file, host);
    const key = host === DOCKER_HUB && Object.hasOwn(auths, DOCKER_HUB_KEY) ? DOCKER_HUB_KEY : host;
    forget(auths, host);
    if (helper === undefined)
      auths[key] = {
        auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64'),
      };
    else await storeInHelper(helper, serverOf(host), credentials, place.env);
    return { path: file.path, helper };
  });
}

/** undefined where neither the file nor its helper knew the host. */
export function eraseCredentials(host: string, place: AuthFilePlace): Promise<Kept | undefined> {
  return edit(place, async (auths, file) => {
    const helper = helperFor(file, host);
    const erased = helper !== undefined && (await eraseFromHelper(helper, serverOf(host), place.env));
    const forgotten = forget(auths, host);
    return erased || forgotten ? { path: file.path, helper: erased ? helper : undefined } : undefined;
  });
}

function helperFor(file: AuthFile, host: string): string | undefined {
  return findHelper(file, host) ?? file.credsStore;
}

function forget(auths: Record<string, unknown>, host: string): boolean {
  const keys = Object.keys(auths).filter((key) => hostOfKey(key) === host);
  for (const key of keys) delete auths[key];
  return keys.length > 0;
}

/** Reads, changes and writes the file under the lock. */
async function edit<T>(
  place: AuthFilePlace,
  change: (auths: Record<string, unknown>, file: AuthFile) => Promise<T>,
): Promise<T> {
  const path = realPath(authFilePath(place));
  const directory = dirname(path);
  using _lock = await lockDirectory(directory, `the directory ${quote(directory)}`, place.waiting);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === false)
    throw new OciError('CONFIG', `${quote(path)} is not a regular file`, {
      hint: 'Name another --authfile.',
    });
  const found = readSmallFile(path, AUTH_FILE_MAX_BYTES);
  const bytes = found === undefined || found.length === 0 ? Buffer.from('{}') : found;
  const file = parseAuthFile(bytes, path);
  const document = parseJson(bytes, AUTH_FILE_MAX_BYTES, path, 'CONFIG') as Record<string, unknown>;
  const before = JSON.stringify(document);
  const auths = (document['auths'] ?? {}) as Record<string, unknown>;
  const result = await change(auths, file);
  if (Object.keys(auths).length > 0 || document['auths'] !== undefined) document['auths'] = auths;
  if (JSON.stringify(document) !== before) replaceFile(path, `${JSON.stringify(document, null, '\t')}\n`);
  return result;
}

/** Behind links, so that a link to a file kept elsewhere stays one. Makes the directory. */
function realPath(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return realpathSync(path);
  } catch {
    return join(realpathSync(dirname(path)), basename(path));
  }
}

function replaceFile(path: string, text: string): void {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(8).toString('hex')}`);
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_DIRECTORY } = constants;
  const fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    // What root changes for a user stays the user's.
    if (old !== undefined && process.geteuid!() === 0) fchownSync(fd, old.uid, old.gid);
    writeFileSync(fd, text);
    fsyncSync(fd);
    renameSync(temporary, path);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  } finally {
    closeSync(fd);
  }
  const directoryFd = openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    fsyncSync(directoryFd);
  } finally {
    closeSync(directoryFd);
  }
}
