/** Annotations of a bundle's config.json that carry what the runtime spec has no field for, and their defaults. */

export const ANNOTATION = {
  // image-spec conversion.md
  image: 'org.opencontainers.image.ref.name',
  stopSignal: 'org.opencontainers.image.stopSignal',
  // ours
  digest: 'io.ocictl.manifest.digest',
  stopTimeout: 'io.ocictl.stop-timeout-seconds',
  /** no, on-failure[:N], always or unless-stopped, as podman-run(1) has it. */
  restart: 'io.ocictl.restart',
  /** Identifier of the container's lines in the journal. */
  logTag: 'io.ocictl.log-tag',
  /** health-check.ts, as JSON. */
  healthCheck: 'io.ocictl.health-check',
  /** `host`: no user namespace. Nobody but --userns may say so: prepare-bundle.ts. */
  userns: 'io.ocictl.userns',
} as const;

/** How the names of ours begin. */
export const OUR_ANNOTATIONS = 'io.ocictl.';

export const DEFAULT_STOP_SIGNAL = 'SIGTERM';
export const DEFAULT_STOP_TIMEOUT_SECONDS = 10;

/** Option of a bind mount: a directory of the store, made at the first start, whose files have foreign ids. */
export const VOLUME_OPTION = 'x-oci.volume';

/** Option of a bind mount beside it, or alone: a directory of the host outside the store, made at the first start. */
export const MADE_OPTION = 'x-oci.made';
/** In the source of such a mount, until the unit's name is known. */
export const UNIT_PLACEHOLDER = '%N';

/** Option of a bind mount: its source is made of the credentials of the unit. */
export const CREDENTIALS_OPTION = 'x-oci.credentials';

/** Option of a bind mount: its source is the name of an image, of which the tree at SUBPATH_OPTION shows. */
export const IMAGE_OPTION = 'x-oci.image';
export const SUBPATH_OPTION = 'x-oci.subpath=';
