/** ocictl images, inspect, history, tag, untag, rm, convert: what is in the store, and what of it goes. */
import { type Command, Option } from 'commander';
import { showVerityDigest } from '../composefs/verity-digest.ts';
import { OciError } from '../oci/errors.ts';
import type { StoredImage } from '../store/images.ts';
import type { StoreFormat } from '../store/layout.ts';
import { shellWords } from '../unit/shell.ts';
import { interruptSignal } from './interrupt.ts';
import { outputFor } from './main.ts';
import {
  accessOptions,
  type CommonOptions,
  createStoreFromOptions,
  openStoreFromOptions,
  placesFrom,
  type RegistryOptions,
  sourceOptionsFrom,
  waitingFrom,
} from './options.ts';
import { humanAge, humanBytes, type Output, shortDigest } from './output.ts';

export function imageCommands(program: Command): void {
  program.command('images').description('list the images in the store').action(withContext(images));
  program
    .command('inspect <image>')
    .description('show what an image is and what it runs; or a container, as UNIT.service')
    .action(withContext(inspect));
  program
    .command('history <name>')
    .description('show how an image was built, or the versions of an installed service')
    .action(withContext(history));
  program.command('tag <image> <name>').description('give an image another name').action(withContext(tag));
  program.command('untag <name>').description('remove a name; the image stays').action(withContext(untag));
  program
    .command('rm <image...>')
    .description('remove names, and the images whose last name that was, with the layers only they have')
    .action(withContext(rm));
  accessOptions(
    program
      .command('convert <image>')
      .description('store an image in another format, under the same names')
      .addOption(
        new Option('--to <format>', 'tree or composefs').choices(['tree', 'composefs']).makeOptionMandatory(),
      ),
  ).action(withContext(convert));
}

interface Context {
  readonly options: CommonOptions;
  readonly output: Output;
}

/** commander hands an action its arguments, its own options and the command. */
function withContext<A extends unknown[]>(action: (context: Context, ...args: A) => Promise<void>) {
  return (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const args = given.slice(0, -2) as A;
    return action({ options: command.optsWithGlobals<CommonOptions>(), output: outputFor(command) }, ...args);
  };
}

async function images({ options, output }: Context): Promise<void> {
  const { store } = await openStoreFromOptions(options);
  const { images: stored, damaged } = store?.listImages() ?? { images: [], damaged: [] };
  for (const { error } of damaged) output.note(error.message);
  if (output.json) {
    const broken = damaged.map(({ digest, names, error }) => ({ digest, names, damaged: error.message }));
    output.value([...stored.map(summary), ...broken]);
  } else if (output.quiet) {
    for (const { digest } of stored) output.line(digest);
  } else {
    const row = (image: StoredImage, name: string) => [
      name,
      shortDigest(image.digest),
      String(image.layers.length),
      humanBytes(image.sizeBytes),
      humanAge(image.stored),
    ];
    const named = (names: readonly string[]) => (names.length === 0 ? ['<none>'] : names);
    output.table(
      ['NAME', 'DIGEST', 'LAYERS', 'SIZE', 'STORED'],
      [
        ...stored.flatMap((image) => named(image.names).map((name) => row(image, name))),
        ...damaged.flatMap(({ digest, names }) =>
          named(names).map((name) => [name, shortDigest(digest), '?', '?', 'damaged']),
        ),
      ],
    );
  }
}

function summary(image: StoredImage) {
  const { digest, names, source, stored, sizeBytes, layers, directory, store, format } = image;
  return {
    digest,
    names,
    source,
    stored,
    sizeBytes,
    layers,
    directory,
    store,
    format,
    imageDigest: imageDigest(image),
  };
}

/** What --image-digest and `ocictl verify` take. */
function imageDigest({ composefs }: StoredImage): string | undefined {
  return composefs && showVerityDigest(composefs.digest);
}

async function find({ options }: Context, name: string) {
  const { requireStoredImage } = await import('../find-image.ts');
  const { store, places } = await openStoreFromOptions(options);
  const image = requireStoredImage(store, name);
  return { store: store!, image, places };
}

async function inspect(context: Context, name: string): Promise<void> {
  const { output } = context;
  const container = await findContainer(context, name);
  if (container !== undefined) {
    const { inspectContainer } = await import('./inspect-container.ts');
    return inspectContainer(container, output);
  }
  const { store, image } = await find(context, name);
  const { rawManifest, rawConfig, imageConfig } = store.readDocuments(image);
  if (output.json) {
    const json = (raw: Uint8Array) => JSON.parse(Buffer.from(raw).toString());
    output.value({ ...summary(image), manifest: json(rawManifest), config: json(rawConfig) });
    return;
  }
  const { config } = imageConfig;
  const facts: [string, string | undefined][] = [
    ['Names', image.names.join(' ') || '<none>'],
    ['Digest', image.digest],
    ['Source', image.source],
    ['Stored', image.stored],
    ['Created', imageConfig.created],
    ['Platform', [imageConfig.os, imageConfig.architecture, imageConfig.variant].filter(Boolean).join('/')],
    ['Layers', String(image.layers.length)],
    ...image.layers.flatMap(({ digest, toc }): [string, string][] =>
      toc === undefined ? [] : [['Known by its table', `layer ${shortDigest(digest)}, ${toc}`]],
    ),
    ['Size', humanBytes(image.sizeBytes)],
    ['Format', image.format],
    ['Image digest', imageDigest(image)],
    ['Directory', image.directory],
    ['User', config.User],
    ['Entrypoint', commandText(config.Entrypoint)],
    ['Command', commandText(config.Cmd)],
    ['Working directory', config.WorkingDir],
    ['Stop signal', config.StopSignal],
    ...config.Env.map((line): [string, string] => ['Environment', line]),
    ...config.ExposedPorts.map((port): [string, string] => ['Port', port]),
    ...config.Volumes.map((volume): [string, string] => ['Volume', volume]),
    ...Object.entries(config.Labels).map(([key, value]): [string, string] => ['Label', `${key}=${value}`]),
  ];
  output.facts(facts);
}

/** The container of that name, where no image has it. */
async function findContainer({ options }: Context, name: string) {
  const { store, places } = await openStoreFromOptions(options);
  const [{ findContainer }, { findStoredImage }] = await Promise.all([
    import('../containers.ts'),
    import('../find-image.ts'),
  ]);
  if (!name.endsWith('.service') && store !== undefined && findStoredImage(store, name) !== undefined)
    return undefined;
  return findContainer(places.runRoot, name.replace(/\.service$/, ''));
}

/** Words that a shell would read as the same list. *

/** As a shell reads it; undefined for none. */
function commandText(words: readonly string[]): string | undefined {
  return words.length === 0 ? undefined : shellWords(words);
}

async function history(context: Context, name: string): Promise<void> {
  const { output } = context;
  const { root } = await placesFrom(context.options);
  const { readService } = await import('../services.ts');
  if (
    /^[\w.-]+@?(\.service)?$/.test(name) &&
    readService(root, name.replace(/\.service$/, '')).current !== undefined
  ) {
    const { tellVersions } = await import('./service-commands.ts');
    return tellVersions(root, name, output);
  }
  const { store, image } = await find(context, name);
  const entries = store.readDocuments(image).imageConfig.history;
  if (output.json) {
    output.value(entries);
    return;
  }
  const rows = entries
    .toReversed()
    .map((entry) => [
      entry.created ?? '',
      entry.empty_layer ? '' : 'yes',
      entry.created_by ?? entry.comment ?? '',
    ]);
  output.table(['CREATED', 'LAYER', 'BY'], rows);
}

async function tag(context: Context, name: string, newName: string): Promise<void> {
  const { image } = await find(context, name);
  const { store: own } = await createStoreFromOptions(context.options); // it may be in an additional store only
  const waiting = waitingFrom(context.options, context.output);
  using _lock = await own.lock('shared', waiting);
  await own.tag(newName, image.digest, waiting);
  if (context.output.json) context.output.value({ digest: image.digest, name: newName });
}

async function untag(context: Context, name: string): Promise<void> {
  const { store, image } = await find(context, name);
  const { namesFor } = await import('../find-image.ts');
  const found = namesFor(name).find((candidate) => image.names.includes(candidate));
  using _lock = await store.lock('shared', waitingFrom(context.options, context.output));
  if (found !== undefined) store.untag(found);
  if (context.output.json)
    context.output.value({ digest: image.digest, untagged: found === undefined ? [] : [found] });
}

async function rm({ options, output }: Context, names: readonly string[]): Promise<void> {
  const { removeImage } = await import('../remove-image.ts');
  const { afterTeardowns } = await import('../ending-containers.ts');
  const { store, places } = await openStoreFromOptions(options);
  const { runRoot } = places;
  const removed = [];
  for (const name of names) {
    const remove = () => removeImage(store, name, runRoot, waitingFrom(options, output));
    const result = await afterTeardowns(remove).catch((error: unknown) => notAnImage(error, name, runRoot));
    removed.push(result);
    if (output.json) continue;
    for (const gone of result.untagged) output.note(`removed the name ${gone}`);
    if (result.deleted)
      output.note(
        `removed image ${shortDigest(result.digest)} and ${result.deletedLayers.length} of its layers`,
      );
    if (result.deleted) output.line(result.digest);
  }
  if (output.json) output.value(removed);
}

/** podman's rm is about containers. */
async function notAnImage(error: unknown, name: string, runRoot: string): Promise<never> {
  const { findContainer } = await import('../containers.ts');
  if (!(error instanceof OciError) || error.code !== 'IMAGE_NOT_FOUND') throw error;
  if (findContainer(runRoot, name) === undefined) throw error;
  throw new OciError(error.code, `${error.message}; it is a container`, {
    hint: `To end it: systemctl stop ${name}. Then it is gone.`,
  });
}

async function convert(context: Context, name: string): Promise<void> {
  const { output } = context;
  const options = context.options as CommonOptions & RegistryOptions & { to: StoreFormat };
  const { store, image, places } = await find(context, name);
  const [{ convertImage }, { afterTeardowns }] = await Promise.all([
    import('../convert-image.ts'),
    import('../ending-containers.ts'),
  ]);
  const signal = interruptSignal();
  const request = {
    store,
    image,
    to: options.to,
    runRoot: places.runRoot,
    source: await sourceOptionsFrom(options, output.note),
    waiting: waitingFrom(options, output, signal),
    signal,
  };
  const converted = await afterTeardowns(() => convertImage(request));
  if (output.json) output.value({ digest: image.digest, format: options.to, converted });
  else output.note(converted ? `${name} is now of format ${options.to}` : `${name} has that format already`);
}
