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
  const restore = stdin.isTTY ? makeRaw(stdin.fd) : () => {};
  process.on('exit', restore);
  stdout.on('resize', onResize);
  stdin.on('data', (bytes) => far.write(bytes));
  for (const end of ['end', 'error'] as const) stdin.on(end, () => far.write('\x04')); // end of file, as typed
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

const TERMIOS_BYTES = 64; // struct termios has 60
const TCSADRAIN = 1;

/**
 * Every byte goes through as it is, both ways (cfmakeraw(3)); node's own raw mode still makes `\r\n` of `\n`, which
 * the far side has done already. Returns what undoes it.
 */
function makeRaw(fd: number): () => void {
  const saved = Buffer.alloc(TERMIOS_BYTES);
  check(libc().tcgetattr(fd, saved), 'tcgetattr');
  const raw = Buffer.from(saved);
  libc().cfmakeraw(raw);
  check(libc().tcsetattr(fd, TCSADRAIN, raw), 'tcsetattr');
  return () => void libc().tcsetattr(fd, TCSADRAIN, saved);
}

/** Gives the terminal the size of ours. */
function resize(master: number): void {
  if (!process.stdout.isTTY) return;
  const size = Buffer.alloc(8); // struct winsize: rows, columns, and two unused
  size.writeUInt16LE(process.stdout.rows, 0);
  size.writeUInt16LE(process.stdout.columns, 2);
  control(master, TIOCSWINSZ, size);
}

function control(fd: number, request: number, argument: Buffer): void {
  check(libc().ioctl(fd, request, argument), 'ioctl');
}

function check(result: number, call: string): void {
  if (result < 0) throw systemCallError(-libc().errno(), call, 'the terminal');
}

function bind() {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const library = koffi.load('libc.so.6');
  return {
    errno: koffi.errno as () => number,
    ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)') as Call,
    tcgetattr: library.func('int tcgetattr(int fd, void *termios)') as Call,
    tcsetattr: library.func('int tcsetattr(int fd, int actions, void *termios)') as Call,
    cfmakeraw: library.func('void cfmakeraw(void *termios)') as Call,
  };
}

type Call = (...values: unknown[]) => number;
let bound: ReturnType<typeof bind> | undefined;
function libc(): ReturnType<typeof bind> {
  bound ??= bind();
  return bound;
}
