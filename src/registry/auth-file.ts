/**
 * Writing credentials: into the file that podman writes, or through the helper that this file or
 * registries.conf names.
 *
 * Invariant: the file is replaced as a whole, by a rename of a new file (0600, synced) beside it, under a kernel lock
 * on its directory; keys that we do not know stay. A crash leaves the old file, and at most a hidden new one.
 */
import { mkdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { replaceFile } from '../host/files.ts';
import { lockDirectory, type Waiting } from '../host/lock.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import { DOCKER_HUB } from '../oci/reference.ts';
import { eraseFromHelper, listOfHelper, storeInHelper } from './credential-helper.ts';
import {
  AUTH_FILE_MAX_BYTES,
  type AuthFile,
  DOCKER_HUB_KEY,
  findHelper,
  hostOfKey,
  parseAuthFile,
  serverOf,
} from './credentials.ts';
import { AUTH_FILES } from './registries-conf.ts';
import { readSmallFile } from './small-file.ts';

export interface AuthFilePlace {
  /** --authfile. */
  readonly authfile?: string | undefined;
  /** Of registries.conf. Default: the files alone. */
  readonly credentialHelpers?: readonly string[] | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Put before /run, for tests. */
  readonly root: string;
  readonly waiting?: Waiting;
}

interface UserPassword {
  readonly username: string;
  readonly password: string;
}

/** Where credentials are: in a file, by a helper that the file names, or by one of registries.conf (no path). */
export interface Kept {
  readonly path: string | undefined;
  readonly helper: string | undefined;
}

/** `--authfile`, $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, /run/containers/UID/auth.json. */
export function authFilePath({ authfile, env, root }: AuthFilePlace): string {
  const named = authfile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) return resolve(named);
  const runtime = env['XDG_RUNTIME_DIR'] || join(root, '/run/containers', String(process.getuid!()));
  return env['XDG_RUNTIME_DIR'] ? join(runtime, 'containers/auth.json') : join(runtime, 'auth.json');
}

/** Replaces what is known for `key`: a host, or a namespace of it, which only files can keep. */
export async function storeCredentials(
  key: string,
  credentials: UserPassword,
  place: AuthFilePlace,
): Promise<Kept> {
  const helper = helpersOf(place).find((name) => name === AUTH_FILES || !isNamespace(key));
  if (helper === undefined)
    throw new OciError(
      'UNSUPPORTED',
      `credential helpers keep no credentials of a namespace, as ${quote(key)} is`,
      {
        hint: `Log in to ${hostOf(key)}, or add ${AUTH_FILES} to credential-helpers in registries.conf.`,
      },
    );
  if (helper === AUTH_FILES) return storeInFile(key, credentials, place);
  // Where it fails, no other place may get the password: that one may be less safe.
  await storeInHelper(helper, serverOf(key), credentials, place.env);
  return { path: undefined, helper };
}

function storeInFile(key: string, credentials: UserPassword, place: AuthFilePlace): Promise<Kept> {
  return edit(place, async (auths, file) => {
    const entry = {
      auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64'),
    };
    const hostHelper = findHelper(file, hostOf(key));
    if (isNamespace(key)) {
      if (hostHelper !== undefined)
        throw new OciError(
          'UNSUPPORTED',
          `docker-credential-${hostHelper} keeps the credentials of ${quote(hostOf(key))}, and knows no namespaces`,
          { hint: `Log in to ${hostOf(key)}, or take it out of credHelpers in ${file.path}.` },
        );
      auths[key] = entry;
      return { path: file.path, helper: undefined };
    }
    const helper = hostHelper ?? file.credsStore;
    const hubKey = key === DOCKER_HUB && Object.hasOwn(auths, DOCKER_HUB_KEY) ? DOCKER_HUB_KEY : key;
    forget(auths, key);
    if (helper === undefined) auths[hubKey] = entry;
    else await storeInHelper(helper, serverOf(key), credentials, place.env);
    return { path: file.path, helper };
  });
}

/** From everywhere where storeCredentials() could have put them. Empty where nobody knew the key. */
export async function eraseCredentials(key: string, place: AuthFilePlace): Promise<Kept[]> {
  const erased: Kept[] = [];
  for (const helper of helpersOf(place)) {
    if (helper === AUTH_FILES) erased.push(...(await eraseInFile(key, place)));
    else if (!isNamespace(key) && (await eraseFromHelper(helper, serverOf(key), place.env)))
      erased.push({ path: undefined, helper });
  }
  return erased;
}

function eraseInFile(key: string, place: AuthFilePlace): Promise<Kept[]> {
  return edit(place, async (auths, file) => {
    const helper = isNamespace(key) ? undefined : (findHelper(file, key) ?? file.credsStore);
    const erased = helper !== undefined && (await eraseFromHelper(helper, serverOf(key), place.env));
    const forgotten = forget(auths, key);
    return erased || forgotten ? [{ path: file.path, helper: erased ? helper : undefined }] : [];
  });
}

/** All that `eraseCredentials()` could erase; the keys of what is gone, in the words of its place. */
export async function eraseAllCredentials(place: AuthFilePlace): Promise<string[]> {
  const erased: string[] = [];
  const erase = async (helper: string, servers: readonly string[]) => {
    for (const server of servers) if (await eraseFromHelper(helper, server, place.env)) erased.push(server);
  };
  for (const helper of helpersOf(place)) {
    if (helper !== AUTH_FILES) await erase(helper, await listOfHelper(helper, place.env));
    else
      await edit(place, async (auths, file) => {
        for (const [host, hostHelper] of file.credHelpers) await erase(hostHelper, [serverOf(host)]);
        if (file.credsStore !== undefined)
          await erase(file.credsStore, await listOfHelper(file.credsStore, place.env));
        for (const key of Object.keys(auths)) {
          delete auths[key];
          erased.push(key);
        }
      });
  }
  return [...new Set(erased)].sort();
}

function helpersOf({ credentialHelpers }: AuthFilePlace): readonly string[] {
  return credentialHelpers ?? [AUTH_FILES];
}

function isNamespace(key: string): boolean {
  return key.includes('/');
}

function hostOf(key: string): string {
  return key.split('/', 1)[0]!;
}

function forget(auths: Record<string, unknown>, key: string): boolean {
  const keys = Object.keys(auths).filter((known) => known === key || hostOfKey(known) === key);
  for (const known of keys) delete auths[known];
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
  const status = statSync(path, { throwIfNoEntry: false });
  if (status?.isFile() === false)
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
  if (JSON.stringify(document) !== before) {
    // what root changes for a user stays the user's
    const owner = process.geteuid!() === 0 ? status : undefined;
    replaceFile(path, `${JSON.stringify(document, null, '\t')}\n`, 0o600, owner);
  }
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
