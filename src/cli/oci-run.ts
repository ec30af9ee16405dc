/** oci-run: starts an image as a native systemd unit; oci-run(1). */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { parseEnvFile } from '../bundle/environment.ts';
import { parseCount, parseCpus, parseSize } from '../bundle/quantity.ts';
import type { ContainerOptions, NetworkMode } from '../bundle/runtime-spec.ts';
import { parseVolume } from '../bundle/volume.ts';
import type { PayloadStreams } from '../host/payload-streams.ts';
import { OciError, quote } from '../oci/errors.ts';
import { parseSignal } from '../oci/signal.ts';
import type { PreparedContainer } from '../prepare-container.ts';
import type { StoredImage } from '../store/images.ts';
import type { Store } from '../store/store.ts';
import type { Manager } from '../systemd/manager.ts';
import type { Features } from '../unit/context.ts';
import { interruptSignal } from './interrupt.ts';
import { outputFor, runProgram } from './main.ts';
import {
  type CommonOptions,
  commonRunOptions,
  createStoreFromOptions,
  type Places,
  type RegistryOptions,
  registryOptions,
  sourceOptionsFrom,
} from './options.ts';
import type { Output } from './output.ts';

type RunCommandOptions = Omit<CommonOptions, 'wait'> &
  RegistryOptions & {
    unit?: string;
    memory?: string;
    cpus?: string;
    pidsLimit?: string;
    env?: string[];
    envFile?: string[];
    volume?: string[];
    network: NetworkMode;
    user?: string;
    workdir?: string;
    entrypoint?: string;
    hostname?: string;
    label?: string[];
    readOnly?: boolean;
    stopSignal?: string;
    stopTimeout?: string;
    slice: string;
    wait?: boolean;
    pipe?: boolean;
    interactive?: boolean;
    dryRun?: boolean;
    pull: 'always' | 'missing' | 'newer' | 'never';
  };

const PIDS_MAX = 4_194_304; // the kernel's PID_MAX_LIMIT
const STOP_TIMEOUT_MAX_SECONDS = 31_536_000;

function build(program: Command): void {
  const each = (value: string, previous: string[] = []) => [...previous, value];
  program
    .description('Run an OCI container as a native systemd unit')
    .argument('<image>', 'a name in the store, or anything that oci-pull takes')
    .argument('[command...]', "the payload's command and its arguments")
    .passThroughOptions()
    .option('--unit <name>', "name of the unit (default: the image's name and a random number)")
    .option('--memory <size>', 'most memory, as 256M')
    .option('--cpus <number>', "most CPUs' worth of time, as 1.5")
    .option('--pids-limit <number>', 'most processes and threads')
    .option('-e, --env <name=value>', 'set an environment variable', each)
    .option('--env-file <file>', 'set the variables in a file', each)
    .option('-v, --volume <host:container[:ro]>', 'show a directory of the host in the container', each)
    .addOption(
      new Option('--network <mode>', "private: a network of the container's own; host: the host's")
        .choices(['private', 'none', 'host'])
        .default('private'),
    )
    .option('--user <user[:group]>', 'run as this user of the image')
    .option('-w, --workdir <dir>', 'working directory')
    .option('--entrypoint <command>', "replace the image's entrypoint")
    .option('--hostname <name>', "host name inside (default: the unit's name)")
    .option('--label <name=value>', 'add an annotation', each)
    .option('--read-only', "make the container's root read-only")
    .option('--stop-signal <signal>', "signal that stops the payload (default: the image's)")
    .option('--stop-timeout <seconds>', 'time from that signal to SIGKILL')
    .option('--slice <slice>', 'slice of the unit', 'oci.slice')
    .option('--wait', 'wait for the payload and exit with its status')
    .option('--pipe', 'connect standard input, output and error, and wait')
    .option('-i, --interactive', 'the same as --pipe')
    .option('--dry-run', 'print the units that would be started')
    .addOption(
      new Option('--pull <policy>', 'when to pull')
        .choices(['missing', 'always', 'newer', 'never'])
        .default('missing'),
    );
  registryOptions(program);
  commonRunOptions(program);
  program.action((image: string, command: string[], options: RunCommandOptions) =>
    run(program, image, command, options),
  );
}

async function run(
  program: Command,
  imageName: string,
  command: string[],
  options: RunCommandOptions,
): Promise<void> {
  const output = outputFor(program);
  const containerOptions = parseContainerOptions(command, options);
  const unit = options.unit === undefined ? randomUnitName(imageName) : parseUnitName(options.unit);
  const slice = parseSlice(options.slice);
  const { store, places } = await createStoreFromOptions(options);

  const manager = await connect(options.dryRun === true);
  try {
    const { image, name } = await findOrPull(imageName, store, options, output);
    const streams = options.pipe || options.interactive ? await openStreams() : undefined;
    const container = await prepare({
      image,
      name,
      unit,
      slice,
      store,
      places,
      options,
      containerOptions,
      streams,
      features: manager.features,
    });
    if (options.dryRun || manager.systemd === undefined) {
      const { containerUnitsText } = await import('../unit/unit-text.ts');
      process.stdout.write(containerUnitsText(container.units));
      return;
    }
    const { startContainer } = await import('../run.ts');
    await startContainer(container, store, image.digest, manager.systemd);
    streams?.started();
    if (streams !== undefined || options.wait) await follow(container, manager.systemd, streams);
    else if (output.json)
      output.value({ unit: container.units.payload.name, image: name, digest: image.digest });
    else {
      output.line(container.units.payload.name);
      output.note(`follow it with journalctl -fu ${unit}, stop it with systemctl stop ${unit}`);
    }
  } finally {
    manager.systemd?.close();
  }
}

/** Waits for the end; the first signal stops the container as systemctl would, the second kills it. */
async function follow(
  container: PreparedContainer,
  manager: Manager,
  streams: PayloadStreams | undefined,
): Promise<void> {
  const unit = container.units.payload.name;
  let asked = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      const request = asked ? manager.kill(unit, 9) : manager.stop(unit);
      asked = true;
      request.catch(() => {}); // it has ended meanwhile, or the wait below fails for the same reason
    });
  const { waitForContainer } = await import('../run.ts');
  const end = await waitForContainer(container, manager);
  await streams?.finished();
  process.exitCode = end.status;
}

/** systemd and what it has; for --dry-run without one, what a current one would have. */
async function connect(dryRun: boolean): Promise<{ systemd: Manager | undefined; features: Features }> {
  const [{ connectManager }, { featuresOf }] = await Promise.all([
    import('../systemd/manager.ts'),
    import('../unit/features.ts'),
  ]);
  let systemd: Manager;
  try {
    systemd = await connectManager();
  } catch (error) {
    if (dryRun && error instanceof OciError && error.code === 'UNAVAILABLE')
      return { systemd: undefined, features: { mixedKill: true } };
    throw error;
  }
  try {
    return { systemd, features: featuresOf(systemd.serviceProperties, systemd.version) };
  } catch (error) {
    systemd.close();
    throw error;
  }
}

async function findOrPull(
  name: string,
  store: Store,
  options: RunCommandOptions,
  output: Output,
): Promise<{ image: StoredImage; name: string }> {
  if (options.pull === 'never') {
    const { requireStoredImage } = await import('../find-image.ts');
    const image = requireStoredImage(store, name);
    return { image, name: image.names[0] ?? image.digest };
  }
  const [{ pullImage, platformFrom }, { createProgress }] = await Promise.all([
    import('../pull.ts'),
    import('./progress.ts'),
  ]);
  const signal = interruptSignal();
  const progress = createProgress(output);
  try {
    const { image, name: stored } = await pullImage({
      store,
      name,
      policy: options.pull,
      platform: platformFrom(options.platform),
      source: sourceOptionsFrom(options, output.note),
      ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
      waiting: { onWait: (message) => output.note(message), signal },
      signal,
      onEvent: progress.onEvent,
    });
    return { image, name: stored };
  } finally {
    progress.close();
  }
}

async function openStreams(): Promise<PayloadStreams> {
  const { openPayloadStreams } = await import('../host/payload-streams.ts');
  return openPayloadStreams();
}

async function prepare(parts: {
  image: StoredImage;
  name: string;
  unit: string;
  slice: string;
  store: Store;
  places: Places;
  options: RunCommandOptions;
  containerOptions: ContainerOptions;
  streams: PayloadStreams | undefined;
  features: Features;
}): Promise<PreparedContainer> {
  const { prepareContainer } = await import('../prepare-container.ts');
  const { image, store, streams, options } = parts;
  return prepareContainer({
    unit: parts.unit,
    imageName: parts.name,
    manifestDigest: image.digest,
    imageConfig: store.readDocuments(image).imageConfig,
    layerTrees: store.layerTrees(image),
    ...(options.user === undefined ? {} : { user: options.user }),
    options: parts.containerOptions,
    slice: parts.slice,
    root: store.root,
    runRoot: parts.places.runRoot,
    features: parts.features,
    ...(streams === undefined
      ? {}
      : { stdio: { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr } }),
    callerEnv: process.env,
  });
}

function parseContainerOptions(command: string[], options: RunCommandOptions): ContainerOptions {
  return {
    command,
    ...(options.entrypoint === undefined ? {} : { entrypoint: parseEntrypoint(options.entrypoint) }),
    env: [...(options.envFile ?? []).flatMap(readEnvFile), ...(options.env ?? [])],
    ...(options.hostname === undefined ? {} : { hostname: parseHostname(options.hostname) }),
    ...(options.workdir === undefined ? {} : { workdir: parseWorkdir(options.workdir) }),
    mounts: (options.volume ?? []).map(parseVolume),
    network: options.network,
    readOnly: options.readOnly ?? false,
    ...(options.stopSignal === undefined ? {} : { stopSignal: parseSignal(options.stopSignal).name }),
    ...(options.stopTimeout === undefined
      ? {}
      : {
          stopTimeoutSeconds: parseCount('--stop-timeout', options.stopTimeout, 0, STOP_TIMEOUT_MAX_SECONDS),
        }),
    ...(options.memory === undefined ? {} : { memoryMaxBytes: parseSize('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCpus(options.cpus) }),
    ...(options.pidsLimit === undefined
      ? {}
      : { pidsLimit: parseCount('--pids-limit', options.pidsLimit, 1, PIDS_MAX, true) }),
    labels: Object.fromEntries((options.label ?? []).map(parseLabel)),
  };
}

/** One word, or a JSON array of words, as podman takes it. */
function parseEntrypoint(text: string): string[] {
  if (!text.startsWith('[')) return text === '' ? [] : [text];
  try {
    const words: unknown = JSON.parse(text);
    if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
  } catch {}
  throw new OciError('USAGE', `--entrypoint: ${quote(text)} is not a JSON array of strings`, {
    hint: `Write it as --entrypoint '["sh", "-c"]'.`,
  });
}

function readEnvFile(file: string): string[] {
  try {
    return parseEnvFile(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new OciError('INPUT_NOT_FOUND', `--env-file: cannot read ${quote(file)}`, {
      hint: 'Name a file that exists.',
      cause: error,
    });
  }
}

function parseHostname(text: string): string {
  if (/^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/.test(text)) return text;
  throw new OciError('USAGE', `--hostname: ${quote(text)} is not a host name`, {
    hint: 'Use letters, digits, hyphens and dots, at most 64.',
  });
}

function parseWorkdir(text: string): string {
  if (text.startsWith('/') && !text.split('/').includes('..')) return text;
  throw new OciError('USAGE', `--workdir: ${quote(text)} is not an absolute path`, {
    hint: 'Write it as --workdir /DIR.',
  });
}

function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=');
  if (text === '' || at === 0)
    throw new OciError('USAGE', `--label: ${quote(text)} has no name`, {
      hint: 'Write it as --label NAME=VALUE.',
    });
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

const UNIT_NAME_MAX_CHARS = 200; // NAME_MAX, less what the setup unit's name adds

/** systemd.unit(5)'s characters; `.service` may be there. */
function parseUnitName(text: string): string {
  const name = text.replace(/\.service$/, '');
  if (
    /^[A-Za-z0-9:_][A-Za-z0-9:_.@-]*$/.test(name) &&
    name.length <= UNIT_NAME_MAX_CHARS &&
    !name.endsWith('@')
  )
    return name;
  throw new OciError('USAGE', `--unit: ${quote(text)} is not a name for a service`, {
    hint: 'Use letters, digits and : _ . - @.',
  });
}

function parseSlice(text: string): string {
  const name = text.endsWith('.slice') ? text : `${text}.slice`;
  if (/^[A-Za-z0-9:_.@\\-]+\.slice$/.test(name) && !/^-|--|-\.slice$/.test(name)) return name;
  throw new OciError('USAGE', `--slice: ${quote(text)} is not the name of a slice`, {
    hint: 'Write it as --slice oci-web.slice.',
  });
}

/** `nginx-3f9a1c` for docker.io/library/nginx:latest. */
function randomUnitName(imageName: string): string {
  const base = imageName.replace(/@.*$/, '').split('/').at(-1)!.replace(/:.*$/, '');
  const plain = base.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return `${plain === '' ? 'container' : plain.slice(0, 100)}-${randomBytes(3).toString('hex')}`;
}

await runProgram('oci-run', build);
