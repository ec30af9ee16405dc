/**
 * Names of a container's units beside NAME.service, and templates (systemd.unit(5)): of `web@` the instance `a` is
 * web@a.service with web-setup@a.service.
 *
 * A template is made as its instance INSTANCE, and that word then becomes %i in the unit files, and the instance's
 * name in the bundle at each start. It survives in unit names, user names, host names, paths and shell.
 */
export const INSTANCE = 'oci0instance';

/** `setup` of `web` and `web@a`: `web-setup`, `web-setup@a`; without a suffix. */
export function helperName(unit: string, helper: 'setup' | 'log' | 'health' | 'paused'): string {
  return unit.replace(/(?=@)|$/, `-${helper}`);
}

export function isTemplate(name: string): boolean {
  return name.endsWith('@');
}

/** What stands for all instances of a template; another name itself. */
export function unitOf(name: string): string {
  return isTemplate(name) ? `${name}${INSTANCE}` : name;
}

/** Options of `ocictl install` in whose values %i stands for a template's instance. */
export const OF_AN_INSTANCE: ReadonlySet<string> = new Set([
  'env',
  'hostname',
  'label',
  'log-tag',
  'state-dir',
  'cache-dir',
  'logs-dir',
  'config-dir',
  'volume',
]);
