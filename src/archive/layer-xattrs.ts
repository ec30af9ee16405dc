/**
 * Which xattrs of a layer are stored, and how: capabilities(7), acl(5), overlayfs.
 *
 * Invariant: no xattr of an archive can mean something to overlayfs or carry an id of the host.
 *
 *   user.overlay.*, trusted.overlay.*   refused: they would steer the overlay that the layer becomes part of
 *   security.capability                 stored for the container's root, see storedCapability()
 *   system.posix_acl_access, _default   ids shifted by idBase, as the owners are
 *   user.*, trusted.*                   stored as they are
 *   ACLs and user.* on what cannot have them   left out: the kernel has none there
 *   all other security.* and system.*   left out: labels, signatures and ACLs of the host the layer was made on
 */
import { CONTAINER_ID_MAX } from '../oci/limits.ts';
import { showBytes } from './byte-string.ts';
import { Refusal } from './refusal.ts';
import type { TarEntryType } from './tar-entry.ts';

const ACCESS_ACL_XATTR = 'system.posix_acl_access';
export const DEFAULT_ACL_XATTR = 'system.posix_acl_default';
const OVERLAY_XATTR = /^(user|trusted)\.overlay\./;

export function isOverlayXattr(name: string): boolean {
  return OVERLAY_XATTR.test(name);
}

/** The value to store, or undefined to leave the xattr out. Throws a Refusal. */
export function storedXattr(
  name: string,
  value: Buffer,
  type: TarEntryType,
  idBase: number,
): Buffer | undefined {
  if (isOverlayXattr(name)) throw new Refusal(`xattr ${showBytes(name)}, which belongs to overlayfs`);
  if (name === 'security.capability') return storedCapability(value, idBase);
  if (name === ACCESS_ACL_XATTR) return type === 'symlink' ? undefined : storedAcl(name, value, idBase);
  if (name === DEFAULT_ACL_XATTR) return type === 'directory' ? storedAcl(name, value, idBase) : undefined;
  if (name.startsWith('user.')) return type === 'file' || type === 'directory' ? value : undefined;
  return name.startsWith('trusted.') ? value : undefined;
}

const CAPABILITY_V2 = 2;
const CAPABILITY_V3 = 3;
const CAPABILITY_V2_BYTES = 20;
const CAPABILITY_V3_BYTES = 24;

/**
 * File capabilities are bound to a root user: version 2 to id 0 of the file system, version 3 to the id it names. A layer
 * lies at idBase on the disk and is seen through an id-mapped mount, which has no mapping for id 0: there the
 * kernel would take version 2 as none at all (and fail with EOVERFLOW when asked for it). So the capability is stored
 * as version 3 with the disk id of the container's root: it counts in the user namespace whose root that is, and
 * nowhere else, in particular not for users of the host. With idBase 0 version 2 says the same.
 */
function storedCapability(value: Buffer, idBase: number): Buffer {
  const version = value.length >= 4 ? value.readUInt32LE(0) >>> 24 : 0;
  let root = 0;
  if (version === CAPABILITY_V3 && value.length === CAPABILITY_V3_BYTES)
    root = value.readUInt32LE(CAPABILITY_V2_BYTES);
  else if (version !== CAPABILITY_V2 || value.length !== CAPABILITY_V2_BYTES)
    throw new Refusal('file capabilities of an unknown version');
  if (root > CONTAINER_ID_MAX)
    throw new Refusal(`file capabilities of root id ${root}, not in the range 0 to ${CONTAINER_ID_MAX}`);
  if (root + idBase === 0) return withVersion(value.subarray(0, CAPABILITY_V2_BYTES), CAPABILITY_V2);
  const stored = Buffer.alloc(CAPABILITY_V3_BYTES);
  value.copy(stored, 0, 0, CAPABILITY_V2_BYTES);
  stored.writeUInt32LE(root + idBase, CAPABILITY_V2_BYTES);
  return withVersion(stored, CAPABILITY_V3);
}

function withVersion(value: Buffer, version: number): Buffer {
  const copy = Buffer.from(value);
  copy[3] = version;
  return copy;
}

const ACL_VERSION = 2;
const ACL_ENTRY_BYTES = 8;
const ACL_USER_OBJ = 1;
const ACL_USER = 2;
const ACL_GROUP_OBJ = 4;
const ACL_GROUP = 8;
const ACL_MASK = 16;
const ACL_OTHER = 32;
const ACL_PERMISSIONS = 7;

function storedAcl(name: string, value: Buffer, idBase: number): Buffer | undefined {
  if (value.length < 4 || value.readUInt32LE(0) !== ACL_VERSION || (value.length - 4) % ACL_ENTRY_BYTES !== 0)
    throw new Refusal('an ACL that is not valid');
  if (value.length === 4) return undefined; // to the kernel: no ACL
  const stored = Buffer.from(value);
  /** What entries there are: the kernel wants them in this order, the names of a kind beside each other. */
  let order = '';
  for (let at = 4; at < stored.length; at += ACL_ENTRY_BYTES) {
    const tag = stored.readUInt16LE(at);
    order += ACL_LETTERS.get(tag) ?? '?';
    if (stored.readUInt16LE(at + 2) > ACL_PERMISSIONS) order += '?';
    if (tag !== ACL_USER && tag !== ACL_GROUP) continue;
    const id = stored.readUInt32LE(at + 4);
    if (id > CONTAINER_ID_MAX)
      throw new Refusal(`an ACL with id ${id}, not in the range 0 to ${CONTAINER_ID_MAX}`);
    stored.writeUInt32LE(id + idBase, at + 4);
  }
  if (!/^Uu*Gg*Mo$|^UGo$/.test(order))
    throw new Refusal(`xattr ${showBytes(name)} that the kernel finds invalid`);
  return stored;
}

const ACL_LETTERS = new Map([
  [ACL_USER_OBJ, 'U'],
  [ACL_USER, 'u'],
  [ACL_GROUP_OBJ, 'G'],
  [ACL_GROUP, 'g'],
  [ACL_MASK, 'M'],
  [ACL_OTHER, 'o'],
]);
