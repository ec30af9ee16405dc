/**
 * gunzip by ISA-L (libisal.so.2, Intel's storage acceleration library; x86_64 and aarch64). The structure is that of
 * igzip_lib.h, `struct inflate_state`, the same in every release with that soname.
 *
 * Invariant: a library that does not decode a sample as it should is not used: memory is only written by one whose
 * structure is ours. A member is decoded from behind its header on (the library misreads headers that come in pieces);
 * its trailer, CRC-32 and length (RFC 1952), is checked by the library.
 */
import { loadSystemLibrary } from './system-library.ts';

const STATE_BYTES = 87_368;
const NEXT_OUT = 0;
const AVAIL_OUT = 8;
const NEXT_IN = 16;
const AVAIL_IN = 32;
const BLOCK_STATE = 21_160;
const CRC_FLAG = 21_172;

const WITH_TRAILER = 6; // CRC_FLAG: ISAL_GZIP_NO_HDR_VER
const FINISHED = 5; // BLOCK_STATE

const OUTPUT_BYTES = 256 * 1024;

const FAILURES = new Map([
  [-1, 'invalid block'],
  [-2, 'invalid code'],
  [-3, 'invalid distance too far back'],
  [-6, 'incorrect data check'],
]);

/** "ok" as a member without its header. */
const SAMPLE = Buffer.from('cbcf060047dddc7902000000', 'hex');

interface Isal {
  addressOf(buffer: Buffer): bigint;
  init(state: Buffer): void;
  reset(state: Buffer): void;
  inflate(state: Buffer): number;
}

function load(): Isal | undefined {
  const library = loadSystemLibrary('libisal.so.2');
  if (library === undefined) return undefined;
  const isal = {
    addressOf: library.addressOf,
    init: library.func('isal_inflate_init', 'void', ['void *']),
    reset: library.func('isal_inflate_reset', 'void', ['void *']),
    inflate: library.func('isal_inflate', 'int', ['void *']) as Isal['inflate'],
  };
  const { output, ended, taken } = gunzip(isal).decode(SAMPLE);
  return ended && taken === SAMPLE.length && output.toString() === 'ok' ? isal : undefined;
}

let loaded: { isal: Isal | undefined } | undefined;

/** A decoder of its own, or undefined. */
export function openIsalGunzip() {
  loaded ??= { isal: load() };
  return loaded.isal === undefined ? undefined : gunzip(loaded.isal);
}

function gunzip({ addressOf, init, reset, inflate }: Isal) {
  // Twice the size: a larger structure than ours is found out by the sample before it does harm.
  const state = Buffer.alloc(2 * STATE_BYTES);
  const buffer = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  const output = addressOf(buffer);
  let fresh = true;
  init(state);

  return {
    decode(input: Buffer) {
      if (fresh) {
        reset(state);
        state.writeUInt32LE(WITH_TRAILER, CRC_FLAG);
        fresh = false;
      }
      state.writeBigUInt64LE(addressOf(input), NEXT_IN);
      state.writeUInt32LE(input.length, AVAIL_IN);
      state.writeBigUInt64LE(output, NEXT_OUT);
      state.writeUInt32LE(OUTPUT_BYTES, AVAIL_OUT);
      const status = inflate(state);
      const left = state.readUInt32LE(AVAIL_OUT);
      const ended = state.readUInt32LE(BLOCK_STATE) === FINISHED;
      if (ended) fresh = true;
      return {
        taken: input.length - state.readUInt32LE(AVAIL_IN),
        output: buffer.subarray(0, OUTPUT_BYTES - left),
        full: left === 0,
        ended,
        failure: status < 0 ? (FAILURES.get(status) ?? `error ${status}`) : undefined,
      };
    },
    close() {}, // memory of the heap only
  };
}
