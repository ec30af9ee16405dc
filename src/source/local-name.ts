/**
 * Which names in the store a typed name may mean, without asking anybody.
 *
 * Invariant: the order is that of a pull, so that a name means the same image before and after it; `localhost/`
 * (what was named here, without a registry) comes last.
 */
import {
  atDomain,
  DOCKER_HUB,
  formatReference,
  parseName,
  parseReference,
  type Reference,
  withDefaultTag,
} from '../oci/reference.ts';
import { applyOciRegistry, DEFAULT_OCI_REGISTRY } from '../registry/oci-registry.ts';
import type { RegistriesConf } from '../registry/registries-conf.ts';
import { findAlias, searchHost } from '../registry/short-name.ts';

/** Full references, best first: `fedora` → registry.fedoraproject.org/fedora:latest, …, localhost/fedora:latest. */
export function candidateNames(typed: string, conf: RegistriesConf): string[] {
  const transport = 'docker://';
  const name = typed.startsWith(transport) ? parseReference(typed.slice(transport.length)) : parseName(typed);
  const rule = name.domain === undefined ? conf.ociRegistryRule(DEFAULT_OCI_REGISTRY) : undefined;
  const references: (Reference | undefined)[] =
    name.domain !== undefined
      ? [{ ...name, domain: name.domain }]
      : [
          findAlias(name, conf),
          ...conf.searchRegistries.map((host) => atDomain(name, searchHost(host))),
          rule && applyOciRegistry(rule, name),
          atDomain(name, DOCKER_HUB),
          atDomain(name, 'localhost'),
        ];
  return [
    ...new Set(references.flatMap((r) => (r === undefined ? [] : [formatReference(withDefaultTag(r))]))),
  ];
}
