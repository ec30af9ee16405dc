/**
 * Strict JSON: what two honest parsers could read differently is refused before anybody acts on it.
 *
 * Invariant: a parsed document has no duplicate key, no `__proto__` key, at most JSON_MAX_DEPTH levels and
 * JSON_MAX_CONTAINERS objects and arrays, is valid UTF-8 without a byte order mark, and nothing follows it. The as…()
 * readers give typed values or throw; the optional() reader takes null for "absent", as Go programs write it. Spec: RFC 8259.
 */
import { type ErrorCode, escapeControl, OciError, quote } from './errors.ts';
import { JSON_MAX_CONTAINERS, JSON_MAX_DEPTH } from './limits.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** `what` names the document in messages; `code` is the failure it stands for (BAD_IMAGE, PROTOCOL, CONFIG). */
export function parseJson(
  bytes: Uint8Array,
  maxBytes: number,
  what: string,
  code: ErrorCode = 'BAD_IMAGE',
): unknown {
  if (bytes.length > maxBytes)
    throw new OciError(code, `${what} has ${bytes.length} bytes, more than the ${maxBytes} allowed`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new OciError(code, `${what} is not valid UTF-8`);
  }
  if (text.startsWith('\ufeff')) throw new OciError(code, `${what} begins with a byte order mark`);
  try {
    checkKeysAndDepth(text, what, code);
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof OciError) throw error;
    throw new OciError(code, `${what} is not valid JSON`, {
      detail: escapeControl((error as Error).message).slice(0, 300),
      cause: error,
    });
  }
}

/**
 * JSON.parse() keeps the last of two equal keys and has no depth limit, so the text is walked once before it.
 * Text that is not JSON may pass here: JSON.parse() refuses it afterwards.
 */
function checkKeysAndDepth(text: string, what: string, code: ErrorCode): void {
  const open: (Set<string> | undefined)[] = []; // the keys of each open object; undefined for an array
  let containers = 0;
  let keyExpected = false;
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case '"': {
        const end = closingQuote(text, i);
        if (end < 0) return;
        if (keyExpected) {
          const raw = text.slice(i, end + 1);
          const key = raw.includes('\\') ? String(JSON.parse(raw)) : raw.slice(1, -1);
          const keys = open.at(-1)!;
          if (key === '__proto__') throw new OciError(code, `${what} has the forbidden key '__proto__'`);
          if (keys.has(key))
            throw new OciError(code, `${what} has the key ${quote(key)} twice in one object`);
          keys.add(key);
          keyExpected = false;
        }
        i = end;
        break;
      }
      case '{':
      case '[':
        open.push(text[i] === '{' ? new Set() : undefined);
        if (open.length > JSON_MAX_DEPTH)
          throw new OciError(code, `${what} is nested deeper than ${JSON_MAX_DEPTH} levels`);
        if (++containers > JSON_MAX_CONTAINERS)
          throw new OciError(code, `${what} has more than ${JSON_MAX_CONTAINERS} objects and arrays`);
        keyExpected = text[i] === '{';
        break;
      case '}':
      case ']':
        open.pop();
        keyExpected = false;
        break;
      case ',':
        keyExpected = open.at(-1) !== undefined;
        break;
    }
  }
}

/** A quote with an even number of backslashes before it. */
function closingQuote(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return -1;
}

function bad(what: string, expected: string): OciError {
  return new OciError('BAD_IMAGE', `${what} is not ${expected}`, {
    hint: 'Ask whoever made the image: its metadata does not follow the OCI image specification.',
  });
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(what, 'an object');
  return value as JsonObject;
}

export function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw bad(what, 'an array');
  return value;
}

export function asString(value: unknown, what: string): string {
  if (typeof value !== 'string') throw bad(what, 'a string');
  return value;
}

/** A count of bytes or of things: a non-negative integer that a JavaScript number holds exactly. */
export function asSize(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw bad(what, 'a non-negative integer');
  return value;
}

/** Bytes in base64 (RFC 4648, section 4), padded. */
export function asBase64(value: unknown, what: string): Uint8Array {
  const text = asString(value, what);
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw bad(what, 'base64');
  return bytes;
}

/** undefined and null are "absent"; anything else must satisfy `read`. */
export function optional<T>(
  value: unknown,
  read: (value: unknown, what: string) => T,
  what: string,
): T | undefined {
  return value === undefined || value === null ? undefined : read(value, what);
}

export function asStrings(value: unknown, what: string): string[] {
  return asArray(value, what).map((item, i) => asString(item, `${what}[${i}]`));
}

/** A map of strings. null values become '' as Go's decoder makes them. */
export function asStringMap(value: unknown, what: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(asObject(value, what)).map(([key, item]) => [
      key,
      item === null ? '' : asString(item, `${what}[${quote(key)}]`),
    ]),
  );
}
