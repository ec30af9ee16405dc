/**
 * From a stored image and the options of oci-run to everything a start needs: runtime spec, units, scripts.
 *
 * Invariant: nothing is started, mounted or written here, and nothing of the image is executed or followed out of
 * it; what can be found wrong (user, command, paths) is found now.
 */
import { statSync } from 'node:fs';
import { canonicalPath } from './bundle/canonical-path.ts';
import { checkCommand } from './bundle/command.ts';
import { type ContainerOptions, translateImage } from './bundle/runtime-spec.ts';
import { resolveUser } from './bundle/user.ts';
import { OciError, quote } from './oci/errors.ts';
import type { ImageConfig } from './oci/image-config.ts';
import type { Mount, RuntimeSpec } from './oci/runtime-spec.ts';
import { type MergedTree, openMergedTree } from './store/merged-tree.ts';
import { type ContainerUnits, containerUnits } from './unit/container-units.ts';
import type { Features, UnitContext } from './unit/context.ts';
import { NETWORK_FILES } from './unit/filesystem.ts';

export interface ContainerRequest {
  unit: string;
  imageName: string;
  manifestDigest: string;
  imageConfig: ImageConfig;
  /** Lowest first. */
  layerTrees: readonly string[];
  /** The image's user when undefined. */
  user?: string;
  options: ContainerOptions;
  slice: string;
  /** The store's root and the run root, absolute. */
  root: string;
  runRoot: string;
  features: Features;
  stdio?: UnitContext['stdio'];
  callerEnv: Readonly<Record<string, string | undefined>>;
}

export interface PreparedContainer {
  unit: string;
  spec: RuntimeSpec;
  units: ContainerUnits;
  bundleDir: string;
}

const USER_DATABASE_MAX_BYTES = 4 * 1024 * 1024;

export function prepareContainer(request: ContainerRequest): PreparedContainer {
  const tree = openMergedTree(request.layerTrees);
  try {
    const user = resolveUser(request.user ?? request.imageConfig.config.User ?? '', {
      passwd: readText(tree, '/etc/passwd'),
      group: readText(tree, '/etc/group'),
    });
    const spec = translateImage({ ...request, user });
    const mounts = spec.mounts.filter((mount) => mount.type === 'bind' || mount.type === 'tmpfs');
    checkCommand({
      args: spec.process.args,
      env: spec.process.env,
      cwd: spec.process.cwd,
      lookup: (path) => tree.lookup(path),
      covered: (path) => mounts.some((mount) => isBelow(path, mount.destination)),
    });
    const context = unitContext(request, spec, tree);
    return { unit: request.unit, spec, units: containerUnits(spec, context), bundleDir: context.bundleDir };
  } finally {
    tree.close();
  }
}

function unitContext(request: ContainerRequest, spec: RuntimeSpec, tree: MergedTree): UnitContext {
  const readLink = (path: string) => {
    const entry = tree.lookup(path, { followLast: false });
    return entry?.kind === 'symlink' ? String(entry.target) : undefined;
  };
  const canonical = (path: string) => canonicalPath(path, readLink);
  const cwd = tree.lookup(spec.process.cwd);
  if (cwd !== undefined && cwd.kind !== 'directory')
    throw new OciError(
      'BAD_IMAGE',
      `working directory ${quote(spec.process.cwd)} is a ${cwd.kind} in the image`,
      {
        hint: 'Name another one with --workdir /DIR.',
      },
    );
  const bound = spec.mounts.filter((mount) => mount.type === 'bind').map(boundPath);
  const absent = (path: string) => tree.lookup(path) === undefined;
  return {
    unit: request.unit,
    imageName: request.imageName,
    manifestDigest: request.manifestDigest,
    slice: request.slice,
    layerTrees: request.layerTrees,
    writableDir: `${request.root}/writable/${request.unit}`,
    bundleDir: `${request.runRoot}/containers/${request.unit}`,
    sharedDir: `${request.runRoot}/shared`,
    scaffold: {
      directories: [
        ...MOUNT_POINTS,
        spec.process.cwd,
        ...request.imageConfig.config.Volumes,
        ...bound.filter(({ isDirectory }) => isDirectory).map(({ path }) => path),
      ]
        .map(canonical)
        .filter((path) => path !== '/'),
      files: [...NETWORK_FILES, ...bound.filter(({ isDirectory }) => !isDirectory).map(({ path }) => path)]
        .map(canonical)
        .filter(absent),
    },
    features: request.features,
    ...(request.stdio === undefined ? {} : { stdio: request.stdio }),
  };
}

/** What systemd mounts over; on a read-only root it could not make them itself. */
const MOUNT_POINTS = ['/proc', '/sys', '/dev', '/run/.oci', '/tmp', '/var/tmp', '/etc'];

/** Where a volume shows and as what; throws INPUT_NOT_FOUND where the host has no such thing. */
function boundPath(mount: Mount): { path: string; isDirectory: boolean } {
  const source = mount.source ?? '';
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat !== undefined) return { path: mount.destination, isDirectory: stat.isDirectory() };
  throw new OciError('INPUT_NOT_FOUND', `--volume: ${quote(source)} does not exist on the host`, {
    hint: `Make it first: mkdir -p ${source}.`,
  });
}

function readText(tree: MergedTree, path: string): string {
  return tree.readFile(path, USER_DATABASE_MAX_BYTES)?.toString('utf8') ?? '';
}

function isBelow(path: string, directory: string): boolean {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  return path === directory || path.startsWith(prefix);
}
