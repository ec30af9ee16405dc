/** ocictl import: a .network file as a file of /etc/oci/oci.conf.d, which describes the network from then on. */
import { existsSync, mkdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname, join } from 'node:path';
import { isNetworkName } from '../bundle/network.ts';
import { replaceFile } from '../host/files.ts';
import { formatIPv4, parseIPv4 } from '../oci/address.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { QuadletFile } from '../quadlet/quadlet-file.ts';
import type { NetworkImport } from '../quadlet/resources.ts';
import { parseOciConf } from './config.ts';
import type { Networks } from './network-conf.ts';
import { type CommonOptions, placesFrom } from './options.ts';

export interface NetworkFile {
  readonly name: string;
  readonly path: string;
  readonly text: string;
}

const DIRECTORY = '/etc/oci/oci.conf.d';

/** Throws EXISTS where somebody else describes the network, CONFIG for what is no network. */
export async function networkFiles(
  networks: readonly { file: QuadletFile; network: NetworkImport }[],
  options: CommonOptions,
): Promise<NetworkFile[]> {
  if (networks.length === 0) return [];
  if (options.config !== undefined)
    throw new OciError('USAGE', '--config leaves out the networks that are imported', {
      hint: 'Describe them there by hand, and import the other files.',
    });
  let known = (await placesFrom(options)).networks;
  const files: NetworkFile[] = [];
  for (const { file, network } of networks) {
    const { name } = network;
    if (!isNetworkName(name))
      throw new OciError('BAD_UNIT_FILE', `${quote(file.path)}: ${quote(name)} is no name of a network`, {
        hint: 'Write NetworkName= with a small letter, then small letters, digits, - and _, at most 15.',
      });
    const path = join(DIRECTORY, `import-${name}.conf`);
    const present = Object.hasOwn(known, name) ? known[name] : undefined;
    if (present !== undefined && !existsSync(path))
      throw new OciError('EXISTS', `${quote(file.path)}: oci.conf has a network ${quote(name)} already`, {
        hint: 'Name another one with NetworkName=, or leave this file out: the containers then use that network.',
      });
    const subnets = network.subnets.length > 0 ? [...network.subnets] : [freeSubnet(name, known)];
    if (network.ipv6 && !subnets.some((subnet) => subnet.includes(':')))
      subnets.push(localSubnet(subnets[0]!));
    const text = [
      `# ${name}.network, by ocictl import`,
      `[network.${name}]`,
      `subnet = ${subnets.join(' ')}`,
      ...network.lines,
      '',
    ].join('\n');
    known = { ...known, ...(await parseOciConf(text, file.path)).networks };
    files.push({ name, path, text });
  }
  return files;
}

/** fd5b:00::/64 for 10.91.0.0/24. */
function localSubnet(subnet: string): string {
  const [, second, third] = subnet.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'));
  return `fd${second}:${third}::/64`;
}

/** The one it has, or a /24 of 10.91.0.0 to 10.127.0.0 that no other network and no interface of this host is in. */
function freeSubnet(name: string, known: Networks): string {
  const ranges = Object.values(known).map(({ ipv4 }) => ipv4);
  const own = Object.hasOwn(known, name) ? known[name]!.ipv4 : undefined;
  if (own !== undefined) return `${formatIPv4(own.base)}/${own.prefixLength}`;
  for (const address of Object.values(networkInterfaces()).flatMap((list) => list ?? []))
    if (address.family === 'IPv4' && address.cidr !== null) {
      const prefixLength = Number(address.cidr.split('/')[1]);
      const size = 2 ** (32 - prefixLength);
      ranges.push({ base: Math.floor(parseIPv4(address.address)! / size) * size, prefixLength });
    }
  for (let base = parseIPv4('10.91.0.0')!; base < parseIPv4('10.128.0.0')!; base += 256)
    if (
      !ranges.some((range) => base < range.base + 2 ** (32 - range.prefixLength) && range.base < base + 256)
    )
      return `${formatIPv4(base)}/24`;
  throw new OciError('UNAVAILABLE', `no subnet is free for network ${quote(name)}`, {
    hint: 'Write Subnet= into its file.',
  });
}

export function writeNetworkFile({ path, text }: NetworkFile): void {
  mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, text, 0o644);
}
