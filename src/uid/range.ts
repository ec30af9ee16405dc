/**
 * User ranges: which host ids a running container has.
 *
 * Every start takes a free range of 65536 ids inside systemd's container range (users, groups and groups of ids:
 * systemd.io/UIDS-GIDS). It is allocated by the setup script (src/unit/setup-script.ts), published through userdb
 * while the container lives, and never written to disk: files lie in the foreign range instead.
 */
import { createHash } from 'node:crypto';

/** Slots of 65536 ids: 8 → 524288 … 28671 → 1878982656, the container range of systemd. */
export const SLOT_MIN = 8;
export const SLOT_MAX = 28671;
export const RANGE_SIZE = 65536;

const USER_NAME_MAX_CHARS = 31;

/**
 * The name under which the range's first id, the container's root, is known on the host: `oci-UNIT`, or a hash where
 * the unit's name is no valid user name (systemd.io/USER_NAMES, strict).
 */
export function rangeUserName(unit: string): string {
  const name = `oci-${unit}`;
  if (/^[a-z_][a-z0-9_-]*$/.test(name) && name.length <= USER_NAME_MAX_CHARS) return name;
  // of a template's instances by their names, which are not known when the units are made
  const [, template, instance] = /^(.+@)([a-z0-9_-]{1,18})$/.exec(unit) ?? [];
  return instance === undefined ? `oci-${hash(unit, 16)}` : `oci-${hash(template!, 8)}-${instance}`;
}

function hash(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}
