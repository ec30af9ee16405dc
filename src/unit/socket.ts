/**
 * `--socket`: NAME.socket listens on the host, and the payload is started by the first connection, with the listening
 * sockets as its descriptors from 3 on (sd_listen_fds(3)). The sockets belong to the host's network, so the container
 * needs none, and no connection is lost while it restarts.
 *
 * The setup unit runs from the beginning and as long as the socket unit or the payload does.
 */
import { isAddress } from '../oci/address.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { UnitSettings } from './container-units.ts';
import type { UnitContext } from './context.ts';
import { lateSocket } from './log-units.ts';
import { boolean, type Listen, list, listen, string } from './setting.ts';
import { helperName } from './unit-name.ts';

/** As ListenStream= has it (systemd.socket(5)); `udp:` before it for ListenDatagram=. */
export function parseSocket(text: string): Listen {
  const [, prefix, address = ''] = /^(?:(tcp|udp):)?(.*)$/s.exec(text) ?? [];
  if (isListenAddress(address, prefix === undefined))
    return [prefix === 'udp' ? 'Datagram' : 'Stream', address];
  throw new OciError('USAGE', `--socket: ${quote(text)} is nothing to listen on`, {
    hint: 'Write it as --socket 8080, 127.0.0.1:8080, udp:5353 or /run/web.sock.',
  });
}

function isListenAddress(text: string, pathToo: boolean): boolean {
  if (text.startsWith('/'))
    return pathToo && /^\/[A-Za-z0-9_./@+-]{1,106}$/.test(text) && !/\/\.\.?(\/|$)|\/$/.test(text);
  const [, host, port = ''] = /^(?:(.+):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === '' || Number(port) < 1 || Number(port) > 65535) return false;
  if (host === undefined) return true;
  const [, ipv6] = /^\[(.*)\]$/.exec(host) ?? [];
  return ipv6 === undefined ? !host.includes(':') && isAddress(host) : ipv6.includes(':') && isAddress(ipv6);
}

/** Undefined for a container that starts at once. */
export function socketUnit({ unit, sockets }: UnitContext): UnitSettings | undefined {
  if (sockets === undefined) return undefined;
  const setup = `${helperName(unit, 'setup')}.service`;
  return {
    name: `${unit}.socket`,
    settings: [
      string('Description', `Sockets of OCI container ${unit}`, 'Unit'),
      list('Requires', [setup], 'Unit'),
      list('After', [setup], 'Unit'),
      ...lateSocket(),
      string('CollectMode', 'inactive-or-failed', 'Unit'),
      listen(sockets),
      boolean('RemoveOnStop', true, 'Socket'),
    ],
  };
}
