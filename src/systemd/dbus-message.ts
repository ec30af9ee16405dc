/** Messages of D-Bus ↔ bytes (D-Bus specification, "Message Protocol"). Pure. */
import { marshal, unmarshal, Variant } from './dbus-values.ts';

export const METHOD_CALL = 1;
export const METHOD_RETURN = 2;
export const ERROR = 3;
export const SIGNAL = 4;

export interface Message {
  readonly type: number;
  readonly serial: number;
  readonly path?: string | undefined;
  readonly interface?: string | undefined;
  readonly member?: string | undefined;
  readonly errorName?: string | undefined;
  readonly replySerial?: number | undefined;
  readonly destination?: string | undefined;
  readonly signature: string;
  readonly body: readonly unknown[];
}

/** Codes and types of the header's fields. */
const FIELDS = [
  ['path', 1, 'o'],
  ['interface', 2, 's'],
  ['member', 3, 's'],
  ['errorName', 4, 's'],
  ['replySerial', 5, 'u'],
  ['destination', 6, 's'],
  ['signature', 8, 'g'],
] as const;
const NAMES = new Map(FIELDS.map(([name, code]) => [code as number, name]));

const PROTOCOL_VERSION = 1;
const MESSAGE_MAX_BYTES = 128 * 1024 * 1024;
/** The fixed part of a header, and the length of its fields. */
const PREFIX_BYTES = 16;

export function formatMessage(message: Message): Buffer {
  const body = marshal(message.signature, message.body);
  const fields = FIELDS.filter(([name]) => message[name] !== undefined && message[name] !== '').map(
    ([name, code, type]) => [code, new Variant(type, message[name])],
  );
  const header = marshal('yyyyuua(yv)', [
    'l'.charCodeAt(0),
    message.type,
    0,
    PROTOCOL_VERSION,
    body.length,
    message.serial,
    fields,
  ]);
  return Buffer.concat([header, Buffer.alloc(padding(header.length)), body]);
}

/** The length of the message that `bytes` begin with, in bytes; undefined while too few of them are there. */
export function messageLength(bytes: Buffer): number | undefined {
  if (bytes.length < PREFIX_BYTES) return undefined;
  const littleEndian = isLittleEndian(bytes);
  const uint32 = (at: number) => (littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const headerLength = PREFIX_BYTES + uint32(12);
  const length = headerLength + padding(headerLength) + uint32(4);
  if (length > MESSAGE_MAX_BYTES) throw new RangeError('a message is longer than D-Bus allows');
  return length;
}

/** `bytes` are one whole message. */
export function parseMessage(bytes: Buffer): Message {
  const littleEndian = isLittleEndian(bytes);
  const [, type, , version, bodyLength, serial, fields] = unmarshal('yyyyuua(yv)', bytes, littleEndian);
  if (version !== PROTOCOL_VERSION) throw new TypeError(`a message of protocol version ${version}`);
  const known: Record<string, unknown> = { signature: '' };
  for (const [code, { value }] of fields as [number, Variant][]) {
    const name = NAMES.get(code);
    if (name !== undefined) known[name] = value;
  }
  const body = bytes.subarray(bytes.length - (bodyLength as number));
  return {
    ...known,
    type: type as number,
    serial: serial as number,
    signature: String(known['signature']),
    body: unmarshal(String(known['signature']), body, littleEndian),
  };
}

function isLittleEndian(bytes: Buffer): boolean {
  const mark = String.fromCharCode(bytes[0]!);
  if (mark !== 'l' && mark !== 'B') throw new TypeError('what comes is not a message of D-Bus');
  return mark === 'l';
}

function padding(length: number): number {
  return (8 - (length % 8)) % 8;
}
