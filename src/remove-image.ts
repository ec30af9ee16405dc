/** The story of `ocictl rm`: one name, and the image with what only it needs when that was its last name. */
import { namesFor } from './find-image.ts';
import type { Waiting } from './host/lock.ts';
import { OciError, quote } from './oci/errors.ts';
import type { RemovedImage, Store } from './store/store.ts';

/** Throws IMAGE_NOT_FOUND, BUSY while something uses the image, USAGE for a digest with several names. */
export async function removeImage(
  store: Store | undefined,
  name: string,
  runRoot: string,
  waiting: Waiting,
): Promise<RemovedImage> {
  if (store !== undefined) {
    using _lock = await store.lock('exclusive', waiting);
    const removed = await store.removeImage(namesFor(name), runRoot);
    if (removed !== undefined) return removed;
  }
  throw new OciError('IMAGE_NOT_FOUND', `no image ${quote(name)} in the store`, {
    hint: 'List what is there with ocictl images.',
  });
}
