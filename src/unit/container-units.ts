/**
 * A container as its units: NAME.service is the payload; NAME-setup.service holds namespaces and mounts for as long
 * as that needs them; NAME-log.socket waits for programs that open /dev/stdout by name. One StartTransientUnit()
 * call makes them all.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { filesystemSettings } from './filesystem.ts';
import { identitySettings, setupIdentitySettings } from './identity.ts';
import { payloadLifecycleSettings, setupLifecycleSettings } from './lifecycle.ts';
import { logUnits, payloadLogSettings } from './log-units.ts';
import { namespaceSettings } from './namespaces.ts';
import { processSettings } from './process.ts';
import { resourceSettings } from './resources.ts';
import type { Setting } from './setting.ts';
import { setupScript, teardownScript } from './setup-script.ts';

export interface UnitSettings {
  /** With its suffix: `web.service`. */
  name: string;
  settings: Setting[];
}

export interface ContainerUnits {
  payload: UnitSettings;
  setup: UnitSettings;
  /** The setup unit and all others that the payload pulls in. */
  helpers: UnitSettings[];
  /** Texts of the two scripts, to be written into the bundle as `setup` and `teardown`. */
  setupScript: string;
  teardownScript: string;
}

export function containerUnits(spec: RuntimeSpec, context: UnitContext): ContainerUnits {
  const setup = {
    name: `${context.unit}-setup.service`,
    settings: [...setupIdentitySettings(context), ...setupLifecycleSettings(context)],
  };
  const toJournal = context.stdio === undefined;
  return {
    payload: {
      name: `${context.unit}.service`,
      settings: [
        ...identitySettings(context),
        ...payloadLifecycleSettings(spec, context),
        ...processSettings(spec.process, context),
        ...namespaceSettings(spec.linux, context),
        ...filesystemSettings(spec, context),
        ...resourceSettings(spec.linux.resources),
        ...(toJournal ? payloadLogSettings(context) : []),
      ],
    },
    setup,
    helpers: [setup, ...(toJournal ? logUnits(context) : [])],
    setupScript: setupScript(spec, context),
    teardownScript: teardownScript(context),
  };
}
