/**
 * Image configurations (image-spec config.md), normalised: absent and null arrays are [], sets are lists of keys.
 *
 * Invariant: every string that can reach execve(2), mount(2) or a unit file is free of NUL; diffIDs have passed
 * their grammar. Real builders write null for any empty field, so null counts as absent; a wrong type does not.
 */
import { type DiffID, parseDiffID } from './digest.ts';
import { OciError, quote } from './errors.ts';
import { asArray, asObject, asSize, asString, asStringMap, asStrings, optional, parseJson } from './json.ts';
import { CONFIG_MAX_BYTES, LAYERS_MAX } from './limits.ts';

export interface Healthcheck {
  /** ['NONE'], ['CMD', …] or ['CMD-SHELL', command]. */
  readonly Test: readonly string[];
  /** Durations in nanoseconds; 0 or absent is the default. */
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly StartPeriod?: number;
  readonly StartInterval?: number;
  readonly Retries?: number;
}

export interface HistoryEntry {
  readonly created?: string;
  readonly created_by?: string;
  readonly author?: string;
  readonly comment?: string;
  readonly empty_layer?: boolean;
}

export interface ContainerConfig {
  readonly User?: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir?: string;
  readonly Volumes: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly ExposedPorts: readonly string[];
  readonly Healthcheck?: Healthcheck;
  /** Of the build; a health check written as a line of shell is run by it. */
  readonly Shell: readonly string[];
}

export interface ImageConfig {
  /** Empty where the image does not say. */
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly created?: string;
  readonly author?: string;
  readonly config: ContainerConfig;
  readonly diffIDs: readonly DiffID[];
  readonly history: readonly HistoryEntry[];
}

/** Throws BAD_IMAGE. */
export function parseImageConfig(raw: Uint8Array): ImageConfig {
  const what = 'image configuration';
  const document = asObject(parseJson(raw, CONFIG_MAX_BYTES, what), what);
  const rootfs = asObject(document['rootfs'], `${what} rootfs`);
  if (rootfs['type'] !== 'layers') throw new OciError('BAD_IMAGE', `${what} rootfs type is not 'layers'`);
  const diffIDs = optional(rootfs['diff_ids'], asArray, `${what} diff_ids`) ?? [];
  if (diffIDs.length > LAYERS_MAX)
    throw new OciError(
      'BAD_IMAGE',
      `${what} has ${diffIDs.length} diff_ids, more than the ${LAYERS_MAX} allowed`,
    );
  const history = optional(document['history'], asArray, `${what} history`) ?? [];
  const text = (key: string) => pick(key, optional(document[key], asString, `${what} ${key}`) || undefined);
  return {
    os: optional(document['os'], asString, `${what} os`) ?? '',
    architecture: optional(document['architecture'], asString, `${what} architecture`) ?? '',
    ...text('variant'),
    ...text('created'),
    ...text('author'),
    config: readContainerConfig(document['config'] ?? {}, `${what} config`),
    diffIDs: diffIDs.map(parseDiffID),
    history: history.map((entry, i) => readHistory(entry, `${what} history ${i + 1}`)),
  };
}

function readContainerConfig(value: unknown, what: string): ContainerConfig {
  const object = asObject(value, what);
  const text = (key: string) => pick(key, optional(object[key], asArgument, `${what} ${key}`) || undefined);
  const list = (key: string) => optional(object[key], asArguments, `${what} ${key}`) ?? [];
  const set = (key: string) =>
    Object.keys(optional(object[key], asObject, `${what} ${key}`) ?? {}).map((k) =>
      asArgument(k, `${what} ${key}`),
    );
  return {
    ...text('User'),
    Env: list('Env'),
    Entrypoint: list('Entrypoint'),
    Cmd: list('Cmd'),
    ...text('WorkingDir'),
    Volumes: set('Volumes'),
    Labels: optional(object['Labels'], asStringMap, `${what} Labels`) ?? {},
    ...text('StopSignal'),
    ExposedPorts: set('ExposedPorts'),
    Shell: list('Shell'),
    ...pick('Healthcheck', optional(object['Healthcheck'], readHealthcheck, `${what} Healthcheck`)),
  };
}

function readHealthcheck(value: unknown, what: string): Healthcheck {
  const object = asObject(value, what);
  const size = (key: string) => pick(key, optional(object[key], asSize, `${what} ${key}`));
  return {
    Test: optional(object['Test'], asArguments, `${what} Test`) ?? [],
    ...size('Interval'),
    ...size('Timeout'),
    ...size('StartPeriod'),
    ...size('StartInterval'),
    ...size('Retries'),
  };
}

function readHistory(value: unknown, what: string): HistoryEntry {
  const object = asObject(value, what);
  const text = (key: string) => pick(key, optional(object[key], asString, `${what} ${key}`));
  return {
    ...text('created'),
    ...text('created_by'),
    ...text('author'),
    ...text('comment'),
    ...(object['empty_layer'] === true ? { empty_layer: true } : {}),
  };
}

/** A string that the kernel will see: it ends at the first NUL there, so it must not have one here. */
function asArgument(value: unknown, what: string): string {
  const text = asString(value, what);
  if (text.includes('\0')) throw new OciError('BAD_IMAGE', `${what} has a NUL character: ${quote(text)}`);
  return text;
}

function asArguments(value: unknown, what: string): string[] {
  return asStrings(value, what).map((text) => asArgument(text, what));
}

function pick<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
}
