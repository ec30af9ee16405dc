/**
 * The frame of every program: builds the command line, runs the action, prints its error in one place and ends the
 * process with the right status. Usage errors are 64 (EX_USAGE), a broken pipe on stdout is a quiet end.
 */
import { Command, CommanderError } from 'commander';
import { OciError, toOciError } from '../oci/errors.ts';
import { skipOptions } from './exec-words.ts';
import { Interrupted } from './interrupt.ts';
import type { CommonOptions } from './options.ts';
import { createOutput, type Output } from './output.ts';
import { hintForPodman } from './podman-words.ts';
import { VERSION } from './version.ts';

/** The output of the program, by the options that were given. */
export function outputFor(command: Command): Output {
  const { json = false, quiet = false, verbose = false } = command.optsWithGlobals<CommonOptions>();
  let program = command;
  while (program.parent !== null) program = program.parent;
  return createOutput({ program: program.name(), json, quiet, verbose });
}

/** Never returns to its caller's caller: the process ends here. An action may set process.exitCode. */
export async function runProgram(
  name: string,
  build: (program: Command) => void,
  argv = process.argv.slice(2),
): Promise<void> {
  const program = new Command(name)
    .version(VERSION, '--version')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} });
  const opened = [onceOpened('stdout', endQuietly), onceOpened('stderr', () => {})];
  let status = 0;
  try {
    build(program);
    await program.parseAsync(argv, { from: 'user' });
    status = Number(process.exitCode ?? 0);
  } catch (error) {
    status = report(name, argv, error);
  }
  await Promise.all(opened.flatMap((stream) => stream() ?? []).map(flushed));
  process.exit(status); // sockets that are kept alive are no reason to stay
}

function report(name: string, argv: readonly string[], error: unknown): number {
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const has = (...flags: string[]) => own.some((word) => flags.includes(word));
  const output = createOutput({
    program: name,
    json: has('--json'),
    quiet: false,
    verbose: has('--verbose', '-v'),
  });
  if (error instanceof Interrupted) {
    output.note(error.message);
    return error.exitStatus;
  }
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // --help, --version
    if (error.code === 'commander.help') return new OciError('USAGE', '').exitStatus; // printed already
    const usage = usageError(name, own, error);
    output.error(usage);
    return usage.exitStatus;
  }
  const known = toOciError(error);
  output.error(known);
  return known.exitStatus;
}

/** commander's message, as one of ours. */
function usageError(name: string, words: readonly string[], error: CommanderError): OciError {
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const word = /^unknown (?:option|command) '(.*)'$/s.exec(message)?.[1] ?? '';
  const hint = hintForPodman(name, word, words[skipOptions(words, 0)]);
  if (hint !== undefined) return new OciError('USAGE', message, { hint });
  return new OciError('USAGE', suggestion === undefined ? message : `${message} ${suggestion}`, {
    hint: `See ${name} --help.`,
  });
}

function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(Number(process.exitCode ?? 0));
  process.exitCode = new OciError('IO_ERROR', '').exitStatus;
}

/**
 * Listens for errors of a standard stream from its first use on: node makes its streams when they are asked for, which
 * takes 3 ms that a start has no need of. Returns the stream if it was used.
 */
function onceOpened(
  name: 'stdout' | 'stderr',
  onError: (error: NodeJS.ErrnoException) => void,
): () => NodeJS.WriteStream | undefined {
  const { get } = Object.getOwnPropertyDescriptor(process, name)!;
  let stream: NodeJS.WriteStream | undefined;
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get: () => {
      stream ??= (get!.call(process) as NodeJS.WriteStream).on('error', onError);
      return stream;
    },
  });
  return () => stream;
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
