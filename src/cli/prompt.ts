/**
 * Questions on the terminal: asked on stderr, answered on stdin.
 *
 * Invariant: a secret is never shown, and the terminal is as before however the question ends.
 */
import { OciError } from '../oci/errors.ts';
import { Interrupted } from './interrupt.ts';

const STDIN_MAX_BYTES = 64 * 1024;

export function hasTerminal(): boolean {
  return process.stdin.isTTY === true;
}

/** One line, as the terminal edits it. */
export async function askLine(question: string): Promise<string> {
  return (await ask(question, (typed) => typed.includes('\n'))).split('\n', 1)[0]!;
}

/** One line that is not shown. Backspace, Ctrl-U and Ctrl-C do what they do elsewhere. */
export async function askSecret(question: string): Promise<string> {
  process.stdin.setRawMode(true);
  try {
    const typed = await ask(question, (text) => /[\r\n\x03\x04]/.test(text));
    if (typed.includes('\x03')) throw new Interrupted('SIGINT');
    return edited(typed);
  } finally {
    process.stdin.setRawMode(false);
    process.stderr.write('\n');
  }
}

/** What is typed until `isWhole`, or the end. */
function ask(question: string, isWhole: (typed: string) => boolean): Promise<string> {
  const { stdin } = process;
  process.stderr.write(question);
  let typed = '';
  return new Promise((resolve) => {
    const onData = (piece: string) => {
      typed += piece;
      if (isWhole(typed)) end();
    };
    const end = () => {
      stdin.off('data', onData).off('end', end).pause();
      resolve(typed);
    };
    stdin.setEncoding('utf8').on('data', onData).on('end', end).resume();
  });
}

/** What a terminal would have made of the keys. */
function edited(typed: string): string {
  const text: string[] = [];
  // Arrow and function keys are no part of a password.
  for (const key of typed.replace(/\x1b(\[[0-9;]*[A-Za-z~]|O[A-Za-z])?/g, ''))
    if (/[\r\n\x04]/.test(key)) break;
    else if (key === '\x15') text.length = 0;
    else if (key === '\x7f' || key === '\b') text.pop();
    else if (key >= ' ') text.push(key);
  return text.join('');
}

/** All of stdin, without the newline at its end. */
export async function readStdin(): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of process.stdin as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > STDIN_MAX_BYTES)
      throw new OciError('USAGE', `standard input has more than ${STDIN_MAX_BYTES} bytes`, {
        hint: 'Write the password alone to standard input.',
      });
    pieces.push(piece);
  }
  return Buffer.concat(pieces)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}
