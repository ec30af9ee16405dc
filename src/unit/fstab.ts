/** Mounts of the setup that one mount(8) makes, by an fstab(5) of its own: programs are what a start's time goes to. */

/** One mount; relative to mnt, where its directory is made. A file must be there. `source` and `options` are shell: words, the options in double quotes. */
export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly options: string;
}

/** All by one mount(8), in their order. */
export function mountLines(mounts: readonly Mount[]): string {
  const fields = mounts.map(
    ({ source, target, type, options }) =>
      `  ${source} "$MOUNTS_FIELD/${target}" ${type} "X-mount.mkdir,${options}"`,
  );
  return `printf '%s %s %s %s 0 0\\n' \\\n${fields.join(' \\\n')} >fstab
mount --all --fstab fstab || fail 'the mounts above failed'`;
}

/** A bind of which nothing reaches its source; `source` and `options` as a Mount has them. */
export function privateBind(source: string, target: string, options: string): Mount {
  return { source, target, type: 'none', options: `bind,private,${options}` };
}

/** A layer of an image, with its ids moved into the container's range. */
export function layerBind(source: string, target: string): Mount {
  return privateBind(source, target, 'ro,X-mount.idmap=b:$D:$B:$SIZE');
}
