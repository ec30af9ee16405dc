/** What becomes of a key of a Quadlet file: words of a command line of ours, or the reason why not. */

export interface Refused {
  readonly refused: string;
}

export type Outcome = readonly string[] | Refused;

export function refused(reason: string): Refused {
  return { refused: reason };
}

export function isRefused<T extends object>(outcome: T | Refused): outcome is Refused {
  return 'refused' in outcome;
}

/** A key that cannot be honoured. */
export interface Complaint {
  readonly line: number;
  readonly key: string;
  readonly reason: string;
}

/** Words of `ocictl install`, and where they come from. Each option is one word: --NAME or --NAME=VALUE. */
export interface Part {
  readonly line: number;
  readonly key: string;
  readonly words: readonly string[];
}

/** `yes` and its like as systemd reads them; undefined for other words. */
export function booleanOf(value: string): boolean | undefined {
  if (/^(1|yes|y|true|t|on)$/i.test(value)) return true;
  if (/^(0|no|n|false|f|off)$/i.test(value)) return false;
  return undefined;
}
