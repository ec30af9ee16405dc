/**
 * References: `[host[:port]/]path[:tag][@digest]` (distribution-spec "Pulling manifests"; the grammar that docker
 * and podman share).
 *
 * Invariant: a Reference has passed the grammar, so its parts may go into a URL path, a certs.d directory name or
 * (with `/` escaped) a file name: no part is empty, `.` or `..`, and no part has a control character.
 * Hosts are lower case, because DNS does not care and look-ups by string do.
 */
import { type Digest, parseDigest } from './digest.ts';
import { OciError, quote } from './errors.ts';

/** What the user typed, taken apart; without `domain` it is a short name. */
export interface TypedName {
  readonly domain?: string;
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** The parsed full name of an image. */
export interface Reference extends TypedName {
  readonly domain: string;
}

export const DOCKER_HUB = 'docker.io';

const NAME_MAX_CHARS = 255; // host and path together
const TEXT_MAX_CHARS = 600;

const DOMAIN =
  /^(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*(?::[0-9]{1,5})?$|^\[[0-9a-f:.]+\](?::[0-9]{1,5})?$/;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** `host[:port]` in lower case; throws USAGE. */
export function parseDomain(text: string): string {
  const domain = text.toLowerCase();
  if (text.length <= NAME_MAX_CHARS && DOMAIN.test(domain) && URL.canParse(`https://${domain}`))
    return domain;
  throw new OciError('USAGE', `${quote(text)} is not a registry host`, {
    hint: 'Write the registry as host or host:port, without a scheme.',
  });
}

/** The path of a repository, `ns/name`; throws USAGE. */
export function parsePath(text: string): string {
  if (text.length <= NAME_MAX_CHARS && text.split('/').every((part) => PATH_COMPONENT.test(part)))
    return text;
  const lower = text.toLowerCase();
  throw new OciError('USAGE', `${quote(text)} is not a repository name`, {
    hint:
      lower !== text && lower.split('/').every((part) => PATH_COMPONENT.test(part))
        ? `Write it in lower case: ${lower}`
        : 'Use lower-case letters and digits, with single dots, dashes and underscores between them.',
  });
}

export function parseTag(text: string): string {
  if (TAG.test(text)) return text;
  throw new OciError('USAGE', `${quote(text)} is not a tag`, {
    hint: 'Use at most 128 letters, digits, dots, dashes and underscores.',
  });
}

/** Takes a typed name apart without completing it. Throws USAGE. */
export function parseName(text: string): TypedName {
  if (text.length > TEXT_MAX_CHARS)
    throw new OciError('USAGE', `the image name ${quote(text)} is longer than ${TEXT_MAX_CHARS} characters`);
  const at = text.indexOf('@');
  const nameAndTag = at < 0 ? text : text.slice(0, at);
  const slash = nameAndTag.indexOf('/');
  const first = nameAndTag.slice(0, Math.max(slash, 0));
  const hasDomain = /[.:]/.test(first) || first.toLowerCase() === 'localhost';
  const domain = hasDomain ? canonicalDomain(parseDomain(first)) : undefined;
  const rest = hasDomain ? nameAndTag.slice(slash + 1) : nameAndTag;
  const colon = rest.indexOf(':');
  const path = parsePath(colon < 0 ? rest : rest.slice(0, colon));
  if ((domain?.length ?? 0) + path.length + 1 > NAME_MAX_CHARS)
    throw new OciError('USAGE', `${quote(text)} is longer than ${NAME_MAX_CHARS} characters`);
  return {
    ...(domain === undefined ? {} : { domain }),
    path: domain === DOCKER_HUB ? hubPath(path) : path,
    ...(colon < 0 ? {} : { tag: parseTag(rest.slice(colon + 1)) }),
    ...(at < 0 ? {} : { digest: typedDigest(text.slice(at + 1)) }),
  };
}

/** A full reference; a name without a host is Docker Hub's (as in `docker://fedora`). Throws USAGE. */
export function parseReference(text: string): Reference {
  return atDomain(parseName(text), DOCKER_HUB);
}

/** The name in the given registry, unless it names its own. */
export function atDomain(name: TypedName, domain: string): Reference {
  if (name.domain !== undefined) return { ...name, domain: name.domain };
  const canonical = canonicalDomain(domain);
  return { ...name, domain: canonical, path: canonical === DOCKER_HUB ? hubPath(name.path) : name.path };
}

export function withDefaultTag<T extends TypedName>(name: T): T {
  return name.tag === undefined && name.digest === undefined ? { ...name, tag: 'latest' } : name;
}

/** `domain/path` without tag and digest. */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${repositoryName(reference)}${tag}${digest}`;
}

/** Where the API of a registry is: Docker Hub's has a host of its own. */
export function apiHost(domain: string): string {
  return domain === DOCKER_HUB ? 'registry-1.docker.io' : domain;
}

/** A registry; or, with a path, a namespace or repository in it. */
export interface RegistryPlace {
  /** `host[:port]`, as references have it. */
  readonly host: string;
  readonly path: string | undefined;
}

export function formatRegistry({ host, path }: RegistryPlace): string {
  return path === undefined ? host : `${host}/${path}`;
}

/** What the user calls a registry or a part of one. Throws USAGE. */
export function parseRegistry(text: string): RegistryPlace {
  const slash = text.includes('://') ? -1 : text.indexOf('/');
  const host = canonicalDomain(parseDomain(slash < 0 ? text : text.slice(0, slash)));
  return { host, path: slash < 0 ? undefined : parsePath(text.slice(slash + 1)) };
}

function canonicalDomain(domain: string): string {
  return domain === 'index.docker.io' || domain === 'registry-1.docker.io' ? DOCKER_HUB : domain;
}

/** Docker Hub keeps the images without a namespace under `library/`. */
function hubPath(path: string): string {
  return path.includes('/') ? path : `library/${path}`;
}

function typedDigest(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (error) {
    throw new OciError('USAGE', (error as OciError).message, {
      hint: 'Write the digest as sha256: and 64 hex digits.',
    });
  }
}
