/**
 * When to try again: which statuses and network errors pass by themselves, and how long to wait.
 *
 * Invariant: every wait and the number of attempts are bounded, whatever a server answers.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface RetryPolicy {
  readonly attempts: number;
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** No new attempt begins later than this after the first. */
  readonly budgetMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = {
  attempts: 5,
  baseDelayMs: 500,
  maxDelayMs: 10_000,
  budgetMs: 120_000,
};

/** A server that asks for a longer pause is not waited for. */
export const RETRY_AFTER_MAX_MS = 30_000;

const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

export function isTransientStatus(status: number): boolean {
  return TRANSIENT_STATUSES.has(status);
}

/** Exponential, with full jitter in the upper half, so that many clients do not come back together. */
export function backoffMs(failures: number, policy: RetryPolicy, random: () => number = Math.random): number {
  const ceiling = Math.min(policy.baseDelayMs * 2 ** (failures - 1), policy.maxDelayMs);
  return Math.round(ceiling * (0.5 + random() / 2));
}

/** Milliseconds from a Retry-After header: seconds or an HTTP date (RFC 9110 10.2.3); undefined if neither. */
export function parseRetryAfter(value: string | undefined, nowMs: number = Date.now()): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^[0-9]{1,12}$/.test(text)) return Number(text) * 1000;
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return undefined;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal });
}

/** A clock that nobody sets. (The global `performance` costs two milliseconds to load.) */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
