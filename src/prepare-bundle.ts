/**
 * From a bundle directory (config.json and a root tree, as umoci, runc spec and podman make them) to everything a
 * start needs.
 *
 * Invariant: config.json alone says what is run; what of it cannot be honoured is an error that names the field.
 */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { containerContext } from './container-context.ts';
import { ANNOTATION } from './oci/annotations.ts';
import { OciError, quote } from './oci/errors.ts';
import { parseRuntimeSpec, type RuntimeSpec } from './oci/runtime-spec.ts';
import { finish, type PlaceRequest, type PreparedContainer, placeOf } from './prepare-container.ts';
import { openMergedTree } from './store/merged-tree.ts';
import { isBind } from './unit/mounts.ts';
import { fixedRange } from './unit/namespaces.ts';

export interface BundleRequest extends PlaceRequest {
  /** Absolute. */
  bundle: string;
  /** Added to those of config.json: what options say of the unit. */
  annotations: Readonly<Record<string, string>>;
}

export interface PreparedBundle {
  container: PreparedContainer;
  /** Fields of config.json that the specification does not have. */
  unknown: string[];
}

export function prepareBundle(request: BundleRequest): PreparedBundle {
  const { bundle } = request;
  const { spec, unknown } = readSpec(bundle);
  const rootfs = rootOf(spec, bundle);
  checkUsers(spec);
  const absolute = withAbsoluteSources(spec, bundle);
  Object.assign(absolute.annotations, request.annotations);
  absolute.process = { ...absolute.process, terminal: request.terminal ?? false };
  const tree = openMergedTree([rootfs]);
  try {
    const readOnly = spec.root.readonly === true;
    const context = containerContext(
      absolute,
      tree,
      {
        ...placeOf(request),
        imageName: spec.annotations[ANNOTATION.image] || bundle,
        manifestDigest: spec.annotations[ANNOTATION.digest] ?? '',
        layerTrees: readOnly ? [rootfs] : [],
        ...(readOnly ? {} : { rootfs }),
        // a range that the bundle names is the one its files belong to
        idBase: fixedRange(spec.linux)?.base ?? 0,
        sourceBundle: bundle,
      },
      { directories: [], files: [] },
    );
    return { container: finish(absolute, context), unknown };
  } finally {
    tree.close();
  }
}

function readSpec(bundle: string): ReturnType<typeof parseRuntimeSpec> {
  const config = readConfig(bundle);
  try {
    return parseRuntimeSpec(config);
  } catch (error) {
    if (!(error instanceof OciError) || error.code !== 'BAD_IMAGE') throw error;
    throw new OciError('BAD_IMAGE', error.message, {
      hint: 'Correct config.json, or have it made again: umoci unpack, runc spec.',
      cause: error,
    });
  }
}

function readConfig(bundle: string): Buffer {
  try {
    return readFileSync(`${bundle}/config.json`);
  } catch (cause) {
    throw new OciError('INPUT_NOT_FOUND', `--bundle: ${quote(bundle)} has no config.json that can be read`, {
      hint: 'Make one with umoci unpack or runc spec.',
      cause,
    });
  }
}

/** umoci makes annotations of an image's labels: none of them may take the user namespace away. */
function checkUsers({ annotations }: RuntimeSpec): void {
  if (annotations[ANNOTATION.userns] === undefined) return;
  throw new OciError(
    'UNSUPPORTED',
    `config.json: annotation ${ANNOTATION.userns} cannot be honoured: a bundle always has a range of ids of its own`,
    { hint: 'Remove it.' },
  );
}

function rootOf(spec: RuntimeSpec, bundle: string): string {
  const path = resolve(bundle, spec.root.path);
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  throw new OciError('INPUT_NOT_FOUND', `config.json: root.path ${quote(spec.root.path)} is no directory`, {
    hint: 'Unpack an image there.',
  });
}

/** Sources of binds count from the bundle (config.md, Mounts). */
function withAbsoluteSources(spec: RuntimeSpec, bundle: string): RuntimeSpec {
  const mounts = spec.mounts.map((mount) =>
    isBind(mount) && mount.source !== undefined ? { ...mount, source: resolve(bundle, mount.source) } : mount,
  );
  return { ...spec, mounts, annotations: { ...spec.annotations } };
}
