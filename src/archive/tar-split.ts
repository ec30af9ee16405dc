/**
 * tar-split data: a tar without the content of its files, from which, with them, every byte of it is made again
 * (vbatts/tar-split, tar/storage). One JSON object a line: type 2 is bytes of the tar, type 1 stands for the content of a
 * file, if it has any.
 *
 * Invariant: nothing is kept but one line; what goes on is bounded by what came in and by the sizes it names.
 */
import { OciError } from '../oci/errors.ts';
import { asObject, asSize, asString } from '../oci/json.ts';
import { META_MAX_BYTES } from './tar-parser.ts';

/** A line for every file, with its headers: some 300,000 files. */
export const TAR_SPLIT_MAX_BYTES = 512 * 1024 * 1024;
export const TAR_SPLIT_COMPRESSED_MAX_BYTES = 32 * 1024 * 1024;
/** In base64, all that may lie between the content of two files. */
const LINE_MAX_BYTES = 2 * META_MAX_BYTES;

export interface TarSplitHandler {
  /** Bytes of the tar. */
  segment(bytes: Buffer): void;
  /** Here is the content of a file: `size` bytes, more than none. */
  content(size: number): void;
}

export interface TarSplitParser {
  push(chunk: Buffer): void;
  /** Throws where the data is cut short. */
  end(): void;
}

/** Throws BAD_ARCHIVE, BAD_IMAGE. */
export function createTarSplitParser(handler: TarSplitHandler): TarSplitParser {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let lines = 0;

  function line(bytes: Buffer): void {
    const what = `tar-split entry ${lines}`;
    const entry = asObject(parse(bytes, what), what);
    if (entry['position'] !== undefined && entry['position'] !== lines)
      throw refused(what, 'out of its place');
    lines++;
    if (entry['type'] === 2) handler.segment(payload(asString(entry['payload'] ?? '', what), what));
    else if (entry['type'] === 1) {
      const size = asSize(entry['size'] ?? 0, what);
      if (size > 0) handler.content(size);
    } else throw refused(what, 'of a type that is not known');
  }

  return {
    push(chunk) {
      let at = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
        const rest = chunk.subarray(at, end);
        line(pendingBytes === 0 ? rest : Buffer.concat([...pending, rest]));
        pending = [];
        pendingBytes = 0;
        at = end + 1;
      }
      pendingBytes += chunk.length - at;
      if (pendingBytes > LINE_MAX_BYTES)
        throw refused(`tar-split entry ${lines}`, `longer than ${LINE_MAX_BYTES} bytes`);
      if (chunk.length > at) pending.push(Buffer.from(chunk.subarray(at)));
    },
    end() {
      if (pendingBytes > 0) throw refused(`tar-split entry ${lines}`, 'cut short');
    },
  };
}

/** As asBase64(), which takes twice as long: whether the bytes are right, the digest of the tar tells. */
function payload(text: string, what: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  if (bytes.length !== (text.length / 4) * 3 - padding) throw refused(what, 'not base64');
  return bytes;
}

function parse(bytes: Buffer, what: string): unknown {
  try {
    return JSON.parse(bytes.toString('latin1')); // its names, which may be more than ASCII, are not looked at
  } catch (error) {
    throw new OciError('BAD_ARCHIVE', `${what} is not JSON`, { cause: error });
  }
}

function refused(what: string, reason: string): OciError {
  return new OciError('BAD_ARCHIVE', `${what} is ${reason}`);
}
