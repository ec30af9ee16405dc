/**
 * Names in the store: which of them a typed name may mean, without asking anybody, and which an image on disk gets.
 *
 * Invariant: the order is that of a pull, so that a name means the same image before and after it; `localhost/`
 * (what was named here, without a registry) comes last.
 */
import { basename } from 'node:path';
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
import { findAlias, searchHost, withTag } from '../registry/short-name.ts';

/** Whether a typed name is a place on this machine, in the words of podman and skopeo, and so no name of an image. */
export function isPlace(name: string): boolean {
  return /^(oci|oci-archive|docker-archive|docker-daemon|containers-storage|dir):/.test(name);
}

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
    ...new Set(references.flatMap((r) => (r === undefined ? [] : [formatReference(withTag(r, conf))]))),
  ];
}

/** A full name in the store's form; a name without a host is Docker Hub's. undefined for what is no name. */
export function fullName(text: string): string | undefined {
  try {
    return formatReference(withDefaultTag(parseReference(text)));
  } catch {
    return undefined; // what an archive calls a name is any text
  }
}

/**
 * The name of an image in a layout. The first of its names that is a full one; else `localhost/` with the name, or,
 * where that is only a tag, with the layout's own name.
 */
export function layoutName(place: string, names: readonly string[]): string {
  const full = names.find((name) => hasDomain(name));
  const name = full ?? names[0];
  if (name !== undefined && /[:/]/.test(name)) {
    const found = fullName(full ?? `localhost/${name}`);
    if (found !== undefined) return found;
  }
  return placeName(place, name);
}

/** `localhost/` and the words of a directory's or file's name; its tag is latest unless `tag` can be one. */
export function placeName(place: string, tag?: string): string {
  const stem = basename(place).replace(/\.(tar|tgz)(\.(gz|zst))?$/, '');
  const words = stem.toLowerCase().match(/[a-z0-9]+/g) ?? ['image'];
  const usable = tag !== undefined && /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(tag) ? tag : 'latest';
  return `localhost/${words.join('-').slice(0, 100)}:${usable}`;
}

function hasDomain(text: string): boolean {
  try {
    return parseName(text).domain !== undefined;
  } catch {
    return false;
  }
}
