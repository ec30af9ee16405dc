/** oci-run: starts an image as a native systemd unit; oci-run(1). */
import { basename, resolve } from 'node:path';
import { Command } from 'commander';
import { moveInPlace } from '../host/cgroup-move.ts';
import type { PayloadStreams } from '../host/payload-streams.ts';
import type { Terminal } from '../host/terminal.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import type { PlaceRequest, PreparedContainer } from '../prepare-container.ts';
import type { ImageUse } from '../run.ts';
import type { StoredImage } from '../store/images.ts';
import type { Store } from '../store/store.ts';
import type { Manager } from '../systemd/manager.ts';
import { endInWords } from '../unit/end.ts';
import { parseSocket } from '../unit/socket.ts';
import { containerOptions, IMAGE_GROUP, pullOption, unitOptions } from './declare-run-options.ts';
import { forwardSignals } from './follow.ts';
import { connect, containerOf, findOrPull, mountedImages, type PullWhen } from './image-container.ts';
import { endInterrupts } from './interrupt.ts';
import { outputFor, runProgram } from './main.ts';
import {
  type CommonOptions,
  commonRunOptions,
  createStoreFromOptions,
  placesFrom,
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
  publishTexts,
  type UnitTexts,
  unitAnnotations,
} from './run-options.ts';
import { tellTasksLimit } from './tasks-limit.ts';

type RunCommandOptions = Omit<CommonOptions, 'wait'> &
  RegistryOptions &
  ContainerTexts &
  UnitTexts & {
    unit?: string;
    bundle?: string;
    slice: string;
    detach?: boolean;
    wait?: boolean;
    pipe?: boolean;
    interactive?: boolean;
    tty?: boolean;
    dryRun?: boolean;
    pull: PullWhen;
  };

export function buildRun(program: Command): void {
  program
    .description('Run an OCI container as a native systemd unit')
    .argument('[image]', 'a name in the store, or anything that oci-pull takes')
    .argument('[command...]', "the payload's command and its arguments")
    .passThroughOptions()
    .option('--name, --unit <name>', "name of the unit (default: the image's name and a random number)")
    .option('--bundle <dir>', 'run the OCI bundle in this directory instead of an image');
  containerOptions(program);
  unitOptions(program)
    .optionsGroup('How it runs:')
    .option('-d, --detach', 'return when the payload runs (always done, but for the options that wait)')
    .option('--rm', 'remove everything but the image and volumes when the payload ends (always done)')
    .option('--wait', 'wait for the payload and exit with its status')
    .option('--pipe', 'the same as -i')
    .option('-i, --interactive', 'connect standard input, output and error, and wait')
    .option('-t, --tty', 'give the payload a terminal, and wait')
    .option('--dry-run', 'print the units that would be started')
    .optionsGroup(IMAGE_GROUP)
    .addOption(pullOption())
    .addOption(storeFormatOption());
  registryOptions(program);
  commonRunOptions(program.optionsGroup('Places and output:'));
  program.action((image: string | undefined, command: string[], options: RunCommandOptions) =>
    run(program, image, command, options),
  );
}

/** What is started, and the image it keeps in use. */
interface Prepared {
  container: PreparedContainer;
  image?: { name: string; stored: StoredImage; store: Store; also: Digest[] };
}

async function run(
  program: Command,
  imageName: string | undefined,
  command: string[],
  options: RunCommandOptions,
): Promise<void> {
  const output = outputFor(program);
  const prepare =
    options.bundle === undefined
      ? imagePreparation(requireImageName(imageName), command, options, output)
      : bundlePreparation(options.bundle, program, options, output);
  const extraSettings = parseProperties(options);
  const notify = parseNotify(options);
  checkTerminal(options);
  checkWaiting(options);
  if (!options.dryRun) {
    (await import('../run.ts')).checkHost();
    moveInPlace(); // that takes as long as all until systemd is asked
  }
  const sockets = (options.socket ?? []).map(parseSocket);
  if (sockets.length > 0 && waits(options))
    throw new OciError('USAGE', '--socket: nothing runs yet that could be waited for', {
      hint: 'Leave out --wait, --pipe, -i and -t.',
    });

  const connecting = connect(options.dryRun === true);
  try {
    let streams: PayloadStreams | undefined;
    const late = async (): Promise<LatePlace> => {
      const { features } = await connecting;
      if (!options.tty && (options.pipe || options.interactive)) streams = await openStreams();
      return {
        startsNow: true,
        slice: parseSlice(options.slice),
        features,
        extraSettings,
        ...(sockets.length > 0 ? { sockets } : {}),
        ...notify,
        terminal: options.tty ?? false,
        ...(streams === undefined
          ? {}
          : { stdio: { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr } }),
      };
    };
    // systemd answers while the image is looked at; without systemd nothing is waited for
    const asked = new Promise(setImmediate);
    const [manager, { container, image }] = await Promise.all([connecting, asked.then(() => prepare(late))]);
    if (options.dryRun || manager.systemd === undefined) {
      const { containerUnitsText } = await import('../unit/unit-text.ts');
      output.lines(containerUnitsText(container.units));
      return;
    }
    const use = image && { store: image.store, digest: image.stored.digest, also: image.also };
    endInterrupts();
    if (streams !== undefined || options.tty || options.wait)
      await follow(container, use, manager.systemd, streams, options.interactive ?? false, output);
    else {
      const { startContainer } = await import('../run.ts');
      await startContainer(container, use, manager.systemd);
      report(container, image, output);
    }
  } finally {
    (await connecting.catch(() => undefined))?.systemd?.close();
  }
}

/** What is known of a place only once systemd answers and the streams are open. */
type LatePlace = Pick<
  PlaceRequest,
  'slice' | 'startsNow' | 'features' | 'stdio' | 'terminal' | 'extraSettings' | 'sockets' | 'notify'
>;
type Preparation = (late: () => Promise<LatePlace>) => Promise<Prepared>;

function requireImageName(imageName: string | undefined): string {
  if (imageName !== undefined) return imageName;
  throw new OciError('USAGE', 'no image is named', {
    hint: 'Write it as oci-run IMAGE, or see oci-run --help.',
  });
}

/** The command line is judged at once; the image is looked up or pulled later. */
function imagePreparation(
  imageName: string,
  command: string[],
  options: RunCommandOptions,
  output: Output,
): Preparation {
  const parsed = parseContainerOptions(command, options);
  const unit = options.unit === undefined ? randomUnitName(imageName) : parseUnitName(options.unit, '--unit');
  return async (late) => {
    const { store, places } = await createStoreFromOptions(options);
    const { image: stored, name } = await findOrPull(imageName, store, options, output);
    const images = await mountedImages(parsed.container.mounts, store, places.trust, options, output);
    const place = await late();
    const container = await containerOf({ image: stored, name, store }, parsed, options, {
      ...place,
      unit,
      runRoot: places.runRoot,
      networks: places.networks,
      trust: places.trust,
      images,
      callerEnv: process.env,
    });
    const also = [...images.values()].map(({ manifestDigest }) => manifestDigest);
    return { container, image: { name, stored, store, also } };
  };
}

/** Its config.json says what an image and options would say. */
function bundlePreparation(
  directory: string,
  program: Command,
  options: RunCommandOptions,
  output: Output,
): Preparation {
  const given = program.args.length > 0 ? `'${program.args[0]}'` : undefined;
  const containerOption = containerOptionGiven(program);
  if (given !== undefined || containerOption !== undefined)
    throw new OciError('USAGE', `--bundle and ${given ?? containerOption} exclude each other`, {
      hint: 'Say it in the config.json of the bundle.',
    });
  if (publishTexts(options).length > 0)
    throw new OciError('USAGE', '--bundle and -p with a port exclude each other', {
      hint: "Name the namespace of a network in the bundle's config.json.",
    });
  const bundle = resolve(directory);
  const unit =
    options.unit === undefined ? randomUnitName(basename(bundle)) : parseUnitName(options.unit, '--unit');
  return async (late) => {
    const places = await placesFrom(options);
    const { prepareBundle } = await import('../prepare-bundle.ts');
    const { container, unknown } = prepareBundle({
      ...(await late()),
      ...places,
      unit,
      bundle,
      annotations: unitAnnotations(options),
    });
    for (const path of unknown)
      output.note(`config.json: ${path} is no field of the specification; it is ignored`);
    return { container };
  };
}

/** The first option of those that shape a container which the user gave. */
function containerOptionGiven(program: Command): string | undefined {
  const { options } = containerOptions(new Command());
  return (
    options.find((option) => program.getOptionValueSource(option.attributeName()) === 'cli')?.long ??
    undefined
  );
}

/** Throws USAGE for what cannot be had together with a terminal. */
function checkTerminal(options: RunCommandOptions): void {
  if (!options.tty) return;
  const other = options.pipe ? '--pipe' : options.restart !== undefined ? '--restart' : undefined;
  if (other !== undefined)
    throw new OciError('USAGE', `--tty and ${other} exclude each other`, {
      hint: `Leave one of them out${options.pipe ? ', or use -it' : ''}.`,
    });
}

function waits({ wait, pipe, interactive, tty }: RunCommandOptions): boolean {
  return [wait, pipe, interactive, tty].includes(true);
}

/** Nobody holds the streams or the terminal of a container that runs on by itself. */
function checkWaiting(options: RunCommandOptions): void {
  if (options.detach && waits(options))
    throw new OciError('USAGE', '--detach excludes --wait, --pipe, -i and -t', {
      hint: 'Leave one of them out; ocictl exec -it UNIT sh gives a terminal in a container that runs.',
    });
}

function report({ unit, units }: PreparedContainer, image: Prepared['image'], output: Output): void {
  const { name } = units.payload;
  if (output.json)
    output.value({ unit: name, image: image?.name ?? null, digest: image?.stored.digest ?? null });
  else {
    output.line(name);
    output.note(
      `follow it with journalctl -fu ${unit}, stop it with systemctl stop ${units.socket?.name ?? unit}`,
    );
  }
}

/** Starts the container, and stays until its end with its streams or its terminal. */
async function follow(
  container: PreparedContainer,
  use: ImageUse | undefined,
  manager: Manager,
  streams: PayloadStreams | undefined,
  input: boolean,
  output: Output,
): Promise<void> {
  const { startContainer, waitForContainer } = await import('../run.ts');
  let terminal: Terminal | undefined;
  let joined: Promise<void> | undefined;
  const starting = startContainer(container, use, manager, (opened) => {
    terminal = opened;
    joined = opened.join(input);
  });
  const keysAreIts = input && container.spec.process.terminal === true;
  forwardSignals(
    container.units.payload.name,
    manager,
    starting,
    keysAreIts ? () => terminal?.close() : undefined,
  );
  await starting;
  streams?.started();
  const limits: string[] = []; // a terminal is the payload's until the end
  tellTasksLimit(container.unit, manager, terminal === undefined ? output.note : (text) => limits.push(text));
  const end = await waitForContainer(container, manager, async () => {
    await Promise.all([streams?.finished(), joined]);
  });
  limits.forEach(output.note);
  if (end.result === 'status-lost')
    output.error(
      new OciError(
        'UNAVAILABLE',
        `${container.unit}: systemd lost track of the payload and of its exit status`,
        {
          hint: 'Use systemd 258 or later.',
        },
      ),
    );
  const why = endInWords(end, container.spec);
  if (why !== undefined) output.note(`${container.unit}: ${why}`);
  process.exitCode = end.status;
}

async function openStreams(): Promise<PayloadStreams> {
  const { openPayloadStreams } = await import('../host/payload-streams.ts');
  return openPayloadStreams();
}

/** `nginx-3f9a1c` for docker.io/library/nginx:latest. The number is no secret: not worth loading node:crypto for, 7 ms. */
function randomUnitName(imageName: string): string {
  const base = imageName.replace(/@.*$/, '').split('/').at(-1)!.replace(/:.*$/, '');
  const plain = base.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  const number = Math.floor(Math.random() * 0x100_0000)
    .toString(16)
    .padStart(6, '0');
  return `${plain === '' ? 'container' : plain.slice(0, 100)}-${number}`;
}

if (import.meta.main) void runProgram('oci-run', buildRun);
