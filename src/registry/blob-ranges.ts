/**
 * Some ranges of one blob: several in a request where the registry can do that (RFC 9110, section 14.2), else one each.
 *
 * Invariant: every byte that was asked for comes once and in order, or the iteration throws; nothing else comes. An answer
 * that makes no sense is never used: after one to several ranges, single ones are asked for; after one to a single range
 * the caller is told that the blob comes only whole (UNSUPPORTED). What is missing after a reset is asked for again.
 */
import type { BlobPiece, ByteRange } from '../oci/content.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { OciError } from '../oci/errors.ts';
import { type BlobOptions, PROGRESS_BYTES, type RequestBlob } from './blob-stream.ts';
import { readByteranges } from './byteranges.ts';
import { networkFault } from './http-errors.ts';
import { rateGuard, tooSlow } from './rate-guard.ts';
import { backoffMs, monotonicMs, sleep } from './retry.ts';

/** Some servers ignore more than 200 ranges (Apache), or refuse header fields beyond 8 KiB (nginx). */
const RANGES_PER_REQUEST_MAX = 128;
/** A part costs about 200 bytes by itself, so a gap of that length is read along. */
const PART_GAP_MAX_BYTES = 256;
/** A request costs a round trip, in which more than this would come. */
const REQUEST_GAP_MAX_BYTES = 64 * 1024;

/** What was found out about a registry. */
export interface RangeSupport {
  several: boolean;
}

export interface RangesOptions extends Omit<BlobOptions, 'offset'> {
  readonly support: RangeSupport;
}

/** `ranges` ascend and do not overlap. `request` lets the statuses through with which servers refuse ranges. */
export async function* readBlobRanges(
  descriptor: Descriptor,
  ranges: readonly ByteRange[],
  request: RequestBlob,
  options: RangesOptions,
): AsyncGenerator<BlobPiece> {
  const { what, policy, support, signal, rateWindowMs } = options;
  const left = openQueue(ranges);
  let failures = 0;
  for (let first = left.first(); first !== undefined; first = left.first()) {
    const batch = nextBatch(left.all(), support.several);
    const several = batch.length > 1;
    const batchEnd = batch.at(-1)!.end;
    let received = 0;
    let failure: OciError;
    const response = await request(
      `bytes=${batch.map(({ offset, end }) => `${offset}-${end - 1}`).join(',')}`,
    );
    try {
      if (response.status !== 206)
        throw new OciError(
          'UNSUPPORTED',
          `${what}: the registry sends it only whole (HTTP ${response.status})`,
        );
      const body = notTooSlow(response.body, what, rateWindowMs);
      for await (const piece of readByteranges({ ...response, body }, descriptor.size)) {
        for (const wanted of left.take(piece)) {
          received += wanted.bytes.length;
          yield wanted;
        }
        if (piece.offset + piece.bytes.length > batchEnd) break; // more than was asked for
      }
      first = left.first();
      if (first === undefined || first.offset >= batchEnd) {
        failures = 0;
        continue;
      }
      if (several) {
        // A server may choose to give one of the ranges only.
        support.several = false;
        continue;
      }
      failure = new OciError('TEMPORARY', `${what}: the answer ends before byte ${first.offset}`);
    } catch (error) {
      if (signal?.aborted) throw error;
      const fault = networkFault(error, response.url);
      failure = fault.error;
      const isRefusal = failure.code === 'UNSUPPORTED' || failure.code === 'PROTOCOL';
      if (several && isRefusal) {
        support.several = false;
        continue;
      }
      if (!fault.transient && failure.code !== 'TEMPORARY') throw failure;
    } finally {
      response.body.discard();
    }
    failures = received >= PROGRESS_BYTES ? 1 : failures + 1;
    if (failures >= policy.attempts) throw failure;
    options.notice(`${failure.message}; going on from byte ${left.first()!.offset}`);
    await sleep(backoffMs(failures, policy), signal);
  }
}

/** The body as it comes, headers of parts and all: they, too, could be made to last for days. */
async function* notTooSlow(
  body: AsyncIterable<Uint8Array>,
  what: string,
  rateWindowMs: number,
): AsyncGenerator<Uint8Array> {
  const isFastEnough = rateGuard(rateWindowMs);
  let asked = monotonicMs();
  for await (const piece of body) {
    if (!isFastEnough(piece.length, monotonicMs() - asked)) throw tooSlow(what);
    yield piece;
    asked = monotonicMs();
  }
}

/** The next ranges to ask for: those with little between them as one, and only one unless `several`. */
function nextBatch(left: Iterable<ByteRange>, several: boolean): ByteRange[] {
  const batch: ByteRange[] = [];
  for (const range of left) {
    const last = batch.at(-1);
    if (
      last !== undefined &&
      range.offset - last.end <= (several ? PART_GAP_MAX_BYTES : REQUEST_GAP_MAX_BYTES)
    )
      batch[batch.length - 1] = { offset: last.offset, end: range.end };
    else if (batch.length < (several ? RANGES_PER_REQUEST_MAX : 1)) batch.push(range);
    else break;
  }
  return batch;
}

/** What is still to come of the ranges: there may be a hundred thousand, so none is moved. */
function openQueue(ranges: readonly ByteRange[]) {
  let index = 0;
  let begun = 0; // bytes of the first range that have come

  function first(): ByteRange | undefined {
    const range = ranges[index];
    return range && { offset: range.offset + begun, end: range.end };
  }

  return {
    first,
    *all(): Generator<ByteRange> {
      const range = first();
      if (range !== undefined) yield range;
      for (let next = index + 1; next < ranges.length; next++) yield ranges[next]!;
    },
    /** The parts of the piece that are wanted, which then have come. Throws PROTOCOL where one before it is missing. */
    *take({ offset, bytes }: BlobPiece): Generator<BlobPiece> {
      const end = offset + bytes.length;
      for (let range = first(); range !== undefined && range.offset < end; range = first()) {
        if (range.offset < offset)
          throw new OciError('PROTOCOL', `the registry leaves out byte ${range.offset}, which was asked for`);
        const until = Math.min(range.end, end);
        begun += until - range.offset;
        if (until === range.end) {
          index++;
          begun = 0;
        }
        yield { offset: range.offset, bytes: bytes.subarray(range.offset - offset, until - offset) };
      }
    },
  };
}
