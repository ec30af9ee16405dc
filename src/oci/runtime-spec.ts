/**
 * The runtime specification's configuration (runtime-spec config.md, config-linux.md), as far as it is used here:
 * field names exactly as in config.json.
 *
 * A user namespace without uidMappings means: a fresh 64K range at every start (see src/uid).
 */

export interface RuntimeSpec {
  ociVersion: string;
  root: { path: string; readonly?: boolean };
  hostname?: string;
  process: Process;
  mounts: Mount[];
  annotations: Record<string, string>;
  linux: Linux;
}

export interface Process {
  terminal?: boolean;
  user: { uid: number; gid: number; umask?: number; additionalGids?: number[] };
  args: string[];
  /** `NAME=VALUE`, in order, each name once. */
  env: string[];
  /** Absolute. */
  cwd: string;
  capabilities?: Capabilities;
  noNewPrivileges?: boolean;
}

/** Names as capabilities(7) spells them: `CAP_CHOWN`. */
export interface Capabilities {
  bounding: string[];
  effective: string[];
  permitted: string[];
  inheritable: string[];
  ambient: string[];
}

export interface Mount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup';

export interface Linux {
  namespaces: { type: NamespaceType; path?: string }[];
  resources: Resources;
  sysctl?: Record<string, string>;
  maskedPaths: string[];
  readonlyPaths: string[];
}

export interface Resources {
  /** Bytes; -1 is no limit. */
  memory?: { limit?: number; reservation?: number };
  /** Microseconds of run time per period. */
  cpu?: { quota?: number; period?: number };
  pids?: { limit?: number };
}
