/**
 * A container as its two units: NAME-setup.service holds namespaces and mounts for as long as NAME.service, the
 * payload, needs them. One StartTransientUnit() call makes both.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { filesystemSettings } from './filesystem.ts';
import { identitySettings, setupIdentitySettings } from './identity.ts';
import { payloadLifecycleSettings, setupLifecycleSettings } from './lifecycle.ts';
import { namespaceSettings } from './namespaces.ts';
import { processSettings } from './process.ts';
import { resourceSettings } from './resources.ts';
import type { Setting } from './setting.ts';
import { setupScript, teardownScript } from './setup-script.ts';

export interface ContainerUnits {
  /** `web.service` */
  payloadName: string;
  payload: Setting[];
  /** `web-setup.service` */
  setupName: string;
  setup: Setting[];
  /** Texts of the two scripts, to be written into the bundle as `setup` and `teardown`. */
  setupScript: string;
  teardownScript: string;
}

export function containerUnits(spec: RuntimeSpec, context: UnitContext): ContainerUnits {
  return {
    payloadName: `${context.unit}.service`,
    payload: [
      ...identitySettings(context),
      ...payloadLifecycleSettings(spec, context),
      ...processSettings(spec.process, context),
      ...namespaceSettings(spec.linux, context),
      ...filesystemSettings(spec, context),
      ...resourceSettings(spec.linux.resources),
    ],
    setupName: `${context.unit}-setup.service`,
    setup: [...setupIdentitySettings(context), ...setupLifecycleSettings(context)],
    setupScript: setupScript(spec, context),
    teardownScript: teardownScript(context),
  };
}
