/**
 * Authentication towards one repository of one registry: from the challenge of a 401 to the Authorization header
 * (distribution "token authentication"; Basic; OAuth2 refresh with an identity token).
 *
 * Where credentials go. They belong to the registry's own origin, and to the token server that this origin names
 * in a challenge: every client works so (Docker Hub's is on another host), and it gives the registry nothing it
 * could not take, since it could ask for the same credentials itself by Basic. It holds only if nobody else can
 * write the challenge, therefore: the challenge must come from the registry's origin and not from a redirect's
 * target (client.ts), the realm must be https unless plain http is allowed for this very registry, and a realm is
 * never followed through a redirect with its credentials (request.ts drops them).
 *
 * Invariant: at most one token request at a time; no secret in a message.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import { TOKEN_RESPONSE_MAX_BYTES } from '../oci/limits.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { isHtml, portalError, redactUrl, statusError } from './http-errors.ts';
import type { Send, SentResponse } from './request.ts';

export interface Authenticator {
  /** The Authorization header to send now, if any. */
  header(): string | undefined;
  /**
   * Answers the challenges of a response to a request that carried `used`. After it, header() gives something to
   * try once more; throws DENIED where there is nothing to try.
   */
  renew(challenges: string | string[] | undefined, used: string | undefined): Promise<void>;
}

const CLIENT_ID = 'ocictl';

export function createAuthenticator(options: {
  /** As the user knows the registry, for messages. */
  host: string;
  /** `repository:NAME:pull` or nothing, asked for where the challenge names no scope. */
  scope: string;
  plainHttpAllowed: boolean;
  /** Asked at the first challenge only: a credential helper is a slow program. */
  credentials(): Promise<Credentials | undefined>;
  send: Send;
}): Authenticator {
  const { host, send } = options;
  let current: string | undefined;
  let renewal: Promise<void> | undefined;
  let credentials: Promise<Credentials | undefined> | undefined;

  async function obtain(header: string | string[] | undefined): Promise<void> {
    const challenges = parseChallenges(header);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const basic = challenges.find(({ scheme }) => scheme === 'basic');
    credentials ??= options.credentials();
    const known = await credentials;
    if (bearer) current = `Bearer ${await fetchToken(bearer, known)}`;
    else if (basic && known?.kind === 'basic') current = basicHeader(known);
    else if (basic)
      throw denied(host, known === undefined ? 'asks for credentials' : 'takes no identity token');
    else throw denied(host, 'refuses the request and names no way to authenticate');
  }

  async function fetchToken(challenge: Challenge, known: Credentials | undefined): Promise<string> {
    const realm = parseRealm(challenge.params.get('realm'), host, options.plainHttpAllowed);
    const service = challenge.params.get('service');
    const scope = challenge.params.get('scope') || options.scope;
    let response: SentResponse;
    if (known?.kind === 'identity') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: CLIENT_ID,
        ...(scope === '' ? {} : { scope }),
        refresh_token: known.token,
        ...(service === undefined ? {} : { service }),
      });
      const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
      response = await send(
        { method: 'POST', url: realm, headers, body: form.toString() },
        TOKEN_RESPONSE_MAX_BYTES,
      );
    } else {
      if (service !== undefined) realm.searchParams.set('service', service);
      for (const one of scope.split(' ')) if (one !== '') realm.searchParams.append('scope', one);
      const authorization = known === undefined ? {} : { authorization: basicHeader(known) };
      const headers = { accept: 'application/json', ...authorization };
      response = await send({ method: 'GET', url: realm, headers }, TOKEN_RESPONSE_MAX_BYTES);
    }
    const what = `token from ${redactUrl(realm)}`;
    if (response.status !== 200) throw await statusError(response, what, host, known !== undefined);
    if (isHtml(response)) throw portalError(response, what);
    if (response.document === undefined) throw new OciError('PROTOCOL', `${what}: the answer is too long`);
    return readToken(response.document, what);
  }

  return {
    header: () => current,
    async renew(challenges, used) {
      if (current !== used) return; // another request has renewed it meanwhile
      renewal ??= obtain(challenges).finally(() => {
        renewal = undefined;
      });
      await renewal;
    },
  };
}

function readToken(body: Uint8Array, what: string): string {
  const document = parseJson(body, TOKEN_RESPONSE_MAX_BYTES, what, 'PROTOCOL') as Record<
    string,
    unknown
  > | null;
  const token = document?.['token'] || document?.['access_token'];
  // Visible ASCII only: it goes into a header.
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
    throw new OciError('PROTOCOL', `${what}: the answer has no usable token`);
  return token;
}

function parseRealm(text: string | undefined, host: string, plainHttpAllowed: boolean): URL {
  const url = text === undefined ? null : URL.parse(text);
  const allowed = url?.protocol === 'https:' || (url?.protocol === 'http:' && plainHttpAllowed);
  if (url === null || !allowed || url.username !== '' || url.password !== '')
    throw new OciError(
      'PROTOCOL',
      `refusing the token server ${quote(text ?? '')} that ${quote(host)} names`,
      {
        hint: 'Tell the registry: its authentication realm must be an https URL.',
      },
    );
  return url;
}

function basicHeader({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function denied(host: string, what: string): OciError {
  return new OciError('DENIED', `${quote(host)} ${what}`, { hint: `Run: ocictl login ${host}` });
}
