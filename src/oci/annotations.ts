/** Annotations of a bundle's config.json that carry what the runtime spec has no field for, and their defaults. */

export const ANNOTATION = {
  // image-spec conversion.md
  image: 'org.opencontainers.image.ref.name',
  stopSignal: 'org.opencontainers.image.stopSignal',
  // ours
  digest: 'io.ocictl.manifest.digest',
  stopTimeout: 'io.ocictl.stop-timeout-seconds',
} as const;

export const DEFAULT_STOP_SIGNAL = 'SIGTERM';
export const DEFAULT_STOP_TIMEOUT_SECONDS = 10;
