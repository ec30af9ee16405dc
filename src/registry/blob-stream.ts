/**
 * One blob as one stream that survives resets: it asks for the rest with a Range request and goes on where it was.
 *
 * Invariant: bytes come in order, each once, at most descriptor.size + 1 in all; the part a server sends again is
 * skipped, never delivered twice. A wrong Content-Range, a 200 or a 416 mean "from the start"
 * (RFC 9110 14; distribution-spec "Pulling blobs"). A server that only drips has stalled.
 */

import type { BlobStream } from '../oci/content.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { OciError } from '../oci/errors.ts';
import { parseContentRange } from './byteranges.ts';
import type { HttpResponse } from './http.ts';
import { header, isHtml, networkFault, portalError } from './http-errors.ts';
import { rateGuard, tooSlow } from './rate-guard.ts';
import { backoffMs, monotonicMs, type RetryPolicy, sleep } from './retry.ts';

/** A connection that brought less than this before it broke counts as a failure. */
export const PROGRESS_BYTES = 1024 * 1024;

/** Asks for the blob, with that Range header if there is one; any status but 200, 206 and 416 is its own error. */
export type RequestBlob = (range: string | undefined) => Promise<HttpResponse>;

export interface BlobOptions {
  /** For messages. */
  readonly what: string;
  readonly offset: number;
  readonly policy: RetryPolicy;
  /** See Timeouts. */
  readonly rateWindowMs: number;
  readonly signal?: AbortSignal | undefined;
  notice(message: string): void;
}

export async function openBlobStream(
  descriptor: Descriptor,
  request: RequestBlob,
  options: BlobOptions,
): Promise<BlobStream> {
  const { size } = descriptor;
  // Nothing is missing: no registry answers a range of nothing well.
  if (options.offset === size && size > 0) return { offset: size, body: (async function* () {})() };
  const first = await openPart(descriptor, request, options.what, options.offset);
  return { offset: first.start, body: read(descriptor, request, options, first) };
}

interface Part {
  readonly response: HttpResponse;
  /** Offset in the blob of the first byte of the body. */
  readonly start: number;
}

async function openPart(
  descriptor: Descriptor,
  request: RequestBlob,
  what: string,
  from: number,
): Promise<Part> {
  let response = await request(from > 0 ? `bytes=${from}-` : undefined);
  if (response.status === 206 && from > 0) {
    const range = parseContentRange(header(response, 'content-range'), descriptor.size);
    if (range?.offset === from) return { response, start: from };
  }
  if (response.status !== 200) {
    response.body.discard();
    response = await request(undefined);
  }
  if (response.status !== 200) {
    response.body.discard();
    throw new OciError(
      'PROTOCOL',
      `${what}: the registry answers HTTP ${response.status} to a request for all of it`,
    );
  }
  // With a Content-Encoding (which some storages state for blobs that are gzip themselves) it is another length.
  const isEncoded = header(response, 'content-encoding') !== undefined;
  const length = isEncoded ? undefined : header(response, 'content-length');
  if (length === undefined ? isHtml(response) : Number(length) !== descriptor.size) {
    response.body.discard();
    if (isHtml(response)) throw portalError(response, what);
    throw new OciError(
      'SIZE_MISMATCH',
      `${what}: the registry has ${length} bytes, the manifest says ${descriptor.size}`,
      {
        hint: 'Pull again, and tell the registry if it stays so.',
      },
    );
  }
  return { response, start: 0 };
}

async function* read(
  descriptor: Descriptor,
  request: RequestBlob,
  options: BlobOptions,
  first: Part,
): AsyncGenerator<Uint8Array> {
  const { what, policy, rateWindowMs, signal } = options;
  const end = descriptor.size + 1;
  let part = first;
  let position = part.start; // offset in the blob of the next byte to deliver
  let failures = 0;
  for (;;) {
    const begun = position;
    let failure: OciError;
    try {
      let at = part.start;
      const isFastEnough = rateGuard(rateWindowMs);
      let asked = monotonicMs();
      for await (const piece of part.response.body) {
        if (!isFastEnough(piece.length, monotonicMs() - asked)) throw tooSlow(what);
        asked = monotonicMs();
        const fresh = piece.subarray(Math.min(Math.max(position - at, 0), piece.length));
        at += piece.length;
        if (fresh.length === 0) continue;
        const wanted = fresh.subarray(0, end - position);
        position += wanted.length;
        yield wanted;
        if (position >= end) return;
        asked = monotonicMs();
      }
      if (position >= descriptor.size) return;
      failure = new OciError(
        'TEMPORARY',
        `${what}: the stream ends after ${position} of ${descriptor.size} bytes`,
      );
    } catch (error) {
      if (signal?.aborted) throw error;
      if (position >= descriptor.size) return;
      const fault = networkFault(error, part.response.url);
      if (!fault.transient && fault.error.code !== 'TEMPORARY') throw fault.error;
      failure = fault.error;
    }
    failures = position - begun >= PROGRESS_BYTES ? 1 : failures + 1;
    if (failures >= policy.attempts) throw failure;
    options.notice(`${failure.message}; going on from byte ${position}`);
    await sleep(backoffMs(failures, policy), signal);
    part = await openPart(descriptor, request, what, position);
  }
}
