/**
 * Logging in to a registry: credentials are tried before they are kept, so that what is kept has worked once.
 */
import { OciError, quote } from '../oci/errors.ts';
import { formatRegistry, type RegistryPlace } from '../oci/reference.ts';
import { type AuthFilePlace, type Kept, storeCredentials } from './auth-file.ts';
import { tlsOptionsFor } from './certificates.ts';
import { openRegistryClient } from './client.ts';
import type { Timeouts } from './http.ts';
import { loadRegistriesConf } from './load-registries-conf.ts';
import { isInsecureHost } from './registries-conf.ts';
import type { RetryPolicy } from './retry.ts';

export interface LoginOptions extends AuthFilePlace {
  readonly certDir?: string | undefined;
  /** false: certificates are not checked, and plain http is tried where https fails. */
  readonly tlsVerify?: boolean | undefined;
  readonly timeouts?: Timeouts | undefined;
  readonly retry?: RetryPolicy | undefined;
  notice(message: string): void;
}

/** The credentials are for `host`, or for a namespace of it alone. Throws DENIED where the registry refuses the credentials. */
export async function login(
  place: RegistryPlace,
  credentials: { readonly username: string; readonly password: string },
  options: LoginOptions,
): Promise<Kept> {
  const { host } = place;
  const { username, password } = credentials;
  if (username === '' || /[:\x00-\x1f\x7f]/.test(username))
    throw new OciError('USAGE', `${quote(username)} cannot be a user name`, {
      hint: 'Give --username a name without a colon.',
    });
  if (password === '')
    throw new OciError('USAGE', 'the password is empty', { hint: 'Give one, or a token instead of it.' });
  const conf = loadRegistriesConf(options);
  const insecure = options.tlsVerify === false || isInsecureHost(host, conf);
  const client = openRegistryClient({
    host,
    schemes: insecure ? ['https', 'http'] : ['https'],
    tlsFor: tlsOptionsFor(host, !insecure, options),
    credentials: async () => ({ kind: 'basic', username, password }),
    env: options.env,
    notice: options.notice,
    timeouts: options.timeouts,
    retry: options.retry,
  });
  try {
    const asked = await client.ping();
    if (!asked) options.notice(`${host} asked for no credentials: they are kept without having been tried`);
  } catch (error) {
    if (!(error instanceof OciError) || error.code !== 'DENIED') throw error;
    throw new OciError('DENIED', `${quote(host)} refuses the credentials of ${quote(username)}`, {
      hint: 'Check the user name and the password; some registries want a token instead of it.',
      ...(error.detail === undefined ? {} : { detail: error.detail }),
      cause: error,
    });
  } finally {
    await client.close();
  }
  return storeCredentials(formatRegistry(place), credentials, {
    ...options,
    credentialHelpers: conf.credentialHelpers,
  });
}
