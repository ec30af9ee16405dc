/**
 * SHA-256 by the libcrypto that node itself was linked with, called without node:crypto: that takes 7 ms to load, which
 * is all of what a small document costs. SHA256(3ssl) has had the same signature in every release of OpenSSL.
 *
 * Invariant: a function that does not hash a sample as it should is not used; node:crypto then does the work.
 */
import { createHash } from 'node:crypto';
import { koffi } from './koffi.ts';

type SHA256 = (bytes: Uint8Array) => string;

/** FIPS 180-2, appendix B.1. */
const SAMPLE = Buffer.from('abc');
const SAMPLE_HASH = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

let loaded: { sha256: SHA256 | undefined } | undefined;

/** The hash of some bytes in hex digits. */
export function hashHex(algorithm: 'sha256' | 'sha512', bytes: Uint8Array): string {
  if (algorithm === 'sha256') {
    loaded ??= { sha256: load() };
    if (loaded.sha256 !== undefined) return loaded.sha256(bytes);
  }
  return createHash(algorithm).update(bytes).digest('hex');
}

function load(): SHA256 | undefined {
  try {
    const call = koffi().load(null).func('SHA256', 'uintptr_t', ['void *', 'size_t', 'void *']);
    const sha256 = (bytes: Uint8Array) => {
      const hash = Buffer.alloc(32);
      call(bytes, bytes.length, hash);
      return hash.toString('hex');
    };
    return sha256(SAMPLE) === SAMPLE_HASH ? sha256 : undefined;
  } catch {
    return undefined; // node was linked with another library
  }
}
