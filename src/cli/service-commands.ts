/** ocictl update, rollback, uninstall, versions, auto-update: what `ocictl install` installed; ocictl(1). */
import type { Command } from 'commander';
import { OciError, quote, toOciError } from '../oci/errors.ts';
import { formatReference, parseReference, repositoryName } from '../oci/reference.ts';
import type { Service, ServiceRequest } from '../services.ts';
import type { Store } from '../store/store.ts';
import type { FoundImage, InstalledService, UpdateContext, UpdateResult } from '../update-service.ts';
import { connect, findOrPull, type PullWhen } from './image-container.ts';
import { outputFor } from './main.ts';
import {
  type CommonOptions,
  createStoreFromOptions,
  placesFrom,
  type RegistryOptions,
  sourceOptionsFrom,
  waitingFrom,
} from './options.ts';
import { humanAge, type Output, shortDigest } from './output.ts';

export function serviceCommands(program: Command): void {
  // only for the list of commands: ocictl.ts has it as a program of its own
  program.command('install <image> [command...]').description('install a container as a service');
  program
    .command('rollback <name>')
    .description('bring an installed service back to the version before')
    .action(rollback);
  program
    .command('versions [name]')
    .description('list installed services, or the versions of one')
    .action(versions);
  program
    .command('uninstall <name...>')
    .description('stop installed services and remove them; their volumes stay')
    .option('--purge', 'with their drop-ins and the volumes that only they have')
    .action(uninstall);
  program
    .command('auto-update')
    .description('update the services that were installed with --auto-update')
    .option('--dry-run', 'only tell which ones')
    .action(autoUpdate);
}

type UpdateOptions = CommonOptions & { to?: string; all?: boolean };

/** `ocictl update` without limits (update-command.ts). */
export async function updateServices(names: string[], _: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<UpdateOptions>();
  if ((names.length === 0) !== (options.all === true) || (options.to !== undefined && names.length !== 1))
    throw new OciError('USAGE', 'name services, or --all; with --to one service', {
      hint: 'Write it as: ocictl update NAME [--to IMAGE].',
    });
  await withServices(command, async (context, output) => {
    const { listServices } = await import('../services.ts');
    const wanted = options.all ? listServices(context.store.root).map(({ name }) => name) : names;
    await forEachService(wanted, output, (name, tell) =>
      withService(name, context, async (service) => {
        const { request, found } = await newImage(service, options.to, context.store, output);
        const { updateService } = await import('../update-service.ts');
        tell(await updateService(service, request, found, context.forService(name)));
      }),
    );
  });
}

async function rollback(name: string, _: unknown, command: Command): Promise<void> {
  await withServices(command, (context, output) =>
    withService(name, context, async (service) => {
      const { rollBackService } = await import('../update-service.ts');
      const result = await rollBackService(service, context.forService(service.name));
      if (output.json) output.value(result);
      else report(result, output);
    }),
  );
}

async function autoUpdate(_: unknown, command: Command): Promise<void> {
  const { dryRun = false } = command.optsWithGlobals<{ dryRun?: boolean }>();
  await withServices(command, async (context, output) => {
    const [{ listServices }, { updateService, wasGivenUp }] = await Promise.all([
      import('../services.ts'),
      import('../update-service.ts'),
    ]);
    const wanted = listServices(context.store.root).filter(
      ({ current }) => current?.record.autoUpdate !== undefined,
    );
    await forEachService(
      wanted.map(({ name }) => name),
      output,
      (name, tell) =>
        withService(name, context, async (service) => {
          const { record } = service.current;
          if (dryRun) {
            const digest = await digestToCome(service, context.store, output);
            if (digest !== record.digest && !wasGivenUp(service, digest)) tell({ service: name, digest });
            return;
          }
          const { request, found } = await newImage(service, undefined, context.store, output);
          if (wasGivenUp(service, found.image.digest))
            output.note(`${name}: ${found.image.digest} was tried and given up; waiting for another one`);
          else tell(await updateService(service, request, found, context.forService(name)));
        }),
    );
  });
}

async function uninstall(names: string[], _: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions & { purge?: boolean }>();
  const output = outputFor(command);
  const [{ uninstallService }, { lockService }] = await Promise.all([
    import('../install-service.ts'),
    import('../services.ts'),
  ]);
  const { store, places } = await createStoreFromOptions(options);
  const how = { purge: options.purge ?? false, runRoot: places.runRoot };
  const { systemd: manager } = await connect(false);
  try {
    const results: { service: string; uninstalled: boolean }[] = [];
    for (const name of names.map(plainName)) {
      using _lock = await lockService(store.root, name, waitingFrom(options, output));
      const uninstalled = await uninstallService(store, name, manager!, how);
      results.push({ service: name, uninstalled });
      if (uninstalled && !output.json) output.line(`${name}.service`);
    }
    if (output.json) output.value(results);
    const missing = results.filter(({ uninstalled }) => !uninstalled).map(({ service }) => quote(service));
    if (missing.length > 0)
      throw new OciError('INPUT_NOT_FOUND', `no service ${missing.join(', ')} is installed`, {
        hint: 'List them with: ocictl versions.',
      });
  } finally {
    manager!.close();
  }
}

async function versions(name: string | undefined, _: unknown, command: Command): Promise<void> {
  const { root } = await placesFrom(command.optsWithGlobals<CommonOptions>());
  await tellVersions(root, name, outputFor(command));
}

/** Of one service, or the current ones of all. */
export async function tellVersions(root: string, name: string | undefined, output: Output): Promise<void> {
  const { listServices, requireService } = await import('../services.ts');
  const services: Service[] = name === undefined ? listServices(root) : [requireService(root, name)];
  const rows = services.flatMap((service) =>
    service.versions
      .filter((version) => name !== undefined || version === service.current)
      .map(({ number, record, failed }) => ({
        service: service.name,
        version: number,
        current: number === service.current?.number,
        image: record.image,
        digest: record.digest,
        made: record.made,
        autoUpdate: record.autoUpdate ?? null,
        failed: failed ?? null,
      })),
  );
  if (output.json) return output.value(rows);
  output.table(
    ['SERVICE', 'VERSION', 'IMAGE', 'DIGEST', 'MADE', 'STATE'],
    rows.map(({ service, version, current, image, digest, made, failed }) => [
      service,
      String(version),
      image,
      shortDigest(digest),
      humanAge(made),
      current ? 'current' : failed === null ? '' : `given up: ${failed}`,
    ]),
  );
}

interface Context {
  readonly store: Store;
  readonly options: CommonOptions;
  readonly output: Output;
  readonly forService: (name: string) => UpdateContext;
}

async function withServices(
  command: Command,
  work: (context: Context, output: Output) => Promise<void>,
): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions>();
  const output = outputFor(command);
  const { store, places } = await createStoreFromOptions(options);
  const { systemd, features } = await connect(false);
  const manager = systemd!;
  const { requestedContainer } = await import('./install-command.ts');
  const forService = (service: string): UpdateContext => ({
    store,
    runRoot: places.runRoot,
    manager,
    keep: places.keep,
    prepare: (request, image, name) =>
      requestedContainer(request, service, { image, name, store }, places, features, output),
  });
  try {
    await work({ store, options, output, forService }, output);
  } finally {
    manager.close();
  }
}

/** Nobody else changes the service meanwhile. */
async function withService(
  typed: string,
  { store, options, output }: Context,
  work: (service: InstalledService) => Promise<void>,
): Promise<void> {
  const { lockService, requireService } = await import('../services.ts');
  const { name } = requireService(store.root, typed);
  using _lock = await lockService(store.root, name, waitingFrom(options, output));
  await work(requireService(store.root, name));
}

/** What is told of one: that it was updated, or would be. */
type Told = UpdateResult | Pick<UpdateResult, 'service' | 'digest'>;

/** One that fails is no reason to leave out the others. */
async function forEachService(
  names: readonly string[],
  output: Output,
  work: (name: string, tell: (told: Told) => void) => Promise<void>,
): Promise<void> {
  let last: OciError | undefined;
  const all: Told[] = [];
  const tell = (told: Told) => void (output.json ? all.push(told) : report(told, output));
  for (const name of names)
    try {
      await work(name, tell);
    } catch (error) {
      if (last !== undefined) output.error(last);
      last = toOciError(error);
    }
  if (output.json) output.value(all);
  if (last !== undefined) throw last;
}

/** What the service is to run now, in the store; the image that it follows changes with `to` unless that is a digest. */
async function newImage(
  { current: { record } }: InstalledService,
  to: string | undefined,
  store: Store,
  output: Output,
): Promise<{ request: ServiceRequest; found: FoundImage }> {
  const { digest: _digest, made: _made, ...request } = record;
  const access = record.options as RegistryOptions;
  const get = async (name: string, pull: PullWhen) => findOrPull(name, store, { ...access, pull }, output);
  if (to === undefined) return { request, found: await get(record.image, policyOf(record)) };
  if (!/^sha(256|512):[0-9a-f]+$/.test(to))
    return { request: { ...request, image: to }, found: await get(to, 'always') };
  const image = store.lookup([to]);
  if (image !== undefined) return { request, found: { image, name: image.names[0] ?? image.digest } };
  const repository = repositoryName(parseReference(record.image));
  return { request, found: await get(formatReference(parseReference(`${repository}@${to}`)), 'always') };
}

function policyOf({ autoUpdate }: ServiceRequest): PullWhen {
  return autoUpdate === 'local' ? 'never' : 'always';
}

async function digestToCome({ current: { record } }: InstalledService, store: Store, output: Output) {
  if (record.autoUpdate === 'local') {
    const { requireStoredImage } = await import('../find-image.ts');
    return requireStoredImage(store, record.image).digest;
  }
  const [{ latestDigest }, { platformFrom }] = await Promise.all([
    import('../pull.ts'),
    import('../find-image.ts'),
  ]);
  const access = record.options as RegistryOptions;
  const source = await sourceOptionsFrom(access, output.note);
  return latestDigest({ store, name: record.image, platform: platformFrom(access.platform), source });
}

function report(result: Told, output: Output): void {
  const { service, digest } = result;
  if (!('version' in result)) {
    output.line(`${service} ${digest}`);
    return;
  }
  const { version, changed, running } = result;
  if (!changed) output.note(`${service}: version ${version} is the newest`);
  else {
    output.line(`${service} ${version} ${digest}`);
    if (!running) output.note(`${service} is not running: start it with systemctl start ${service}`);
  }
}

function plainName(text: string): string {
  const name = text.replace(/\.service$/, '');
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]*@?$/.test(name)) return name;
  throw new OciError('USAGE', `${quote(text)} is not the name of a service`, {
    hint: 'List them with: ocictl versions.',
  });
}
