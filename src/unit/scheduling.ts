/** process.rlimits, oomScoreAdj, scheduler, ioPriority → systemd.exec(5). systemd sets them as root of the host. */
import { quote } from '../oci/errors.ts';
import type { Process } from '../oci/runtime-spec.ts';
import { refusal } from './refuse.ts';
import { boolean, named, number, resourceLimit, type Setting } from './setting.ts';

export function schedulingSettings(process: Process): Setting[] {
  return [
    ...limitSettings(process.rlimits ?? []),
    ...(process.oomScoreAdj === undefined ? [] : [number('OOMScoreAdjust', process.oomScoreAdj)]),
    ...(process.scheduler === undefined ? [] : schedulerSettings(process.scheduler)),
    ...(process.ioPriority === undefined ? [] : ioPrioritySettings(process.ioPriority)),
  ];
}

/** setrlimit(2) as systemd names it: `LimitNOFILE`. */
const RLIMITS = new Set(
  ['AS', 'CORE', 'CPU', 'DATA', 'FSIZE', 'LOCKS', 'MEMLOCK', 'MSGQUEUE', 'NICE', 'NOFILE', 'NPROC'].concat([
    'RSS',
    'RTPRIO',
    'RTTIME',
    'SIGPENDING',
    'STACK',
  ]),
);

function limitSettings(rlimits: NonNullable<Process['rlimits']>): Setting[] {
  const seen = new Set<string>();
  return rlimits.flatMap(({ type, soft, hard }) => {
    const name = type.replace(/^RLIMIT_/, '');
    if (!type.startsWith('RLIMIT_') || !RLIMITS.has(name))
      throw refusal('process.rlimits[].type', `${quote(type)} is no limit`, 'Use a name of setrlimit(2).');
    if (seen.has(name))
      throw refusal('process.rlimits', `${quote(type)} is there twice`, 'Leave one of them.');
    seen.add(name);
    if (orInfinity(soft) > orInfinity(hard))
      throw refusal(
        'process.rlimits',
        `the soft limit of ${quote(type)} is above the hard one`,
        'Lower the soft limit.',
      );
    return resourceLimit(`Limit${name}`, orInfinity(soft), orInfinity(hard));
  });
}

/** RLIM_INFINITY is 2^64-1, which a number shows as 2^64; -1 is the same. */
function orInfinity(value: number): number {
  return value < 0 || value > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : value;
}

/** sched.h's numbers, and systemd's words. */
const POLICIES: Record<string, [number, string]> = {
  SCHED_OTHER: [0, 'other'],
  SCHED_FIFO: [1, 'fifo'],
  SCHED_RR: [2, 'rr'],
  SCHED_BATCH: [3, 'batch'],
  SCHED_IDLE: [5, 'idle'],
};
const RESET_ON_FORK = 'SCHED_FLAG_RESET_ON_FORK';

function schedulerSettings(scheduler: NonNullable<Process['scheduler']>): Setting[] {
  const policy = Object.hasOwn(POLICIES, scheduler.policy) ? POLICIES[scheduler.policy] : undefined;
  if (policy === undefined)
    throw refusal(
      'process.scheduler.policy',
      `systemd does not set ${quote(scheduler.policy)}`,
      `Use one of ${Object.keys(POLICIES).join(', ')}.`,
    );
  const flags = scheduler.flags ?? [];
  const other = flags.find((flag) => flag !== RESET_ON_FORK);
  if (other !== undefined)
    throw refusal(
      'process.scheduler.flags',
      `systemd does not set ${quote(other)}`,
      `Use ${RESET_ON_FORK} alone.`,
    );
  return [
    named('CPUSchedulingPolicy', ...policy),
    ...(scheduler.priority ? [number('CPUSchedulingPriority', scheduler.priority)] : []),
    ...(scheduler.nice === undefined ? [] : [number('Nice', scheduler.nice)]),
    ...(flags.length > 0 ? [boolean('CPUSchedulingResetOnFork', true)] : []),
  ];
}

const IO_CLASSES: Record<string, [number, string]> = {
  IOPRIO_CLASS_RT: [1, 'realtime'],
  IOPRIO_CLASS_BE: [2, 'best-effort'],
  IOPRIO_CLASS_IDLE: [3, 'idle'],
};

function ioPrioritySettings(ioPriority: NonNullable<Process['ioPriority']>): Setting[] {
  const ioClass = Object.hasOwn(IO_CLASSES, ioPriority.class) ? IO_CLASSES[ioPriority.class] : undefined;
  if (ioClass === undefined)
    throw refusal(
      'process.ioPriority.class',
      `${quote(ioPriority.class)} is no class`,
      `Use one of ${Object.keys(IO_CLASSES).join(', ')}.`,
    );
  return [
    named('IOSchedulingClass', ...ioClass),
    ...(ioPriority.priority === undefined ? [] : [number('IOSchedulingPriority', ioPriority.priority)]),
  ];
}
