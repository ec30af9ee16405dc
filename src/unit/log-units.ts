/**
 * /dev/stdout and /dev/stderr by name, while the streams go to the journal.
 *
 * The journal's streams are sockets, and Linux does not open a socket by name: `>/dev/stderr` in an entrypoint, or
 * a log file that is a link to /dev/stdout, would fail. So these names lead to a fifo that systemd holds open; only
 * when a program really writes there does systemd start a cat(1) that passes the lines on to the journal, as lines
 * of the container's unit. A container that does not need it has no process for it. What is in the fifo when the
 * payload ends is passed on by ExecStopPost= of the payload's unit: once that has ended, systemd throws it away.
 *
 * Invariant: the container's root may put anything in the place of the fifo; by name it is opened in the container,
 * with the rights of its root.
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { rangeUserName } from '../uid/range.ts';
import type { UnitSettings } from './container-units.ts';
import { mountDir, type UnitContext } from './context.ts';
import { hasHostUsers } from './host-users.ts';
import { journalFields, logTag } from './identity.ts';
import {
  boolean,
  exec,
  execBeside,
  list,
  listen,
  logExtraFields,
  mode,
  noCapabilities,
  type Setting,
  string,
} from './setting.ts';
import { drainArgv } from './shim.ts';
import { helperName } from './unit-name.ts';

/** In the container's /dev. */
export const LOG_FIFO = 'journal';

export function logUnits(spec: RuntimeSpec, context: UnitContext): UnitSettings[] {
  const { unit } = context;
  return [
    {
      name: logSocket(unit),
      settings: [
        string('Description', `/dev/stdout of OCI container ${unit}`, 'Unit'),
        list('After', [`${helperName(unit, 'setup')}.service`], 'Unit'),
        list('BindsTo', [`${helperName(unit, 'setup')}.service`], 'Unit'),
        boolean('StopWhenUnneeded', true, 'Unit'),
        ...lateSocket(),
        string('CollectMode', 'inactive-or-failed', 'Unit'),
        listen([['FIFO', fifoPath(context)]]),
        ...(hasHostUsers(spec)
          ? []
          : [
              string('SocketUser', rangeUserName(unit), 'Socket'),
              string('SocketGroup', rangeUserName(unit), 'Socket'),
            ]),
        mode('SocketMode', 0o666, 'Socket'),
      ],
    },
    {
      name: `${helperName(unit, 'log')}.service`,
      settings: [
        string('Description', `Lines of OCI container ${unit} on their way to the journal`, 'Unit'),
        list('After', [logSocket(unit)], 'Unit'),
        // PartOf, not BindsTo: the relay must not count as one that still needs the socket
        list('PartOf', [logSocket(unit)], 'Unit'),
        string('CollectMode', 'inactive-or-failed', 'Unit'),
        string('Slice', context.slice),
        exec('ExecStart', ['/bin/cat']),
        // between its read and its write a signal would lose lines: let it finish what it has taken
        exec('ExecStop', ['/bin/sleep', '0.1']),
        string('StandardInput', 'socket'),
        string('StandardOutput', 'journal'),
        string('SyslogIdentifier', logTag(spec, context)),
        // journalctl -u shows what root says about a unit in this field; so the user is root, with nothing to it
        logExtraFields([`OBJECT_SYSTEMD_UNIT=${unit}.service`, ...journalFields(context)]),
        boolean('NoNewPrivileges', true),
        noCapabilities(),
      ],
    },
  ];
}

/** What the payload's unit needs for it. */
export function payloadLogSettings(spec: RuntimeSpec, context: UnitContext): Setting[] {
  const socket = logSocket(context.unit);
  return [
    list('Wants', [socket], 'Unit'),
    list('After', [socket], 'Unit'),
    execBeside('ExecStopPost', drainArgv(`/dev/${LOG_FIFO}`, hasHostUsers(spec))),
  ];
}

/** By default a socket is there before basic.target, and the setup unit comes after that: a cycle at boot. */
export function lateSocket(): Setting[] {
  return [
    boolean('DefaultDependencies', false, 'Unit'),
    list('Conflicts', ['shutdown.target'], 'Unit'),
    list('Before', ['shutdown.target'], 'Unit'),
  ];
}

function logSocket(unit: string): string {
  return `${helperName(unit, 'log')}.socket`;
}

function fifoPath(context: UnitContext): string {
  return `${mountDir(context)}/dev/${LOG_FIFO}`;
}
