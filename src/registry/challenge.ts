/**
 * WWW-Authenticate: the challenges of RFC 9110 11.6.1, as registries send them (Bearer with realm, service, scope;
 * Basic). Pure.
 *
 * Invariant: any text gives a list of challenges, never an exception; the first of two equal parameters counts.
 */

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly params: ReadonlyMap<string, string>;
}

const HEADER_MAX_CHARS = 8192;
const SEPARATOR = /[\s,]*/y;
const PARAM =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z/:-]+))/y;
/** A scheme, with a token68 after it where there is one. */
const SCHEME = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$)))?/y;

export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const text = [header ?? []].flat().join(', ').slice(0, HEADER_MAX_CHARS);
  const challenges: { scheme: string; params: Map<string, string> }[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (;;) {
    match(SEPARATOR);
    if (at >= text.length) return challenges;
    const param = challenges.length > 0 ? match(PARAM) : null;
    if (param) {
      const name = param[1]!.toLowerCase();
      const { params } = challenges.at(-1)!;
      if (!params.has(name)) params.set(name, param[2]?.replace(/\\(.)/g, '$1') ?? param[3] ?? '');
      continue;
    }
    const scheme = match(SCHEME);
    if (scheme) challenges.push({ scheme: scheme[1]!.toLowerCase(), params: new Map() });
    else at++; // a character that belongs nowhere
  }
}
