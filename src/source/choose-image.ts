/**
 * Several images in one place: which of them the user means. Pure.
 *
 * Invariant: without a name there is exactly one image to choose, or an error that lists the names; `@N` counts
 * from 0, as in other tools.
 */
import { escapeControl, OciError, quote } from '../oci/errors.ts';
import { fullName } from './local-name.ts';

export interface NamedImage<T> {
  /** As the place has them, best first: tags, full names, or other text. */
  readonly names: readonly string[];
  readonly image: T;
}

/** `PATH[:TAG]`. The first colon ends the path, as in other tools. */
export function splitSpec(spec: string): { path: string; tag: string | undefined } {
  const colon = spec.indexOf(':');
  return colon < 0
    ? { path: spec, tag: undefined }
    : { path: spec.slice(0, colon), tag: spec.slice(colon + 1) };
}

const NAMES_SHOWN_MAX = 20;

/** The image of that name, which comes first among its names. `where` and `transport` are for messages. */
export function chooseImage<T>(
  images: readonly NamedImage<T>[],
  name: string | undefined,
  where: { kind: string; place: string },
  transport: string,
): NamedImage<T> {
  const place = `the ${where.kind} ${quote(where.place)}`;
  const listed = images.map(({ names }, i) => names[0] ?? `@${i}`);
  const hint = `Name one of its images, for example ${transport}${where.place}:${escapeControl(listed[0] ?? '')}`;
  const list = `: ${listed.slice(0, NAMES_SHOWN_MAX).map(quote).join(', ')}${listed.length > NAMES_SHOWN_MAX ? ', …' : ''}`;
  if (images.length === 0)
    throw new OciError('IMAGE_NOT_FOUND', `${place} is empty`, { hint: 'Check the path.' });
  if (name === undefined) {
    if (images.length === 1) return images[0]!;
    throw new OciError('USAGE', `${place} has ${images.length} images${list}`, { hint });
  }
  const number = /^@([0-9]{1,6})$/.exec(name)?.[1];
  const found =
    number === undefined
      ? images.filter(({ names }) => names.some((own) => own === name || isSameName(own, name)))
      : images.slice(Number(number), Number(number) + 1);
  if (found.length === 0)
    throw new OciError('IMAGE_NOT_FOUND', `${place} has no image ${quote(name)}, only${list.slice(1)}`, {
      hint,
    });
  if (found.length > 1)
    throw new OciError('BAD_IMAGE', `${place} has ${found.length} images ${quote(name)}`, {
      hint: `Choose by number, for example ${transport}${where.place}:@${images.indexOf(found[0]!)}`,
    });
  const { names, image } = found[0]!;
  return { names: number === undefined ? [name, ...names.filter((own) => own !== name)] : names, image };
}

/** `busybox` and `docker.io/library/busybox:latest`. */
function isSameName(a: string, b: string): boolean {
  const name = fullName(a);
  return name !== undefined && name === fullName(b);
}
