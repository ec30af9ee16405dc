/**
 * Signatures of images and the keys of oci.conf, as files.
 *
 *   IMAGE/.oci/signatures/<key's digest hex>     one for each key that signed it, 0600; written whole, by a rename
 *
 * Invariant: a signature is only kept where it is about this image; whether its key is trusted is asked each time.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory, replaceFile } from './host/files.ts';
import { OciError, quote } from './oci/errors.ts';
import { SIGNATURES, type StoredImage } from './store/images.ts';
import type { Store } from './store/store.ts';
import { judge, type NamedText } from './trust/judge.ts';
import {
  parseSignature,
  parseTrustedKey,
  SIGNATURE_MAX_BYTES,
  type SignedImage,
  type TrustedKey,
} from './trust/signature.ts';
import { nameOf } from './verified-image.ts';

/** `[trust]` of oci.conf. */
export interface TrustPolicy {
  /** Files of public keys. */
  readonly keys: readonly string[];
  /** oci-run and ocictl install refuse an image that none of the keys has signed. */
  readonly requireSignature: boolean;
}

const KEY_MAX_BYTES = 16 * 1024;

/** Throws DENIED for an image of another format, which has no digest that could be signed. */
export function signedImage(store: Store, image: StoredImage): SignedImage {
  if (image.composefs !== undefined)
    // not of image.json, which nothing vouches for
    return {
      image: `sha256:${image.composefs.digest}`,
      config: store.readDocuments(image).manifest.config.digest,
    };
  throw new OciError(
    'DENIED',
    `image ${nameOf(image)} is stored as plain trees: it has no digest to be signed`,
    {
      hint: `Convert it: ocictl convert --to composefs ${image.names[0] ?? image.digest}`,
    },
  );
}

/** A trusted key that signed the image. `only`: instead of the signatures that are kept. Throws DENIED, BAD_SIGNATURE. */
export function checkSignatures(
  store: Store,
  image: StoredImage,
  keys: readonly string[],
  only: readonly NamedText[] = keptSignatures(image),
): TrustedKey {
  const signed = signedImage(store, image);
  if (keys.length === 0)
    throw new OciError('DENIED', `image ${nameOf(image)}: no key is trusted`, {
      hint: 'Name public keys in oci.conf: keys = /FILE.pem below [trust], or with --key.',
    });
  return judge(signed, nameOf(image), only, keys.map(readTrustedKey));
}

function readTrustedKey(path: string): TrustedKey {
  return parseTrustedKey(readSmallFile(path, KEY_MAX_BYTES, 'CONFIG'), path);
}

export function readPrivateKey(path: string): string {
  return readSmallFile(path, KEY_MAX_BYTES, 'INPUT_NOT_FOUND');
}

export function readSignature(path: string): NamedText {
  return { name: path, text: readSmallFile(path, SIGNATURE_MAX_BYTES, 'INPUT_NOT_FOUND') };
}

function keptSignatures(image: StoredImage): NamedText[] {
  const directory = signatureDirectory(image);
  return listDirectory(directory)
    .filter((name) => /^[0-9a-f]{64}$/.test(name))
    .sort()
    .map((name) => readSignature(join(directory, name)));
}

/** Keeps the signature beside its image, durably. Throws BAD_SIGNATURE for one of another image, DENIED in another store. */
export function keepSignature(store: Store, image: StoredImage, { name, text }: NamedText): void {
  if (image.store !== store.root)
    throw new OciError(
      'DENIED',
      `image ${nameOf(image)} is in the additional store ${quote(image.store)}, which is only read`,
      { hint: `Sign it there: ocictl --root ${image.store} sign …` },
    );
  const signature = parseSignature(text, name);
  const signed = signedImage(store, image);
  if (signature.image !== signed.image || signature.config !== signed.config)
    throw new OciError('BAD_SIGNATURE', `${quote(name)} signs another image than ${nameOf(image)}`);
  const directory = signatureDirectory(image);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = signature.keyID.slice('sha256:'.length);
  replaceFile(join(directory, file), text, 0o600);
}

function signatureDirectory({ directory }: StoredImage): string {
  return join(directory, SIGNATURES);
}

function readSmallFile(path: string, maxBytes: number, code: 'CONFIG' | 'INPUT_NOT_FOUND'): string {
  const cannot = (why: string) =>
    new OciError(code, `cannot read ${quote(path)}: ${why}`, { hint: 'Name a file that can be read.' });
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (!fstatSync(fd).isFile()) throw cannot('it is no regular file');
    const bytes = Buffer.alloc(maxBytes + 1); // one too many, for who looks at it
    return bytes.toString('latin1', 0, readSync(fd, bytes));
  } catch (error) {
    if (error instanceof OciError) throw error;
    throw cannot(String((error as NodeJS.ErrnoException).code));
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
