/** linux.devices: nodes that the setup unit makes in the container's /dev. A container itself can make none. */
import { quote } from '../oci/errors.ts';
import type { Device, RuntimeSpec } from '../oci/runtime-spec.ts';
import { refusal } from './refuse.ts';
import { shellWord } from './shell.ts';

/** Made for every container; a bundle may name them too. */
const STANDARD = new Set(
  ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'console'].map((n) => `/dev/${n}`),
);

/** Shell lines, in the directory that holds `dev`; `$B` is the container's first host id. */
export function deviceLines(spec: RuntimeSpec): string[] {
  return (spec.linux.devices ?? [])
    .filter((device) => !STANDARD.has(device.path))
    .flatMap((device) => {
      const path = relativePath(device);
      const parent = path.slice(0, path.lastIndexOf('/'));
      const mode = ((device.fileMode ?? 0o666) & 0o7777).toString(8);
      const numbers = device.type === 'p' ? [] : [number(device, 'major'), number(device, 'minor')];
      return [
        ...(parent === 'dev' ? [] : [`mkdir -p ${shellWord(parent)}`]),
        `mknod -m ${mode} ${[shellWord(path), device.type, ...numbers].join(' ')}`,
        `chown $((B + ${id(device, 'uid')})):$((B + ${id(device, 'gid')})) ${shellWord(path)}`,
      ];
    });
}

function relativePath(device: Device): string {
  const parts = device.path.split('/');
  if (
    parts[0] !== '' ||
    parts[1] !== 'dev' ||
    parts.length < 3 ||
    parts.slice(2).some((p) => /^\.{0,2}$/.test(p))
  )
    throw refusal(
      `linux.devices: ${quote(device.path)}`,
      'devices are made below /dev only',
      'Give it a path below /dev.',
    );
  return parts.slice(1).join('/');
}

const NUMBER_MAX = 0xfffff; // 20 bits of a minor number; a major has 12

function number(device: Device, field: 'major' | 'minor'): number {
  const value = device[field] ?? Number.NaN;
  if (!(value >= 0 && value <= NUMBER_MAX))
    throw refusal(`linux.devices: ${quote(device.path)}`, `it has no ${field} number`, 'Give both numbers.');
  return value;
}

const ID_MAX = 65535;

function id(device: Device, field: 'uid' | 'gid'): number {
  const value = device[field] ?? 0;
  if (!(value >= 0 && value <= ID_MAX))
    throw refusal(
      `linux.devices: ${quote(device.path)}`,
      `its ${field} is not in the container's range`,
      `Use an id from 0 to ${ID_MAX}.`,
    );
  return value;
}
