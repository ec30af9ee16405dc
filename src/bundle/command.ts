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
}

/** ENTRYPOINT and CMD as docker(1) combines them: a new entrypoint drops the image's CMD, a command replaces it. */
export function payloadArgs(
  image: { Entrypoint: readonly string[]; Cmd: readonly string[] },
  entrypoint: readonly string[] | undefined,
  command: readonly string[],
): string[] {
  if (entrypoint !== undefined) return [...entrypoint, ...command];
  return [...image.Entrypoint, ...(command.length > 0 ? command : image.Cmd)];
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
      if (!isPlainText(input.head(path))) return;
      cannotRun ??= 'is text without #!';
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

export const COMMAND_HEAD_BYTES = 128;

/** What the kernel refuses (ENOEXEC) and execvp(3) would hand to a shell. Whether it takes other formats is its secret. */
function isPlainText(head: Uint8Array | undefined): boolean {
  return head !== undefined && !head.includes(0) && !Buffer.from(head).toString('latin1').startsWith('#!');
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
