/**
 * From a stored image and the options of oci-run to everything a start needs: runtime spec, units, scripts.
 *
 * Invariant: nothing is started, mounted or written here, and nothing of the image is executed or followed out of
 * it; what can be found wrong (user, command, paths) is found now.
 */
import { statfsSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { canonicalPath } from './bundle/canonical-path.ts';
import type { DeviceRequest } from './bundle/device.ts';
import type { NetworkChoice, NetworkMode } from './bundle/network.ts';
import { type ContainerOptions, translateImage } from './bundle/runtime-spec.ts';
import { canonicalPoint } from './bundle/scaffold.ts';
import { byOption, type ResolvedUser, resolveGroup, resolveUser } from './bundle/user.ts';
import { containerContext } from './container-context.ts';
import { requireContainer } from './containers.ts';
import { checkLabels } from './host/security-modules.ts';
import { findStaticInit } from './host/static-init.ts';
import {
  CREDENTIALS_OPTION,
  IMAGE_OPTION,
  MADE_OPTION,
  SUBPATH_OPTION,
  UNIT_PLACEHOLDER,
  VOLUME_OPTION,
} from './oci/annotations.ts';
import { CREDENTIALS_DIRECTORY, type Credential } from './oci/credential.ts';
import { OciError, quote } from './oci/errors.ts';
import type { ImageConfig } from './oci/image-config.ts';
import { FOREIGN_UID_BASE } from './oci/limits.ts';
import type { Device, Mount, Resources, RuntimeSpec } from './oci/runtime-spec.ts';
import type { MergedTree } from './store/merged-tree.ts';
import { type ContainerUnits, containerUnits } from './unit/container-units.ts';
import type { BridgeAttachment, Features, ImageTree, NetworkFiles, UnitContext } from './unit/context.ts';
import { NETWORK_FILES } from './unit/filesystem.ts';
import { withoutDots } from './unit/mounts.ts';
import { inWordsOfOptions } from './unit/refuse.ts';
import type { Setting } from './unit/setting.ts';
import { terminalStreams } from './unit/terminal.ts';
import { type ImageRoot, openImageTree } from './verified-image.ts';

/** What every container is told of its place on the host. */
export interface PlaceRequest {
  unit: string;
  slice: string;
  /** The store's root and the run root, absolute. */
  root: string;
  runRoot: string;
  features: Features;
  stdio?: UnitContext['stdio'];
  /** Its streams are a terminal. */
  terminal?: boolean;
  sockets?: UnitContext['sockets'];
  /** By oci-run, not by systemd at some other time. */
  startsNow?: boolean;
  notify?: UnitContext['notify'];
  /** --property. */
  extraSettings?: readonly Setting[];
}

export interface ContainerRequest extends PlaceRequest, ImageRoot {
  imageName: string;
  manifestDigest: string;
  imageConfig: ImageConfig;
  /** The image's user when undefined. */
  user?: string;
  /** --group-add, by name or number. */
  groups?: readonly string[];
  devices?: readonly DeviceRequest[];
  credentials?: readonly Credential[];
  networkFiles?: NetworkFiles;
  /** Other images that are mounted, by the name that their mounts have. */
  images?: ReadonlyMap<string, MountedImage>;
  /** --network. */
  network: NetworkChoice;
  /** Where `network` is a bridge. */
  bridge?: BridgeAttachment;
  /** An init of the host's becomes PID 1. */
  init?: boolean;
  options: Omit<ContainerOptions, 'network'>;
  callerEnv: Readonly<Record<string, string | undefined>>;
}

export type MountedImage = Omit<ImageTree, 'rootAttributes'>;

export interface PreparedContainer {
  unit: string;
  spec: RuntimeSpec;
  units: ContainerUnits;
  context: UnitContext;
  bundleDir: string;
}

export function prepareContainer(request: ContainerRequest): PreparedContainer {
  const tree = openImageTree(request);
  try {
    const images = new Map([...(request.images ?? [])].map(([name, image]) => [name, imageTree(image)]));
    const devices = (request.devices ?? []).map(hostDevice);
    const place = placeOf(request);
    const credentials = request.credentials ?? [];
    const options = {
      ...request.options,
      workdir: request.options.workdir ?? workingDirectory(request.imageConfig, tree),
      env: [
        ...(credentials.length > 0 ? [`CREDENTIALS_DIRECTORY=${CREDENTIALS_DIRECTORY}`] : []),
        ...request.options.env,
      ],
      network: networkMode(request),
      mounts: [
        ...request.options.mounts.map((mount) =>
          mount.options?.includes(IMAGE_OPTION)
            ? withCanonicalSubpath(mount, images)
            : volumeSource(mount, `${request.root}/volumes`, request.unit),
        ),
        ...credentialsMount(request),
        ...imageVolumes(request, `${place.writableDir}/volumes`),
      ],
      resources: withDevices(request.options.resources, devices),
    };
    const user = payloadUser(request, tree);
    const spec = translateImage({ ...request, options, user, devices: devices.map(({ device }) => device) });
    const context = containerContext(
      spec,
      tree,
      {
        ...place,
        imageName: request.imageName,
        manifestDigest: request.manifestDigest,
        layerTrees: request.layerTrees,
        ...(request.composefs === undefined ? {} : { composefs: request.composefs }),
        idBase: FOREIGN_UID_BASE,
        networkFiles: request.networkFiles ?? NO_NETWORK_FILES,
        ...(images.size > 0 ? { images } : {}),
        ...(credentials.length > 0 ? { credentials } : {}),
        ...(request.bridge === undefined ? {} : { bridge: request.bridge }),
        ...(request.network.kind === 'container' ? { joinsNetworkOf: request.network.unit } : {}),
        ...(request.init ? { init: findStaticInit() } : {}),
      },
      { directories: volumePlaces(request.imageConfig), files: NETWORK_FILES, ownsDirectory: true },
    );
    return finish(spec, context);
  } catch (error) {
    throw inWordsOfOptions(error);
  } finally {
    tree.close();
  }
}

/** Where the parts of a container lie. */
export function placeOf(request: PlaceRequest) {
  const bundleDir = `${request.runRoot}/containers/${request.unit}`;
  const stdio = request.terminal ? terminalStreams({ bundleDir }) : request.stdio;
  return {
    unit: request.unit,
    slice: request.slice,
    writableDir: `${request.root}/writable/${request.unit}`,
    bundleDir,
    // one for each form of what the setup script puts there: containers of an older one go on using theirs
    sharedDir: `${request.runRoot}/shared-4`,
    features: request.features,
    ...(stdio === undefined ? {} : { stdio }),
    ...(request.sockets === undefined ? {} : { sockets: request.sockets }),
    ...(request.startsNow === undefined ? {} : { startsNow: request.startsNow }),
    ...(request.notify === undefined ? {} : { notify: request.notify }),
    ...(request.extraSettings === undefined ? {} : { extraSettings: request.extraSettings }),
  };
}

export function finish(spec: RuntimeSpec, context: UnitContext): PreparedContainer {
  const { unit, bundleDir } = context;
  checkLabels(spec.process);
  return { unit, spec, units: containerUnits(spec, context), context, bundleDir };
}

const NO_NETWORK_FILES: NetworkFiles = { hosts: [], nameservers: [], searchDomains: [], resolverOptions: [] };

/** The namespace of another container is found by its record. Throws INPUT_NOT_FOUND, USAGE. */
function networkMode({ network, runRoot, unit }: ContainerRequest): NetworkMode {
  const path = network.kind === 'path' ? network.path : undefined;
  if (path !== undefined && inode(path) === inode('/proc/self/ns/net'))
    throw new OciError('USAGE', `--network: ${quote(path)} is the host's own namespace`, {
      hint: 'Use --network host.',
    });
  if (network.kind === 'bridge') return { kind: 'bridge' };
  if (network.kind !== 'container') return network;
  const other = requireContainer(runRoot, network.unit);
  if (other.unit === unit || !other.spec.linux.namespaces.some(({ type }) => type === 'network'))
    throw new OciError('USAGE', `--network: container ${quote(other.unit)} has no network of its own`, {
      hint: 'Use --network host.',
    });
  return { kind: 'path', path: `${runRoot}/containers/${other.unit}/mnt/netns` };
}

const NSFS_MAGIC = 0x6e736673; // linux/magic.h

function inode(path: string): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() && statfsSync(path).type === NSFS_MAGIC) return stat.ino;
  throw new OciError('INPUT_NOT_FOUND', `--network: ${quote(path)} is no network namespace`, {
    hint: 'Make one with: ip netns add NAME, and name it as ns:/run/netns/NAME.',
  });
}

/** As podman takes it: from the root, and `..` as the kernel goes it. */
function workingDirectory({ config }: ImageConfig, tree: MergedTree): string {
  const path = config.WorkingDir?.startsWith('/') ? config.WorkingDir : `/${config.WorkingDir ?? ''}`;
  return path.split('/').includes('..')
    ? canonicalPoint(path, (each) => tree.lookup(each, { followLast: false }))
    : path;
}

const USER_DATABASE_MAX_BYTES = 4 * 1024 * 1024;

function payloadUser(request: ContainerRequest, tree: MergedTree): ResolvedUser {
  const text = (path: string) => tree.readFile(path, USER_DATABASE_MAX_BYTES)?.toString('utf8') ?? '';
  const group = text('/etc/group');
  const database = { passwd: text('/etc/passwd'), group };
  const { user: wanted } = request;
  const user =
    wanted === undefined
      ? resolveUser(request.imageConfig.config.User ?? '', database)
      : byOption('--user', () => resolveUser(wanted, database));
  const added = (request.groups ?? []).map((name) => resolveGroup(name, group));
  return { ...user, additionalGids: [...new Set([...user.additionalGids, ...added])] };
}

/** Until here a volume of the store has its name as source, and the unit's own directories have a placeholder in it. */
function volumeSource(mount: Mount, volumes: string, unit: string): Mount {
  if (mount.options?.includes(MADE_OPTION))
    return { ...mount, source: mount.source!.replace(UNIT_PLACEHOLDER, unit) };
  return mount.options?.includes(VOLUME_OPTION) ? { ...mount, source: `${volumes}/${mount.source}` } : mount;
}

function imageTree(image: MountedImage): ImageTree {
  const tree = openImageTree(image);
  const root = tree.lookup('/')!;
  tree.close();
  const isEmpty = image.layerTrees.length === 0 && image.composefs === undefined;
  const { uid, gid } = isEmpty ? { uid: FOREIGN_UID_BASE, gid: FOREIGN_UID_BASE } : root;
  return { ...image, rootAttributes: { uid, gid, mode: root.mode } };
}

/** Throws INPUT_NOT_FOUND where the image has no such file or directory. */
function withCanonicalSubpath(mount: Mount, images: ReadonlyMap<string, ImageTree>): Mount {
  const given = mount.options?.find((option) => option.startsWith(SUBPATH_OPTION));
  if (given === undefined) return mount;
  const path = given.slice(SUBPATH_OPTION.length);
  const tree = openImageTree(images.get(mount.source ?? '') ?? { layerTrees: [] });
  const lookup = (each: string) => tree.lookup(each, { followLast: false });
  try {
    const place = canonicalPath(path, (each) => lookup(each)?.target?.toString());
    const kind = lookup(place)?.kind;
    if (kind !== 'directory' && kind !== 'file')
      throw new OciError(
        'INPUT_NOT_FOUND',
        `--mount: image ${quote(mount.source ?? '')} has no ${quote(path)}`,
        {
          hint: `Look at it with: ocictl mount ${mount.source}.`,
        },
      );
    return {
      ...mount,
      options: mount.options!.map((option) => (option === given ? `${SUBPATH_OPTION}${place}` : option)),
    };
  } finally {
    tree.close();
  }
}

/**
 * The volumes that the image declares: where the root is read-only they are directories of this container's own;
 * otherwise they are part of the root, which is just as fresh at each start.
 */
function imageVolumes({ imageConfig, options }: ContainerRequest, directory: string): Mount[] {
  if (!options.readOnly) return [];
  const taken = new Set(options.mounts.map((mount) => withoutDots(mount.destination)));
  const places = new Set(volumePlaces(imageConfig));
  if (places.has('/'))
    throw new OciError('UNSUPPORTED', "--read-only: the image has its whole root '/' as a volume", {
      hint: 'Leave out --read-only.',
    });
  return [...places]
    .filter((path) => !taken.has(path) && !NO_VOLUME.test(path))
    .map((destination, index) => ({
      destination,
      type: 'bind',
      source: `${directory}/${index}`,
      options: ['rbind', 'rw', 'nosuid', 'nodev', VOLUME_OPTION],
    }));
}

/** What every container has of its own. */
const NO_VOLUME = /^\/(proc|sys|dev|run\/\.oci|etc\/(hosts|hostname|resolv\.conf))(\/|$)|^\/run$/;

/** As podman reads them: from the root, and never above it. What the kernel or the recipe mounts is there anyway. */
function volumePlaces({ config }: ImageConfig): string[] {
  return config.Volumes.map((path) => posix.normalize(`/${path}`)).map(withoutDots);
}

function credentialsMount({ credentials = [] }: ContainerRequest): Mount[] {
  if (credentials.length === 0) return [];
  return [
    {
      destination: CREDENTIALS_DIRECTORY,
      type: 'bind',
      source: 'credentials',
      options: ['rbind', 'ro', CREDENTIALS_OPTION],
    },
  ];
}

interface HostDevice {
  device: Device;
  rule: NonNullable<Resources['devices']>[number];
}

/** Throws INPUT_NOT_FOUND for what is no device of the host. */
function hostDevice({ source, path, access }: DeviceRequest): HostDevice {
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat === undefined || !(stat.isCharacterDevice() || stat.isBlockDevice()))
    throw new OciError('INPUT_NOT_FOUND', `--device: ${quote(source)} is no device of the host`, {
      hint: 'Name a device node: ls -l /dev.',
    });
  const type = stat.isBlockDevice() ? 'b' : 'c';
  // makedev(3)
  const rdev = BigInt(stat.rdev);
  const major = Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn));
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & ~0xffn));
  return {
    device: { type, path, major, minor, fileMode: stat.mode & 0o777, uid: 0, gid: 0 },
    rule: { allow: true, type, major, minor, access },
  };
}

function withDevices(resources: Resources, devices: readonly HostDevice[]): Resources {
  const rules = [{ allow: false, access: 'rwm' }, ...devices.map(({ rule }) => rule)];
  return { ...resources, devices: rules };
}
