/** ocictl volume: the named volumes that containers made. */
import type { Command } from 'commander';
import { outputFor } from './main.ts';
import { type CommonOptions, openStoreFromOptions, waitingFrom } from './options.ts';
import { humanBytes } from './output.ts';

export function volumeCommands(program: Command): void {
  const volume = program.command('volume').description('list and remove named volumes');
  volume
    .command('ls')
    .description('list the volumes, and which containers have them')
    .action((_options: unknown, command: Command) => list(command));
  volume
    .command('rm <name...>')
    .description('remove volumes and all that is in them')
    .action((names: string[], _options: unknown, command: Command) => remove(names, command));
}

async function list(command: Command): Promise<void> {
  const output = outputFor(command);
  const { listVolumes } = await import('../volumes.ts');
  const { store, places } = await openStoreFromOptions(command.optsWithGlobals<CommonOptions>());
  const volumes = store === undefined ? [] : listVolumes(store, places.runRoot);
  if (output.json) {
    output.value(volumes);
    return;
  }
  const rows = volumes.map(({ name, bytes, users, path }) => [
    name,
    humanBytes(bytes),
    users.join(' '),
    path,
  ]);
  output.table(['NAME', 'SIZE', 'USED BY', 'PATH'], rows);
}

async function remove(names: readonly string[], command: Command): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions>();
  const output = outputFor(command);
  const { removeVolumes, noSuchVolume } = await import('../volumes.ts');
  const { afterTeardowns } = await import('../ending-containers.ts');
  const { store, places } = await openStoreFromOptions(options);
  if (store === undefined) throw noSuchVolume(names[0]!);
  const { runRoot } = places;
  await afterTeardowns(() => removeVolumes(store, runRoot, names, waitingFrom(options, output)));
  if (output.json) output.value({ removed: names });
}
