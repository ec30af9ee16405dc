/**
 * A connection to the system bus: calls and signals, errors as OciError (D-Bus specification, "Authentication
 * Protocol", "Message Bus"). A client of our own, because the library took longer than all the rest: see ADR 1.
 *
 * Invariant: when the connection breaks, every call under way fails; none hangs.
 */
import { connect, type Socket } from 'node:net';
import { escapeControl, OciError } from '../oci/errors.ts';
import {
  ERROR,
  formatMessage,
  METHOD_CALL,
  METHOD_RETURN,
  type Message,
  messageLength,
  parseMessage,
  SIGNAL,
} from './dbus-message.ts';
import { Variant } from './dbus-values.ts';

export interface Signal {
  path: string;
  interface: string;
  member: string;
  body: readonly unknown[];
}

export interface Bus {
  call(
    target: CallTarget,
    member: string,
    signature?: string,
    body?: readonly unknown[],
  ): Promise<readonly unknown[]>;
  /** Adds a match rule and calls the listener for every signal that the connection receives. */
  listen(rule: string, listener: (signal: Signal) => void): Promise<void>;
  close(): void;
}

export interface CallTarget {
  destination: string;
  path: string;
  interface: string;
}

/** An error that the peer returned, with its D-Bus name. */
export class BusError extends Error {
  readonly errorName: string;
  constructor(errorName: string, message: string) {
    super(escapeControl(message).slice(0, 1000));
    this.name = 'BusError';
    this.errorName = errorName;
  }
}

const DEFAULT_ADDRESS = 'unix:path=/run/dbus/system_bus_socket';

interface PendingCall {
  resolve(body: readonly unknown[]): void;
  reject(error: Error): void;
}

/** Where there is no bus, the first call fails with UNAVAILABLE. */
export function connectBus(): Bus {
  const socket = connect(socketPath(process.env['DBUS_SYSTEM_BUS_ADDRESS'] ?? DEFAULT_ADDRESS));
  const pending = new Map<number, PendingCall>();
  const listeners: ((signal: Signal) => void)[] = [];
  let serial = 0;
  let broken: OciError | undefined;

  function fail(error: Error): void {
    broken ??= unavailable(error);
    socket.destroy();
    for (const { reject } of pending.values()) reject(broken);
    pending.clear();
  }
  socket.on('error', fail);
  socket.on('close', () => fail(new Error('the connection ended')));
  receive(socket, fail, (message) => {
    if (message.type === SIGNAL) {
      const { path = '', interface: interfaceName = '', member = '', body } = message;
      for (const listener of listeners) listener({ path, interface: interfaceName, member, body });
      return;
    }
    const call = pending.get(message.replySerial ?? 0);
    pending.delete(message.replySerial ?? 0);
    if (message.type === METHOD_RETURN) call?.resolve(message.body);
    if (message.type === ERROR)
      call?.reject(new BusError(message.errorName ?? '', String(message.body[0] ?? '')));
  });

  function call(
    target: CallTarget,
    member: string,
    signature = '',
    body: readonly unknown[] = [],
  ): Promise<readonly unknown[]> {
    return new Promise((resolve, reject) => {
      if (broken !== undefined) throw broken;
      serial++;
      const bytes = formatMessage({ type: METHOD_CALL, serial, ...target, member, signature, body });
      pending.set(serial, { resolve, reject });
      socket.write(bytes);
    });
  }

  // All at once, without waiting for the answers: a server that refuses ends the connection.
  const user = Buffer.from(String(process.geteuid?.() ?? 0)).toString('hex');
  socket.write(`\0AUTH EXTERNAL ${user}\r\nBEGIN\r\n`);
  call(DBUS, 'Hello').catch(fail);
  return {
    call,
    async listen(rule, listener) {
      listeners.push(listener);
      await call(DBUS, 'AddMatch', 's', [rule]);
    },
    close() {
      socket.removeAllListeners('close');
      socket.end();
    },
  };
}

/** Calls `onMessage` for each message, after the one line that answers the authentication. */
function receive(socket: Socket, fail: (error: Error) => void, onMessage: (message: Message) => void): void {
  let bytes: Buffer = Buffer.alloc(0);
  let authenticated = false;
  socket.on('data', (piece: Buffer) => {
    bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
    try {
      if (!authenticated) {
        const end = bytes.indexOf('\r\n');
        if (end < 0) return;
        const answer = bytes.toString('latin1', 0, end);
        if (!answer.startsWith('OK ')) throw new Error(`it answers '${escapeControl(answer).slice(0, 100)}'`);
        authenticated = true;
        bytes = bytes.subarray(end + 2);
      }
      for (;;) {
        const length = messageLength(bytes);
        if (length === undefined || bytes.length < length) return;
        // A copy, aligned: values may outlive it, and the next piece is put together with what is left.
        const message = parseMessage(Buffer.from(bytes.subarray(0, length)));
        bytes = bytes.subarray(length);
        onMessage(message);
      }
    } catch (error) {
      fail(error as Error);
    }
  });
}

/** The path of the first address `unix:path=…` of a list (D-Bus specification, "Server Addresses"). */
export function socketPath(addresses: string): string {
  for (const address of addresses.split(';')) {
    const path = /^unix:(?:.*,)?path=([^,]+)/.exec(address)?.[1];
    if (path !== undefined) return decodeURIComponent(path);
  }
  throw new OciError('CONFIG', `no socket in DBUS_SYSTEM_BUS_ADDRESS='${escapeControl(addresses)}'`, {
    hint: `Unset it, or set it to ${DEFAULT_ADDRESS}.`,
  });
}

const DBUS: CallTarget = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

/** A value with its type, for `v`. */
export function variant(signature: string, value: unknown): unknown {
  return new Variant(signature, value);
}

/** The value inside a variant, where it is one. */
export function unwrap(value: unknown): unknown {
  return value instanceof Variant ? value.value : value;
}

function unavailable(error: Error): OciError {
  return new OciError(
    'UNAVAILABLE',
    `cannot reach systemd on the system bus: ${escapeControl(error.message)}`,
    {
      hint: 'Run this on a machine that systemd booted, with dbus.service active: systemctl status dbus.',
      cause: error,
    },
  );
}
