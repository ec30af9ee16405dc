/**
 * Standard streams for a payload that systemd starts: paths below /proc/PID/fd of this process, which the service
 * manager opens.
 *
 * A pipe or a character device of ours is handed over as it is; a socket cannot be opened again and a file would be
 * read and written from its beginning, so for those a pipe of our own stands between and the bytes are copied.
 *
 * Invariant: a pipe that is handed over may be opened again by any user inside the container (/dev/stdout); nobody
 * else can reach an anonymous pipe.
 */
import { fchmodSync, fstatSync, readlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { koffi } from './koffi.ts';
import { O_CLOEXEC, systemCallError } from './syscalls.ts';

export interface PayloadStreams {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  /** To be called when the payload has opened its streams: from then on only it holds their far ends. */
  started(): void;
  /** Resolves when all that the payload wrote has been passed on. To be awaited after its end. */
  finished(): Promise<void>;
}

export function openPayloadStreams(): PayloadStreams {
  const farEnds: number[] = [];
  const copies: Promise<void>[] = [];

  function input(): string {
    if (canBeOpenedAgain(0)) return pathOf(0);
    const pipe = openPipe();
    farEnds.push(pipe.readEnd);
    const sink = new Socket({ fd: pipe.writeEnd, readable: false, writable: true });
    sink.on('error', () => process.stdin.destroy()); // the payload reads no more
    process.stdin.on('error', () => sink.end()).pipe(sink);
    sink.unref(); // waiting for input that nobody wants does not keep us alive
    return pathOf(pipe.readEnd);
  }

  function output(fd: 1 | 2): string {
    if (canBeOpenedAgain(fd)) return pathOf(fd);
    const pipe = openPipe();
    farEnds.push(pipe.writeEnd);
    const source = new Socket({ fd: pipe.readEnd, readable: true, writable: false });
    const target = fd === 1 ? process.stdout : process.stderr;
    target.on('error', () => source.destroy()); // nobody listens: let the payload see a broken pipe
    source.pipe(target, { end: false });
    copies.push(new Promise((resolve) => source.once('close', () => resolve())));
    return pathOf(pipe.writeEnd);
  }

  const streams = { stdin: input(), stdout: output(1), stderr: output(2) };
  return {
    ...streams,
    started() {
      for (const fd of farEnds.splice(0)) libc().close(fd);
    },
    async finished() {
      await Promise.all(copies);
    },
  };
}

function canBeOpenedAgain(fd: number): boolean {
  const stat = fstatSync(fd);
  if (stat.isCharacterDevice()) return true;
  if (!stat.isFIFO()) return false;
  if (readlinkSync(`/proc/self/fd/${fd}`).startsWith('pipe:')) fchmodSync(fd, 0o666);
  return true;
}

function pathOf(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

function openPipe(): { readEnd: number; writeEnd: number } {
  const ends = new Int32Array(2);
  if (libc().pipe2(ends, O_CLOEXEC) !== 0) throw systemCallError(-libc().errno(), 'pipe2', 'a pipe');
  fchmodSync(ends[0]!, 0o666);
  return { readEnd: ends[0]!, writeEnd: ends[1]! };
}

interface PipeCalls {
  pipe2(ends: Int32Array, flags: number): number;
  close(fd: number): number;
  errno(): number;
}

let bound: PipeCalls | undefined;
function libc(): PipeCalls {
  if (bound === undefined) {
    const library = koffi().load('libc.so.6');
    bound = {
      pipe2: library.func('int pipe2(_Out_ int *ends, int flags)') as PipeCalls['pipe2'],
      close: library.func('int close(int fd)') as PipeCalls['close'],
      errno: koffi().errno as PipeCalls['errno'],
    };
  }
  return bound;
}
