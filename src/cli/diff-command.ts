/** ocictl diff: the files in which two images differ, or what changed between the two newest versions of a service. */
import type { Command } from 'commander';
import { quote } from '../oci/errors.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, openStoreFromOptions, placesFrom, waitingFrom } from './options.ts';
import type { Output } from './output.ts';

export function diffCommand(program: Command): void {
  program
    .command('diff <name> [other]')
    .description('show in which files two images differ, or the two newest versions of an installed service')
    .action(async (name: string, other: string | undefined, _: unknown, command: Command) => {
      const options = command.optsWithGlobals<CommonOptions>();
      const output = outputFor(command);
      await (other === undefined ? diffVersions(name, options, output) : diff(name, other, options, output));
    });
}

const SIGNS = { added: '+', changed: '*', removed: '-' } as const;

async function diff(name: string, otherName: string, options: CommonOptions, output: Output): Promise<void> {
  const [{ requireStoredImage }, { diffImages }] = await Promise.all([
    import('../find-image.ts'),
    import('../diff-images.ts'),
  ]);
  const { store, places } = await openStoreFromOptions(options);
  const image = requireStoredImage(store, name);
  const other = requireStoredImage(store, otherName);
  const differences = await diffImages(store!, image, other, places.runRoot, waitingFrom(options, output));
  if (output.json) output.value(differences);
  else
    for (const { kind, path, what } of differences)
      output.line(`${SIGNS[kind]} ${quote(path)}${what === 'attributes' ? ' (attributes)' : ''}`);
}

async function diffVersions(name: string, options: CommonOptions, output: Output): Promise<void> {
  const { root } = await placesFrom(options);
  const [{ requireService }, { diffService }] = await Promise.all([
    import('../services.ts'),
    import('../service-diff.ts'),
  ]);
  const result = diffService(requireService(root, name));
  if (output.json) return output.value(result);
  const { from, to, units } = result;
  for (const [sign, { version, image, digest }] of [
    ['-', from],
    ['+', to],
  ] as const)
    output.line(`${sign}version ${version}: ${image} ${digest}`);
  for (const unit of units) for (const line of [`${unit.name}:`, ...unit.lines]) output.line(line);
}
