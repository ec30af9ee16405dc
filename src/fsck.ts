/** The story of `ocictl fsck`: looks at everything, and with `repair` mends what it can. */
import type { Waiting } from './host/lock.ts';
import type { Digest } from './oci/digest.ts';
import { type RepairOptions, repairStore } from './repair.ts';
import type { Mended } from './repair-outcomes.ts';
import type { CheckedStore } from './store/check-store.ts';
import type { Store } from './store/store.ts';

export interface FsckResult extends Omit<CheckedStore, 'damage'> {
  readonly damage: readonly Mended[];
}

/** Of the whole store, or of `images` with their layers and names. */
export async function fsckStore(
  store: Store,
  images: readonly Digest[] | undefined,
  waiting: Waiting,
  repair?: RepairOptions,
): Promise<FsckResult> {
  let checked: CheckedStore;
  {
    using _lock = await store.lock('shared', waiting);
    checked = await store.check(images, waiting.signal);
  }
  const damage =
    repair === undefined
      ? checked.damage.map((one) => ({ ...one, repaired: false }))
      : await repairStore(store, checked.damage, waiting, repair);
  return { ...checked, damage };
}
