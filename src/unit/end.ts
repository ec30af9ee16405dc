/** Why a payload ended, in words, where its exit status does not say it: systemd's Result= (systemd.exec(5)). */
import { ANNOTATION, DEFAULT_STOP_TIMEOUT_SECONDS } from '../oci/annotations.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';

export interface End {
  status: number;
  result: string;
  /** The limit it had in the end, whoever set it. */
  memoryMaxBytes: number | undefined;
}

export function endInWords(end: End, spec: RuntimeSpec): string | undefined {
  switch (end.result) {
    case 'oom-kill':
      return end.memoryMaxBytes === undefined
        ? 'killed: the host ran out of memory'
        : `killed: over its ${sizeInWords(end.memoryMaxBytes)} of memory`;
    case 'timeout': {
      const seconds = spec.annotations[ANNOTATION.stopTimeout] ?? String(DEFAULT_STOP_TIMEOUT_SECONDS);
      return `killed: it did not stop within ${seconds} s`;
    }
    case 'core-dump':
      return `ended by signal ${end.status - 128}, with a core dump`;
    case 'start-limit-hit':
      return 'not started again: it ended too often';
    default:
      return undefined;
  }
}

const MiB = 2 ** 20;

/** Limits below which a start has failed, with room to spare; CPU in seconds, NOFILE as a number, the others in bytes. */
const ENOUGH_TO_START: Readonly<Record<string, number>> = {
  RLIMIT_AS: 256 * MiB,
  RLIMIT_CPU: 5,
  RLIMIT_DATA: 256 * MiB,
  RLIMIT_NOFILE: 64,
  RLIMIT_STACK: MiB,
};

/** What may help when the payload's unit itself fails to start; undefined where its limits are not to blame. */
export function startHint({ process: { rlimits = [] } }: RuntimeSpec): string | undefined {
  const low = rlimits
    .filter(({ type, soft }) => soft < (ENOUGH_TO_START[type] ?? 0))
    .map(({ type, soft }) => `${type.slice('RLIMIT_'.length).toLowerCase()}=${soft}`);
  if (low.length === 0) return undefined;
  return `Raise --ulimit ${low.join(' and ')}: systemd sets the container up within these limits, too.`;
}

/** `256M`, as it would be typed. */
function sizeInWords(bytes: number): string {
  const units = [' bytes', 'K', 'M', 'G', 'T'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${units[unit]}`;
}
