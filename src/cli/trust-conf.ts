/** `[trust]` of oci.conf: whose signatures count, and whether images need one. */
import { isAbsolute } from 'node:path';
import type { TrustPolicy } from '../image-signatures.ts';
import { OciError, quote } from '../oci/errors.ts';

/** `section`: as the ini parser gives it. */
export function parseTrust(section: object, path: string): Partial<TrustPolicy> {
  const bad = (what: string) =>
    new OciError('CONFIG', `${quote(path)}: trust: ${what}`, {
      hint: 'Use keys = /FILE.pem:/OTHER.pem, require-signature = true.',
    });
  const trust: { -readonly [K in keyof TrustPolicy]?: TrustPolicy[K] } = {};
  for (const [key, value] of Object.entries(section)) {
    if (key === 'keys' && typeof value === 'string') {
      trust.keys = value.split(':').filter((file) => file !== '');
      if (!trust.keys.every(isAbsolute)) throw bad('keys is no list of absolute paths');
    } else if (key === 'require-signature' && typeof value === 'boolean') trust.requireSignature = value;
    else throw bad(`${quote(key)} is not understood`);
  }
  return trust;
}
