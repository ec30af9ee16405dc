/**
 * Pseudo terminals (pty(7)): one of a container's own devpts, joined to the terminal that this program runs on.
 *
 * Invariants
 * - Whatever the container made of the place of its devpts, only a terminal is opened: the other end is asked of the
 *   kernel and not looked up by name.
 * - However the program ends, short of SIGKILL, the user's terminal is left as it was found. Who joins a
 *   terminal must turn the signals that would end the program into close() or an exit.
 */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync, statfsSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { OciError } from '../oci/errors.ts';
import { koffi } from './koffi.ts';
import { O_CLOEXEC, systemCallError } from './syscalls.ts';

export interface Terminal {
  /** The end that becomes a process's streams; open until started() or close(). */
  readonly slave: number;
  /** To be called when the payload has opened it: from then on its end is the end of join(). */
  started(): void;
  /** Joins this program's streams to it, with `input` the input as well; resolves when the payload has closed it. */
  join(input: boolean): Promise<void>;
  /** Hangs up: join() ends, the user's terminal is as before, and the payload's session gets SIGHUP. */
  close(): void;
}

export interface TerminalOptions {
  /** User of the container that it belongs to. */
  uid: number;
  /** Where this program has no terminal of its own to take the size from. */
  size?: { width: number; height: number } | undefined;
}

// asm-generic/ioctls.h: the same on x86_64 and aarch64
const TIOCSPTLCK = 0x40045431;
const TIOCGPTPEER = 0x5441;
const TIOCSWINSZ = 0x5414;

/** Opens a new terminal of the devpts mounted at `devpts`. */
export function openTerminal(devpts: string, { uid, size }: TerminalOptions): Terminal {
  const flags = constants.O_RDWR | constants.O_NOCTTY;
  const master = openSync(`${devpts}/ptmx`, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    requireDevpts(master);
    control(master, TIOCSPTLCK, Buffer.alloc(4)); // 0: unlock
    setSize(master, process.stdout.isTTY ? sizeOf(process.stdout) : size);
    // without anybody there the master would read an end
    const slave = libc().ioctlNumber(master, TIOCGPTPEER, flags | O_CLOEXEC);
    check(slave, 'ioctl TIOCGPTPEER');
    return terminalOf(master, slave, uid);
  } catch (error) {
    closeSync(master);
    throw error;
  }
}

const DEVPTS_SUPER_MAGIC = 0x1cd1; // linux/magic.h

function requireDevpts(fd: number): void {
  if (statfsSync(`/proc/self/fd/${fd}`).type === DEVPTS_SUPER_MAGIC && fstatSync(fd).isCharacterDevice())
    return;
  throw new OciError(
    'UNAVAILABLE',
    'the container has no terminals any more: its /dev/pts is something else',
    {
      hint: 'Leave out -t.',
    },
  );
}

function terminalOf(master: number, slave: number, uid: number): Terminal {
  let held: number | undefined = slave;
  const { uid: root, gid } = fstatSync(slave); // the kernel gives it to the container's root
  const giveToUser = (fd: number) => {
    fchownSync(fd, root + uid, gid);
    fchmodSync(fd, 0o620);
  };
  giveToUser(slave);
  let far: ReadStream | undefined;
  const release = () => {
    if (held !== undefined) closeSync(held);
    held = undefined;
  };
  return {
    slave,
    started() {
      if (held !== undefined) giveToUser(held); // systemd 257 gives it to the unit's user
      release();
    },
    join(input) {
      far = new ReadStream(master); // both ways: a terminal is one handle
      return join(master, far, input);
    },
    close() {
      release();
      if (far === undefined) closeSync(master);
      else far.destroy();
    },
  };
}

async function join(master: number, far: ReadStream, input: boolean): Promise<void> {
  const { stdin, stdout } = process;
  const onResize = () => setSize(master, sizeOf(stdout));
  const restore = input && stdin.isTTY ? makeRaw(stdin.fd) : () => {};
  process.on('exit', restore);
  stdout.on('resize', onResize);
  if (input) {
    stdin.on('data', (bytes) => far.write(bytes));
    for (const end of ['end', 'error'] as const) stdin.on(end, () => far.write('\x04')); // end of file, as typed
  }
  far.on('data', (bytes) => {
    if (!stdout.write(bytes)) {
      far.pause();
      stdout.once('drain', () => far.resume());
    }
  });
  await new Promise<void>((resolve) => {
    far.on('close', resolve);
    far.on('error', () => far.destroy()); // EIO: the last one has closed the other side
    far.on('close', restore); // at once: who hung up may have something to say
  });
  stdout.off('resize', onResize);
  if (input) stdin.pause();
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

function sizeOf({ columns, rows }: NodeJS.WriteStream & { columns: number; rows: number }) {
  return { width: columns, height: rows };
}

function setSize(master: number, wanted: { width: number; height: number } | undefined): void {
  if (wanted === undefined) return;
  const size = Buffer.alloc(8); // struct winsize: rows, columns, and two unused
  size.writeUInt16LE(wanted.height & 0xffff, 0);
  size.writeUInt16LE(wanted.width & 0xffff, 2);
  control(master, TIOCSWINSZ, size);
}

function control(fd: number, request: number, argument: Buffer): void {
  check(libc().ioctl(fd, request, argument), 'ioctl');
}

function check(result: number, call: string): void {
  if (result < 0) throw systemCallError(-libc().errno(), call, 'the terminal');
}

function bind() {
  const library = koffi().load('libc.so.6');
  return {
    errno: koffi().errno as () => number,
    ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)') as Call,
    ioctlNumber: library.func('int ioctl(int fd, unsigned long request, unsigned long argument)') as Call,
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
