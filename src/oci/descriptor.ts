/**
 * Descriptors: what points at a blob or a manifest (image-spec descriptor.md).
 *
 * Invariant: digest and size of a Descriptor have passed their grammar, so they may be compared and used in a path.
 */
import { type Digest, parseDigest } from './digest.ts';
import { asObject, asSize, asString, asStringMap, asStrings, optional } from './json.ts';
import { type Platform, readPlatform } from './platform.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes of the target as it is stored. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  readonly urls?: readonly string[];
  readonly artifactType?: string;
}

export function readDescriptor(value: unknown, what: string): Descriptor {
  const object = asObject(value, what);
  const annotations = optional(object['annotations'], asStringMap, `${what} annotations`);
  const platform = optional(object['platform'], readPlatform, `${what} platform`);
  const urls = optional(object['urls'], asStrings, `${what} urls`);
  const artifactType = optional(object['artifactType'], asString, `${what} artifactType`);
  return {
    mediaType: asString(object['mediaType'], `${what} mediaType`),
    digest: parseDigest(object['digest'], `${what} digest`),
    size: asSize(object['size'], `${what} size`),
    ...(annotations === undefined ? {} : { annotations }),
    ...(platform === undefined ? {} : { platform }),
    ...(urls === undefined ? {} : { urls }),
    ...(artifactType === undefined ? {} : { artifactType }),
  };
}
