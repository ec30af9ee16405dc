/**
 * Where an image comes from: one small interface, implemented by docker:// (a registry), oci: (a layout
 * directory) and the archives. The stories know only this.
 *
 * Invariant: an implementation hands out bytes; whoever asks verifies them. resolveImage() does so for
 * manifests and configurations, applyLayer() for layers.
 */

import type { BlobPiece, BlobStream, ByteRange, RawManifest } from '../oci/content.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { OciError } from '../oci/errors.ts';

export interface ImageSource {
  /** For messages: `docker://registry.example/app:latest`, without credentials. */
  readonly description: string;
  /** The name the image gets in the store when the user gives none: a full reference, or an oci: layout's tag. */
  readonly localName: string;
  /** Without a digest: what the user named (a manifest or an index). With one: that child, verified. */
  fetchManifest(digest?: Digest): Promise<RawManifest>;
  /** Streams a blob from `offset`; yields at most descriptor.size + 1 bytes in all; not yet verified. */
  openBlob(descriptor: Descriptor, options?: { offset?: number; signal?: AbortSignal }): Promise<BlobStream>;
  /**
   * Exactly these bytes of a blob, not yet verified. `ranges` ascend and do not overlap; so do the pieces. Throws
   * UNSUPPORTED where the blob can be had only whole. Not there: the same of every blob.
   */
  readRanges?(
    descriptor: Descriptor,
    ranges: readonly ByteRange[],
    signal?: AbortSignal,
  ): AsyncIterable<BlobPiece>;
  /**
   * The blob that was read turned out to be wrong. True when it can be had elsewhere: openBlob() asks there from now on.
   * Not there: there is one place alone.
   */
  distrust?(descriptor: Descriptor, error: OciError): boolean;
  close(): Promise<void>;
}

/** As much of it as it takes to fetch layers. */
export type BlobSource = Pick<ImageSource, 'openBlob' | 'readRanges' | 'distrust'>;

/** One that is opened when the first blob is asked for, which may never be. It is had only whole. */
export function lazyBlobSource(open: () => Promise<ImageSource>): BlobSource & Pick<ImageSource, 'close'> {
  let opening: Promise<ImageSource> | undefined;
  let opened: ImageSource | undefined;
  return {
    async openBlob(descriptor, options) {
      opening ??= open();
      opened = await opening;
      return opened.openBlob(descriptor, options);
    },
    distrust: (descriptor, error) => opened?.distrust?.(descriptor, error) ?? false,
    async close() {
      await (await opening?.catch(() => undefined))?.close();
    },
  };
}
