/** --cap-add and --cap-drop (podman-run(1)) → the sets of the payload. */
import { CAPABILITIES } from '../oci/capability.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { Capabilities } from '../oci/runtime-spec.ts';
import { DEFAULT_CAPABILITIES } from './defaults.ts';

/**
 * A user other than root starts with what was added by name alone, as with podman; set-user-ID programs can still
 * gain the bounding set.
 */
export function capabilitySets(uid: number, add: readonly string[], drop: readonly string[]): Capabilities {
  const added = add.flatMap((text) => parseNames('--cap-add', text));
  const dropped = drop.flatMap((text) => parseNames('--cap-drop', text));
  if (added.includes('ALL') && dropped.includes('ALL'))
    throw new OciError('USAGE', '--cap-add ALL and --cap-drop ALL exclude each other', {
      hint: 'Leave one of them out.',
    });
  const base = dropped.includes('ALL') ? [] : added.includes('ALL') ? CAPABILITIES : DEFAULT_CAPABILITIES;
  const wanted = new Set([...base, ...added]);
  const bounding = CAPABILITIES.filter((name) => wanted.has(name) && !dropped.includes(name));
  const own = added.includes('ALL') ? bounding : bounding.filter((name) => added.includes(name));
  const raised = uid === 0 ? [] : own;
  const effective = uid === 0 ? bounding : raised;
  return { bounding, effective, permitted: effective, inheritable: raised, ambient: raised };
}

/** `net_admin`, `CAP_NET_ADMIN`, `ALL`; several with commas. */
function parseNames(option: string, text: string): string[] {
  return text.split(',').map((word) => {
    const upper = word.trim().toUpperCase();
    if (upper === 'ALL') return upper;
    const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
    if (CAPABILITIES.includes(name)) return name;
    throw new OciError('USAGE', `${option}: ${quote(word)} is no capability`, {
      hint: 'Use names of capabilities(7), as NET_ADMIN, or ALL.',
    });
  });
}
