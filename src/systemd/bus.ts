/**
 * A connection to the system bus: calls and signals, errors as OciError. The only importer of the D-Bus library.
 *
 * Invariant: when the connection breaks, every call under way fails; none hangs.
 */
import { once } from 'node:events';
import { DBusError, Message, MessageType, systemBus, Variant } from '@jellybrick/dbus-next';
import { escapeControl, OciError } from '../oci/errors.ts';

export interface Signal {
  path: string;
  interface: string;
  member: string;
  body: unknown[];
}

export interface Bus {
  call(target: CallTarget, member: string, signature?: string, body?: unknown[]): Promise<unknown[]>;
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

/** Throws UNAVAILABLE where there is no bus. `address` is for tests; default: the system bus. */
export async function connectBus(): Promise<Bus> {
  const connection = systemBus();
  const broken = once(connection, 'error').then(([error]) => {
    throw unavailable(error as Error);
  });
  broken.catch(() => {}); // it is heard by whoever waits for something at that time
  await once(connection, 'connect').catch(() => broken); // once() itself rejects on 'error', with the bare error

  async function call(
    target: CallTarget,
    member: string,
    signature = '',
    body: unknown[] = [],
  ): Promise<unknown[]> {
    const message = new Message({ ...target, member, signature, body });
    try {
      const reply = await Promise.race([connection.call(message), broken]);
      return reply?.body ?? [];
    } catch (error) {
      if (error instanceof DBusError) throw new BusError(error.type, error.text);
      throw error;
    }
  }

  return {
    call,
    async listen(rule, listener) {
      connection.on('message', (message: Message) => {
        if (message.type !== MessageType.SIGNAL) return;
        const { path, interface: interfaceName, member, body } = message;
        if (path && interfaceName && member) listener({ path, interface: interfaceName, member, body });
      });
      await call(DBUS, 'AddMatch', 's', [rule]);
    },
    close: () => connection.disconnect(),
  };
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
