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
  if (name.domain !== undefined) return [withDefaultTag({ ...name, domain: name.domain })];
  const alias = findAlias(name, conf);
  if (alias !== undefined) return [withDefaultTag(alias)];
  if (conf.searchRegistries.length > 0)
    return conf.searchRegistries.map((host) => withDefaultTag(atDomain(name, searchHost(host))));
  const rule = conf.ociRegistryRule(DEFAULT_OCI_REGISTRY);
  const reference = rule && applyOciRegistry(rule, name);
  if (reference) return [withDefaultTag(reference)];
  throw new OciError(
    'USAGE',
    `the short name ${quote(name.path)} names no registry, and none is configured`,
    {
      hint: `Write the registry too, for example docker.io/${name.path}, or set unqualified-search-registries in registries.conf.`,
    },
  );
}

export function findAlias(name: TypedName, conf: RegistriesConf): Reference | undefined {
  const alias = conf.aliases.get(name.path);
  if (alias === undefined) {
    const rule = conf.ociRegistryRule(ociRegistryFileName(name.path));
    return rule && applyOciRegistry(rule, name);
  }
  const target = parseName(alias.target);
  if (target.domain === undefined || target.tag !== undefined || target.digest !== undefined)
    throw new OciError(
      'CONFIG',
      `${quote(alias.path)}: alias ${quote(name.path)} is not a full name without tag`,
    );
  return { ...name, domain: target.domain, path: target.path };
}

/** A host in unqualified-search-registries. Throws CONFIG. */
export function searchHost(host: string): string {
  try {
    return parseDomain(host);
  } catch {
    throw new OciError('CONFIG', `registries.conf: the search registry ${quote(host)} is not a host`);
  }
}
