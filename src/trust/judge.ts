/** What an image's signatures are worth, given the keys that are trusted. */
import { OciError, quote } from '../oci/errors.ts';
import { isMadeBy, parseSignature, type SignedImage, type TrustedKey } from './signature.ts';

export interface NamedText {
  /** For messages: the file. */
  readonly name: string;
  readonly text: string;
}

/**
 * A trusted key that vouches for the image. Throws BAD_SIGNATURE where a signature is damaged or of something else, and
 * DENIED where there is none, or none by a trusted key. One good signature is enough, whatever lies beside it.
 */
export function judge(
  image: SignedImage,
  what: string,
  signatures: readonly NamedText[],
  keys: readonly TrustedKey[],
): TrustedKey {
  const problems: OciError[] = [];
  for (const { name, text } of signatures)
    try {
      return signerOf(image, what, parseSignature(text, name), name, keys);
    } catch (error) {
      if (!(error instanceof OciError)) throw error;
      problems.push(error);
    }
  throw (
    problems.find(({ code }) => code === 'BAD_SIGNATURE') ??
    problems[0] ??
    new OciError('DENIED', `image ${what} has no signature`, {
      hint: 'Sign it: ocictl sign IMAGE --key KEY.pem',
    })
  );
}

function signerOf(
  image: SignedImage,
  what: string,
  signature: ReturnType<typeof parseSignature>,
  name: string,
  keys: readonly TrustedKey[],
): TrustedKey {
  for (const part of ['image', 'config'] as const)
    if (signature[part] !== image[part])
      throw new OciError(
        'BAD_SIGNATURE',
        `${quote(name)} signs another image: its ${part} is ${signature[part]}, that of ${what} is ${image[part]}`,
      );
  const key = keys.find(({ id }) => id === signature.keyID);
  if (key === undefined)
    throw new OciError('DENIED', `image ${what} is signed by ${signature.keyID}, which is no trusted key`, {
      hint: 'Name its public key in oci.conf: keys = /FILE.pem below [trust], or with --key.',
    });
  if (isMadeBy(signature, key)) return key;
  throw new OciError('BAD_SIGNATURE', `${quote(name)} is not what ${quote(key.name)} signed: it was changed`);
}
