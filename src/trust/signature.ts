/**
 * The detached signature of an image of the store format composefs, a text of five lines:
 *
 *   oci-image-signature 1
 *   image sha256:<64 hex digits>      fs-verity digest of the EROFS: every byte of every file, names and owners
 *   config sha256:<64 hex digits>     digest of the image configuration: command, user, environment
 *   key sha256:<64 hex digits>        of the signer's public key (DER, SubjectPublicKeyInfo)
 *   <base64>                          Ed25519 (RFC 8032) over the first three lines, line feeds included
 *
 * Invariant: what is signed begins with words that no other kind of file has, so a signature that the key made elsewhere
 * is none of an image. No message ever has a part of a private key.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';

/** What a signature is about. */
export interface SignedImage {
  /** Fs-verity digest, `sha256:…`. */
  readonly image: string;
  readonly config: Digest;
}

export interface Signature extends SignedImage {
  readonly keyID: string;
  readonly bytes: Buffer;
}

export interface TrustedKey {
  readonly id: string;
  /** For messages: its file. */
  readonly name: string;
  readonly key: KeyObject;
}

export const SIGNATURE_MAX_BYTES = 1024;
const FIRST_LINE = 'oci-image-signature 1';
const ED25519_BYTES = 64;

/** The first three lines. */
function signedText({ image, config }: SignedImage): string {
  return `${FIRST_LINE}\nimage ${image}\nconfig ${config}\n`;
}

/** The text of the signature. `pem`: of a private key (PKCS#8, not encrypted); `name`: its file. Throws USAGE. */
export function signImage(image: SignedImage, pem: string, name: string): string {
  const key = ed25519(() => createPrivateKey(pem), name, 'private');
  const bytes = sign(null, Buffer.from(signedText(image)), key);
  return `${signedText(image)}key ${keyID(createPublicKey(key))}\n${bytes.toString('base64')}\n`;
}

/** Throws BAD_SIGNATURE for what is none. */
export function parseSignature(text: string, name: string): Signature {
  const sha256 = 'sha256:[0-9a-f]{64}';
  const lines = `image (${sha256})\nconfig (sha(?:256|512):[0-9a-f]+)\nkey (${sha256})\n([A-Za-z0-9+/]{86}==)\n`;
  const [, image, config, id, base64] = new RegExp(`^${FIRST_LINE}\n${lines}$`).exec(text) ?? [];
  if (image === undefined || config === undefined || id === undefined || base64 === undefined)
    throw new OciError('BAD_SIGNATURE', `${quote(name)} is no signature of an image`);
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length !== ED25519_BYTES || bytes.toString('base64') !== base64)
    throw new OciError('BAD_SIGNATURE', `${quote(name)} is no signature of an image`);
  return { image, config: parseDigest(config), keyID: id, bytes };
}

/** `pem`: of a public key; `name`: its file. Throws CONFIG. */
export function parseTrustedKey(pem: string, name: string): TrustedKey {
  if (pem.includes('PRIVATE KEY')) throw badKey(name, 'public', 'CONFIG');
  const key = ed25519(() => createPublicKey(pem), name, 'public', 'CONFIG');
  return { id: keyID(key), name, key };
}

/** Whether this very key made the signature, for what it says it is about. */
export function isMadeBy(signature: Signature, { id, key }: TrustedKey): boolean {
  return signature.keyID === id && verify(null, Buffer.from(signedText(signature)), key, signature.bytes);
}

function keyID(key: KeyObject): string {
  return `sha256:${createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')}`;
}

type Kind = 'private' | 'public';

function ed25519(
  parse: () => KeyObject,
  name: string,
  kind: Kind,
  code: 'USAGE' | 'CONFIG' = 'USAGE',
): KeyObject {
  let key: KeyObject;
  try {
    key = parse();
  } catch {
    throw badKey(name, kind, code); // without its cause, which may tell of the key
  }
  if (key.asymmetricKeyType !== 'ed25519') throw badKey(name, kind, code);
  return key;
}

function badKey(name: string, kind: Kind, code: 'USAGE' | 'CONFIG'): OciError {
  return new OciError(code, `${quote(name)} is no ${kind} Ed25519 key in PEM without a passphrase`, {
    hint:
      kind === 'private'
        ? 'Make one: openssl genpkey -algorithm ed25519 -out KEY.pem'
        : 'Get it from the private one: openssl pkey -in KEY.pem -pubout -out PUBLIC.pem',
  });
}
