/** From the name of an image and the options of a container to its units: for oci-run and for installed services. */

import type { TrustPolicy } from '../image-signatures.ts';
import { IMAGE_OPTION } from '../oci/annotations.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import type { Mount } from '../oci/runtime-spec.ts';
import type { PlaceRequest, PreparedContainer } from '../prepare-container.ts';
import type { StoredImage } from '../store/images.ts';
import type { Store } from '../store/store.ts';
import type { Manager } from '../systemd/manager.ts';
import type { Features } from '../unit/context.ts';
import type { ImageRoot, TrustRequest } from '../verified-image.ts';
import { interruptSignal } from './interrupt.ts';
import { bridgeNetwork, type Networks } from './network-conf.ts';
import {
  type CommonOptions,
  placesFrom,
  type RegistryOptions,
  type StoreFormatOptions,
  sourceOptionsFrom,
  storeFormatFrom,
} from './options.ts';
import type { Output } from './output.ts';
import type { ParsedOptions } from './run-options.ts';
import { parseTrustOptions, type TrustTexts } from './trust-options.ts';

export type PullWhen = 'always' | 'missing' | 'newer' | 'never';

/** An image in the store and its name there. */
export interface NamedImage {
  readonly image: StoredImage;
  readonly name: string;
  readonly store: Store;
}

interface ContainerPlace extends Omit<PlaceRequest, 'root'> {
  readonly networks: Networks;
  readonly trust: TrustPolicy;
  readonly callerEnv: NodeJS.ProcessEnv;
  readonly images: MountedImages;
}

export type MountedImages = ReadonlyMap<string, ImageRoot & { manifestDigest: Digest }>;

export async function containerOf(
  { image, name, store }: NamedImage,
  parsed: ParsedOptions,
  options: { readonly user?: string; readonly init?: boolean } & Partial<TrustTexts>,
  { networks, trust, ...place }: ContainerPlace,
): Promise<PreparedContainer> {
  const { prepareContainer } = await import('../prepare-container.ts');
  const { network, ports, address } = parsed;
  const root = await trustedRoot(store, image, parseTrustOptions(options), trust);
  return prepareContainer({
    ...place,
    ...root,
    root: store.root,
    imageName: name,
    manifestDigest: image.digest,
    imageConfig: store.readDocuments(image).imageConfig,
    ...(options.user === undefined ? {} : { user: options.user }),
    groups: parsed.groups,
    devices: parsed.devices,
    credentials: parsed.credentials,
    network,
    ...(network.kind === 'bridge'
      ? {
          bridge: {
            network: bridgeNetwork(networks, network.name),
            ports,
            ...(address === undefined ? {} : { address }),
          },
        }
      : {}),
    networkFiles: parsed.networkFiles,
    init: options.init ?? false,
    options: parsed.container,
  });
}

const isImage = ({ options }: Mount) => options?.includes(IMAGE_OPTION) ?? false;

/** What the image's files come from, once it is checked and the policy of oci.conf allows it. */
async function trustedRoot(
  store: Store,
  image: StoredImage,
  request: TrustRequest,
  policy: TrustPolicy,
): Promise<ImageRoot> {
  if (policy.requireSignature) {
    const { checkSignatures } = await import('../image-signatures.ts');
    checkSignatures(store, image, policy.keys);
  }
  const { imageRoot } = await import('../verified-image.ts');
  return imageRoot(store, image, request);
}

/** What --mount type=image names, found or pulled as the container's own image is. */
export async function mountedImages(
  mounts: readonly Mount[],
  store: Store,
  trust: TrustPolicy,
  options: Parameters<typeof findOrPull>[2] & Partial<TrustTexts>,
  output: Output,
): Promise<MountedImages> {
  const images = new Map<string, ImageRoot & { manifestDigest: Digest }>();
  const { verity } = parseTrustOptions(options);
  for (const { source = '' } of mounts.filter(isImage))
    if (!images.has(source)) {
      const { image } = await findOrPull(source, store, options, output);
      images.set(source, {
        manifestDigest: image.digest,
        ...(await trustedRoot(store, image, { verity }, trust)),
      });
    }
  return images;
}

/** systemd and what it has; for --dry-run without one, what a current one would have. */
export async function connect(
  dryRun: boolean,
): Promise<{ systemd: Manager | undefined; features: Features }> {
  const [{ connectManager }, { featuresOf, PROBED }] = await Promise.all([
    import('../systemd/manager.ts'),
    import('../unit/features.ts'),
  ]);
  let systemd: Manager;
  try {
    systemd = await connectManager(PROBED);
  } catch (error) {
    if (dryRun && error instanceof OciError && error.code === 'UNAVAILABLE')
      return { systemd: undefined, features: { ownsMainProcess: true, architecture: process.arch } };
    throw error;
  }
  try {
    return { systemd, features: featuresOf(systemd.serviceProperties, systemd.version, process.arch) };
  } catch (error) {
    systemd.close();
    throw error;
  }
}

/** The image in the store, pulled where `pull` says so, and its name there. */
export async function findOrPull(
  name: string,
  store: Store,
  options: CommonOptions & RegistryOptions & StoreFormatOptions & { readonly pull: PullWhen },
  output: Output,
): Promise<{ image: StoredImage; name: string }> {
  const { findImageFor, platformFrom, requireStoredImage } = await import('../find-image.ts');
  const { pull: policy } = options;
  const platform = platformFrom(options.platform);
  // nothing of a pull is loaded for what is here
  const here = policy === 'missing' ? findImageFor({ store, name, platform }) : undefined;
  if (policy === 'never' || here !== undefined) {
    const image = here ?? requireStoredImage(store, name);
    return { image, name: image.names[0] ?? image.digest };
  }
  const [{ pullImage }, { createProgress }] = await Promise.all([
    import('../pull.ts'),
    import('./progress.ts'),
  ]);
  const signal = interruptSignal();
  const progress = createProgress(output);
  try {
    const { image, name: stored } = await pullImage({
      store,
      name,
      policy,
      ...storeFormatFrom(options, await placesFrom(options)),
      platform,
      source: await sourceOptionsFrom(options, output.note),
      ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
      waiting: { onWait: (message) => output.note(message), signal },
      signal,
      onEvent: progress.onEvent,
    });
    return { image, name: stored };
  } finally {
    progress.close();
  }
}
