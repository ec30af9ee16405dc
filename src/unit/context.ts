/** Where a container's parts lie and what it is called: everything the translation needs beside the runtime spec. */

export interface UnitContext {
  /** Without `.service`. */
  unit: string;
  imageName: string;
  manifestDigest: string;
  slice: string;
  /** Trees of the image's layers, lowest first. */
  layerTrees: readonly string[];
  /** On the store's file system, gone after a stop: `data`, `work` and `scaffold` of this container. */
  writableDir: string;
  /** The bundle, in the run root: config.json, scripts, the mounts below `mnt`. */
  bundleDir: string;
  /** Parts that all containers share: the shim's programs, a /dev to copy. */
  sharedDir: string;
  /** Paths that must exist in the container and may be missing in the image; canonical, absolute, without `..`. */
  scaffold: { directories: readonly string[]; files: readonly string[] };
  features: Features;
  /** Where stdin, stdout and stderr go instead of the journal: paths that systemd opens. */
  stdio?: { stdin: string; stdout: string; stderr: string };
}

/** What the running systemd has, found by probing its properties. */
export interface Features {
  /** KillMode=mixed stops a unit with PrivatePIDs= gracefully (since 258). */
  mixedKill: boolean;
}

/** The private mounts of a container. */
export function mountDir(context: UnitContext): string {
  return `${context.bundleDir}/mnt`;
}
