/** The payload's environment: the image's, then what every container has, then the user's. */
import { OciError, quote } from '../oci/errors.ts';
import { DEFAULT_PATH } from './defaults.ts';

export interface EnvironmentInput {
  image: readonly string[];
  /** `NAME=VALUE`, or `NAME` alone: taken from `caller`. */
  user: readonly string[];
  caller: Readonly<Record<string, string | undefined>>;
  home: string;
  hostname: string;
}

/** `NAME=VALUE` with each name once, later settings winning; an image entry without `=` is dropped, as runc does. */
export function buildEnvironment(input: EnvironmentInput): string[] {
  const variables = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['HOME', input.home],
    ['HOSTNAME', input.hostname],
    ['container', 'oci'],
  ]);
  for (const entry of input.image) {
    const at = entry.indexOf('=');
    if (at > 0) variables.set(entry.slice(0, at), entry.slice(at + 1));
  }
  for (const entry of input.user) {
    const at = entry.indexOf('=');
    if (at === 0 || entry === '')
      throw new OciError('USAGE', `--env: ${quote(entry)} has no name`, {
        hint: 'Write it as --env NAME=VALUE.',
      });
    if (at > 0) variables.set(entry.slice(0, at), entry.slice(at + 1));
    else if (input.caller[entry] !== undefined) variables.set(entry, input.caller[entry]);
  }
  const environment = [...variables].map(([name, value]) => `${name}=${value}`);
  for (const entry of environment)
    if (entry.includes('\0'))
      throw new OciError('BAD_IMAGE', `environment variable ${quote(entry)} holds a NUL byte`, {
        hint: 'Remove it: no program can be given such a variable.',
      });
  return environment;
}

/**
 * The lines of an --env-file as podman reads them: `#` starts a comment line, no quotes, no escapes; a name alone is
 * taken from the caller.
 */
export function parseEnvFile(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trimStart().replace(/\r$/, ''))
    .filter((line) => line !== '' && !line.startsWith('#'));
}
