/**
 * Decoders for gzip and zstd from libraries of the system: faster than those of node:zlib, and without garbage, since each
 * writes into one buffer for its whole life. Each is a Codec of src/archive/codec.ts, and undefined where its library
 * is not installed.
 */
import { openIsalGunzip } from './isal.ts';
import { openLibzstd } from './libzstd.ts';

export const systemCodecs = { gzip: openIsalGunzip, zstd: openLibzstd };
