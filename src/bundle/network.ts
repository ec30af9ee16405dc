/**
 * --network and --publish, as podman-run(1) writes them. Pure: what the words mean on this host (which networks there
 * are, who listens on a port) is found out when the container starts.
 */
import { isAddress, type PublishedPort, parseIPv4 } from '../oci/address.ts';
import { OciError, quote } from '../oci/errors.ts';

/** `private`: a namespace with a loopback device only. */
export type NetworkMode = { kind: 'host' | 'private' | 'bridge' } | { kind: 'path'; path: string };

/** What --network says; a container's namespace is found later. */
export type NetworkChoice =
  | { kind: 'host' | 'private' }
  | { kind: 'path'; path: string }
  | { kind: 'bridge'; name: string }
  | { kind: 'container'; unit: string };

export const DEFAULT_NETWORK = 'oci0';

export function parseNetwork(text: string): NetworkChoice {
  const [, word = '', rest] = /^([a-z]+)(?:[:=](.*))?$/s.exec(text) ?? [];
  if (rest === undefined) {
    if (word === 'host' || word === 'private') return { kind: word };
    if (word === 'none') return { kind: 'private' };
    if (word === 'bridge') return { kind: 'bridge', name: DEFAULT_NETWORK };
    if (word === 'pasta' || word === 'slirp4netns')
      throw new OciError('UNSUPPORTED', `--network: ${quote(word)} is not supported`, {
        hint: 'Use --network bridge.',
      });
  } else if (word === 'bridge' && isNetworkName(rest)) return { kind: 'bridge', name: rest };
  else if (word === 'container' && /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,199}$/.test(rest))
    return { kind: 'container', unit: rest.replace(/\.service$/, '') };
  else if (word === 'ns' && /^\/[^\0]*$/.test(rest)) return { kind: 'path', path: rest };
  throw new OciError('USAGE', `--network: ${quote(text)} is no network`, {
    hint: 'Use private, none, host, bridge, bridge:NAME, container=UNIT or ns:PATH.',
  });
}

/** A network's bridge has its name: what the kernel takes for an interface (IFNAMSIZ), and what no shell minds. */
export function isNetworkName(text: string): boolean {
  return /^[a-z][a-z0-9_-]{0,14}$/.test(text);
}

/**
 * `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, where HOST and CONTAINER may be ranges of the same length. Without HOST the
 * ports of the host are chosen when the container starts.
 */
export function parsePublish(text: string): PublishedPort {
  const usage = (why: string, hint = 'Write it as --publish 8080:80, or 127.0.0.1:8080:80/udp.') =>
    new OciError('USAGE', `--publish: ${quote(text)}: ${why}`, { hint });
  const [, address = '', host = '', container = '', protocol = 'tcp'] =
    /^(?:(?:(\[[^\]]*\]|[^:[\]/]*):)?([0-9-]*):)?([0-9-]+)(?:\/([a-z]+))?$/.exec(text) ?? [];
  if (container === '') throw usage('it is not [[IP:][HOST]:]CONTAINER[/PROTOCOL]');
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp')
    throw usage(`${quote(protocol)} is no protocol`, 'Use tcp, udp or sctp.');
  const hostAddress = address.replace(/^\[(.*)\]$/, '$1').replace(/^[0:]*:[0:]*$/, '::');
  if (address !== '' && !isAddress(hostAddress)) throw usage(`${quote(hostAddress)} is no address`);
  if (/^[0:]*:0*1$/.test(hostAddress))
    throw usage("Linux leads no connections away from IPv6's loopback", 'Use 127.0.0.1, or no address.');
  const containerPorts = parsePorts(container);
  const hostPorts = host === '' ? { first: undefined, count: containerPorts?.count } : parsePorts(host);
  if (hostPorts === undefined || containerPorts === undefined)
    throw usage('a port is a number from 1 to 65535');
  if (hostPorts.count !== containerPorts.count) throw usage('the two ranges are not of the same length');
  return {
    ...(hostAddress === '' ? {} : { hostAddress }),
    ...(hostPorts.first === undefined ? {} : { hostPort: hostPorts.first }),
    containerPort: containerPorts.first,
    protocol,
    count: containerPorts.count,
  };
}

function parsePorts(text: string): { first: number; count: number } | undefined {
  const [, first = '', last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const count = Number(last) - Number(first) + 1;
  if (first === '' || Number(first) < 1 || Number(last) > 65535 || count < 1) return undefined;
  return { first: Number(first), count };
}

/** `127.0.0.1:8080->80/tcp`. */
export function formatPort({
  hostAddress,
  hostPort = 0,
  containerPort,
  protocol,
  count,
}: PublishedPort): string {
  const range = (first: number) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`);
  const host = hostAddress === undefined ? '' : `${bracketed(hostAddress)}:`;
  return `${host}${range(hostPort)}->${range(containerPort)}/${protocol}`;
}

/** Each port by itself: `80/tcp` → `0.0.0.0:8080`. */
export function eachPort({
  hostAddress = '0.0.0.0',
  hostPort = 0,
  containerPort,
  protocol,
  count,
}: PublishedPort): [string, string][] {
  return Array.from({ length: count }, (_, index) => [
    `${containerPort + index}/${protocol}`,
    `${bracketed(hostAddress)}:${hostPort + index}`,
  ]);
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

export function parseIP(text: string): number {
  const value = parseIPv4(text);
  if (value !== undefined) return value;
  throw new OciError('USAGE', `--ip: ${quote(text)} is no IPv4 address`, {
    hint: 'Write it as --ip 10.90.0.20.',
  });
}

/** A word of resolv.conf(5): `--dns-search`, where `.` means none, and `--dns-option`. */
export function parseResolverWord(option: '--dns-search' | '--dns-option', text: string): string {
  const pattern =
    option === '--dns-search' ? /^(\.|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}))$/ : /^[a-z0-9-]+(:\d+)?$/;
  if (pattern.test(text)) return text;
  throw new OciError(
    'USAGE',
    `${option}: ${quote(text)} is no ${option === '--dns-search' ? 'domain' : 'option'}`,
    {
      hint: `Write it as ${option} ${option === '--dns-search' ? 'example.com' : 'ndots:2'}.`,
    },
  );
}
