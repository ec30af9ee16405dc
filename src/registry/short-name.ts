/**
 * Short names: from `fedora` to full references, by the aliases and search lists of the configuration. Pure.
 *
 * Invariant: an alias decides alone; without one the search registries are candidates in their order. A name with a
 * host is never changed.
 */
import { OciError, quote } from '../oci/errors.ts';
import {
  atDomain,
  parseDomain,
  parseName,
  type Reference,
  type TypedName,
  withDefaultTag,
} from '../oci/reference.ts';
import { applyOciRegistry, DEFAULT_OCI_REGISTRY, ociRegistryFileName } from './oci-registry.ts';
import type { RegistriesConf } from './registries-conf.ts';

/**
 * The references to try, with a tag or digest each. Order: aliases of registries.conf and its drop-ins, systemd's
 * file for the image; else unqualified-search-registries; else systemd's default. Throws USAGE where nothing fits.
 */
export function resolveShortName(name: TypedName, conf: RegistriesConf): Reference[] {
  if (name.domain !== undefined) return [withTag({ ...name, domain: name.domain }, conf)];
  const alias = findAlias(name, conf);
  if (alias !== undefined) return [withTag(alias, conf)];
  if (conf.searchRegistries.length > 0)
    return conf.searchRegistries.map((host) => withTag(atDomain(name, searchHost(host)), conf));
  const rule = conf.ociRegistryRule(DEFAULT_OCI_REGISTRY);
  const reference = rule && applyOciRegistry(rule, name);
  if (reference) return [withTag(reference, conf)];
  throw new OciError(
    'USAGE',
    `the short name ${quote(name.path)} names no registry, and none is configured`,
    {
      hint: `Write the registry too, for example docker.io/${name.path}, or set unqualified-search-registries in registries.conf.`,
    },
  );
}

/** A reference that has neither tag nor digest gets the tag that is usual at its registry. */
export function withTag(reference: Reference, conf: RegistriesConf): Reference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference;
  const rule = conf.ociRegistryRule(ociRegistryFileName('registry', reference.domain));
  const tag = rule && applyOciRegistry(rule, reference)?.tag;
  return withDefaultTag(tag === undefined ? reference : { ...reference, tag });
}

export function findAlias(name: TypedName, conf: RegistriesConf): Reference | undefined {
  const alias = conf.aliases.get(name.path);
  if (alias === undefined) {
    const rule = conf.ociRegistryRule(ociRegistryFileName('image', name.path));
    return rule && applyOciRegistry(rule, name);
  }
  const target = parseName(alias.target);
  if (target.domain === undefined || target.tag !== undefined || target.digest !== undefined)
    throw new OciError(
      'CONFIG',
      `${quote(alias.path)}: alias ${quote(name.path)} is not a full name without tag`,
      { hint: `Write it as ${name.path} = "registry.example/path".` },
    );
  return { ...name, domain: target.domain, path: target.path };
}

/** A host in unqualified-search-registries. Throws CONFIG. */
export function searchHost(host: string): string {
  try {
    return parseDomain(host);
  } catch {
    throw new OciError('CONFIG', `registries.conf: the search registry ${quote(host)} is not a host`, {
      hint: 'Write host or host:port in unqualified-search-registries.',
    });
  }
}
