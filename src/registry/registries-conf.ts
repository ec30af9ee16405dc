/**
 * containers-registries.conf(5), version 2: grammar, merging of drop-ins, and what it says of one reference. Pure.
 *
 * Invariant: the longest prefix wins, whole components only; a mirror or a rewritten location is a registry of its
 * own, with its own credentials, certificates and insecure flag.
 */
import { parse as parseToml } from 'smol-toml';
import { escapeControl, OciError, quote } from '../oci/errors.ts';
import { atDomain, parseDomain, parsePath, type Reference, repositoryName } from '../oci/reference.ts';
import { applyOciRegistry, type OciRegistryRule, ociRegistryFileName } from './oci-registry.ts';

export interface Mirror {
  readonly location: string;
  readonly insecure: boolean;
  readonly pullFromMirror: 'all' | 'digest-only' | 'tag-only';
}

export interface RegistryRule {
  readonly prefix: string;
  /** Replaces the prefix; undefined (only with a `*.` prefix) leaves the reference as it is. */
  readonly location: string | undefined;
  readonly insecure: boolean;
  readonly blocked: boolean;
  readonly mirrors: readonly Mirror[];
}

/** One file. */
export interface RegistriesFile {
  readonly path: string;
  readonly searchRegistries: readonly string[] | undefined;
  readonly credentialHelpers: readonly string[] | undefined;
  readonly registries: readonly RegistryRule[];
  readonly aliases: ReadonlyMap<string, string>;
}

export interface RegistriesConf {
  /** unqualified-search-registries. */
  readonly searchRegistries: readonly string[];
  /** Where credentials are, in order: suffixes of docker-credential-*, and AUTH_FILES for the files. */
  readonly credentialHelpers: readonly string[];
  readonly registries: readonly RegistryRule[];
  /** Short name → full name, with the file it is from. */
  readonly aliases: ReadonlyMap<string, { readonly target: string; readonly path: string }>;
  /** The rule in systemd's file of that name (`registry.docker.io.oci-registry`), if there is one. */
  ociRegistryRule(fileName: string): OciRegistryRule | undefined;
}

/** Stands for the files of containers-auth.json(5) in credential-helpers. */
export const AUTH_FILES = 'containers-auth.json';

export function parseRegistriesConf(text: string, path: string): RegistriesFile {
  const fail = (what: string, hint?: string) =>
    new OciError('CONFIG', `${quote(path)}: ${what}`, hint === undefined ? {} : { hint });
  let document: Record<string, unknown>;
  try {
    document = parseToml(text);
  } catch (error) {
    throw new OciError('CONFIG', `${quote(path)} is not valid TOML`, {
      detail: escapeControl((error as Error).message.split('\n', 1)[0]!),
      cause: error,
    });
  }
  if (document['registries'] !== undefined)
    throw fail(
      'this is version 1 of the format',
      'Write it as version 2: see containers-registries.conf(5).',
    );

  const table = (value: unknown, what: string): Record<string, unknown> => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw fail(`${what} is not a table`);
    return value as Record<string, unknown>;
  };
  const list = (value: unknown, what: string): unknown[] => {
    if (value !== undefined && !Array.isArray(value)) throw fail(`${what} is not an array`);
    return value ?? [];
  };
  const string = (value: unknown, what: string): string => {
    if (value !== undefined && typeof value !== 'string') throw fail(`${what} is not a string`);
    return (value ?? '').replace(/\/+$/, '');
  };
  const flag = (value: unknown, what: string): boolean => {
    if (value !== undefined && typeof value !== 'boolean') throw fail(`${what} is not true or false`);
    return value ?? false;
  };

  function readRule(value: unknown): RegistryRule {
    const rule = table(value, 'registry');
    const location = string(rule['location'], 'location') || undefined;
    const prefix = string(rule['prefix'], 'prefix') || location;
    if (prefix === undefined) throw fail('a registry has neither prefix nor location');
    const byDigest = flag(rule['mirror-by-digest-only'], 'mirror-by-digest-only');
    return {
      prefix,
      location,
      insecure: flag(rule['insecure'], 'insecure'),
      blocked: flag(rule['blocked'], 'blocked'),
      mirrors: list(rule['mirror'], 'mirror').map((mirror) =>
        readMirror(table(mirror, 'mirror'), prefix, byDigest),
      ),
    };
  }

  function readMirror(mirror: Record<string, unknown>, prefix: string, byDigest: boolean): Mirror {
    const location = string(mirror['location'], 'mirror location');
    if (location === '') throw fail(`a mirror of ${quote(prefix)} has no location`);
    const pull = string(mirror['pull-from-mirror'], 'pull-from-mirror') || (byDigest ? 'digest-only' : 'all');
    if (pull !== 'all' && pull !== 'digest-only' && pull !== 'tag-only')
      throw fail(`pull-from-mirror is ${quote(pull)}`, 'Write all, digest-only or tag-only.');
    return { location, insecure: flag(mirror['insecure'], 'mirror insecure'), pullFromMirror: pull };
  }

  const strings = (key: string, what: string): string[] | undefined =>
    document[key] === undefined ? undefined : list(document[key], key).map((item) => string(item, what));
  const aliases = table(document['aliases'] ?? {}, 'aliases');
  return {
    path,
    searchRegistries: strings('unqualified-search-registries', 'a search registry'),
    credentialHelpers: strings('credential-helpers', 'a credential helper'),
    registries: list(document['registry'], 'registry').map(readRule),
    aliases: new Map(
      Object.entries(aliases).map(([name, target]) => [name, string(target, `alias ${quote(name)}`)]),
    ),
  };
}

/** Later files win: their lists replace, a registry of the same prefix replaces, an empty alias removes. */
export function mergeRegistriesConf(
  files: readonly RegistriesFile[],
  ociRegistryRule: RegistriesConf['ociRegistryRule'] = () => undefined,
): RegistriesConf {
  let searchRegistries: readonly string[] = [];
  let credentialHelpers: readonly string[] = [AUTH_FILES];
  const registries = new Map<string, RegistryRule>();
  const aliases = new Map<string, { target: string; path: string }>();
  for (const file of files) {
    searchRegistries = file.searchRegistries ?? searchRegistries;
    if (file.credentialHelpers?.length) credentialHelpers = file.credentialHelpers;
    for (const rule of file.registries) registries.set(rule.prefix, rule);
    for (const [name, target] of file.aliases) {
      if (target === '') aliases.delete(name);
      else aliases.set(name, { target, path: file.path });
    }
  }
  return {
    searchRegistries,
    credentialHelpers,
    registries: [...registries.values()],
    aliases,
    ociRegistryRule,
  };
}

/** One place to ask for a repository. */
export interface Endpoint {
  /** `host[:port]` as configured: the key of its credentials and certificates. */
  readonly host: string;
  readonly repository: string;
  /** Certificates are not checked, and plain http is tried where https fails. */
  readonly insecure: boolean;
  readonly isMirror: boolean;
}

/** Where to ask for a reference, in order: its mirrors, then the registry itself. Throws DENIED where blocked. */
export function endpointsFor(reference: Reference, conf: RegistriesConf): Endpoint[] {
  const rule = findRule(reference, conf.registries);
  const name = repositoryName(reference);
  if (rule === undefined) {
    const file = conf.ociRegistryRule(ociRegistryFileName('registry', reference.domain));
    const { domain, path } = (file && applyOciRegistry(file, reference)) ?? reference;
    return [{ host: domain, repository: path, insecure: false, isMirror: false }];
  }
  if (rule.blocked)
    throw new OciError('DENIED', `${quote(name)} is blocked in registries.conf`, {
      hint: `Change blocked=true of the prefix ${rule.prefix} if you want it.`,
    });
  const matched = rule.prefix.startsWith('*.')
    ? reference.domain + rule.prefix.slice(wildcardHost(rule.prefix).length + 2)
    : withoutTag(rule.prefix);
  const at = (location: string | undefined, insecure: boolean, isMirror: boolean) => ({
    ...splitLocation(location === undefined ? name : location + name.slice(matched.length)),
    insecure,
    isMirror,
  });
  const kind = reference.digest === undefined ? 'tag-only' : 'digest-only';
  const mirrors = rule.mirrors.filter(
    ({ pullFromMirror }) => pullFromMirror === 'all' || pullFromMirror === kind,
  );
  const own = rule.location === undefined || rule.location === rule.prefix ? undefined : rule.location;
  return [
    ...mirrors.map((mirror) => at(mirror.location, mirror.insecure, true)),
    at(own, rule.insecure, false),
  ];
}

/** Whether the configuration lets this physical host, a registry's or a mirror's, go without certificates. */
export function isInsecureHost(host: string, conf: RegistriesConf): boolean {
  return conf.registries
    .flatMap(({ location, prefix, insecure, mirrors }) => [
      { location: location ?? prefix, insecure },
      ...mirrors,
    ])
    .some(({ location, insecure }) => insecure && location.split('/', 1)[0] === host);
}

function findRule(reference: Reference, rules: readonly RegistryRule[]): RegistryRule | undefined {
  let best: RegistryRule | undefined;
  for (const rule of rules)
    if (prefixMatches(rule.prefix, reference) && (best === undefined || isLonger(rule.prefix, best.prefix)))
      best = rule;
  return best;
}

/** A prefix with a plain host is more exact than any wildcard. */
function isLonger(a: string, b: string): boolean {
  const wild = Number(b.startsWith('*.')) - Number(a.startsWith('*.'));
  return wild === 0 ? a.length > b.length : wild > 0;
}

function prefixMatches(prefix: string, reference: Reference): boolean {
  if (prefix.startsWith('*.')) {
    const host = wildcardHost(prefix);
    const path = prefix.slice(host.length + 2);
    return reference.domain.endsWith(`.${host}`) && startsWhole(`/${reference.path}`, path);
  }
  const name = repositoryName(reference);
  return (
    startsWhole(name, prefix) ||
    (reference.tag !== undefined && prefix === `${name}:${reference.tag}`) ||
    (reference.digest !== undefined && prefix === `${name}@${reference.digest}`)
  );
}

/** `example.com` of `*.example.com/ns`. */
function wildcardHost(prefix: string): string {
  return prefix.slice(2).split('/', 1)[0]!;
}

/** Whole components: `host/ns` does not begin `host/nsx`, and `host` does not begin `host:5000`. */
function startsWhole(name: string, prefix: string): boolean {
  return prefix === '' || name === prefix || name.startsWith(`${prefix}/`);
}

/** A prefix may name one tag or digest; the part that a location replaces is the name before it. */
function withoutTag(prefix: string): string {
  const slash = prefix.indexOf('/');
  return slash < 0 ? prefix : prefix.slice(0, slash) + prefix.slice(slash).replace(/[:@].*$/, '');
}

function splitLocation(location: string): { host: string; repository: string } {
  const slash = location.indexOf('/');
  try {
    const host = parseDomain(slash < 0 ? location : location.slice(0, slash));
    const { domain, path } = atDomain({ path: parsePath(location.slice(slash + 1)) }, host);
    return { host: domain, repository: path };
  } catch (error) {
    throw new OciError(
      'CONFIG',
      `registries.conf leads to ${quote(location)}: ${(error as OciError).message}`,
      {
        hint: 'Correct the location in registries.conf: host[:port][/path].',
      },
    );
  }
}
