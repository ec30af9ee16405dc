/**
 * The body of a 206: one range of a blob, or several as multipart/byteranges (RFC 9110, sections 14.4 and 14.6).
 *
 * Invariant: what comes out says where in the blob it belongs, within the blob's size, ascending; a part ends after the bytes
 * that its Content-Range promises, whatever is in them. A body that ends early ends here, too: the caller counts.
 */
import type { BlobPiece, ByteRange } from '../oci/content.ts';
import { OciError } from '../oci/errors.ts';
import { essence } from '../oci/media-type.ts';
import type { HttpResponse } from './http.ts';
import { header } from './http-errors.ts';

/** Delimiter and header of a part; also of what may follow the last one. */
const HEAD_MAX_BYTES = 4096;
const BOUNDARY = /;[ \t]*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s";,]{1,70}))[ \t]*(?:;|$)/i;
const END_OF_HEAD = Buffer.from('\r\n\r\n');

/** undefined for anything but a range of a blob of that size. */
export function parseContentRange(text: string | undefined, size: number): ByteRange | undefined {
  const [, first, last, total] =
    /^bytes ([0-9]{1,16})-([0-9]{1,16})\/([0-9]{1,16}|\*)$/.exec(text ?? '') ?? [];
  const range = { offset: Number(first), end: Number(last) + 1 };
  const fits = range.offset < range.end && range.end <= size; // false for NaN
  return fits && (total === '*' || Number(total) === size) ? range : undefined;
}

/** Throws PROTOCOL where the response is no such body. */
export async function* readByteranges(
  response: Pick<HttpResponse, 'headers'> & { readonly body: AsyncIterable<Uint8Array> },
  size: number,
): AsyncGenerator<BlobPiece> {
  const type = header(response, 'content-type') ?? '';
  if (essence(type) === 'multipart/byteranges') {
    const match = BOUNDARY.exec(type);
    if (match === null) throw malformed('its parts have no boundary');
    yield* readParts(response.body, `--${match[1] ?? match[2]}`, size);
    return;
  }
  const range = parseContentRange(header(response, 'content-range'), size);
  if (range === undefined) throw malformed('it does not say which range it has');
  let offset = range.offset;
  for await (const piece of response.body) {
    const bytes = piece.subarray(0, range.end - offset);
    if (bytes.length > 0) yield { offset, bytes };
    offset += bytes.length;
    if (bytes.length < piece.length) return;
  }
}

async function* readParts(
  body: AsyncIterable<Uint8Array>,
  delimiter: string,
  size: number,
): AsyncGenerator<BlobPiece> {
  let part: ByteRange = { offset: 0, end: 0 };
  let offset = 0; // of the next byte of the part
  let parts = 0;
  let head = Buffer.alloc(0); // what came of a delimiter and header that are not complete
  let isOver = false;
  for await (const piece of body) {
    if (isOver) return; // read to its end, if that is near: the connection can be used again
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    while (rest.length > 0) {
      if (offset < part.end) {
        const bytes = rest.subarray(0, part.end - offset);
        yield { offset, bytes };
        offset += bytes.length;
        rest = rest.subarray(bytes.length);
        continue;
      }
      const before = head.length;
      head = Buffer.concat([head, rest.subarray(0, HEAD_MAX_BYTES - before)]);
      const end = head.indexOf(END_OF_HEAD);
      if (end < 0) {
        isOver = isLast(head, delimiter);
        if (isOver) break;
        if (head.length === HEAD_MAX_BYTES) throw malformed('a part has no end of its header');
        break;
      }
      const next = parseHead(head.toString('latin1', 0, end), delimiter, parts++ === 0, size);
      if (next.offset < part.end) throw malformed('its parts are not in order');
      part = next;
      offset = next.offset;
      rest = rest.subarray(end + END_OF_HEAD.length - before);
      head = Buffer.alloc(0);
    }
  }
}

function isLast(head: Buffer, delimiter: string): boolean {
  return head.indexOf(`\r\n${delimiter}--`) === 0 || head.indexOf(`${delimiter}--`) === 0;
}

/** The delimiter's line and the header's lines after it. Before the first delimiter there need not be a line's end. */
function parseHead(text: string, delimiter: string, isFirst: boolean, size: number): ByteRange {
  const [line = '', ...fields] = text.replace(/^\r\n/, '').split('\r\n');
  const hasLineEnd = isFirst || text.startsWith('\r\n');
  if (!hasLineEnd || line.trimEnd() !== delimiter) throw malformed('a part does not begin with its boundary');
  const values = fields.flatMap((field) => /^content-range:[ \t]*(.*?)[ \t]*$/i.exec(field)?.[1] ?? []);
  const range = values.length === 1 ? parseContentRange(values[0], size) : undefined;
  if (range === undefined) throw malformed('a part does not say which range it has');
  return range;
}

function malformed(reason: string): OciError {
  return new OciError('PROTOCOL', `the answer to a request for ranges is malformed: ${reason}`);
}
