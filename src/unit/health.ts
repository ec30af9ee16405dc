/**
 * The health check as two units: NAME-health.service checks, from the start of the payload until it has been healthy
 * once, and then once each time that NAME-health.timer starts it. Both are there as long as the payload's unit needs
 * them; between two checks nothing runs.
 *
 * A check is a process in all namespaces of the payload, as its user and with its capabilities, started by the shim
 * as ocictl exec does (src/exec.ts), in a cgroup below that of the payload's unit: within its limits, killed with it,
 * and killed as a whole when its time is over.
 *
 * The unit's StatusText is what the script says by systemd-notify(1) from that cgroup. So the unit takes messages
 * (NotifyAccess=); the container itself does not get at the socket, unless --notify gives it to it.
 *
 * Invariants
 * - Nothing of the image is executed before the process is in the container's namespaces and cgroup.
 * - The programs that start it are the host's, at a place that the payload cannot cover (joinAll() in shim.ts).
 * - Of what the check prints 4 KiB are kept; a journal line gets printable ASCII only.
 */
import { ANNOTATION } from '../oci/annotations.ts';
import { OciError } from '../oci/errors.ts';
import { type HealthCheck, parseHealthCheck, verdictMaxSeconds } from '../oci/health-check.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitSettings } from './container-units.ts';
import type { UnitContext } from './context.ts';
import { boundedArgv, hasHostUsers } from './host-users.ts';
import { journalFields } from './identity.ts';
import { lateSocket } from './log-units.ts';
import type { SeccompPlan } from './seccomp.ts';
import {
  boolean,
  exec,
  list,
  logExtraFields,
  monotonicTimer,
  named,
  type Setting,
  seconds,
  string,
} from './setting.ts';
import { shellWord, shellWords } from './shell.ts';
import { execArgv, joinAll } from './shim.ts';
import { helperName } from './unit-name.ts';

/** Files in the bundle: the script, its state (readHealth), what the last check printed. */
export const HEALTH_SCRIPT = 'health';
export const HEALTH_STATE = 'health-state';
export const HEALTH_OUTPUT = 'health-output';

export interface HealthPlan {
  readonly check: HealthCheck;
  /** The payload's unit counts as started when it is healthy. */
  readonly delaysStart: boolean;
}

export function planHealth({ annotations }: RuntimeSpec, context: UnitContext): HealthPlan | undefined {
  const text = annotations[ANNOTATION.healthCheck];
  const delaysStart = context.notify === 'healthy';
  if (text !== undefined) return { check: parseHealthCheck(text), delaysStart };
  if (delaysStart)
    throw new OciError('USAGE', '--notify=healthy: the container has no health check', {
      hint: 'Give it one with --health-cmd.',
    });
  return undefined;
}

const timerOf = (unit: string) => `${helperName(unit, 'health')}.timer`;
const serviceOf = (unit: string) => `${helperName(unit, 'health')}.service`;

/** What the payload's unit needs for it. */
export function payloadHealthSettings(plan: HealthPlan | undefined, context: UnitContext): Setting[] {
  if (plan === undefined) return [];
  return [
    list('Wants', [serviceOf(context.unit), timerOf(context.unit)], 'Unit'),
    ...(plan.delaysStart ? [seconds('TimeoutStartSec', verdictMaxSeconds(plan.check))] : []),
    ...(context.notify === 'payload'
      ? []
      : [
          ...(plan.delaysStart ? [] : [string('NotifyAccess', 'all')]),
          list('UnsetEnvironment', ['NOTIFY_SOCKET']),
          list('InaccessiblePaths', ['-+/run/systemd/notify']),
        ]),
  ];
}

/** `payload`: settings of its unit; a check has the same limits as a process of it. */
export function healthUnits(
  plan: HealthPlan | undefined,
  payload: readonly Setting[],
  context: UnitContext,
): UnitSettings[] {
  if (plan === undefined) return [];
  const { unit } = context;
  const forThePayload = [
    boolean('StopWhenUnneeded', true, 'Unit'),
    string('CollectMode', 'inactive-or-failed', 'Unit'),
  ];
  return [
    {
      name: serviceOf(unit),
      settings: [
        string('Description', `Health check of OCI container ${unit}`, 'Unit'),
        list('After', [`${helperName(unit, 'setup')}.service`], 'Unit'),
        ...forThePayload,
        seconds('StartLimitIntervalSec', 0, 'Unit'),
        string('Slice', context.slice),
        string('Type', 'exec'),
        exec('ExecStart', ['/bin/sh', `${context.bundleDir}/${HEALTH_SCRIPT}`]),
        ...payload.filter(({ property }) => OF_A_PROCESS.test(property)),
        // not a line for each check
        string('SyslogIdentifier', 'ocictl'),
        named('LogLevelMax', 5, 'notice'),
        logExtraFields([`OBJECT_SYSTEMD_UNIT=${unit}.service`, ...journalFields(context)]),
      ],
    },
    {
      name: timerOf(unit),
      settings: [
        string('Description', `Health checks of OCI container ${unit}`, 'Unit'),
        ...forThePayload,
        ...lateSocket(),
        monotonicTimer('OnUnitInactiveSec', plan.check.interval),
        seconds('AccuracySec', 1, 'Timer'),
      ],
    },
  ];
}

const OF_A_PROCESS = /^(Limit[A-Z]+(Soft)?|UMask|OOMScoreAdjust|Nice|CPUScheduling\w+|IOScheduling\w+)$/;

/** To be written into the bundle as HEALTH_SCRIPT. */
export function healthScript(
  plan: HealthPlan | undefined,
  spec: RuntimeSpec,
  seccomp: SeccompPlan | undefined,
  context: UnitContext,
): string | undefined {
  if (plan === undefined) return undefined;
  const { check, delaysStart } = plan;
  const command = execArgv(
    { ...spec.process, args: [...check.args], terminal: false },
    seccomp?.program !== undefined,
  );
  return `#!/bin/sh
# Health check of ${context.unit}.service: made by oci-run, run by systemd.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
NAME=${shellWord(context.unit)}
BUNDLE=${shellWord(context.bundleDir)}
INTERVAL=${Math.ceil(check.interval)}
TIMEOUT=${check.timeout}
RETRIES=${check.retries}
START_PERIOD=${Math.ceil(check.startPeriod)}
START_INTERVAL=${Math.min(check.startInterval, check.interval)}
ON_FAILURE=${check.onFailure}
DELAYS_START=${delaysStart ? 'yes' : ''}

# in the container, whose mount namespace is descriptor 3; the directory of its cgroup is $1
enter() {
  timeout --foreground -k 1 $TIMEOUT sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$1" \\
    ${enterWords(spec)} -- \\
    ${shellWords(command)} 3<&-
}
${isOurs(spec)}
${SCRIPT}`;
}

/** With the script's own shell as `$$`. */
function enterWords(spec: RuntimeSpec): string {
  const words = ['nsenter', '--target=$PID', ...joinAll('/proc/$$/fd/3', hasHostUsers(spec))];
  return [...boundedArgv(spec), ...words.map((word) => (word.includes('$') ? `"${word}"` : word))].join(' ');
}

/**
 * Descriptor 3 is a mount namespace that systemd made. The container's root has no power over such a one, and cannot
 * enter it; where it is the host's, it is another one that only the process of another user namespace can have made.
 */
function isOurs(spec: RuntimeSpec): string {
  if (hasHostUsers(spec)) return 'is_ours() { [ "/proc/$PID/ns/user" -ef /proc/self/ns/user ]; }';
  return `is_ours() {
  nsenter --user="$BUNDLE/mnt/userns" -S 0 -G 0 \\
    sh -c '[ -r /proc/self/fd/3 ] || exit; nsenter --mount=/proc/self/fd/3 ""; [ $? = 1 ]' 2>/dev/null
}`;
}

const SCRIPT = `
look() {
  PID=0 RUN=0 UNIT=unknown FROZEN= GROUP=
  while IFS='=' read -r key value; do
    case $key in
      MainPID) PID=$value ;;
      ExecMainStartTimestampMonotonic) RUN=$value ;;
      ActiveState) UNIT=$value ;;
      FreezerState) FROZEN=$value ;;
      ControlGroup) GROUP=/sys/fs/cgroup$value/health ;;
    esac
  done <<END
$(systemctl show --property=MainPID,ExecMainStartTimestampMonotonic,ActiveState,FreezerState,ControlGroup "$NAME.service")
END
  # by ocictl pause: systemd does not know of that
  ! grep -qsx 'frozen 1' "\${GROUP%/health}/payload/cgroup.events" || FROZEN=frozen
}

# what is known of this run of the payload: its state, failures in a row, and when it began and a failure last counted
load() {
  read -r UPTIME _ </proc/uptime
  NOW=\${UPTIME%.*}
  run=
  [ ! -r "$BUNDLE/health-state" ] || read -r run STATE STREAK SINCE COUNTED <"$BUNDLE/health-state"
  [ "$run" = "$RUN" ] || { STATE=starting STREAK=0 SINCE=$NOW COUNTED=$NOW; tell; save; }
}
save() {
  echo "$RUN $STATE $STREAK $SINCE $COUNTED" >"$BUNDLE/health-state.new" &&
    mv "$BUNDLE/health-state.new" "$BUNDLE/health-state"
}

# systemd takes the word of a process in the unit's cgroup; systemd-notify speaks for the shell around it. The payload may
# freeze that cgroup.
notify() {
  mkdir -p "$GROUP" &&
    timeout -k 1 5 sh -c 'echo 0 >"$0/cgroup.procs" && NOTIFY_SOCKET=/run/systemd/notify systemd-notify "$1"; :' "$GROUP" "$1"
  rmdir "$GROUP"
}
# before the state is saved: who sees the state finds its text
tell() { notify "--status=$STATE\${1:+: $1}"; }

# the check's exit status in STATUS
check() {
  mkdir -p "$GROUP" || return
  {
    if is_ours; then enter "$GROUP"; else echo 'the first process made a mount namespace of its own'; (exit 125); fi
    echo $? >"$BUNDLE/health-status"
    echo 1 >"$GROUP/cgroup.kill"
  } </dev/null 2>&1 | {
    # a process that left the cgroup may keep the pipe open
    timeout -k 1 $((\${TIMEOUT%.*} + 3)) sh -c 'head -c 4096; exec cat >/dev/null' 3<&-
  } >"$BUNDLE/health-output.new"
  # whoever looks meanwhile sees what the last one said
  mv "$BUNDLE/health-output.new" "$BUNDLE/health-output"
  read -r STATUS <"$BUNDLE/health-status"
  rmdir "$GROUP" 2>/dev/null
}

reason() {
  case $STATUS in
    124 | 137) printf 'not done after %s s' "$TIMEOUT" ;;
    *) printf 'exit status %s' "$STATUS" ;;
  esac
  said=$(tail -n 1 "$BUNDLE/health-output" | LC_ALL=C tr -cd '\\40-\\176' | cut -c -200)
  printf '%s' "\${said:+, $said}"
}

cd / || exit
umask 077
# the payload's first second is its own
[ -n "$DELAYS_START" ] || [ -e "$BUNDLE/health-state" ] || sleep 1
waited=0
while :; do
  look
  if [ "$PID" = 0 ]; then
    [ "$UNIT" = activating ] && [ $waited -lt 50 ] || exit 0
    waited=$((waited + 1))
    sleep 0.1
    continue
  fi
  load
  before=$RUN STATUS=125
  [ "$FROZEN" != running ] || check 3<"/proc/$PID/ns/mnt"
  look
  # of a payload that is paused or ends, or another one meanwhile, nothing is known
  [ "$RUN" = $before ] || continue
  [ "$FROZEN" = running ] && [ "$PID" != 0 ] && [ "$UNIT" != deactivating ] || exit 0
  load
  if [ "$STATUS" = 0 ]; then
    was=$STATE
    STATE=healthy STREAK=0
    [ $was = healthy ] || { tell; printf '<5>%s is healthy\\n' "$NAME.service"; }
    save
    # again where a check was killed after it had saved that
    [ -z "$DELAYS_START" ] || [ "$UNIT" != activating ] || notify --ready
    exit 0
  fi
  if [ $STATE = starting ] && { [ $((NOW - SINCE)) -lt $START_PERIOD ] || [ $((NOW - COUNTED)) -lt $INTERVAL ]; }; then
    sleep $START_INTERVAL
    continue
  fi
  STREAK=$((STREAK + 1)) COUNTED=$NOW
  if [ $STREAK -ge $RETRIES ] && [ $STATE != unhealthy ]; then
    STATE=unhealthy
    why=$(reason)
    tell "$why"
    printf '<4>%s is unhealthy: %s\\n' "$NAME.service" "$why"
    save
    case $ON_FAILURE in
      restart) systemctl --no-block restart "$NAME.service" ;;
      stop) systemctl --no-block stop "$NAME.service" ;;
      kill) systemctl kill --kill-whom=main --signal=KILL "$NAME.service" ;;
    esac
    exit 0
  fi
  save
  [ $STATE = starting ] || exit 0
  sleep $START_INTERVAL
done
`;

export interface Health {
  readonly status: 'starting' | 'healthy' | 'unhealthy';
  /** Failures in a row that counted. */
  readonly failingStreak: number;
}

/** `state`: the file HEALTH_STATE. `run`: ExecMainStartTimestampMonotonic of the payload's unit. */
export function readHealth(state: string | undefined, run: string): Health {
  const [of, word, streak] = (state ?? '').trim().split(' ');
  const status = (['starting', 'healthy', 'unhealthy'] as const).find((each) => each === word);
  if (of !== run || status === undefined) return { status: 'starting', failingStreak: 0 };
  return { status, failingStreak: Number(streak) };
}
