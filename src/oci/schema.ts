/**
 * The shape of a JSON document, written once: from it come the reader, the TypeScript type (Infer) and the list of
 * its fields. Readers throw BAD_IMAGE naming the field; null counts as absent, as Go programs write it; lists and
 * maps that are absent are empty. Fields that the shape does not know are collected, not refused: that is what the
 * runtime specification asks for (config.md, Extensibility).
 */
import { OciError, quote } from './errors.ts';

export interface Schema<T> {
  /** `path` names the value in messages; `unknown` takes the paths of fields that are not in the shape. */
  read(value: unknown, path: string, unknown: string[]): T;
  /** Of an object: its fields. */
  readonly fields?: Fields;
  /** Of a list: what it holds. */
  readonly items?: Schema<unknown>;
}

type Fields = Readonly<Record<string, Schema<unknown>>>;
export type Infer<S> = S extends Schema<infer T> ? T : never;
type Required<F extends Fields> = { [K in keyof F]: Infer<F[K]> };
type Optional<F extends Fields> = { [K in keyof F]?: Infer<F[K]> };

export const text: Schema<string> = {
  read: (value, path) => {
    if (typeof value !== 'string') throw wrong(path, 'a string');
    return value;
  },
};

export const flag: Schema<boolean> = {
  read: (value, path) => {
    if (typeof value !== 'boolean') throw wrong(path, 'true or false');
    return value;
  },
};

/** Go's int64 and uint64; beyond 2^53 a number is not exact, which only the "no limit" values reach. */
export const integer: Schema<number> = {
  read: (value, path) => {
    if (typeof value !== 'number' || !Number.isInteger(value)) throw wrong(path, 'a whole number');
    return value;
  },
};

/** A value that nobody here looks into. */
export const anything: Schema<unknown> = { read: (value) => value };

export function oneOf<const T extends string>(...values: T[]): Schema<T> {
  return {
    read: (value, path) => {
      const found = values.find((each) => each === value);
      if (found === undefined) throw wrong(path, `one of ${values.join(', ')}`);
      return found;
    },
  };
}

export function list<T>(items: Schema<T>): Schema<T[]> {
  return {
    items,
    read: (value, path, unknown) => {
      if (isAbsent(value)) return [];
      if (!Array.isArray(value)) throw wrong(path, 'a list');
      return value.map((item, index) => items.read(item, `${path}[${index}]`, unknown));
    },
  };
}

export function map<T>(items: Schema<T>): Schema<Record<string, T>> {
  return {
    read: (value, path, unknown) => {
      if (isAbsent(value)) return {};
      return Object.fromEntries(
        Object.entries(asRecord(value, path)).map(([key, item]) => [
          key,
          items.read(item, `${path}[${quote(key)}]`, unknown),
        ]),
      );
    },
  };
}

/** An absent object reads as an empty one where nothing in it is required. */
export function object<R extends Fields, O extends Fields = Record<never, never>>(
  required: R,
  optional?: O,
): Schema<Required<R> & Optional<O>> {
  const fields: Fields = { ...required, ...optional };
  return {
    fields,
    read: (value, path, unknown) => {
      const record = isAbsent(value) ? {} : asRecord(value, path);
      for (const name of Object.keys(record))
        if (!Object.hasOwn(fields, name)) unknown.push(join(path, name));
      const read: Record<string, unknown> = {};
      for (const [name, schema] of Object.entries(fields))
        if (Object.hasOwn(required, name) || !isAbsent(record[name]))
          read[name] = schema.read(record[name], join(path, name), unknown);
      return read as Required<R> & Optional<O>;
    },
  };
}

/** The paths of all fields: `process.args`, `mounts[].options`. */
export function fieldPaths(schema: Schema<unknown>, path = ''): string[] {
  if (schema.fields !== undefined)
    return Object.entries(schema.fields).flatMap(([name, field]) => fieldPaths(field, join(path, name)));
  if (schema.items?.fields !== undefined) return fieldPaths(schema.items, `${path}[]`);
  return [path];
}

/** The paths, as fieldPaths() writes them, that have a value other than false and nothing at all. */
export function usedPaths(schema: Schema<unknown>, value: unknown, path = ''): string[] {
  if (value === undefined || value === false || (typeof value === 'object' && isEmpty(value))) return [];
  if (schema.fields !== undefined)
    return Object.entries(schema.fields).flatMap(([name, field]) =>
      usedPaths(field, (value as Record<string, unknown>)[name], join(path, name)),
    );
  if (schema.items?.fields !== undefined)
    return [...new Set((value as unknown[]).flatMap((item) => usedPaths(schema.items!, item, `${path}[]`)))];
  return [path];
}

function isEmpty(value: object | null): boolean {
  return value === null || Object.keys(value).length === 0;
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function asRecord(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'an object');
  return value as Record<string, unknown>;
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function wrong(path: string, expected: string): OciError {
  return new OciError('BAD_IMAGE', `config.json: ${path === '' ? 'the document' : path} is not ${expected}`, {
    hint: 'Correct config.json: the OCI runtime specification says how it must look.',
  });
}
