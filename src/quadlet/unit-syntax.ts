/**
 * The syntax of unit files (systemd.syntax(7)): sections, assignments, comments, lines that go on. Pure.
 *
 * Invariants
 * - Every assignment is there with its section and the line it begins on, in the order of the file; what keys mean is
 *   the business of others.
 * - A message names lines, and never shows them: the file may be a link to something that is not the caller's to read.
 */
import { OciError, quote } from '../oci/errors.ts';
import type { Complaint } from './outcome.ts';

export interface Assignment {
  readonly section: string;
  readonly key: string;
  readonly value: string;
  /** From 1. */
  readonly line: number;
}

export interface UnitText {
  readonly assignments: readonly Assignment[];
  readonly complaints: readonly Complaint[];
}

export const UNIT_FILE_MAX_BYTES = 1024 * 1024;

/** Throws BAD_UNIT_FILE for what is no text. `file` is for messages. */
export function parseUnitText(text: string, file: string): UnitText {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const odd = lines.findIndex((line) => /[\x00-\x08\x0a-\x1f\x7f]/.test(line));
  if (odd >= 0)
    throw new OciError('BAD_UNIT_FILE', `${quote(file)} is no unit file: line ${odd + 1} is no text`, {
      hint: 'Name a file that is a .container, .volume, .network or .image file.',
    });
  const assignments: Assignment[] = [];
  const complaints: Complaint[] = [];
  let section: string | undefined;
  for (const { line, text: whole } of logicalLines(lines)) {
    const [, header] = /^\[(.*)\]$/.exec(whole) ?? [];
    const equals = whole.indexOf('=');
    if (header !== undefined) section = header;
    else if (equals < 1)
      complaints.push({ line, key: 'line', reason: 'it is neither [Section] nor Key=value' });
    else if (section === undefined)
      complaints.push({ line, key: whole.slice(0, equals).trim(), reason: 'it stands before any [Section]' });
    else
      assignments.push({
        section,
        key: whole.slice(0, equals).trim(),
        value: whole.slice(equals + 1).trim(),
        line,
      });
  }
  return { assignments, complaints };
}

/** Without comments; those that end in a backslash with the next one. */
function* logicalLines(lines: readonly string[]): Generator<{ line: number; text: string }> {
  let parts: string[] = [];
  let first = 0;
  for (const [index, raw] of lines.entries()) {
    if (/^\s*[#;]/.test(raw)) continue; // also between lines that belong together
    if (parts.length === 0) first = index + 1;
    if (raw.endsWith('\\')) {
      parts.push(raw.slice(0, -1));
      continue;
    }
    const text = [...parts, raw].join(' ').trim();
    parts = [];
    if (text !== '') yield { line: first, text };
  }
  const text = parts.join(' ').trim();
  if (text !== '') yield { line: first, text };
}

/** The assignments of a section by key, without those that an empty one took back. */
export function sectionOf(unit: UnitText, section: string): Map<string, Assignment[]> {
  const keys = new Map<string, Assignment[]>();
  for (const assignment of unit.assignments.filter((each) => each.section === section)) {
    const before = keys.get(assignment.key) ?? [];
    keys.set(assignment.key, assignment.value === '' ? [] : [...before, assignment]);
  }
  return keys;
}
