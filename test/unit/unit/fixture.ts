/** A small runtime spec and a context for the tests of single concerns. */
import assert from 'node:assert/strict';
import { parseRuntimeSpec, type RuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import { containerUnits } from '../../../src/unit/container-units.ts';
import type { UnitContext } from '../../../src/unit/context.ts';
import type { Setting } from '../../../src/unit/setting.ts';

export const CONTEXT: UnitContext = {
  unit: 'web',
  imageName: 'docker.io/library/nginx:latest',
  manifestDigest: `sha256:${'a'.repeat(64)}`,
  slice: 'oci.slice',
  layerTrees: ['/var/lib/oci/layers/1/tree'],
  idBase: 2147352576,
  writableDir: '/var/lib/oci/writable/web',
  bundleDir: '/run/oci/containers/web',
  sharedDir: '/run/oci/shared',
  rootAttributes: { uid: 2147352576, gid: 2147352576, mode: 0o755, covered: false },
  scaffold: { directories: ['/proc'], files: [], cover: [] },
  cwdBy: 'unit',
  copyUp: new Map([['/data', '/srv/data']]),
  features: { ownsMainProcess: true, architecture: 'x64' },
};

type Part = Record<string, unknown>;

/** A spec read from JSON text, as a bundle's is; `parts` are put over its top-level objects. */
export function specWith(parts: { process?: Part; linux?: Part; [name: string]: unknown } = {}): RuntimeSpec {
  const { process, linux, ...rest } = parts;
  const document = {
    ociVersion: '1.2.1',
    root: { path: 'rootfs' },
    process: { user: { uid: 0, gid: 0 }, args: ['true'], env: ['A=b'], cwd: '/', ...process },
    linux: {
      namespaces: ['pid', 'mount', 'ipc', 'uts', 'cgroup', 'network'].map((type) => ({ type })),
      ...linux,
    },
    ...rest,
  };
  const { spec, unknown } = parseRuntimeSpec(Buffer.from(JSON.stringify(document)));
  assert.deepEqual(unknown, []);
  return spec;
}

export function payloadSettings(spec: RuntimeSpec, context: Partial<UnitContext> = {}): readonly Setting[] {
  return containerUnits(spec, { ...CONTEXT, ...context }).payload.settings;
}

/** Values by property, of those that are named. */
export function values(settings: readonly Setting[], ...properties: string[]): Record<string, unknown> {
  return Object.fromEntries(
    properties.map((property) => {
      const found = settings.filter((setting) => setting.property === property);
      assert.ok(found.length <= 1, `${property} is set twice`);
      return [property, found[0]?.value];
    }),
  );
}
