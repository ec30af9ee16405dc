/**
 * What a container's root is made from, and the check of a composefs image before it is: the file has the fs-verity digest
 * that the store, the user or a signature says, and the kernel guards it where that is asked for.
 *
 * Invariant: everything that is later looked up in the image is taken from the bytes that were checked here, and the setup
 * mounts a file of their checksum only. --verity is decided by the image's own file: the store gives it fs-verity last,
 * once each of its objects has it.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { type VerityDigest, verityDigestOf } from './composefs/verity-digest.ts';
import { lacksVerity, measureVerity } from './host/verity.ts';
import { OciError, quote } from './oci/errors.ts';
import { openComposefsTree } from './store/composefs-tree.ts';
import type { StoredImage } from './store/images.ts';
import { type MergedTree, openMergedTree } from './store/merged-tree.ts';
import type { Store } from './store/store.ts';
import type { ComposefsRoot } from './unit/context.ts';

export type VerityMode = 'require' | 'auto' | 'off';

export interface TrustRequest {
  readonly verity: VerityMode;
  /** --image-digest. */
  readonly imageDigest?: VerityDigest;
}

export interface ImageRoot {
  /** Lowest first; none of a composefs image. */
  readonly layerTrees: readonly string[];
  readonly composefs?: ComposefsRoot;
}

/** Some ten times what the largest images have: it is read as a whole. */
const IMAGE_MAX_BYTES = 1024 ** 3;

/** Throws DIGEST_MISMATCH; UNSUPPORTED where --verity=require cannot be had. */
export function imageRoot(
  store: Store,
  image: StoredImage,
  { verity: mode, imageDigest }: TrustRequest,
): ImageRoot {
  const { composefs } = image;
  const option =
    imageDigest !== undefined ? '--image-digest' : mode === 'require' ? '--verity=require' : undefined;
  if (composefs === undefined && option !== undefined)
    throw new OciError('UNSUPPORTED', `${option}: image ${nameOf(image)} is stored as plain trees`, {
      hint: `Convert it: ocictl convert --to composefs ${image.names[0] ?? image.digest}`,
    });
  if (composefs !== undefined && imageDigest !== undefined && composefs.digest !== imageDigest)
    throw new OciError(
      'DIGEST_MISMATCH',
      `--image-digest: image ${nameOf(image)} has sha256:${composefs.digest}, not sha256:${imageDigest}`,
      { hint: 'Name the image that is meant: ocictl images lists what is here.' },
    );
  if (composefs !== undefined) return { layerTrees: [], composefs: checkImage(image, mode) };
  return { layerTrees: store.layerTrees(image) };
}

/** Without mounting it. Throws BAD_IMAGE. */
export function openImageTree({ layerTrees, composefs }: ImageRoot): MergedTree {
  return composefs === undefined
    ? openMergedTree(layerTrees)
    : openComposefsTree(composefs.content, composefs.objects);
}

/** The file of a composefs image, opened, with its digest. The caller closes `fd`. */
export function openCheckedImage(image: StoredImage): { fd: number; content: Buffer; isGuarded: boolean } {
  const { path, digest } = image.composefs!;
  const damaged = (why: string, cause?: unknown) =>
    new OciError('DIGEST_MISMATCH', `image ${nameOf(image)}: ${quote(path)} ${why}`, {
      hint: 'Repair it: ocictl fsck --repair',
      cause,
    });
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw damaged(`cannot be opened: ${(error as NodeJS.ErrnoException).code}`, error);
  }
  try {
    const { size } = fstatSync(fd);
    if (size > IMAGE_MAX_BYTES) throw damaged(`has ${size} bytes, more than ${IMAGE_MAX_BYTES}`);
    const content = read(fd, damaged);
    const got = verityDigestOf(content);
    if (got !== digest) throw damaged(`has the fs-verity digest sha256:${got}, not sha256:${digest}`);
    return { fd, content, isGuarded: measureVerity(fd) === digest };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function read(fd: number, damaged: (why: string, cause: unknown) => OciError): Buffer {
  try {
    return readFileSync(fd);
  } catch (error) {
    throw damaged(`cannot be read: ${(error as NodeJS.ErrnoException).code}`, error); // EIO: the kernel's fs-verity
  }
}

function checkImage(image: StoredImage, mode: VerityMode): ComposefsRoot {
  const { fd, content, isGuarded } = openCheckedImage(image);
  const isRepairable = lacksVerity(fd);
  closeSync(fd);
  if (mode === 'require' && !isGuarded)
    throw new OciError(
      'UNSUPPORTED',
      `--verity=require: the kernel does not guard image ${nameOf(image)}: ${isRepairable ? 'its file has no fs-verity' : 'there is no fs-verity here'}`,
      {
        hint: isRepairable
          ? 'Have it guarded: ocictl fsck --repair. Where files of it have large holes, use --verity=auto.'
          : 'Use --verity=auto, or put the store on ext4 with the feature verity, f2fs or btrfs: tune2fs -O verity DEVICE.',
      },
    );
  const verity = isGuarded && mode !== 'off';
  const { path, digest, objects } = image.composefs!;
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { image: path, digest, sha256, content, objects, verity };
}

export function nameOf({ names: [name], digest }: StoredImage): string {
  return quote(name ?? digest);
}
