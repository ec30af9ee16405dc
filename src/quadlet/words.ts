/**
 * How systemd takes a value apart into words (systemd.syntax(7), "Quoting"; systemd.service(5), "Command lines"), and
 * what `%` and `$` in them stand for. Pure.
 *
 * Quadlet puts all values of its own sections on the command line of a unit, so `%` and `$` mean there what they mean
 * in ExecStart=.
 */
import { isTemplate } from '../unit/unit-name.ts';
import { isRefused, type Refused, refused } from './outcome.ts';

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  s: ' ',
  '\\': '\\',
  '"': '"',
  "'": "'",
};

const NUMBER = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))/;

/** Words between spaces; quotes may begin and end anywhere. An escape that is none stays as it is. */
export function splitWords(text: string): readonly string[] | Refused {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '\\') {
      const escaped = escapeAt(text, at + 1);
      if (escaped.text.includes('\0')) return refused('it holds a NUL character');
      word = (word ?? '') + escaped.text;
      at += escaped.length;
    } else if (quote !== '') {
      if (char === quote) quote = '';
      else word += char;
    } else if (char === '"' || char === "'") {
      quote = char;
      word ??= '';
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + char;
  }
  if (quote !== '') return refused('a quotation mark is not closed');
  if (word !== undefined) words.push(word);
  return words;
}

/** What follows a backslash, and how many characters of the text that is. */
function escapeAt(text: string, at: number): { text: string; length: number } {
  const char = text[at] ?? '';
  const known = ESCAPES[char];
  if (known !== undefined) return { text: known, length: 1 };
  const [whole, ...digits] = NUMBER.exec(text.slice(at, at + 9)) ?? [];
  if (whole === undefined) return { text: `\\${char}`, length: 1 };
  const [hex, unicode, wide, octal] = digits;
  const point =
    octal === undefined ? Number.parseInt(hex ?? unicode ?? wide!, 16) : Number.parseInt(octal, 8);
  return point > 0x10ffff || (point >= 0xd800 && point < 0xe000)
    ? { text: `\\${whole}`, length: whole.length }
    : { text: String.fromCodePoint(point), length: whole.length };
}

/** What specifiers of a unit stand for (systemd.unit(5)); those of this host are known to the caller. */
export interface SpecifierFacts {
  /** The service's, without suffix; of a template with its @. */
  readonly name: string;
  readonly hostName: string;
}

/** For an instance's name, while `%i` may also be two characters. */
const INSTANCE_MARK = '\0';

/** Empty for a service that is no template. */
const instance = ({ name }: SpecifierFacts) => (isTemplate(name) ? INSTANCE_MARK : '');
const prefix = ({ name }: SpecifierFacts) => name.replace(/@$/, '');
const lastPart = (facts: SpecifierFacts) => prefix(facts).slice(prefix(facts).lastIndexOf('-') + 1);

/** Those of units of the system. */
const SPECIFIERS: Readonly<Record<string, (facts: SpecifierFacts) => string>> = {
  '%': () => '%',
  '': () => '%', // at the end, as in 50%
  n: (facts) => `${facts.name}${instance(facts)}.service`,
  N: (facts) => `${facts.name}${instance(facts)}`,
  p: prefix,
  P: prefix,
  j: lastPart,
  J: lastPart,
  i: instance,
  I: instance,
  H: ({ hostName }) => hostName,
  l: ({ hostName }) => hostName.replace(/\..*$/s, ''),
  t: () => '/run',
  S: () => '/var/lib',
  C: () => '/var/cache',
  L: () => '/var/log',
  E: () => '/etc',
  T: () => '/tmp',
  V: () => '/var/tmp',
  h: () => '/root',
  u: () => 'root',
  g: () => 'root',
  U: () => '0',
  G: () => '0',
};

/** A word as systemd would hand it on: `%n`, `%%` and `$$` replaced. In a template `%i` stays, for `ocictl install`. */
export function expandWord(word: string, facts: SpecifierFacts): string | Refused {
  let unknown: string | undefined;
  const text = word.replace(/%(.?)/gsu, (whole, char: string) => {
    const value = Object.hasOwn(SPECIFIERS, char) ? SPECIFIERS[char]! : undefined;
    if (value === undefined) unknown ??= whole;
    return value?.(facts) ?? '';
  });
  if (unknown !== undefined)
    return refused(`specifier ${unknown} is not known before the start; for the character % write %%`);
  if (isTemplate(facts.name) && text.includes('%i'))
    return refused('in a template %i is always its instance, and cannot be written otherwise');
  if (/^\$[A-Za-z_][A-Za-z0-9_]*$/.test(text) || /(^|[^$])(\$\$)*\$\{/.test(text))
    return refused('it holds a variable of the service, which has none; for the character $ write $$');
  return text.replaceAll('$$', () => '$').replaceAll(INSTANCE_MARK, '%i');
}

/** splitWords(), then expandWord(). */
export function expandedWords(text: string, facts: SpecifierFacts): readonly string[] | Refused {
  const words = splitWords(text);
  if (isRefused(words)) return words;
  const expanded: string[] = [];
  for (const word of words) {
    const outcome = expandWord(word, facts);
    if (typeof outcome !== 'string') return outcome;
    expanded.push(outcome);
  }
  return expanded;
}

/** A value that is one word may stand in quotes. */
export function unquoted(value: string): string {
  return /^"[^"]*"$/.test(value) ? value.slice(1, -1) : value;
}
