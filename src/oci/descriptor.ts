/**
 * Descriptors: what points at a blob or a manifest (image-spec descriptor.md).
 *
 * Invariant: digest and size of a Descriptor have passed their grammar, so they may be compared and used in a path;
 * content that is embedded in it has that digest and size.
 */
import { type Digest, parseDigest, verifyDigest } from './digest.ts';
import { OciError } from './errors.ts';
import { asBase64, asObject, asSize, asString, asStringMap, asStrings, optional } from './json.ts';
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
  /** The target itself. */
  readonly data?: Uint8Array;
}

export function readDescriptor(value: unknown, what: string): Descriptor {
  const object = asObject(value, what);
  const annotations = optional(object['annotations'], asStringMap, `${what} annotations`);
  const platform = optional(object['platform'], readPlatform, `${what} platform`);
  const urls = optional(object['urls'], asStrings, `${what} urls`);
  const artifactType = optional(object['artifactType'], asString, `${what} artifactType`);
  const digest = parseDigest(object['digest'], `${what} digest`);
  const size = asSize(object['size'], `${what} size`);
  const data = optional(object['data'], asBase64, `${what} data`);
  if (data !== undefined) verifyContent(data, { digest, size }, `${what} data`);
  return {
    mediaType: asString(object['mediaType'], `${what} mediaType`),
    digest,
    size,
    ...(annotations === undefined ? {} : { annotations }),
    ...(platform === undefined ? {} : { platform }),
    ...(urls === undefined ? {} : { urls }),
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(data === undefined ? {} : { data }),
  };
}

/** Throws SIZE_MISMATCH or DIGEST_MISMATCH, naming got and expected. */
export function verifyContent(
  bytes: Uint8Array,
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
  what: string,
): void {
  if (bytes.length !== size)
    throw new OciError('SIZE_MISMATCH', `${what}: got ${bytes.length} bytes, expected ${size}`, {
      hint: 'Pull again, and tell the registry if it stays so.',
    });
  verifyDigest(bytes, digest, what);
}
