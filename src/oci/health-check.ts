/**
 * A container's health check, and the annotation that carries it in config.json: the runtime specification has no
 * field for one. Durations are in seconds.
 *
 * Invariant: what parseHealthCheck() returns keeps no machine busy: a check begins at most once a second.
 */
import { OciError, quote } from './errors.ts';

export const HEALTH_ACTIONS = ['none', 'restart', 'stop', 'kill'] as const;
export type HealthAction = (typeof HEALTH_ACTIONS)[number];

export interface HealthCheck {
  /** The command, in the container, as its user. */
  readonly args: readonly string[];
  /** From the end of one check to the next. */
  readonly interval: number;
  /** A check that takes longer has failed. */
  readonly timeout: number;
  /** So many failures in a row make the container unhealthy. */
  readonly retries: number;
  /** After the start, a time in which failures do not count. */
  readonly startPeriod: number;
  /** The interval until the first success; what fails between two intervals does not count. */
  readonly startInterval: number;
  /** What is done with a container that became unhealthy. */
  readonly onFailure: HealthAction;
}

/** Docker's, which images rely on. */
export const HEALTH_DEFAULTS = {
  interval: 30,
  timeout: 30,
  retries: 3,
  startPeriod: 0,
  startInterval: 5,
  onFailure: 'none',
} as const satisfies Omit<HealthCheck, 'args'>;

export const DURATION_MAX_SECONDS = 31_536_000;
export const RETRIES_MAX = 1000;

/** Of an annotation, which may come with a bundle. Throws BAD_IMAGE. */
export function parseHealthCheck(text: string): HealthCheck {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {}
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { args, onFailure = HEALTH_DEFAULTS.onFailure } = record;
  const isCommand =
    Array.isArray(args) &&
    args.length > 0 &&
    args.every((word) => typeof word === 'string' && !word.includes('\0'));
  const action = HEALTH_ACTIONS.find((each) => each === onFailure);
  if (!isCommand || args[0] === '' || action === undefined)
    throw new OciError('BAD_IMAGE', `${quote(text.slice(0, 100))} is no health check`, {
      hint: 'Write it as {"args": ["COMMAND"], "onFailure": "none"}.',
    });
  const number = (name: keyof typeof HEALTH_DEFAULTS, min: number, max: number) => {
    const given = record[name] ?? HEALTH_DEFAULTS[name];
    if (typeof given === 'number' && given >= 0) return Math.min(Math.max(given, min), max);
    throw new OciError('BAD_IMAGE', `health check: ${name} is not a number of 0 or more`, {
      hint: 'Give it a number of seconds, or leave it out.',
    });
  };
  return {
    args: args as string[],
    interval: number('interval', 1, DURATION_MAX_SECONDS),
    timeout: number('timeout', 1, DURATION_MAX_SECONDS),
    retries: Math.ceil(number('retries', 1, RETRIES_MAX)),
    startPeriod: number('startPeriod', 0, DURATION_MAX_SECONDS),
    startInterval: number('startInterval', 1, DURATION_MAX_SECONDS),
    onFailure: action,
  };
}

/** How long it takes at most until a started container is known to be healthy or unhealthy. */
export function verdictMaxSeconds({ startPeriod, retries, interval, timeout }: HealthCheck): number {
  return startPeriod + (retries + 1) * (interval + timeout);
}
