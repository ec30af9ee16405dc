/**
 * Pseudo terminals (pty(7)): one of a container's own devpts, joined to the terminal that this program runs on.
 *
 * Invariant: however the program ends, the user's terminal is left as it was found.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ReadStream } from 'node:tty';
import { systemCallError } from './syscalls.ts';

export interface Terminal {
  /** `/…/pts/0`: what the payload's streams are. */
  readonly slave: string;
  /** Joins this program's terminal to it; resolves when the other side has closed it. */
  join(): Promise<void>;
  close(): void;
}

// asm-generic/ioctls.h: the same on x86_64 and aarch64
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const TIOCSWINSZ = 0x5414;

/** Opens a new terminal of the devpts mounted at `devpts`. */
export function openTerminal(devpts: string): Terminal {
  const master = openSync(`${devpts}/ptmx`, constants.O_RDWR | constants.O_NOCTTY | constants.O_NOFOLLOW);
  const argument = Buffer.alloc(8);
  control(master, TIOCSPTLCK, argument); // 0: unlock
  control(master, TIOCGPTN, argument);
  const slave = `${devpts}/${argument.readUInt32LE(0)}`;
  resize(master);
  return {
    slave,
    join: () => join(master),
    close: () => closeSync(master),
  };
}

async function join(master: number): Promise<void> {
  const far = new ReadStream(master); // both ways: a terminal is one handle
  const { stdin, stdout } = process;
  const onResize = () => resize(master);
  const restore = () => void (stdin.isTTY && stdin.setRawMode(false));
  process.on('exit', restore);
  stdout.on('resize', onResize);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on('data', (bytes) => far.write(bytes));
  stdin.on('end', () => far.write('\x04')); // end of file, as typed
  far.on('data', (bytes) => stdout.write(bytes));
  try {
    await new Promise<void>((resolve) => {
      far.on('close', resolve);
      far.on('error', () => far.destroy()); // EIO: the last one has closed the other side
    });
  } finally {
    stdout.off('resize', onResize);
    stdin.pause();
    restore();
  }
}

/** Gives the terminal the size of ours. */
function resize(master: number): void {
  if (!process.stdout.isTTY) return;
  const size = Buffer.alloc(8); // struct winsize: rows, columns, and two unused
  size.writeUInt16LE(process.stdout.rows, 0);
  size.writeUInt16LE(process.stdout.columns, 2);
  control(master, TIOCSWINSZ, size);
}

let ioctl: ((fd: number, request: number, argument: Buffer) => number) | undefined;
let errno: () => number;

function control(fd: number, request: number, argument: Buffer): void {
  if (ioctl === undefined) {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    ioctl = koffi
      .load('libc.so.6')
      .func('int ioctl(int fd, unsigned long request, void *argument)') as unknown as typeof ioctl;
    errno = koffi.errno as () => number;
  }
  if (ioctl!(fd, request, argument) < 0) throw systemCallError(-errno(), 'ioctl', 'the terminal');
}
