/**
 * Image indexes (image-spec image-index.md; Docker manifest lists), and the choice of one entry for a platform.
 *
 * Invariant: the choice depends on the index and the platform only, so that two pulls choose alike.
 */
import { type Descriptor, readDescriptor } from './descriptor.ts';
import { asArray, asStringMap, type JsonObject, optional } from './json.ts';
import { manifestKind } from './media-type.ts';
import { type Platform, platformRank } from './platform.ts';

export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
}

/** Set to "true" by containers tools on the instance of a platform whose layers are zstd. */
const ZSTD_INSTANCE = 'io.github.containers.compression.zstd';

export function readImageIndex(document: JsonObject, mediaType: string): ImageIndex {
  return {
    kind: 'index',
    mediaType,
    manifests: asArray(document['manifests'], 'index manifests').map((entry, i) =>
      readDescriptor(entry, `index entry ${i + 1}`),
    ),
    annotations: optional(document['annotations'], asStringMap, 'index annotations') ?? {},
  };
}

/**
 * The entry for the platform: the best variant, among equals one with zstd layers, among those the first.
 * Failing that a nested index, or an entry that names no platform (its configuration is checked later).
 */
export function chooseEntry(index: ImageIndex, wanted: Platform): Descriptor | undefined {
  let best: Descriptor | undefined;
  let bestScore = Number.POSITIVE_INFINITY;
  for (const entry of index.manifests) {
    const kind = manifestKind(entry.mediaType);
    if (kind !== 'manifest' && kind !== 'index') continue;
    const rank = entry.platform === undefined ? PLATFORM_UNKNOWN : platformRank(wanted, entry.platform);
    if (rank === undefined) continue;
    const score = rank * 2 + (entry.annotations?.[ZSTD_INSTANCE] === 'true' ? 0 : 1);
    if (score < bestScore) [best, bestScore] = [entry, score];
  }
  return best;
}

/** Worse than every variant. */
const PLATFORM_UNKNOWN = 1000;
