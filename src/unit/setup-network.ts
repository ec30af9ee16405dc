/**
 * The bridge of a container as shell over netavark, which makes interfaces, routes and rules of nftables; and its
 * undoing. Nothing of it stays resident but one aardvark-dns for all containers, where that is installed.
 *
 *   /run/oci/network.lock          held while addresses are given out and netavark runs
 *   /run/oci/network/ipam/NET/IP   who has the address
 *   /run/oci/network/last.NET      number of the address that was given out last
 *   /run/oci/network/ports/UNIT    published ports: protocol, first, last, address of the host or -, unit
 *   /run/oci/network/table         netavark's table of nftables was not there before us
 *   BUNDLE/network.json            what netavark was told at the setup: the teardown tells it the same
 *
 * Invariant: all of it is root's alone, and nothing in it comes from inside a container. The JSON is written by
 * JSON.stringify(); the shell adds addresses and names that it made itself.
 */
import { formatIPv4, type PublishedPort } from '../oci/address.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { BridgeAttachment, BridgeNetwork, UnitContext } from './context.ts';
import { hasHostUsers } from './host-users.ts';
import { portLines, portVariable } from './setup-ports.ts';
import { shellWord } from './shell.ts';

const STATE = '/run/oci/network';

export function networkSetup(spec: RuntimeSpec, context: UnitContext): string {
  const { bridge } = context;
  if (bridge === undefined) return '';
  const { network, ports } = bridge;
  return `
${FIND_NETAVARK}
[ -x $netavark ] || fail 'netavark is missing: install the package netavark'
for program in nft ss; do
  command -v $program >/dev/null || fail "$program is missing: install nftables and iproute2"
done
${LOCK}
mkdir -p ${STATE}/ipam/${network.name} ${STATE}/ports
if [ -z "$(ls ${STATE}/ipam/${network.name})" ]; then
  # its last container takes the bridge away, and every address of the network leads there
  [ ! -e /sys/class/net/${network.name} ] ||
    fail 'interface ${network.name} exists and belongs to no container: remove it with ip link delete ${network.name}, or take another name'
  [ -z "$(ip -4 route show exact ${subnet(network)})" ] ||
    fail 'the addresses ${subnet(network)} of network ${network.name} are in use on this host: choose others in oci.conf'
fi
${portLines(ports, `${STATE}/ports`)}
${addressLines(bridge)}
GATEWAY=${gateway(network)}
# the host has it once: by the range of ids, or by the address where all have the same ids
INTERFACE=oci-${hasHostUsers(spec) ? '$(printf %x $value)' : '$(printf %x $B)'}
DNS=false
${network.dns ? '[ ! -x "$aardvark" ] || DNS=true' : ''}
nft list table inet netavark >/dev/null 2>&1 || : >${STATE}/table
(umask 077; printf %s ${netavarkInput(spec, context, bridge)} >"$BUNDLE/network.json")
run_netavark setup netns >/dev/null || fail 'netavark cannot connect the container to network ${network.name}'
# where bridges pass through nftables a container reaches its own published port only so
echo 1 >/sys/class/net/$INTERFACE/brport/hairpin_mode
exec 7>&-`;
}

/** Before the namespaces go away. */
export function networkTeardown(context: UnitContext): string {
  if (context.bridge === undefined) return '';
  const { name } = context.bridge.network;
  return `
${FIND_NETAVARK}
${LOCK}
if [ -e "$BUNDLE/network.json" ]; then
  netns=$BUNDLE/mnt/netns
  if [ "$(stat -f -c %T "$netns" 2>/dev/null)" != nsfs ]; then
    # lost: netavark removes its rules only together with an interface
    netns=$BUNDLE/netns
    : >"$netns"
    unshare --net="$netns" ip link add eth0 type veth
  fi
  run_netavark teardown "$netns" ||
    echo "$NAME-setup: rules of the container may be left: look at nft list ruleset" >&2
  [ "$netns" != "$BUNDLE/netns" ] || umount "$netns"
fi
if [ -s "$BUNDLE/address" ]; then
  read -r IP4 <"$BUNDLE/address"
  rm -f "${STATE}/ipam/${name}/$IP4"
fi
rm -f "${STATE}/ports/$NAME"
used=
for file in ${STATE}/ipam/*/*; do [ ! -e "$file" ] || used=yes; done
if [ -z "$used" ]; then
  # nv_*: chains of a network
  if [ -e ${STATE}/table ] && ! nft list table inet netavark | grep -q 'chain nv_'; then
    nft delete table inet netavark
  fi
  rm -rf ${STATE}
  rmdir /run/sysctl.d 2>/dev/null
fi
exec 7>&-`;
}

const FIND_NETAVARK = `
for netavark in /usr/libexec/podman/netavark /usr/lib/podman/netavark; do
  [ ! -x $netavark ] || break
done
aardvark=\${netavark%/*}/aardvark-dns
# without the lock: aardvark-dns lives on
run_netavark() {
  timeout 60 $netavark --config ${STATE} --aardvark-binary "$aardvark" --rootless false \\
    --firewall-driver nftables --file "$BUNDLE/network.json" "$@" 7>&-
}`.trim();

const LOCK = `exec 7>/run/oci/network.lock
flock 7`;

/** IP4 and IP6 of the container. */
function addressLines({ network, address }: BridgeAttachment): string {
  const { base, prefixLength } = network.ipv4;
  const last = 2 ** (32 - prefixLength) - 2;
  const number = address === undefined ? undefined : address - base;
  if (number !== undefined && (number < 2 || number > last))
    throw new OciError(
      'USAGE',
      `--ip: ${quote(formatIPv4(address!))} is no address for a container of network ${network.name}`,
      {
        hint: `Choose one from ${formatIPv4(base + 2)} to ${formatIPv4(base + last)}.`,
      },
    );
  const record = `${STATE}/ipam/${network.name}/$IP4`;
  const search =
    number === undefined
      ? `
# the next one after that which was given out last, so that none is soon somebody else's
number=1
[ ! -s ${STATE}/last.${network.name} ] || read -r number <${STATE}/last.${network.name}
tries=0
while :; do
  tries=$((tries + 1))
  [ $tries -lt ${last} ] || fail 'no free address in network ${network.name}'
  number=$((number + 1))
  [ $number -le ${last} ] || number=2
  set_address
  [ -e ${record} ] || break
done
echo $number >${STATE}/last.${network.name}`
      : `
number=${number}
set_address
if [ -e ${record} ]; then
  read -r owner <${record}
  fail "address $IP4 is in use by $owner"
fi`;
  return `
set_address() {
  value=$((${base} + number))
  IP4=$((value >> 24)).$((value >> 16 & 255)).$((value >> 8 & 255)).$((value & 255))
}${search}
echo $IP4 >"$BUNDLE/address"
echo "$NAME" >${record}
IP6=${network.ipv6 === undefined ? '' : `${network.ipv6}$(printf %x $number)`}`;
}

/** What of that JSON is read again, by `ocictl ps`. */
export interface NetavarkInput {
  networks: Record<string, { static_ips: string[] }>;
  port_mappings: {
    host_ip: string;
    host_port: number;
    container_port: number;
    protocol: PublishedPort['protocol'];
    range: number;
  }[];
}

/** The words of shell that make the JSON which netavark reads; it is said in netavark's own README. */
function netavarkInput(
  spec: RuntimeSpec,
  context: UnitContext,
  { network, ports }: BridgeAttachment,
): string {
  const { name, ipv6 } = network;
  const { unit } = context;
  const servers = context.networkFiles?.nameservers ?? [];
  const hostname = spec.hostname ?? unit;
  const document = {
    container_id: unit,
    container_name: unit,
    networks: {
      [name]: {
        interface_name: 'eth0',
        static_ips: [variable('IP4'), ...(ipv6 === undefined ? [] : [variable('IP6')])],
        aliases: hostname === unit ? [] : [hostname],
        options: { host_interface_name: variable('INTERFACE') },
      },
    },
    network_info: {
      [name]: {
        name,
        id: name,
        driver: 'bridge',
        network_interface: name,
        subnets: [
          { subnet: subnet(network), gateway: gateway(network) },
          ...(ipv6 === undefined ? [] : [{ subnet: `${ipv6}/64`, gateway: `${ipv6}1` }]),
        ],
        ipv6_enabled: ipv6 !== undefined,
        internal: network.internal,
        dns_enabled: variable('DNS'),
        ipam_options: { driver: 'host-local' },
        options: { isolate: 'strict' },
      },
    },
    port_mappings: ports.map(({ hostAddress, hostPort, containerPort, protocol, count }, index) => ({
      host_ip: hostAddress ?? '',
      host_port: hostPort ?? (variable(portVariable(index)) as unknown as number),
      container_port: containerPort,
      protocol,
      range: count,
    })),
    ...(servers.length > 0 ? { dns_servers: servers } : {}),
  };
  return JSON.stringify(document satisfies NetavarkInput)
    .split(/"\\u0000(\w+)\\u0000"/)
    .map((part, index) =>
      index % 2 === 0 ? shellWord(part) : BARE.test(part) ? `"$${part}"` : `'"'"$${part}"'"'`,
    )
    .join('');
}

/** No strings: a boolean and numbers. */
const BARE = /^(DNS|PORT\d+)$/;

/** Stands for a variable of the script in the JSON. No other string there begins and ends with a NUL. */
function variable(name: string): string {
  return `\0${name}\0`;
}

function subnet({ ipv4 }: BridgeNetwork): string {
  return `${formatIPv4(ipv4.base)}/${ipv4.prefixLength}`;
}

export function gateway({ ipv4 }: BridgeNetwork): string {
  return formatIPv4(ipv4.base + 1);
}
