/**
 * Upper bounds on everything that a registry, an archive or an image can make us read or keep.
 * Constants carry their unit. Source: distribution-spec (4 MiB manifests), measured sizes of real images.
 */

export const MANIFEST_MAX_BYTES = 4 * 1024 * 1024;
export const CONFIG_MAX_BYTES = 4 * 1024 * 1024;
export const TOKEN_RESPONSE_MAX_BYTES = 1024 * 1024;
export const ERROR_BODY_MAX_BYTES = 64 * 1024;
/** A registry that sends a blob more slowly than this, on the average of a minute, has stalled. */
export const BLOB_MIN_BYTES_PER_SECOND = 1024;
/** Nesting of JSON documents. */
export const JSON_MAX_DEPTH = 64;
/** Objects and arrays of one document: empty ones take twenty times the memory of their text. */
export const JSON_MAX_CONTAINERS = 1_000_000;
export const LAYERS_MAX = 500;

/** Container ids are 0..65535: the width of one user range. */
export const CONTAINER_ID_MAX = 65535;
/** Where container id 0 lies on disk: the start of systemd's foreign UID range (uid_t 0x7ffe0000). */
export const FOREIGN_UID_BASE = 2147352576;

export const PATH_MAX_BYTES = 4095;
export const NAME_MAX_BYTES = 255;
export const PAX_HEADER_MAX_BYTES = 1024 * 1024;
export const XATTR_VALUE_MAX_BYTES = 64 * 1024;

/** Members of an image archive: some hundred images with all their layers have fewer. */
export const ARCHIVE_MEMBERS_MAX = 100_000;
/** Of a compressed image archive, unpacked: no image is larger, and a bomb ends here. */
export const ARCHIVE_UNPACKED_MAX_BYTES = 256 * 1024 ** 3;
