/**
 * What a container needs of systemd, by property: distributions backport, so a version number says little.
 * Source: versions probed on 257 and 262.
 */
import { OciError } from '../oci/errors.ts';
import type { Features } from './context.ts';

/** The newest properties that the recipe stands on; 257 has them all. */
const REQUIRED = [
  'PrivatePIDs',
  'BindLogSockets',
  'IPCNamespacePath',
  'DelegateSubgroup',
  'SetLoginEnvironment',
];

/** What is asked about systemd. */
export const PROBED: readonly string[] = [...REQUIRED, 'DelegateNamespaces'];

/** Throws UNSUPPORTED naming what is missing. `properties`: those of PROBED that services have. */
export function featuresOf(properties: ReadonlySet<string>, version: string, architecture: string): Features {
  const missing = REQUIRED.filter((name) => !properties.has(name));
  if (missing.length > 0)
    throw new OciError('UNSUPPORTED', `systemd ${version} is too old: it has no ${missing.join(', ')}`, {
      hint: 'Use systemd 257 or later: Debian 13, RHEL 10, Fedora 42, Ubuntu 26.04.',
    });
  return { ownsMainProcess: properties.has('DelegateNamespaces'), architecture };
}
