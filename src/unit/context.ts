/** Where a container's parts lie and what it is called: everything the translation needs beside the runtime spec. */
import type { PublishedPort } from '../oci/address.ts';
import type { Credential } from '../oci/credential.ts';
import type { Listen, Setting } from './setting.ts';

export interface UnitContext {
  /** Without `.service`. */
  unit: string;
  imageName: string;
  manifestDigest: string;
  slice: string;
  /** Trees of the image's layers, lowest first. Of a bundle that is used read-only: its rootfs. */
  layerTrees: readonly string[];
  /** Instead of layers: the image as one file. */
  composefs?: ComposefsRoot;
  /** A bundle's rootfs that the container writes to, instead of layers. */
  rootfs?: string;
  /** Where id 0 of layerTrees or rootfs lies on disk. */
  idBase: number;
  /** On the store's file system, gone after a stop: `data`, `work` and `scaffold` of this container. */
  writableDir: string;
  /** The bundle, in the run root: config.json, scripts, the mounts below `mnt`. */
  bundleDir: string;
  /** The directory that --bundle named: what hooks are told. */
  sourceBundle?: string;
  /** Parts that all containers share: the shim's programs, a /dev to copy. */
  sharedDir: string;
  /** Canonical absolute paths that must exist: made below the root's layers, or above them where something is in the way. */
  scaffold: {
    directories: readonly string[];
    files: readonly string[];
    cover: readonly {
      path: string;
      kind: 'directory' | 'file';
      mode: number;
      /** As on disk. */
      owner?: { uid: number; gid: number };
    }[];
  };
  /** One of scaffold.directories that is not root's; ids as on disk. */
  ownDirectory?: { path: string; uid: number; gid: number };
  /** Who enters the payload's working directory. */
  cwdBy: 'unit' | 'shim';
  /**
   * Of the root directory, as on disk: the writable layer takes them over. `covered`: the image's would not let the shim
   * or the payload search it, and a layer above it has these instead.
   */
  rootAttributes: { uid: number; gid: number; mode: number; covered: boolean };
  /** The root's /run would not let the shim or the payload search it. */
  opensRun?: boolean;
  /** Destinations of mounts that begin with what the root has there → its canonical path; what it lacks is not here. */
  copyUp: ReadonlyMap<string, string>;
  /** Canonical paths of all mounts' destinations, where systemd mistakes the name of one. */
  places?: ReadonlyMap<string, string>;
  /** Of linux.maskedPaths, what /proc and /sys have; only of a container that starts once, and now. */
  kernelPaths?: ReadonlyMap<string, KernelPath>;
  /** Images that are mounted, by the name in `source`. */
  images?: ReadonlyMap<string, ImageTree>;
  /** What the files in /etc say that every container of an image has; a bundle brings its own. */
  networkFiles?: NetworkFiles;
  /** The bridge of the host that its network namespace is connected to. */
  bridge?: BridgeAttachment;
  /** The unit whose network namespace the container joins; without `.service`. */
  joinsNetworkOf?: string;
  /** A static init of the host that becomes PID 1. */
  init?: string;
  /** The payload is started by the first connection to one of these. */
  sockets?: readonly Listen[];
  /** Who says when it is ready: the payload itself (sd_notify(3)), or its health check. */
  notify?: 'payload' | 'healthy';
  /** What CREDENTIALS_OPTION shows. */
  credentials?: readonly Credential[];
  /** Settings that the user wants beside or instead of the translation's. */
  extraSettings?: readonly Setting[];
  features: Features;
  /** Where stdin, stdout and stderr go instead of the journal: paths that systemd opens. */
  stdio?: { stdin: string; stdout: string; stderr: string };
}

export type KernelPath = 'directory' | 'file' | 'absent';

/** An image beside the container's own. */
export interface ImageTree {
  manifestDigest: string;
  /** Of its layers, lowest first. */
  layerTrees: readonly string[];
  /** Instead of layers. */
  composefs?: ComposefsRoot;
  /** Of its root directory, as on disk. */
  rootAttributes: { uid: number; gid: number; mode: number };
}

/** An image of the store format `composefs`. */
export interface ComposefsRoot {
  /** Path of the EROFS. */
  image: string;
  /** Its fs-verity digest, 64 hex digits: what people know it by. */
  digest: string;
  /** What was checked, and its plain digest, 64 hex digits: the setup mounts a file of that only. */
  content: Buffer;
  sha256: string;
  /** The directory of the objects. */
  objects: string;
  /** The kernel verifies every read, of the image and of the objects. */
  verity: boolean;
}

export interface NetworkFiles {
  /** Further lines of /etc/hosts: `ADDRESS NAME`; the address may be HOST_GATEWAY. */
  hosts: readonly string[];
  /** Of /etc/resolv.conf, each; none: what the network or the host gives. */
  nameservers: readonly string[];
  /** `.` alone: no domain. */
  searchDomains: readonly string[];
  resolverOptions: readonly string[];
}

/** Stands for the host's own address, as the container reaches it. */
export const HOST_GATEWAY = 'host-gateway';

/** A network of this host's, as oci.conf describes it. */
export interface BridgeNetwork {
  /** Of the network and of its interface on the host. */
  name: string;
  /** The first address as a number, and the prefix's length. The gateway is the next one. */
  ipv4: { base: number; prefixLength: number };
  /** A prefix of 64 bits that ends in `::`. */
  ipv6?: string;
  /** No way out. */
  internal: boolean;
  /** Containers find each other by name, where aardvark-dns is installed. */
  dns: boolean;
}

export interface BridgeAttachment {
  network: BridgeNetwork;
  /** undefined: a free one at each start. */
  address?: number;
  ports: readonly PublishedPort[];
}

/** What the running systemd has, found by probing its properties. */
export interface Features {
  /** The main process of PrivatePIDs= is systemd's own child from the beginning (since 258). */
  ownsMainProcess: boolean;
  /** As process.arch names it. */
  architecture: string;
}

/** The private mounts of a container. */
export function mountDir(context: Pick<UnitContext, 'bundleDir'>): string {
  return `${context.bundleDir}/mnt`;
}
