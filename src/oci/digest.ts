/**
 * Digests and DiffIDs: `sha256:<64 lower-case hex>` (image-spec descriptor.md, "Digests").
 *
 * Invariant: a Digest or DiffID has passed its grammar, so its hex part may become a path component.
 */
import { createHash } from 'node:crypto';
import { OciError, quote } from './errors.ts';

/** Digest of bytes as they are stored or sent. */
export type Digest = string & { readonly __digest: unique symbol };
/** Digest of a layer's uncompressed tar. */
export type DiffID = Digest & { readonly __diffID: unique symbol };
/** Identity of a stack of layers (image-spec config.md, "Layer ChainID"). */
export type ChainID = Digest & { readonly __chainID: unique symbol };

const HEX_LENGTH: Record<string, number> = { sha256: 64, sha512: 128 };

/** Throws BAD_IMAGE for anything but `sha256:` or `sha512:` with the right number of lower-case hex digits. */
export function parseDigest(text: unknown, what = 'digest'): Digest {
  if (typeof text === 'string') {
    const match = /^(sha256|sha512):([0-9a-f]+)$/.exec(text);
    if (match && match[2]!.length === HEX_LENGTH[match[1]!]) return text as Digest;
  }
  throw new OciError(
    'BAD_IMAGE',
    `${what} ${quote(String(text))} is not sha256 or sha512 followed by its hex digits`,
    {
      hint: 'Ask whoever made the image: its metadata does not follow the OCI image specification.',
    },
  );
}

export function parseDiffID(text: unknown): DiffID {
  return parseDigest(text, 'diffID') as DiffID;
}

export function digestAlgorithm(digest: Digest): 'sha256' | 'sha512' {
  return digest.slice(0, digest.indexOf(':')) as 'sha256' | 'sha512';
}

/** The hex part: safe as a file name. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** The digest with these hex digits. */
export function digestOfHex(hex: string): Digest {
  return `sha${hex.length === 64 ? 256 : 512}:${hex}` as Digest;
}

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${hashHex('sha256', bytes)}` as Digest;
}

function hashHex(algorithm: 'sha256' | 'sha512', bytes: Uint8Array): string {
  return createHash(algorithm).update(bytes).digest('hex');
}

/** Throws DIGEST_MISMATCH naming got and expected. `hash`: makes the hex part. */
export function verifyDigest(bytes: Uint8Array, expected: Digest, what: string, hash = hashHex): void {
  const algorithm = digestAlgorithm(expected);
  const got = `${algorithm}:${hash(algorithm, bytes)}`;
  if (got !== expected) throw digestMismatch(what, got as Digest, expected);
}

export function digestMismatch(what: string, got: Digest, expected: Digest): OciError {
  return new OciError('DIGEST_MISMATCH', `${what}: got ${got}, expected ${expected}`, {
    hint: 'The data was changed on its way or at its source: pull again, and tell the registry if it stays so.',
  });
}

/** ChainIDs of every prefix of a stack, lowest layer first. */
export function chainIDs(diffIDs: readonly DiffID[]): ChainID[] {
  const chain: ChainID[] = [];
  for (const diffID of diffIDs) {
    const parent = chain.at(-1);
    chain.push(
      (parent === undefined ? diffID : digestOf(Buffer.from(`${parent} ${diffID}`))) as Digest as ChainID,
    );
  }
  return chain;
}
