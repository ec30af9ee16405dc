/**
 * The docker-credential-* programs: `docker-credential-X get`, `store`, `erase` and `list`; the server or JSON on stdin, JSON
 * on stdout.
 *
 * Invariant: the program's name is one word without a slash; time and output are bounded; what it prints never
 * reaches a message.
 */
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import type { Credentials } from './credentials.ts';

const HELPER_TIMEOUT_MS = 30_000;
const HELPER_OUTPUT_MAX_BYTES = 1024 * 1024;

/** undefined where the helper does not know the server. Throws CONFIG or UNAVAILABLE where it cannot be asked. */
export async function askHelper(
  suffix: string,
  server: string,
  env: NodeJS.ProcessEnv,
): Promise<Credentials | undefined> {
  const program = programName(suffix);
  const { status, output } = await runHelper(program, 'get', server, env);
  if (isNotFound(status, output)) return undefined;
  if (status !== 0) throw failed(program, 'get', status);
  const answer = parseJson(output, HELPER_OUTPUT_MAX_BYTES, `answer of ${program}`, 'CONFIG');
  const { Username, Secret } = (answer ?? {}) as { Username?: unknown; Secret?: unknown };
  if (typeof Username !== 'string' || typeof Secret !== 'string')
    throw new OciError('CONFIG', `the answer of ${program} has no Username and Secret`, {
      hint: `Store the credentials again: ${program} store`,
    });
  if (Secret === '') return undefined;
  return Username === '<token>'
    ? { kind: 'identity', token: Secret }
    : { kind: 'basic', username: Username, password: Secret };
}

/** Hands credentials to the helper for good. */
export async function storeInHelper(
  suffix: string,
  server: string,
  { username, password }: { username: string; password: string },
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const program = programName(suffix);
  const entry = JSON.stringify({ ServerURL: server, Username: username, Secret: password });
  const { status } = await runHelper(program, 'store', entry, env);
  if (status !== 0) throw failed(program, 'store', status);
}

/** False where the helper had nothing. */
export async function eraseFromHelper(
  suffix: string,
  server: string,
  env: NodeJS.ProcessEnv,
): Promise<boolean> {
  // Some helpers succeed at erasing what they do not have, others do not.
  if ((await askHelper(suffix, server, env)) === undefined) return false;
  const program = programName(suffix);
  const { status } = await runHelper(program, 'erase', server, env);
  if (status !== 0) throw failed(program, 'erase', status);
  return true;
}

/** The servers that the helper has credentials of. */
export async function listOfHelper(suffix: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const program = programName(suffix);
  const { status, output } = await runHelper(program, 'list', '', env);
  if (status !== 0) throw failed(program, 'list', status);
  const answer = parseJson(output, HELPER_OUTPUT_MAX_BYTES, `answer of ${program}`, 'CONFIG');
  return Object.keys((answer ?? {}) as object);
}

function programName(suffix: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,100}$/.test(suffix)) return `docker-credential-${suffix}`;
  throw new OciError('CONFIG', `${quote(suffix)} is not the name of a credential helper`, {
    hint: 'Correct credHelpers and credsStore in the authentication file, or credential-helpers in registries.conf.',
  });
}

/** The protocol knows "no such entry" only by this sentence on stdout. */
function isNotFound(status: number, output: Buffer): boolean {
  return status !== 0 && /credentials not found/i.test(output.toString('utf8'));
}

function failed(program: string, action: string, status: number): OciError {
  return new OciError('UNAVAILABLE', `${program} failed with status ${status}`, {
    hint: `Run it by hand to see why: ${program} ${action}`,
  });
}

function runHelper(
  program: string,
  action: 'get' | 'store' | 'erase' | 'list',
  input: string,
  env: NodeJS.ProcessEnv,
): Promise<{ status: number; output: Buffer }> {
  // Loaded when there is a helper to run: few pulls have one.
  const { spawn } = process.getBuiltinModule('node:child_process');
  return new Promise((resolve, reject) => {
    const child = spawn(program, [action], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    const pieces: Buffer[] = [];
    let length = 0;
    let refusal: string | undefined;
    const stop = (why: string) => {
      refusal ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => stop('does not answer'), HELPER_TIMEOUT_MS);
    child.stdout.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length > HELPER_OUTPUT_MAX_BYTES) stop('prints too much');
      else pieces.push(piece);
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(
        new OciError('UNAVAILABLE', `cannot run ${program}`, { hint: `Install ${program}.`, cause: error }),
      );
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      if (refusal === undefined) resolve({ status: status ?? -1, output: Buffer.concat(pieces) });
      else reject(new OciError('UNAVAILABLE', `${program} ${refusal}`));
    });
    child.stdin.on('error', () => {}); // a helper may leave without reading
    child.stdin.end(`${input}\n`);
  });
}
