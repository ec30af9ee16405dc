/** --seccomp: default, unconfined, or a file with a profile in Docker's, podman's or the specification's form. */
import { closeSync, openSync, readSync } from 'node:fs';
import { arch, release } from 'node:os';
import type { SeccompChoice } from '../bundle/seccomp.ts';
import { OciError, quote, wrap } from '../oci/errors.ts';
import { normalisePlatform } from '../oci/platform.ts';
import { PROFILE_MAX_BYTES, parseSeccompProfile } from '../seccomp/profile.ts';

export function parseSeccompOption(text: string): SeccompChoice {
  if (text === 'default' || text === 'unconfined') return text;
  let profile: ReturnType<typeof parseSeccompProfile>;
  try {
    profile = parseSeccompProfile(readProfile(text));
  } catch (error) {
    throw wrap(`--seccomp ${quote(text)}`, error);
  }
  const { architecture } = normalisePlatform({ os: 'linux', architecture: arch() });
  return { profile, architecture, kernelRelease: release() };
}

/** At most one byte more than a profile may have, whatever the file is. */
function readProfile(file: string): Uint8Array {
  const bytes = Buffer.alloc(PROFILE_MAX_BYTES + 1);
  let length = 0;
  try {
    const fd = openSync(file, 'r');
    try {
      for (let count = -1; count !== 0 && length < bytes.length; length += count)
        count = readSync(fd, bytes, length, bytes.length - length, null);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new OciError('INPUT_NOT_FOUND', 'cannot read the file', {
      hint: 'Name a file that exists, or default, or unconfined.',
      cause: error,
    });
  }
  return bytes.subarray(0, length);
}
