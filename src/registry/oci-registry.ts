/**
 * systemd's registry database (systemd 260 and later, importctl(1) pull-oci): JSON files `image.NAME.oci-registry`
 * and `default.oci-registry` that complete names without a registry, and `registry.HOST.oci-registry` that say where
 * the images of a registry really are. Pure.
 *
 * Invariant: a rule gives a full reference or nothing. A registry's file only counts where registries.conf has no
 * rule for the image.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import {
  atDomain,
  parseDomain,
  parsePath,
  parseTag,
  type Reference,
  type TypedName,
} from '../oci/reference.ts';

/** The fields as systemd names them. */
export interface OciRegistryRule {
  readonly overrideRegistry?: string;
  readonly defaultRegistry?: string;
  readonly overrideImage?: string;
  readonly shortImagePrefix?: string;
  readonly defaultTag?: string;
}

export const OCI_REGISTRY_MAX_BYTES = 64 * 1024;
export const DEFAULT_OCI_REGISTRY = 'default.oci-registry';

/** The file for a short name (`image`) or for a host; bytes that are special in a file name become %xx. */
export function ociRegistryFileName(kind: 'image' | 'registry', name: string): string {
  const escaped = name.replace(
    /[^A-Za-z0-9._-]/g,
    (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `${kind}.${escaped}.oci-registry`;
}

export function parseOciRegistry(bytes: Uint8Array, path: string): OciRegistryRule {
  const document = parseJson(bytes, OCI_REGISTRY_MAX_BYTES, quote(path), 'CONFIG');
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new OciError('CONFIG', `${quote(path)} is not a JSON object`);
  const fields = document as Record<string, unknown>;
  const text = (key: keyof OciRegistryRule | 'defaultProtocol'): string | undefined => {
    const value = fields[key];
    if (value !== undefined && typeof value !== 'string')
      throw new OciError('CONFIG', `${quote(path)}: ${key} is not a string`);
    return value;
  };
  const protocol = text('defaultProtocol');
  if (protocol !== undefined && protocol !== 'https')
    throw new OciError('CONFIG', `${quote(path)}: the protocol ${quote(protocol)} is not supported`, {
      hint: 'Use insecure=true in registries.conf for a registry without TLS.',
    });
  const keys = [
    'overrideRegistry',
    'defaultRegistry',
    'overrideImage',
    'shortImagePrefix',
    'defaultTag',
  ] as const;
  return Object.fromEntries(keys.flatMap((key) => (text(key) === undefined ? [] : [[key, text(key)]])));
}

/** The name completed or redirected; undefined where nothing names a registry. Throws CONFIG. */
export function applyOciRegistry(rule: OciRegistryRule, name: TypedName): Reference | undefined {
  const registry = rule.overrideRegistry ?? name.domain ?? rule.defaultRegistry;
  if (registry === undefined) return undefined;
  const prefix = name.path.includes('/') ? '' : (rule.shortImagePrefix ?? '');
  try {
    const path = parsePath(rule.overrideImage ?? prefix + name.path);
    const needsTag = rule.defaultTag !== undefined && name.tag === undefined && name.digest === undefined;
    const tag = needsTag ? { tag: parseTag(rule.defaultTag!) } : {};
    const { domain: _, ...rest } = name;
    return atDomain({ ...rest, path, ...tag }, parseDomain(registry));
  } catch (error) {
    throw new OciError(
      'CONFIG',
      `an .oci-registry file for ${quote(name.path)}: ${(error as OciError).message}`,
      { hint: 'Correct the file below /etc/systemd/oci-registry or /usr/lib/systemd/oci-registry.' },
    );
  }
}
