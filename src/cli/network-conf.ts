/** The networks of oci.conf: `[network]` is the default one, `[network.NAME]` another. */
import { DEFAULT_NETWORK, isNetworkName } from '../bundle/network.ts';
import { parseIPv4 } from '../oci/address.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { BridgeNetwork } from '../unit/context.ts';

export type Networks = Readonly<Record<string, BridgeNetwork>>;

const DEFAULT_SUBNETS = '10.90.0.0/24 fd90::/64';

/** The network of that name. Throws INPUT_NOT_FOUND where nobody has described it. */
export function bridgeNetwork(networks: Networks, name: string): BridgeNetwork {
  if (Object.hasOwn(networks, name)) return networks[name]!;
  if (name === DEFAULT_NETWORK) return parseNetworkSection(name, { subnet: DEFAULT_SUBNETS }, 'default');
  throw new OciError('INPUT_NOT_FOUND', `--network: oci.conf has no network ${quote(name)}`, {
    hint: `Describe it in /etc/oci/oci.conf: [network.${name}], subnet = 10.91.0.0/24.`,
  });
}

/** `section`: what is below `network` in the file, as the ini parser gives it. */
export function parseNetworks(section: object, path: string): Networks {
  const networks: Record<string, BridgeNetwork> = {};
  const own: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(section)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) own[key] = value;
    else if (isNetworkName(key)) networks[key] = parseNetworkSection(key, value, path);
    else
      throw new OciError('CONFIG', `${quote(path)}: ${quote(key)} is no name of a network`, {
        hint: 'Use a small letter, then small letters, digits, - and _, at most 15.',
      });
  }
  if (Object.keys(own).length > 0)
    networks[DEFAULT_NETWORK] = parseNetworkSection(
      DEFAULT_NETWORK,
      { subnet: DEFAULT_SUBNETS, ...own },
      path,
    );
  return networks;
}

function parseNetworkSection(name: string, section: object, path: string): BridgeNetwork {
  const bad = (what: string, hint: string) =>
    new OciError('CONFIG', `${quote(path)}: network ${name}: ${what}`, { hint });
  let ipv4: BridgeNetwork['ipv4'] | undefined;
  let ipv6: string | undefined;
  const flags = { internal: false, dns: true };
  for (const [key, value] of Object.entries(section)) {
    if (key === 'subnet' && typeof value === 'string')
      for (const subnet of value.split(/\s+/)) {
        if (subnet.includes(':')) ipv6 = parseSubnet6(subnet);
        else ipv4 = parseSubnet4(subnet);
        if ((subnet.includes(':') ? ipv6 : ipv4) === undefined)
          throw bad(
            `${quote(subnet)} is no subnet`,
            'Write it as subnet = 10.91.0.0/24 fd91::/64; IPv4 of 16 to 29 bits, IPv6 of 64.',
          );
      }
    else if ((key === 'internal' || key === 'dns') && typeof value === 'boolean') flags[key] = value;
    else throw bad(`${quote(key)} is not understood`, 'Use subnet, internal = true, dns = false.');
  }
  if (ipv4 === undefined) throw bad('it has no IPv4 subnet', 'Write it as subnet = 10.91.0.0/24.');
  return { name, ipv4, ...(ipv6 === undefined ? {} : { ipv6 }), ...flags };
}

function parseSubnet4(text: string): BridgeNetwork['ipv4'] | undefined {
  const [, address = '', bits = ''] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const base = parseIPv4(address);
  const prefixLength = Number(bits);
  if (base === undefined || prefixLength < 16 || prefixLength > 29) return undefined;
  return base % 2 ** (32 - prefixLength) === 0 ? { base, prefixLength } : undefined;
}

/** Its last 64 bits are zero, and written as `::`. */
function parseSubnet6(text: string): string | undefined {
  return /^((?:[0-9a-f]{1,4}:){1,4}:)\/64$/.exec(text.toLowerCase())?.[1];
}
