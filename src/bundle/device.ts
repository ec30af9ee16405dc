/** The grammar of `--device HOST[:CONTAINER][:rwm]` (podman-run(1)). */
import { OciError, quote } from '../oci/errors.ts';

export interface DeviceRequest {
  /** On the host. */
  source: string;
  /** In the container. */
  path: string;
  /** Some of `rwm`. */
  access: string;
}

export function parseDevice(text: string): DeviceRequest {
  const [source = '', ...rest] = text.split(':');
  const access = /^[rwm]{1,3}$/.test(rest.at(-1) ?? '') ? rest.pop()! : 'rwm';
  const path = rest.shift() ?? source;
  const isBelowDev = (each: string) => /^\/dev\/./.test(each) && !each.split('/').includes('..');
  if (rest.length > 0 || !source.startsWith('/') || !isBelowDev(path))
    throw new OciError('USAGE', `--device: ${quote(text)} is not a device below /dev`, {
      hint: 'Write it as --device /dev/fuse[:/dev/fuse][:rwm].',
    });
  return { source, path, access };
}
