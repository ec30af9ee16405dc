/**
 * Values of D-Bus ↔ bytes (D-Bus specification, "Marshaling"). Pure.
 *
 * In JavaScript: numbers for y n q i u d, bigint for x t, boolean, string for s o g, Buffer for ay, arrays for other
 * arrays and structs, Map for dictionaries, Variant for v.
 *
 * Invariant: what is read lies within the message; a signature that is not well-formed, a length that reaches beyond
 * the end, and values nested deeper than the specification allows throw.
 */

/** A value that carries its type. */
export class Variant {
  readonly signature: string;
  readonly value: unknown;
  constructor(signature: string, value: unknown) {
    this.signature = signature;
    this.value = value;
  }
}

const DEPTH_MAX = 64;
const ALIGNMENTS: Record<string, number> = {
  y: 1,
  g: 1,
  v: 1,
  n: 2,
  q: 2,
  b: 4,
  i: 4,
  u: 4,
  s: 4,
  o: 4,
  a: 4,
  x: 8,
  t: 8,
  d: 8,
  '(': 8,
  '{': 8,
};

const splits = new Map<string, readonly string[]>();

/** The complete types that a signature is a sequence of: `sa{sv}` → `s`, `a{sv}`. */
export function completeTypes(signature: string): readonly string[] {
  let types = splits.get(signature);
  if (types === undefined) {
    const found: string[] = [];
    for (let at = 0; at < signature.length; ) {
      const end = typeEnd(signature, at, 0);
      found.push(signature.slice(at, end));
      at = end;
    }
    types = found;
    if (splits.size < 1000) splits.set(signature, types);
  }
  return types;
}

function typeEnd(signature: string, at: number, depth: number): number {
  const code = signature[at];
  if (code === undefined || ALIGNMENTS[code] === undefined || depth > DEPTH_MAX)
    throw new TypeError(`'${signature}' is no signature`);
  if (code === 'a') return typeEnd(signature, at + 1, depth + 1);
  if (code !== '(' && code !== '{') return at + 1;
  const close = code === '(' ? ')' : '}';
  if (signature[at + 1] === close) throw new TypeError(`'${signature}' has a structure of nothing`);
  let end = at + 1;
  while (signature[end] !== close) end = typeEnd(signature, end, depth + 1);
  return end + 1;
}

/** The bytes of `values`, which are as `signature` says; aligned as at an offset that 8 divides. */
export function marshal(signature: string, values: readonly unknown[]): Buffer {
  let buffer = Buffer.alloc(1024);
  let length = 0;

  function align(to: number): void {
    reserve(to);
    while (length % to !== 0) buffer[length++] = 0;
  }
  function reserve(bytes: number): void {
    if (length + bytes <= buffer.length) return;
    const larger = Buffer.alloc(Math.max(buffer.length * 2, length + bytes));
    buffer.copy(larger, 0, 0, length);
    buffer = larger;
  }
  function put(bytes: number, write: (at: number) => void): void {
    align(bytes);
    reserve(bytes);
    write(length);
    length += bytes;
  }
  const uint32 = (value: number) => put(4, (at) => buffer.writeUInt32LE(value, at));

  function text(value: string): void {
    if (value.includes('\0')) throw new TypeError('D-Bus has no strings with a NUL in them');
    const bytes = Buffer.from(value);
    uint32(bytes.length);
    raw(bytes);
    raw(NUL);
  }
  function raw(bytes: Uint8Array): void {
    reserve(bytes.length);
    buffer.set(bytes, length);
    length += bytes.length;
  }

  function array(type: string, value: unknown): void {
    const element = type.slice(1);
    uint32(0);
    const lengthAt = length - 4;
    align(ALIGNMENTS[element[0]!]!);
    const start = length;
    if (element === 'y') raw(value as Uint8Array);
    else if (element[0] === '{')
      for (const entry of value as Map<unknown, unknown>) one(`(${element.slice(1, -1)})`, entry);
    else for (const item of value as readonly unknown[]) one(element, item);
    buffer.writeUInt32LE(length - start, lengthAt);
  }

  const writers: Record<string, (value: never, type: string) => void> = {
    y: (value: number) => raw(Buffer.of(value)),
    b: (value: boolean) => uint32(value ? 1 : 0),
    n: (value: number) => put(2, (at) => buffer.writeInt16LE(value, at)),
    q: (value: number) => put(2, (at) => buffer.writeUInt16LE(value, at)),
    i: (value: number) => put(4, (at) => buffer.writeInt32LE(value, at)),
    u: uint32,
    x: (value: bigint) => put(8, (at) => buffer.writeBigInt64LE(value, at)),
    t: (value: bigint) => put(8, (at) => buffer.writeBigUInt64LE(value, at)),
    d: (value: number) => put(8, (at) => buffer.writeDoubleLE(value, at)),
    s: text,
    o: text,
    g(value: string) {
      raw(Buffer.of(value.length));
      raw(Buffer.from(`${value}\0`));
    },
    a: (value: unknown, type) => array(type, value),
    v({ signature, value }: Variant) {
      one('g', signature);
      one(signature, value);
    },
    '('(members: readonly unknown[], type) {
      align(8);
      completeTypes(type.slice(1, -1)).forEach((member, index) => {
        one(member, members[index]);
      });
    },
  };
  function one(type: string, value: unknown): void {
    writers[type[0]!]!(value as never, type);
  }

  completeTypes(signature).forEach((type, index) => {
    one(type, values[index]);
  });
  return buffer.subarray(0, length);
}

const NUL = Buffer.of(0);

/** The values in `bytes`, which begin at an offset that 8 divides. */
export function unmarshal(signature: string, bytes: Buffer, littleEndian: boolean): unknown[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let position = 0;

  /** The offset of the next `size` bytes, aligned. */
  function take(size: number, alignment: number): number {
    const at = Math.ceil(position / alignment) * alignment;
    position = at + size;
    if (position > bytes.length) throw new RangeError('a value reaches beyond the end of its message');
    return at;
  }
  const uint32 = () => view.getUint32(take(4, 4), littleEndian);

  function text(size: number): string {
    const at = take(size + 1, 1); // with the NUL behind it
    return bytes.toString('utf8', at, at + size);
  }

  function array(type: string, depth: number): unknown {
    const element = type.slice(1);
    const size = uint32();
    take(0, ALIGNMENTS[element[0]!]!);
    if (element === 'y') {
      const at = take(size, 1);
      return Buffer.from(bytes.subarray(at, at + size));
    }
    const end = position + size;
    const items: unknown[] = [];
    const inner = element[0] === '{' ? `(${element.slice(1, -1)})` : element;
    while (position < end) items.push(one(inner, depth + 1));
    return element[0] === '{' ? new Map(items as [unknown, unknown][]) : items;
  }

  function one(type: string, depth: number): unknown {
    if (depth > DEPTH_MAX) throw new RangeError('a value is nested too deep');
    switch (type[0]) {
      case 'y':
        return view.getUint8(take(1, 1));
      case 'b':
        return uint32() !== 0;
      case 'n':
        return view.getInt16(take(2, 2), littleEndian);
      case 'q':
        return view.getUint16(take(2, 2), littleEndian);
      case 'i':
        return view.getInt32(take(4, 4), littleEndian);
      case 'u':
        return uint32();
      case 'x':
        return view.getBigInt64(take(8, 8), littleEndian);
      case 't':
        return view.getBigUint64(take(8, 8), littleEndian);
      case 'd':
        return view.getFloat64(take(8, 8), littleEndian);
      case 's':
      case 'o':
        return text(uint32());
      case 'g':
        return text(view.getUint8(take(1, 1)));
      case 'a':
        return array(type, depth);
      case 'v': {
        const inner = text(view.getUint8(take(1, 1)));
        if (completeTypes(inner).length !== 1) throw new TypeError(`'${inner}' is not one type`);
        return new Variant(inner, one(inner, depth + 1));
      }
      default:
        take(0, 8);
        return completeTypes(type.slice(1, -1)).map((member) => one(member, depth + 1));
    }
  }

  return completeTypes(signature).map((type) => one(type, 0));
}
