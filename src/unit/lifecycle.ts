/** How the payload starts, stops and ends, and what binds it to its setup unit. */
import { ANNOTATION, DEFAULT_STOP_SIGNAL, DEFAULT_STOP_TIMEOUT_SECONDS } from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { parseSignal } from '../oci/signal.ts';
import type { UnitContext } from './context.ts';
import { planMounts } from './mounts.ts';
import {
  boolean,
  count32,
  exec,
  execBeside,
  list,
  type Setting,
  seconds,
  signal,
  string,
} from './setting.ts';
import { nothingArgv } from './shim.ts';
import { helperName } from './unit-name.ts';

export function payloadLifecycleSettings(spec: RuntimeSpec, context: UnitContext): Setting[] {
  const setup = `${helperName(context.unit, 'setup')}.service`;
  const other = otherSetup(context);
  // not BindsTo: the container ends with these, and does not keep them alive
  const partOf = [...other, ...(context.sockets === undefined ? [] : [`${context.unit}.socket`])];
  const stop = parseSignal(spec.annotations[ANNOTATION.stopSignal] || DEFAULT_STOP_SIGNAL);
  return [
    // all: what the payload started may speak for it, as systemd-notify(1) does
    ...(context.notify !== undefined
      ? [string('Type', 'notify'), string('NotifyAccess', 'all')]
      : [string('Type', 'exec')]),
    // BindsTo: a container whose namespaces and mounts went away must not live on
    list('Requires', [setup], 'Unit'),
    list('BindsTo', [setup], 'Unit'),
    list('After', [setup, ...other], 'Unit'),
    ...(partOf.length > 0 ? [list('PartOf', partOf, 'Unit')] : []),
    string('CollectMode', 'inactive-or-failed', 'Unit'),
    ...(context.features.ownsMainProcess ? [string('KillMode', 'mixed')] : foreignProcessSettings()),
    signal('KillSignal', stop.number, stop.name),
    seconds(
      'TimeoutStopSec',
      Number(spec.annotations[ANNOTATION.stopTimeout] ?? DEFAULT_STOP_TIMEOUT_SECONDS),
    ),
    // with Delegate= the default would be to go on after a process was killed for lack of memory
    string('OOMPolicy', 'kill'),
    boolean('Delegate', true),
    boolean('IOAccounting', true), // off by default, unlike the others
    // systemd enters it through the container's own /sys/fs/cgroup, which must be writable for that
    ...(planMounts(spec).cgroup === 'writable' ? [string('DelegateSubgroup', 'payload')] : []),
    ...restartSettings(spec.annotations[ANNOTATION.restart] ?? 'no'),
  ];
}

/**
 * Before 258 systemd may take the main process of PrivatePIDs= for a foreign one, where it hears of it while its parent
 * is still there. Of a foreign one that is dead by the time its start is seen it asks no exit status, unless a command
 * of ExecStartPost= has to be waited for: that ends later, and so is heard of later. And mixed would kill it at once.
 */
function foreignProcessSettings(): Setting[] {
  return [execBeside('ExecStartPost', nothingArgv()), string('KillMode', 'control-group')];
}

/** What `systemctl stop` stopped is never started again: always and unless-stopped are the same. */
function restartSettings(policy: string): Setting[] {
  const [word, count] = policy.split(':');
  const restart = word === 'unless-stopped' ? 'always' : word!;
  if (!['no', 'on-failure', 'always'].includes(restart) || !/^\d{0,9}$/.test(count ?? ''))
    throw new OciError('BAD_IMAGE', `annotation ${ANNOTATION.restart}: ${quote(policy)} is no policy`, {
      hint: 'Use no, on-failure, on-failure:N, always or unless-stopped.',
    });
  if (restart === 'no') return [];
  return [
    string('Restart', restart),
    // the setup unit must not see the payload's unit stopped between two runs
    string('RestartMode', 'direct'),
    ...(count === undefined
      ? [seconds('StartLimitIntervalSec', 0, 'Unit')]
      : [
          seconds('StartLimitIntervalSec', FOREVER_SECONDS, 'Unit'),
          count32('StartLimitBurst', Number(count) + 1),
        ]),
  ];
}

const FOREVER_SECONDS = 365 * 24 * 3600;

export function setupLifecycleSettings(context: UnitContext): Setting[] {
  const other = otherSetup(context);
  return [
    string('Type', 'oneshot'),
    boolean('RemainAfterExit', true),
    boolean('StopWhenUnneeded', true, 'Unit'),
    ...(other.length > 0 ? [list('After', other, 'Unit')] : []),
    string('CollectMode', 'inactive-or-failed', 'Unit'),
    exec('ExecStart', ['/bin/sh', `${context.bundleDir}/setup`]),
    // Post: also after a setup that failed half-way
    exec('ExecStopPost', ['/bin/sh', `${context.bundleDir}/teardown`]),
  ];
}

/** Of the container whose network is joined. */
function otherSetup({ joinsNetworkOf }: UnitContext): string[] {
  return joinsNetworkOf === undefined ? [] : [`${helperName(joinsNetworkOf, 'setup')}.service`];
}
