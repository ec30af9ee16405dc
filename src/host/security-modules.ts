/**
 * Labels of AppArmor and SELinux, before a payload is started: setpriv would say only in the journal that the host
 * lacks them, and the payload would end with 127.
 */
import { existsSync, readFileSync } from 'node:fs';
import { OciError, quote } from '../oci/errors.ts';
import type { Process } from '../oci/runtime-spec.ts';

/** Throws UNSUPPORTED where the host lacks the module, INPUT_NOT_FOUND where it lacks the profile. `sys`: for tests. */
export function checkLabels({ apparmorProfile, selinuxLabel }: Process, sys = '/sys'): void {
  if (apparmorProfile) {
    if (readText(`${sys}/module/apparmor/parameters/enabled`)?.trim() !== 'Y')
      throw missing('AppArmor', 'profile', apparmorProfile);
    const profiles = readText(`${sys}/kernel/security/apparmor/profiles`);
    if (profiles !== undefined && !isLoaded(apparmorProfile, profiles))
      throw new OciError('INPUT_NOT_FOUND', `AppArmor has no profile ${quote(apparmorProfile)}`, {
        hint: 'Load it with apparmor_parser -r FILE; aa-status lists those that are there.',
      });
  }
  if (selinuxLabel && !existsSync(`${sys}/fs/selinux/enforce`))
    throw missing('SELinux', 'label', selinuxLabel);
}

/** Lines `NAME (MODE)`. Profiles of other namespaces (`:`) and stacked ones (`//&`) are not judged here. */
function isLoaded(profile: string, profiles: string): boolean {
  if (profile.startsWith(':') || profile.includes('//&') || profile === 'unconfined') return true;
  return profiles.split('\n').some((line) => line.replace(/ \([a-z]+\)$/, '') === profile);
}

function missing(name: string, kind: string, value: string): OciError {
  return new OciError('UNSUPPORTED', `this host has no ${name}: its ${kind} ${quote(value)} cannot be set`, {
    hint: `Leave the ${kind} out, or boot the host with ${name}.`,
  });
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
