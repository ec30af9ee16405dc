/**
 * Credentials in containers-auth.json(5) and Docker's config.json and .dockercfg. Pure: text in, entries out.
 *
 * Invariant: what is found for a key belongs to that registry (or repository) and to no other; a file that is not
 * what it should be is a CONFIG error that names the file and shows nothing of it.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import { DOCKER_HUB } from '../oci/reference.ts';

export type Credentials =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity'; readonly token: string };

export interface AuthFile {
  readonly path: string;
  readonly auths: ReadonlyMap<string, Credentials>;
  /** Registry → suffix of the program docker-credential-SUFFIX. */
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
}

export const AUTH_FILE_MAX_BYTES = 4 * 1024 * 1024;
/** The key under which docker keeps Docker Hub's credentials. */
export const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

/** `legacy` is .dockercfg: the map of registries is the document itself. */
export function parseAuthFile(bytes: Uint8Array, path: string, legacy = false): AuthFile {
  const what = `authentication file ${quote(path)}`;
  const document = asMap(parseJson(bytes, AUTH_FILE_MAX_BYTES, what, 'CONFIG'), what);
  const auths = new Map<string, Credentials>();
  for (const [key, entry] of Object.entries(asMap(legacy ? document : (document['auths'] ?? {}), what))) {
    const credentials = readEntry(asMap(entry ?? {}, what), what);
    if (credentials !== undefined) auths.set(key, credentials);
  }
  const helpers = legacy ? {} : asMap(document['credHelpers'] ?? {}, what);
  const store = legacy ? undefined : document['credsStore'];
  return {
    path,
    auths,
    credHelpers: new Map(Object.entries(helpers).map(([key, name]) => [key, String(name)])),
    credsStore: typeof store === 'string' && store !== '' ? store : undefined,
  };
}

function asMap(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new OciError('CONFIG', `${what} does not have the form of an auth.json`);
  return value as Record<string, unknown>;
}

/** undefined for the empty entries that docker leaves where a helper keeps the secret. */
function readEntry(entry: Record<string, unknown>, what: string): Credentials | undefined {
  const { auth, identitytoken, username, password } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '')
    return { kind: 'identity', token: identitytoken };
  if (typeof auth === 'string' && auth !== '') {
    // docker pads with NUL characters in some versions
    const pair = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const credentials = splitPair(pair);
    if (credentials === undefined)
      throw new OciError('CONFIG', `${what} has an entry that is not user:password`);
    return credentials;
  }
  if (typeof username === 'string' && username !== '' && typeof password === 'string')
    return { kind: 'basic', username, password };
  return undefined;
}

/** `user:password`; undefined without a user or a colon. */
export function splitPair(pair: string): Credentials | undefined {
  const colon = pair.indexOf(':');
  if (colon <= 0) return undefined;
  return { kind: 'basic', username: pair.slice(0, colon), password: pair.slice(colon + 1) };
}

/** `host/ns/name`, `host/ns`, `host`: the more exact comes first. */
export function credentialKeys(host: string, repository: string): string[] {
  const keys = [host];
  for (const part of repository.split('/')) keys.unshift(`${keys[0]}/${part}`);
  return keys;
}

/** The entry of `auths` for a repository; hosts match in the forms that older programs write, too. */
export function findAuth(file: AuthFile, host: string, repository: string): Credentials | undefined {
  for (const key of credentialKeys(host, repository)) {
    const found = file.auths.get(key);
    if (found) return found;
  }
  for (const [key, credentials] of file.auths) if (hostOfKey(key) === host) return credentials;
  return undefined;
}

export function findHelper(file: AuthFile, host: string): string | undefined {
  for (const [key, helper] of file.credHelpers) if (hostOfKey(key) === host) return helper;
  return undefined;
}

/** As helpers know a registry. */
export function serverOf(host: string): string {
  return host === DOCKER_HUB ? DOCKER_HUB_KEY : host;
}

/** The host of `https://host/v1/` or of plain `host`; undefined for a key with a namespace. */
export function hostOfKey(key: string): string | undefined {
  const match = /^(https?:\/\/)?([^/]+)(?:\/(.*))?$/.exec(key);
  if (!match) return undefined;
  const [, scheme, host, path] = match;
  if (scheme === undefined && path !== undefined && path !== '') return undefined;
  const lower = host!.toLowerCase();
  return lower === 'index.docker.io' || lower === 'registry-1.docker.io' ? DOCKER_HUB : lower;
}
