/**
 * The image's HEALTHCHECK (Docker's image specification; OCI configurations have it too) and the --health options of
 * podman-run(1) → one health check. An option goes before what the image says, that before the default.
 */
import { OciError, quote } from '../oci/errors.ts';
import {
  DURATION_MAX_SECONDS,
  HEALTH_ACTIONS,
  HEALTH_DEFAULTS,
  type HealthAction,
  type HealthCheck,
  RETRIES_MAX,
} from '../oci/health-check.ts';
import type { ContainerConfig } from '../oci/image-config.ts';
import { parseCount, parseDuration } from './quantity.ts';

/** As commander gives them; all of them texts of the user. */
export interface HealthTexts {
  healthCmd?: string;
  healthInterval?: string;
  healthTimeout?: string;
  healthRetries?: string;
  healthStartPeriod?: string;
  healthStartInterval?: string;
  healthOnFailure?: string;
  /** --no-healthcheck makes it false. */
  healthcheck?: boolean;
}

/** What the options say; a check of the image's stays where `args` is undefined. */
export type HealthOptions = Partial<HealthCheck> | 'none';

/** Throws USAGE. */
export function parseHealthOptions(texts: HealthTexts): HealthOptions {
  const duration = (name: string, text: string | undefined, min = 1) =>
    text === undefined ? undefined : parseDuration(`--health-${name}`, text, min, DURATION_MAX_SECONDS);
  const args = texts.healthCmd === undefined ? undefined : commandOf(texts.healthCmd);
  const options = {
    args: args === 'none' ? undefined : args,
    interval: texts.healthInterval === 'disable' ? undefined : duration('interval', texts.healthInterval),
    timeout: duration('timeout', texts.healthTimeout),
    retries:
      texts.healthRetries === undefined
        ? undefined
        : parseCount('--health-retries', texts.healthRetries, 1, RETRIES_MAX),
    startPeriod: duration('start-period', texts.healthStartPeriod, 0),
    startInterval: duration('start-interval', texts.healthStartInterval),
    onFailure: texts.healthOnFailure === undefined ? undefined : parseAction(texts.healthOnFailure),
  };
  if (texts.healthcheck === false || args === 'none' || texts.healthInterval === 'disable') return 'none';
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** undefined: there is none. */
export function healthCheck(
  { Healthcheck: image, Shell }: Partial<Pick<ContainerConfig, 'Healthcheck' | 'Shell'>>,
  options: HealthOptions,
): HealthCheck | undefined {
  if (options === 'none') return undefined;
  const args = options.args ?? commandOfTest(image?.Test ?? [], Shell);
  if (args === undefined || args === 'none') return undefined;
  const seconds = (nanoseconds: number | undefined) =>
    nanoseconds === undefined || nanoseconds === 0 ? undefined : nanoseconds / 1e9;
  const said = {
    interval: seconds(image?.Interval),
    timeout: seconds(image?.Timeout),
    retries: image?.Retries || undefined,
    startPeriod: seconds(image?.StartPeriod),
    startInterval: seconds(image?.StartInterval),
  };
  const inherited = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  return { ...HEALTH_DEFAULTS, ...inherited, ...options, args };
}

type Command = string[] | 'none' | undefined;

/** `Test` of an image: its first word says what the others are. */
function commandOfTest([kind, ...words]: readonly string[], shellWords?: readonly string[]): Command {
  if (kind === 'NONE') return 'none';
  if (kind === 'CMD' && words.length > 0 && words[0] !== '') return words;
  if (kind === 'CMD-SHELL' && words.length === 1) return shell(words[0]!, shellWords);
  if (kind === undefined) return undefined;
  throw new OciError('BAD_IMAGE', `the image's health check ${quote([kind, ...words].join(' '))} is none`, {
    hint: 'Name another one with --health-cmd, or use --no-healthcheck.',
  });
}

/** A line of shell, a JSON array of words, or `none`. */
function commandOf(text: string): Command {
  if (text === 'none') return 'none';
  if (!text.startsWith('[')) {
    if (text.trim() !== '') return shell(text);
  } else
    try {
      const words: unknown = JSON.parse(text);
      if (Array.isArray(words) && words.every((word) => typeof word === 'string') && words[0] !== '') {
        const command = /^(NONE|CMD|CMD-SHELL)$/.test(words[0] ?? '') ? commandOfTest(words) : words;
        if (command !== undefined && command.length > 0) return command;
      }
    } catch {}
  throw new OciError('USAGE', `--health-cmd: ${quote(text)} is no command`, {
    hint: `Write it as --health-cmd 'curl -f http://localhost/', or as a JSON array of words.`,
  });
}

/** `words`: what SHELL of a Dockerfile said. */
function shell(line: string, words: readonly string[] = []): string[] {
  return [...(words[0] ? words : ['/bin/sh', '-c']), line];
}

function parseAction(text: string): HealthAction {
  const action = HEALTH_ACTIONS.find((each) => each === text);
  if (action !== undefined) return action;
  throw new OciError('USAGE', `--health-on-failure: ${quote(text)} is no action`, {
    hint: `Use ${HEALTH_ACTIONS.join(', ')}.`,
  });
}
