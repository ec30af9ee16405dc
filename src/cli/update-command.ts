/** ocictl update: other limits for a running container, by the options of oci-run. */
import type { Command } from 'commander';
import type { ResourceTexts } from '../bundle/resources.ts';
import type { CommonOptions } from './options.ts';
import { resourceOptions } from './run-options.ts';
import { type Context, withManager } from './with-manager.ts';

export function updateCommand(program: Command): void {
  resourceOptions(
    program.command('update <unit>').description('change the limits of a running container'),
  ).action(withManager(update));
}

async function update(
  { options, output, runRoot, manager }: Context<CommonOptions & ResourceTexts>,
  name: string,
): Promise<void> {
  const [{ requireContainer }, { updateContainer }] = await Promise.all([
    import('../containers.ts'),
    import('../update.ts'),
  ]);
  const { unit } = requireContainer(runRoot, name);
  const changed = await updateContainer(unit, options, manager);
  if (output.json) output.value({ unit, changed });
}
