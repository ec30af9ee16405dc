/**
 * ocictl install: a container as unit files; ocictl(1). A program of its own beside the other commands, because it
 * has the options of oci-run.
 */
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { OciError, quote } from '../oci/errors.ts';
import type { ServiceRequest } from '../services.ts';
import type { UnitOrder } from '../unit/service-files.ts';
import { parseSocket } from '../unit/socket.ts';
import { INSTANCE, isTemplate, OF_AN_INSTANCE, unitOf } from '../unit/unit-name.ts';
import { containerOptions, IMAGE_GROUP, pullOption, unitOptions } from './declare-run-options.ts';
import {
  connect,
  containerOf,
  findOrPull,
  mountedImages,
  type NamedImage,
  type PullWhen,
} from './image-container.ts';
import { outputFor } from './main.ts';
import {
  type CommonOptions,
  commonRunOptions,
  createStoreFromOptions,
  type Places,
  type RegistryOptions,
  registryOptions,
  storeFormatOption,
} from './options.ts';
import type { Output } from './output.ts';
import {
  type ContainerTexts,
  parseContainerOptions,
  parseNotify,
  parseProperties,
  parseSlice,
  parseUnitName,
  readEnvFile,
  type UnitTexts,
} from './run-options.ts';

/** What a service keeps of the command line, to make its later versions from. */
type LastingTexts = ContainerTexts & UnitTexts & Omit<RegistryOptions, 'jobs'>;

type InstallOptions = CommonOptions &
  RegistryOptions &
  ContainerTexts &
  UnitTexts & {
    name: string;
    slice: string;
    after?: string[];
    requires?: string[];
    wants?: string[];
    wantedBy?: string[];
    enable?: boolean;
    now?: boolean;
    autoUpdate?: 'registry' | 'local';
    healthGrace: string;
    pull: PullWhen;
  };

export function buildInstall(program: Command): void {
  const units = (value: string, previous: string[] = []) => [...previous, ...parseUnits(value)];
  program
    .description('Install an OCI container as a service that systemd starts by itself')
    .argument('<image>', 'a name in the store, or anything that oci-pull takes')
    .argument('[command...]', "the payload's command and its arguments")
    .requiredOption('--name <name>', 'name of the service');
  containerOptions(program);
  unitOptions(program)
    .optionsGroup('Service:')
    .option('--after <unit>', 'start after this unit', units)
    .option('--requires <unit>', 'start this unit too, and stop with it', units)
    .option('--wants <unit>', 'start this unit too, if possible', units)
    .option(
      '--wanted-by <unit>',
      'started by this unit once it is enabled (default: multi-user.target)',
      units,
    )
    .option('--enable', 'start it at every boot')
    .option('--now', 'start it')
    .addOption(
      new Option('--auto-update <from>', 'ocictl auto-update looks after it').choices(['registry', 'local']),
    )
    .option('--health-grace <seconds>', 'how long the payload has to stay up after an update', '10')
    .optionsGroup(IMAGE_GROUP)
    .addOption(pullOption())
    .addOption(storeFormatOption());
  registryOptions(program);
  commonRunOptions(program.optionsGroup('Places and output:'));
  program.action(async (image: string, command: string[], options: InstallOptions) => {
    const output = outputFor(program);
    const installed = await installService({ image, command, options }, output);
    if (output.json) return output.value(installed);
    output.line(installed.unit);
    if (!options.now)
      output.note(`start it with systemctl restart ${installed.unit.replace('@.', '@INSTANCE.')}`);
  });
}

/** A command line of `ocictl install`. */
export interface InstallWords {
  readonly image: string;
  readonly command: string[];
  readonly options: InstallOptions;
}

/** Judges it as far as that goes without the image. */
export function parseInstall(words: readonly string[]): InstallWords {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {}, outputError: () => {} });
  buildInstall(program);
  program.action(() => {}).parse(words, { from: 'user' });
  const [image = '', ...command] = program.args;
  const parsed = { image, command, options: program.opts<InstallOptions>() };
  requestFrom(parsed);
  return parsed;
}

/** What follows IMAGE belongs to the payload from the first word on that is no option. */
export function endOptionsAtCommand(argv: readonly string[]): string[] {
  const known = new Command();
  buildInstall(known);
  const takesNext = (word: string) =>
    !word.includes('=') &&
    known.options.some(({ long, short, required }) => required && (word === long || word === short));
  let words = 0;
  for (let at = 0; at < argv.length; at++) {
    if (argv[at] === '--') return [...argv];
    if (argv[at]!.startsWith('-')) at += takesNext(argv[at]!) ? 1 : 0;
    else if (++words === 2) return [...argv.slice(0, at), '--', ...argv.slice(at)];
  }
  return [...argv];
}

function requestFrom({ image, command, options }: InstallWords): ServiceRequest {
  const request: ServiceRequest = {
    image: lastingName(image),
    command,
    options: { ...lastingTexts(options) },
    slice: parseSlice(options.slice),
    order: orderFrom(options),
    ...(options.autoUpdate === undefined ? {} : { autoUpdate: options.autoUpdate }),
    healthGraceSeconds: parseGrace(options.healthGrace),
  };
  parseRequest(request, parseServiceName(options));
  return request;
}

export async function installService(words: InstallWords, output: Output) {
  const { image: imageName, options } = words;
  const name = parseServiceName(options);
  const request = requestFrom(words); // what is wrong is said before anything is pulled
  const { systemd: manager, features } = await connect(false);
  const { store, places } = await createStoreFromOptions(options);
  const [installing, services, { systemctl }] = await Promise.all([
    import('../install-service.ts'),
    import('../services.ts'),
    import('../systemd/systemctl.ts'),
  ]);
  using _lock = await services.lockService(store.root, name, { onWait: output.note });
  try {
    await installing.refuseForeignUnits(name, manager!);
    installing.refuseSharedUnits(store.root, name);
    installing.refuseEdited(services.readService(store.root, name));
    const found = await findOrPull(imageName, store, options, output);
    const container = await requestedContainer(request, name, { ...found, store }, places, features, output);
    const service = services.readService(store.root, name);
    const use = { store, digest: found.image.digest };
    const place = { ...places, manager: manager! };
    const number = await installing.installVersion(service, request, container, use, place);
    const unit = services.startedUnit(service, number);
    if (options.enable) systemctl('reenable', unit);
    if (options.now) systemctl('restart', unit);
    return { unit, version: number, image: found.name, digest: found.image.digest };
  } finally {
    manager!.close();
  }
}

/** The container that a service's request makes of an image. */
export async function requestedContainer(
  request: ServiceRequest,
  name: string,
  image: NamedImage,
  { runRoot, networks, trust }: Places,
  features: Awaited<ReturnType<typeof connect>>['features'],
  output: Output,
) {
  const { parsed, texts, sockets, extraSettings } = parseRequest(request, name);
  const pull = request.autoUpdate === 'local' ? 'never' : 'missing';
  const images = await mountedImages(parsed.container.mounts, image.store, trust, { ...texts, pull }, output);
  return containerOf(image, parsed, texts, {
    unit: unitOf(name),
    runRoot,
    networks,
    trust,
    images,
    callerEnv: {},
    slice: request.slice,
    features,
    extraSettings,
    ...parseNotify(texts),
    ...(sockets.length > 0 ? { sockets } : {}),
  });
}

function parseRequest({ command, options }: ServiceRequest, name: string) {
  const texts = isTemplate(name) ? forInstance(options) : (options as unknown as LastingTexts);
  return {
    texts,
    parsed: parseContainerOptions([...command], texts),
    sockets: (texts.socket ?? []).map(parseSocket),
    extraSettings: parseProperties(texts),
  };
}

/** Without what concerns this command only; with the caller's variables and paths as they are now. */
function lastingTexts(options: InstallOptions): LastingTexts {
  const {
    name,
    slice,
    after,
    requires,
    wants,
    wantedBy,
    enable,
    now,
    autoUpdate,
    healthGrace,
    pull,
    ...rest
  } = options;
  const {
    root,
    runRoot,
    config,
    json,
    quiet,
    verbose,
    wait,
    jobs,
    creds,
    envFile = [],
    env = [],
    ...texts
  } = rest;
  const variables = [...envFile.flatMap(readEnvFile), ...env].flatMap((entry) => {
    if (entry.includes('=')) return entry;
    const value = process.env[entry];
    return value === undefined ? [] : `${entry}=${value}`;
  });
  const { seccomp, authfile, certDir } = texts;
  return {
    ...texts,
    env: variables,
    ...(seccomp === undefined || /^(default|unconfined)$/.test(seccomp) ? {} : { seccomp: resolve(seccomp) }),
    ...(authfile === undefined ? {} : { authfile: resolve(authfile) }),
    ...(certDir === undefined ? {} : { certDir: resolve(certDir) }),
  };
}

/** A path in it becomes absolute. */
function lastingName(imageName: string): string {
  const [, transport, path] = /^(oci|oci-archive|docker-archive):(?!\/)(.+)$/s.exec(imageName) ?? [];
  return path === undefined ? imageName : `${transport}:${resolve(path)}`;
}

/** `web`, or a template, `web@`. */
function parseServiceName({ name: text, now, enable }: InstallOptions): string {
  const name = text.replace(/\.service$/, '');
  if (!isTemplate(name)) {
    if (!text.includes('@')) return parseUnitName(text);
  } else if (!name.slice(0, -1).includes('@')) {
    if (!now && !enable) return `${parseUnitName(name.slice(0, -1))}@`;
    throw new OciError('USAGE', `--${now ? 'now' : 'enable'}: ${quote(name)} is a template`, {
      hint: `Leave it out, then start instances: systemctl enable --now ${name}INSTANCE.`,
    });
  }
  throw new OciError('USAGE', `--name: ${quote(text)} is not a name for a service`, {
    hint: 'Use letters, digits and _ . -, and for a template an @ at the end.',
  });
}

function forInstance(options: Readonly<Record<string, unknown>>): LastingTexts {
  const written = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(written)
      : typeof value === 'string'
        ? value.replaceAll('%i', INSTANCE)
        : value;
  return Object.fromEntries(
    Object.entries(options).map(([key, value]) => [
      key,
      OF_AN_INSTANCE.has(optionName(key)) ? written(value) : value,
    ]),
  ) as unknown as LastingTexts;
}

/** `logTag`, as commander has it → `log-tag`. */
function optionName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function parseUnits(text: string): string[] {
  return text.split(/[\s,]+/).map((unit) => {
    if (/^[A-Za-z0-9:_.\\@-]+$/.test(unit)) return /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`;
    throw new OciError('USAGE', `${quote(unit)} is not the name of a unit`, {
      hint: 'Write it as --after network-online.target.',
    });
  });
}

function orderFrom({ after = [], requires = [], wants = [], wantedBy }: InstallOptions): UnitOrder {
  return {
    after,
    requires,
    wants,
    wantedBy: wantedBy ?? ['multi-user.target'],
  };
}

const GRACE_MAX_SECONDS = 3600;

function parseGrace(text: string): number {
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (seconds <= GRACE_MAX_SECONDS) return seconds;
  throw new OciError(
    'USAGE',
    `--health-grace: ${quote(text)} is not a number from 0 to ${GRACE_MAX_SECONDS}`,
    {
      hint: 'Write it as --health-grace 30.',
    },
  );
}
