/** Says, piece by piece, whether a peer is fast enough. Only the time that we wait for it counts. */
import { OciError } from '../oci/errors.ts';
import { BLOB_MIN_BYTES_PER_SECOND } from '../oci/limits.ts';

export function rateGuard(windowMs: number): (bytes: number, waitedMs: number) => boolean {
  let bytes = 0;
  let waited = 0;
  return (more, waitedMs) => {
    bytes += more;
    waited += waitedMs;
    if (waited < windowMs) return true;
    const enough = bytes * 1000 >= waited * BLOB_MIN_BYTES_PER_SECOND;
    bytes = 0;
    waited = 0;
    return enough;
  };
}

export function tooSlow(what: string): OciError {
  return new OciError(
    'TEMPORARY',
    `${what}: the registry sends fewer than ${BLOB_MIN_BYTES_PER_SECOND} bytes a second`,
    { hint: 'Try again later, or use a mirror.' },
  );
}
