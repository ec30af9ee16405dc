/**
 * Mounts of other images: their layers (or what a composefs image has instead), id-mapped, below an overlay of their
 * own, made as the container's root is. An empty directory is the lowest layer, since overlayfs wants two. What is
 * written goes to the container's writable directory, and with it.
 */

import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { composefsMounts, composefsStack } from './composefs-mounts.ts';
import type { ComposefsRoot, ImageTree, UnitContext } from './context.ts';
import { layerBind, type Mount } from './fstab.ts';
import { hasHostUsers } from './host-users.ts';
import type { BindMount, MountPlan } from './mounts.ts';
import { refusal } from './refuse.ts';
import { fstabWord, shellWord } from './shell.ts';

interface ImageMount extends ImageTree {
  bind: BindMount;
  name: string;
  /** Below mnt, lowest first. */
  layers: readonly string[];
}

function imageMounts({ binds }: MountPlan, context: UnitContext): ImageMount[] {
  return binds
    .filter((bind) => bind.imagePath !== undefined)
    .map((bind) => {
      const image = context.images?.get(bind.source);
      if (image === undefined)
        throw refusal(
          `the image at '${bind.destination}'`,
          'a bundle has directories only',
          'Mount it with ocictl mount, and bind it.',
        );
      const name = bind.name ?? '';
      const above = image.composefs === undefined ? image.layerTrees : [''];
      return { ...image, bind, name, layers: ['', ...above].map((_, i) => `${name}l${i}`) };
    });
}

/** Those that are composefs images, and where below mnt each is mounted. */
export function composefsImages(
  plan: MountPlan,
  context: UnitContext,
): { name: string; root: ComposefsRoot }[] {
  return imageMounts(plan, context).flatMap(({ composefs, layers: [, name = ''] }) =>
    composefs === undefined ? [] : [{ name, root: composefs }],
  );
}

export function hasWritableImage({ binds }: MountPlan): boolean {
  return binds.some((bind) => bind.imagePath !== undefined && !bind.readOnly);
}

export function imageLayerMounts(plan: MountPlan, context: UnitContext): Mount[] {
  return imageMounts(plan, context).flatMap(({ layerTrees, composefs, layers }) => [
    ...['"$WRITABLE_FIELD"/empty', ...layerTrees.map(fstabWord)].map((source, i) =>
      layerBind(source, layers[i] ?? ''),
    ),
    ...(composefs === undefined ? [] : composefsMounts(layers[1] ?? '', composefs)),
  ]);
}

/** In the writable directory: the empty layer, and of images that may be written what overlayfs writes to. */
export function imageUppers(spec: RuntimeSpec, plan: MountPlan, context: UnitContext): string {
  const mounts = imageMounts(plan, context);
  if (mounts.length === 0) return '';
  const uppers = mounts
    .filter(({ bind }) => !bind.readOnly)
    .map(({ name, rootAttributes: { uid, gid, mode } }) => {
      const data = `"$WRITABLE/${name}/data"`;
      const work = `"$WRITABLE/${name}/work"`;
      return `
mkdir -p ${data} ${work}${ownWork(spec, work)}; chown ${uid}:${gid} ${data}; chmod ${mode.toString(8)} ${data}`;
    });
  return `
mkdir "$WRITABLE/empty"; chown $D:$D "$WRITABLE/empty"${uppers.join('')}`;
}

/** Whose an overlay's work directory is: see layerMounts() in setup-script.ts. */
export function ownWork(spec: RuntimeSpec, work: string): string {
  return hasHostUsers(spec) ? `; chown $D:$D ${work}` : '';
}

export function imageLines(bind: BindMount, context: UnitContext): string {
  const [mount] = imageMounts({ binds: [bind] } as MountPlan, context);
  const { name, layers, composefs } = mount as ImageMount;
  const upper = bind.readOnly ? 'ro' : `upperdir=u/${name}/data,workdir=u/${name}/work`;
  const lower = [...layers].reverse();
  const stack =
    composefs === undefined
      ? `userxattr,lowerdir=${lower.join(':')}`
      : composefsStack(layers[1] ?? '', composefs, lower, !bind.readOnly);
  const options = ['X-mount.mkdir', stack, ...bind.flags, upper];
  const path = (bind.imagePath ?? '/').slice(1);
  // by mount(2): setup-script.ts, rootLines
  return `LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o ${options.join(',')} "oci-$NAME" ${name}t
${
  path === ''
    ? `mkdir ${name}; mount --bind ${name}t ${name}`
    : `if [ -d ${shellWord(`${name}t/${path}`)} ]; then mkdir ${name}; else : >${name}; fi
(reach ${name}t ${shellWord(path)} ${name}; mount -c --bind "./$part" "$BUNDLE/mnt/${name}")`
}`;
}
