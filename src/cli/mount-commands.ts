/** ocictl mount and umount: an image's files as a directory of the host. */
import type { Command } from 'commander';
import { OciError } from '../oci/errors.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, openStoreFromOptions, placesFrom, waitingFrom } from './options.ts';
import { shortDigest } from './output.ts';

export function mountCommands(program: Command): void {
  program
    .command('mount [image]')
    .description(
      'print a directory with the files of the image, read-only; without an image, list what is mounted',
    )
    .action((image: string | undefined, _options: unknown, command: Command) =>
      image === undefined ? list(command) : mount(image, command),
    );
  program
    .command('umount <image...>')
    .description('undo ocictl mount, by the image or by the directory')
    .action((images: string[], _options: unknown, command: Command) => umount(images, command));
}

async function mount(name: string, command: Command): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions>();
  const output = outputFor(command);
  requireRoot();
  const [{ requireStoredImage }, { mountImage }] = await Promise.all([
    import('../find-image.ts'),
    import('../mount-image.ts'),
  ]);
  const { store, places } = await openStoreFromOptions(options);
  requireStoredImage(store, name); // before the lock makes anything
  const waiting = waitingFrom(options, output);
  using _lock = await store!.lock('shared', waiting);
  const image = requireStoredImage(store, name);
  const path = await mountImage(store!, image, places.runRoot, waiting);
  if (output.json) output.value({ path, digest: image.digest });
  else output.line(path);
}

async function list(command: Command): Promise<void> {
  const output = outputFor(command);
  const { listMounts } = await import('../mount-image.ts');
  const { runRoot } = await placesFrom(command.optsWithGlobals<CommonOptions>());
  const mounts = listMounts(runRoot);
  if (output.json) output.value(mounts);
  else
    output.table(
      ['DIGEST', 'STORE', 'PATH'],
      mounts.map(({ digest, root, path }) => [shortDigest(digest), root, path]),
    );
}

async function umount(names: readonly string[], command: Command): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions>();
  const output = outputFor(command);
  requireRoot();
  const [{ requireStoredImage }, { unmountImage, unmountPath }] = await Promise.all([
    import('../find-image.ts'),
    import('../mount-image.ts'),
  ]);
  const { store, places } = await openStoreFromOptions(options);
  const waiting = waitingFrom(options, output);
  const results: { name: string; unmounted: boolean }[] = [];
  for (const name of names) {
    const byPath = name.startsWith('/') ? await unmountPath(name, places.runRoot, waiting) : undefined;
    const unmounted =
      byPath ?? (await unmountImage(store!, requireStoredImage(store, name), places.runRoot, waiting));
    if (!unmounted) output.note(`${name} was not mounted`);
    results.push({ name, unmounted });
  }
  if (output.json) output.value(results);
}

function requireRoot(): void {
  if (process.geteuid!() !== 0)
    throw new OciError('DENIED', 'only root can mount images', { hint: 'Run the command with sudo.' });
}
