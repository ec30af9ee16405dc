/**
 * The docker-credential-* programs: `docker-credential-X get`, the server on stdin, JSON on stdout.
 *
 * Invariant: the program's name is one word without a slash; time and output are bounded; what it prints never
 * reaches a message.
 */
import { spawn } from 'node:child_process';
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
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,100}$/.test(suffix))
    throw new OciError('CONFIG', `${quote(suffix)} is not the name of a credential helper`);
  const program = `docker-credential-${suffix}`;
  const { status, output } = await runHelper(program, server, env);
  if (status !== 0) {
    // The protocol knows "no such entry" only by this sentence on stdout.
    if (/credentials not found/i.test(output.toString('utf8'))) return undefined;
    throw new OciError('UNAVAILABLE', `${program} failed with status ${status}`, {
      hint: `Run it by hand: echo ${server} | ${program} get`,
    });
  }
  const answer = parseJson(output, HELPER_OUTPUT_MAX_BYTES, `answer of ${program}`, 'CONFIG');
  const { Username, Secret } = (answer ?? {}) as { Username?: unknown; Secret?: unknown };
  if (typeof Username !== 'string' || typeof Secret !== 'string')
    throw new OciError('CONFIG', `the answer of ${program} has no Username and Secret`);
  if (Secret === '') return undefined;
  return Username === '<token>'
    ? { kind: 'identity', token: Secret }
    : { kind: 'basic', username: Username, password: Secret };
}

function runHelper(
  program: string,
  server: string,
  env: NodeJS.ProcessEnv,
): Promise<{ status: number; output: Buffer }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env, stdio: ['pipe', 'pipe', 'ignore'] });
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
    child.stdin.end(`${server}\n`);
  });
}
