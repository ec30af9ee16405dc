/** --seccomp → linux.seccomp of the runtime spec. */
import type { Capabilities, Seccomp } from '../oci/runtime-spec.ts';
import { defaultProfile, defaultProfileByNames } from '../seccomp/default-profile.ts';
import { resolveProfile, type SeccompProfile } from '../seccomp/profile.ts';

export type SeccompChoice =
  | 'default'
  | 'unconfined'
  /** A profile from a file, and the machine that it is for, in Go's and uname(2)'s words. */
  | { profile: SeccompProfile; architecture: string; kernelRelease: string };

/**
 * The default profile by names alone leaves no_new_privs as it is, so that set-user-ID programs of the image work as
 * under other runtimes; where no_new_privs is wanted anyway, it is the exact one (docs/adr/0005-seccomp.md).
 */
export function chooseSeccomp(
  choice: SeccompChoice,
  { bounding }: Capabilities,
  noNewPrivileges: boolean,
): Seccomp | undefined {
  if (choice === 'unconfined') return undefined;
  if (choice === 'default')
    return noNewPrivileges ? defaultProfile(bounding) : defaultProfileByNames(bounding);
  const { profile, architecture, kernelRelease } = choice;
  return resolveProfile(profile, { architecture, kernelRelease, capabilities: bounding });
}
