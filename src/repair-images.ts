/**
 * What fsck --repair knows of the images of a store: their documents, from the store or, where those are damaged,
 * from the image's source again; and the sources themselves.
 *
 * Invariant: documents given out have the digests that lead to them.
 */
import { type Digest, digestHex, verifyDigest } from './oci/digest.ts';
import { OciError, toOciError } from './oci/errors.ts';
import { parseImageConfig } from './oci/image-config.ts';
import { parseManifestOrIndex } from './oci/manifest.ts';
import type { ImageSource } from './source/image-source.ts';
import { fullName } from './source/local-name.ts';
import { openSource, type SourceOptions } from './source/open-source.ts';
import { fetchConfig } from './source/resolve-image.ts';
import type { ImageDocuments } from './store/images.ts';
import type { Remains } from './store/repairs.ts';
import type { Store } from './store/store.ts';

export interface KnownImage {
  readonly digest: Digest;
  readonly documents: ImageDocuments;
  readonly stored: string;
  /** Where it may come from, best first. */
  readonly sources: readonly string[];
}

export interface Sources extends AsyncDisposable {
  /** What the first of these sources gives that can; otherwise an error with all that went wrong. */
  ask<T>(names: readonly string[], what: string, question: (source: ImageSource) => Promise<T>): Promise<T>;
}

export function openSources(options: SourceOptions, signal: AbortSignal): Sources {
  const opened = new Map<string, Promise<ImageSource>>();
  const open = (name: string): Promise<ImageSource> => {
    const known = opened.get(name) ?? openSource(name, options);
    opened.set(name, known);
    return known;
  };
  return {
    async ask(names, what, question) {
      const refusals: OciError[] = [];
      for (const name of new Set(names)) {
        try {
          return await question(await open(name));
        } catch (error) {
          signal.throwIfAborted();
          refusals.push(toOciError(error));
        }
      }
      const [first] = refusals;
      const why = first === undefined ? 'nobody knows where it came from' : first.message;
      throw new OciError(first?.code ?? 'UNAVAILABLE', `cannot get ${what} again: ${why}`, {
        hint: 'Pull the image again where it can be reached, then repeat this.',
        detail: refusals.map(({ message }) => message).join('\n'),
      });
    },
    async [Symbol.asyncDispose]() {
      for (const source of opened.values())
        await source.then(
          (one) => one.close(),
          () => {},
        );
    },
  };
}

/** Every image whose documents are whole, here or at its source; `onDamaged` hears of the others. */
export async function knowImages(
  store: Store,
  sources: Sources,
  onDamaged: (hex: string, error: unknown) => void,
): Promise<KnownImage[]> {
  const { images, damaged } = store.listImages();
  const own = images.filter((image) => image.store === store.root);
  const known: KnownImage[] = [];
  for (const { digest, names } of [...own, ...damaged]) {
    try {
      known.push(await knowImage(store, digest, names, sources));
    } catch (error) {
      onDamaged(digestHex(digest), error);
    }
  }
  return known;
}

/** Throws where its documents are damaged and no source has them. */
async function knowImage(
  store: Store,
  digest: Digest,
  names: readonly string[],
  sources: Sources,
): Promise<KnownImage> {
  const remains = store.repairs().remains(digest);
  const from = [...(remains.source ? [remains.source] : []), ...names.flatMap(asSource)];
  const { rawManifest, rawConfig } = await getDocuments(store, digest, remains, from, sources);
  const manifest = parseManifestOrIndex(rawManifest);
  if (manifest.kind !== 'manifest') throw new OciError('BAD_IMAGE', 'its manifest is an index');
  const documents = { rawManifest, manifest, rawConfig, imageConfig: parseImageConfig(rawConfig) };
  return { digest, documents, stored: remains.stored, sources: from };
}

/** A name with a registry in it tells where the image came from. */
function asSource(name: string): string[] {
  return fullName(name) === name && !name.startsWith('localhost/') ? [`docker://${name}`] : [];
}

async function getDocuments(
  store: Store,
  digest: Digest,
  remains: Remains,
  from: readonly string[],
  sources: Sources,
): Promise<{ rawManifest: Uint8Array; rawConfig: Uint8Array }> {
  const rawManifest =
    intact(remains.rawManifest, digest) ??
    (await sources.ask(from, 'the manifest', async (source) => {
      const { bytes } = await source.fetchManifest(digest);
      verifyDigest(bytes, digest, 'manifest');
      return bytes;
    }));
  const manifest = parseManifestOrIndex(rawManifest);
  if (manifest.kind !== 'manifest') throw new OciError('BAD_IMAGE', 'its manifest is an index');
  const { config } = manifest;
  const rawConfig =
    intact(remains.rawConfig, config.digest) ??
    store.localDocument(config.digest) ??
    (await sources.ask(from, 'the configuration', (source) => fetchConfig(source, config)));
  return { rawManifest, rawConfig };
}

function intact(bytes: Uint8Array | undefined, digest: Digest): Uint8Array | undefined {
  try {
    if (bytes !== undefined) verifyDigest(bytes, digest, 'document');
    return bytes;
  } catch {
    return undefined;
  }
}
