/**
 * From what the user typed to an image in the store, without asking any registry: a name as it is, then what a pull
 * of it would have named the image, then a digest or at least 12 digits of one.
 */
import { OciError, quote } from './oci/errors.ts';
import { type Platform, parsePlatform, platformRank } from './oci/platform.ts';
import { loadRegistriesConf } from './registry/load-registries-conf.ts';
import { hostPlatform } from './source/host-platform.ts';
import { candidateNames, isPlace } from './source/local-name.ts';
import type { SourceOptions } from './source/open-source.ts';
import type { StoredImage } from './store/images.ts';
import type { Store } from './store/store.ts';

type ConfigPlace = Pick<SourceOptions, 'env' | 'configRoot'>;

export function findStoredImage(
  store: Store,
  name: string,
  place: ConfigPlace = {},
): StoredImage | undefined {
  return store.lookup([name]) ?? store.lookup(fullNames(name, place));
}

/** That image, if it is for the platform. */
export function findImageFor({
  store,
  name,
  source,
  platform,
}: {
  readonly store: Store;
  readonly name: string;
  readonly source?: ConfigPlace;
  readonly platform: Platform;
}): StoredImage | undefined {
  const image = findStoredImage(store, name, source);
  if (image === undefined) return undefined;
  const { imageConfig } = store.readDocuments(image);
  return platformRank(platform, imageConfig) === undefined ? undefined : image;
}

/** The platform to get: what the user named, else this machine's. */
export function platformFrom(text: string | undefined): Platform {
  return text === undefined ? hostPlatform() : parsePlatform(text);
}

/** Throws IMAGE_NOT_FOUND. */
export function requireStoredImage(
  store: Store | undefined,
  name: string,
  place: ConfigPlace = {},
): StoredImage {
  const image = store && findStoredImage(store, name, place);
  if (image !== undefined) return image;
  throw new OciError(
    'IMAGE_NOT_FOUND',
    `no image ${quote(name)} in the store${store === undefined ? '' : ` ${quote(store.root)}`}`,
    {
      hint: 'List what is there with ocictl images, or get it with oci-pull.',
    },
  );
}

/** The names that `name` may stand for in the store, best first. */
export function namesFor(name: string, place: ConfigPlace = {}): string[] {
  return [name, ...fullNames(name, place)];
}

function fullNames(name: string, { env = process.env, configRoot = '' }: ConfigPlace): string[] {
  if (isPlace(name)) return [];
  try {
    return candidateNames(name, loadRegistriesConf({ env, root: configRoot }));
  } catch (error) {
    if (error instanceof OciError && error.code === 'USAGE') return []; // no reference, maybe a name of the user's own
    throw error;
  }
}
