/**
 * Finds the credentials for a repository: the files of containers-auth.json(5) and docker, in order, and the
 * helpers they name.
 *
 * Invariant: a file that the user named must exist and is the only one asked; of the usual files the first that
 * knows the registry wins. Within a file: a helper for the host, then the entry, then the file's credsStore.
 * credential-helpers of registries.conf says which helpers come before and behind the files, if the files come at all.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { OciError, quote } from '../oci/errors.ts';
import { askHelper } from './credential-helper.ts';
import {
  AUTH_FILE_MAX_BYTES,
  type AuthFile,
  type Credentials,
  findAuth,
  findHelper,
  parseAuthFile,
  serverOf,
} from './credentials.ts';
import { AUTH_FILES } from './registries-conf.ts';
import { readSmallFile } from './small-file.ts';

export interface CredentialOptions {
  /** --authfile. */
  readonly authfile?: string | undefined;
  /** Of registries.conf. Default: the files alone. */
  readonly credentialHelpers?: readonly string[] | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Put before /run, for tests. */
  readonly root: string;
  /** A helper that cannot be asked is told here and passed over: it may be left from another program. */
  warn(message: string): void;
}

/** The systemd credential (LoadCredential=) that carries an auth.json to a unit. */
const AUTH_CREDENTIAL = 'oci.auth.json';

/** `host` is the physical one (where a mirror or a rewritten location really is), docker.io for Docker Hub. */
export async function findCredentials(
  host: string,
  repository: string,
  options: CredentialOptions,
): Promise<Credentials | undefined> {
  for (const helper of options.credentialHelpers ?? [AUTH_FILES]) {
    const found =
      helper === AUTH_FILES
        ? await findInFiles(host, repository, options)
        : await ask(helper, host, 'registries.conf', options);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function findInFiles(
  host: string,
  repository: string,
  options: CredentialOptions,
): Promise<Credentials | undefined> {
  for (const file of authFiles(options)) {
    const found = await findIn(file, host, repository, options);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The files that have, or whose helpers have, credentials for a registry as a whole, or for a namespace alone. */
export async function placesOfCredentials(key: string, options: CredentialOptions): Promise<string[]> {
  const places: string[] = [];
  for (const file of authFiles(options)) {
    const has = key.includes('/')
      ? file.auths.has(key)
      : (await findIn(file, key, '', options)) !== undefined;
    if (has) places.push(file.path);
  }
  return places;
}

async function findIn(
  file: AuthFile,
  host: string,
  repository: string,
  options: CredentialOptions,
): Promise<Credentials | undefined> {
  const helper = findHelper(file, host);
  return (
    (await ask(helper, host, quote(file.path), options)) ??
    findAuth(file, host, repository) ??
    (helper === undefined ? await ask(file.credsStore, host, quote(file.path), options) : undefined)
  );
}

async function ask(
  helper: string | undefined,
  host: string,
  namedBy: string,
  { env, warn }: CredentialOptions,
): Promise<Credentials | undefined> {
  if (helper === undefined) return undefined;
  try {
    return await askHelper(helper, serverOf(host), env);
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    warn(`${error.message} (a credential helper of ${namedBy})`);
    return undefined;
  }
}

function* authFiles({ authfile, env, root }: CredentialOptions): Generator<AuthFile> {
  const named = authfile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) {
    const bytes = readSmallFile(named, AUTH_FILE_MAX_BYTES);
    if (bytes === undefined)
      throw new OciError('INPUT_NOT_FOUND', `no authentication file ${quote(named)}`, {
        hint: 'Check --authfile and $REGISTRY_AUTH_FILE.',
      });
    yield parseAuthFile(bytes, named);
    return;
  }
  const home = env['HOME'] || homedir();
  const usual: (string | undefined)[] = [
    under(env['CREDENTIALS_DIRECTORY'], AUTH_CREDENTIAL),
    under(env['XDG_RUNTIME_DIR'], 'containers/auth.json'),
    join(root, '/run/containers', String(process.getuid?.() ?? 0), 'auth.json'),
    join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers/auth.json'),
    join(env['DOCKER_CONFIG'] || join(home, '.docker'), 'config.json'),
  ];
  for (const path of usual) {
    const bytes = path === undefined ? undefined : readSmallFile(path, AUTH_FILE_MAX_BYTES);
    if (bytes !== undefined && bytes.length > 0) yield parseAuthFile(bytes, path!);
  }
  const legacy = join(home, '.dockercfg');
  const bytes = readSmallFile(legacy, AUTH_FILE_MAX_BYTES);
  if (bytes !== undefined) yield parseAuthFile(bytes, legacy, true);
}

function under(directory: string | undefined, name: string): string | undefined {
  return directory ? join(directory, name) : undefined;
}
