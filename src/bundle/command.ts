/**
 * Whether the payload's command can be run, found out before anything is started: execvp(3)'s search in the
 * image's tree. 127 and 126 are the statuses of chroot(1) and podman.
 */
import { OciError, quote } from '../oci/errors.ts';
import { DEFAULT_PATH } from './defaults.ts';

export interface CommandFile {
  kind: string;
  mode: number;
}

export interface CommandInput {
  args: readonly string[];
  env: readonly string[];
  cwd: string;
  /** What lies at an absolute path of the image, symlinks followed inside it. */
  lookup: (path: string) => CommandFile | undefined;
  /** How a file of the image begins. */
  head: (path: string) => Uint8Array | undefined;
  /** True for a path that a mount will cover: it cannot be judged beforehand. */
  covered: (path: string) => boolean;
  /** As process.arch names it. */
  architecture: string;
  /** Whether the kernel hands files of some kind to an interpreter (binfmt_misc). */
  hasInterpreters: () => boolean;
}

/**
 * ENTRYPOINT and CMD as docker(1) combines them: a new entrypoint drops the image's CMD, a command replaces it; one of
 * an empty word is none.
 */
export function payloadArgs(
  image: { Entrypoint: readonly string[]; Cmd: readonly string[] },
  entrypoint: readonly string[] | undefined,
  command: readonly string[],
): string[] {
  if (entrypoint !== undefined) return [...entrypoint, ...command];
  const own = image.Entrypoint.join() === '' ? [] : image.Entrypoint;
  return [...own, ...(command.length > 0 ? command : image.Cmd)];
}

/** Throws COMMAND_NOT_FOUND (127) or COMMAND_CANNOT_RUN (126), naming the command. */
export function checkCommand(input: CommandInput): void {
  const command = input.args[0];
  if (command === undefined || command === '')
    throw new OciError('COMMAND_NOT_FOUND', 'the image has no command and none was given', {
      hint: 'Add a command after the image: oci-run IMAGE COMMAND.',
    });
  let cannotRun: string | undefined;
  for (const path of candidates(command, input)) {
    if (input.covered(path)) return;
    const file = input.lookup(path);
    if (file === undefined) continue;
    if (file.kind !== 'file') cannotRun ??= `is a ${file.kind}`;
    else if ((file.mode & 0o111) === 0) cannotRun ??= 'is not executable';
    else {
      const problem = problemOf(input.head(path), input);
      if (problem === undefined) return;
      cannotRun ??= problem;
      break;
    }
  }
  if (cannotRun === undefined)
    throw new OciError('COMMAND_NOT_FOUND', `command ${quote(command)} does not exist in the image`, {
      hint: 'Look at the image with: ocictl mount IMAGE.',
    });
  throw new OciError('COMMAND_CANNOT_RUN', `command ${quote(command)} ${cannotRun}`, {
    hint: 'Name an executable file of the image, or change its mode there.',
  });
}

/** What the kernel looks at: BINPRM_BUF_SIZE. */
export const COMMAND_HEAD_BYTES = 256;

/** What the kernel refuses (ENOEXEC): execvp(3) would hand it to a shell, which makes nonsense of a program. */
function problemOf(
  head: Uint8Array | undefined,
  { architecture, hasInterpreters }: CommandInput,
): string | undefined {
  if (head === undefined) return undefined;
  const text = Buffer.from(head).toString('latin1');
  if (text.startsWith('#!')) {
    const [, interpreter, end] = /^#![ \t]*([^ \t\n\0]*)([ \t\n]?)/.exec(text)!;
    if (interpreter === '') return 'names no interpreter after #!';
    return end === '' && head.length === COMMAND_HEAD_BYTES ? 'has too long a line after #!' : undefined;
  }
  if (!text.includes('\0')) return 'is text without #!';
  const isNative = text.startsWith('\x7fELF') && isForMachine(head, architecture);
  return isNative || hasInterpreters() ? undefined : 'is no program for this machine';
}

/** e_machine of elf(5) that a kernel runs; the second is that of its 32-bit half. */
const MACHINES: Readonly<Record<string, readonly number[]>> = {
  x64: [62, 3],
  arm64: [183, 40],
  riscv64: [243],
  s390x: [22],
  ppc64: [21],
  loong64: [258],
};
const EI_DATA = 5;
const BIG_ENDIAN = 2;
const E_MACHINE = 18;

function isForMachine(head: Uint8Array, architecture: string): boolean {
  const known = MACHINES[architecture];
  if (known === undefined) return true;
  if (head.length < E_MACHINE + 2) return false;
  const view = new DataView(head.buffer, head.byteOffset);
  return known.includes(view.getUint16(E_MACHINE, head[EI_DATA] !== BIG_ENDIAN));
}

function candidates(command: string, input: CommandInput): string[] {
  if (command.startsWith('/')) return [command];
  if (command.includes('/')) return [`${input.cwd}/${command}`];
  const path = input.env.find((entry) => entry.startsWith('PATH='))?.slice(5) ?? DEFAULT_PATH;
  return path.split(':').map((directory) => {
    const base =
      directory === '' ? input.cwd : directory.startsWith('/') ? directory : `${input.cwd}/${directory}`;
    return `${base}/${command}`;
  });
}
