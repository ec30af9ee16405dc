/**
 * What the programs print. Results go to stdout, everything else to stderr, so that a script can use the first.
 *
 * Invariant: all that people are shown passes through escapeControl() here, so nothing foreign reaches the terminal as a
 * control sequence.
 */
import { CONTROL_CHARACTERS, escapeControl, type OciError } from '../oci/errors.ts';

export interface OutputOptions {
  /** `oci-pull`, at the start of every line on stderr. */
  readonly program: string;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

export type Output = ReturnType<typeof createOutput>;

export function createOutput({ program, json, quiet, verbose }: OutputOptions) {
  /** A progress display hides its bars while a line is printed. */
  let printLine = (line: string): void => void process.stderr.write(line);
  return {
    json,
    quiet,
    verbose,

    /** One line of the result. */
    line: (text: string): void => void process.stdout.write(`${escapeControl(text)}\n`),

    /** A text of several lines. */
    lines: (text: string): void =>
      void process.stdout.write(
        text
          .trimEnd()
          .split('\n')
          .map((line) => `${escapeControl(line)}\n`)
          .join(''),
      ),

    /** The result, as JSON. */
    value: (value: unknown): void => void process.stdout.write(`${jsonText(value)}\n`),

    /** Rows for people, aligned; nothing for no rows but the headers. */
    table: (headers: readonly string[], rows: readonly (readonly string[])[]): void =>
      void process.stdout.write(tableText(headers, rows)),

    /** `Key: value` lines, aligned; those without a value are left out. */
    facts(facts: readonly (readonly [string, string | undefined])[]): void {
      const known = facts.filter(([, value]) => value !== undefined && value !== '');
      const width = Math.max(...known.map(([key]) => key.length)) + 2;
      for (const [key, value] of known)
        process.stdout.write(`${`${key}:`.padEnd(width)}${escapeControl(value!)}\n`);
    },

    /** Something worth knowing that is no result; nothing with --quiet. */
    note(message: string): void {
      if (!quiet) printLine(`${program}: ${escapeControl(message)}\n`);
    },

    /** Something that must be known, also with --quiet. */
    warning: (message: string): void => printLine(`${program}: ${escapeControl(message)}\n`),

    /** Lets a progress display take over the printing of notes; call the result to end that. */
    interceptNotes(print: (line: string) => void): () => void {
      const before = printLine;
      printLine = print;
      return () => {
        printLine = before;
      };
    },

    error(error: OciError): void {
      process.stderr.write(errorText(error, { program, json, verbose }));
    },
  };
}

/** `oci-pull: pull 'x': …`, the hint on the next line; or an object on one line. */
export function errorText(
  error: OciError,
  { program, json, verbose }: { program: string; json: boolean; verbose: boolean },
): string {
  const { code, message, hint, detail } = error;
  if (json) return `${plainJson(JSON.stringify({ code, message, hint, detail }))}\n`;
  const lines = [`${program}: ${escapeControl(message)}`, `hint: ${escapeControl(hint)}`];
  if (verbose && detail !== undefined)
    lines.push(...detail.split('\n').map((line) => `detail: ${escapeControl(line)}`));
  if (code === 'INTERNAL') lines.push(...(stackOf(error) ?? []).map(escapeControl));
  return `${lines.join('\n')}\n`;
}

function stackOf(error: OciError): string[] | undefined {
  let origin: Error = error;
  while (origin.cause instanceof Error) origin = origin.cause;
  return origin.stack?.split('\n').slice(1);
}

/** Readable JSON. */
export function jsonText(value: unknown): string {
  return plainJson(JSON.stringify(value, null, 2), '\n');
}

/** JSON with what a terminal could take for a command written as \u escapes; JSON.stringify() leaves most of it. */
function plainJson(json: string, but = ''): string {
  return json.replace(CONTROL_CHARACTERS, (char) => (char === but ? char : unicodeEscape(char)));
}

/** \u009b */
export function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

export function tableText(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headers, ...rows.map((row) => row.map(escapeControl))];
  const widths = headers.map((_, column) => Math.max(...lines.map((line) => [...line[column]!].length)));
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, column) => cell + ' '.repeat(widths[column]! - [...cell].length))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** 999 B, 1.0 kB, 74.3 MB: powers of 1000, as the registries show them. */
export function humanBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** The 12 digits that the programs print and take for a digest. */
export function shortDigest(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, 12);
}

/** `5 minutes ago`; the date for a time that lies in the future. */
export function humanAge(iso: string, now: number = Date.now()): string {
  const seconds = Math.floor((now - Date.parse(iso)) / 1000);
  if (!(seconds >= 0)) return iso;
  const steps = [
    ['year', 365 * 86400],
    ['month', 30 * 86400],
    ['week', 7 * 86400],
    ['day', 86400],
    ['hour', 3600],
    ['minute', 60],
    ['second', 1],
  ] as const;
  const [name, length] = steps.find(([, size]) => seconds >= size) ?? ['second', 1];
  const count = Math.floor(seconds / length);
  return `${count} ${name}${count === 1 ? '' : 's'} ago`;
}
