/**
 * A container as its units: NAME.service is the payload; NAME-setup.service holds namespaces and mounts for as long
 * as that needs them; NAME-log.socket waits for programs that open /dev/stdout by name. One StartTransientUnit()
 * call makes them all.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { credentialSettings } from './credentials.ts';
import { checkFields } from './fields.ts';
import { filesystemSettings } from './filesystem.ts';
import { healthScript, healthUnits, payloadHealthSettings, planHealth } from './health.ts';
import { identitySettings, setupIdentitySettings } from './identity.ts';
import { payloadLifecycleSettings, setupLifecycleSettings } from './lifecycle.ts';
import { logUnits, payloadLogSettings } from './log-units.ts';
import { planMounts } from './mounts.ts';
import { namespaceSettings } from './namespaces.ts';
import { processSettings } from './process.ts';
import { resourceSettings } from './resources.ts';
import { planSeccomp } from './seccomp.ts';
import type { Setting } from './setting.ts';
import { setupScript, teardownScript } from './setup-script.ts';
import { socketUnit } from './socket.ts';
import { helperName } from './unit-name.ts';

export interface UnitSettings {
  /** With its suffix: `web.service`. */
  name: string;
  settings: Setting[];
}

export interface ContainerUnits {
  payload: UnitSettings;
  setup: UnitSettings;
  /** Starts the payload when it is needed. */
  socket?: UnitSettings;
  /** The setup unit and all others that the payload pulls in. */
  helpers: UnitSettings[];
  /** Texts of the two scripts, to be written into the bundle as `setup` and `teardown`. */
  setupScript: string;
  teardownScript: string;
  /** To be written into the bundle as `health`. */
  healthScript?: string;
  /** To be written into the bundle as `seccomp`. */
  seccompFilter?: Uint8Array;
}

export function containerUnits(spec: RuntimeSpec, context: UnitContext): ContainerUnits {
  checkFields(spec);
  const seccomp = planSeccomp(spec, context.features.architecture);
  const setup = {
    name: `${helperName(context.unit, 'setup')}.service`,
    settings: [
      ...setupIdentitySettings(context),
      ...setupLifecycleSettings(context),
      ...credentialSettings(context),
    ],
  };
  const socket = socketUnit(context);
  const toJournal = context.stdio === undefined;
  const health = planHealth(spec, context);
  const script = healthScript(health, spec, seccomp, context);
  const payload = {
    name: `${context.unit}.service`,
    settings: withExtra(context.extraSettings ?? [], [
      ...identitySettings(spec, context),
      ...payloadLifecycleSettings(spec, context),
      ...processSettings(spec, seccomp, context),
      ...namespaceSettings(spec, planMounts(spec), context),
      ...filesystemSettings(spec, seccomp, context),
      ...resourceSettings(spec.linux.resources),
      ...(toJournal ? payloadLogSettings(spec, context) : []),
      ...payloadHealthSettings(health, context),
    ]),
  };
  return {
    payload,
    setup,
    ...(socket === undefined ? {} : { socket }),
    helpers: [
      setup,
      ...(toJournal ? logUnits(spec, context) : []),
      ...healthUnits(health, payload.settings, context),
    ],
    setupScript: setupScript(spec, seccomp, context),
    teardownScript: teardownScript(spec, context),
    ...(script === undefined ? {} : { healthScript: script }),
    ...(seccomp?.program === undefined ? {} : { seccompFilter: seccomp.program }),
  };
}

/** What the user sets comes last, so that lists grow; of a single value ours gives way. */
function withExtra(extra: readonly Setting[], settings: readonly Setting[]): Setting[] {
  const replaced = new Set(extra.filter(({ signature }) => !signature.startsWith('a')).map(key));
  return [...settings.filter((setting) => !replaced.has(key(setting))), ...extra];
}

function key({ section, property }: Setting): string {
  return `${section}.${property}`;
}
