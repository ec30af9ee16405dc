/**
 * zstd by libzstd.so.1, whose streaming interface (zstd.h, ZSTD_decompressStream) is stable.
 *
 * Invariant: windows are bounded by the library itself, too, and it verifies the checksums of frames that have them.
 */
import { loadSystemLibrary } from './system-library.ts';

const WINDOW_LOG_MAX_PARAMETER = 100; // ZSTD_d_windowLogMax
const WINDOW_LOG_MAX = 27;
const OUTPUT_BYTES = 256 * 1024;

// struct ZSTD_inBuffer, ZSTD_outBuffer: { void *; size_t size; size_t pos }
const BUFFER_STRUCT_BYTES = 24;
const ADDRESS = 0;
const SIZE = 8;
const POSITION = 16;

function load() {
  const library = loadSystemLibrary('libzstd.so.1');
  if (library === undefined) return undefined;
  const { addressOf, func } = library;
  return {
    addressOf,
    create: func('ZSTD_createDCtx', 'uintptr_t', []),
    free: func('ZSTD_freeDCtx', 'size_t', ['uintptr_t']),
    setParameter: func('ZSTD_DCtx_setParameter', 'size_t', ['uintptr_t', 'int', 'int']),
    decompress: func('ZSTD_decompressStream', 'size_t', ['uintptr_t', 'void *', 'void *']),
    isError: func('ZSTD_isError', 'uint32_t', ['size_t']),
    errorName: func('ZSTD_getErrorName', 'str', ['size_t']),
  };
}

type Libzstd = NonNullable<ReturnType<typeof load>>;
let loaded: { libzstd: Libzstd | undefined } | undefined;

/** A decoder of its own, or undefined. */
export function openLibzstd() {
  loaded ??= { libzstd: load() };
  return loaded.libzstd === undefined ? undefined : unzstd(loaded.libzstd);
}

function unzstd(library: Libzstd) {
  const { addressOf, decompress, isError } = library;
  const context = library.create();
  library.setParameter(context, WINDOW_LOG_MAX_PARAMETER, WINDOW_LOG_MAX);
  const buffer = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  const from = Buffer.alloc(BUFFER_STRUCT_BYTES);
  const to = Buffer.alloc(BUFFER_STRUCT_BYTES);
  to.writeBigUInt64LE(addressOf(buffer), ADDRESS);
  to.writeUInt32LE(OUTPUT_BYTES, SIZE);

  return {
    decode(input: Buffer) {
      from.writeBigUInt64LE(addressOf(input), ADDRESS);
      from.writeUInt32LE(input.length, SIZE);
      from.writeUInt32LE(0, POSITION);
      to.writeUInt32LE(0, POSITION);
      // 0: a frame ended and all of it was given; else a guess at what is missing, or an error
      const status = decompress(context, to, from);
      const length = to.readUInt32LE(POSITION);
      return {
        taken: from.readUInt32LE(POSITION),
        output: buffer.subarray(0, length),
        full: length === OUTPUT_BYTES,
        ended: Number(status) === 0,
        failure: isError(status) !== 0 ? String(library.errorName(status)) : undefined,
      };
    },
    close() {
      library.free(context);
    },
  };
}
