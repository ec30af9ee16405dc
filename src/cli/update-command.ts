/** ocictl update: another image for installed services, or other limits for a running container. */
import type { Command } from 'commander';
import type { ResourceTexts } from '../bundle/resources.ts';
import { OciError } from '../oci/errors.ts';
import { resourceOptions } from './declare-run-options.ts';
import type { CommonOptions } from './options.ts';
import { updateServices } from './service-commands.ts';
import { type Context, withManager } from './with-manager.ts';

interface ServiceOptions {
  readonly to?: string;
  readonly all?: boolean;
}

export function updateCommand(program: Command): void {
  const command = program
    .command('update [name...]')
    .description('bring installed services to a new image; or, with limits, change those of a container')
    .option('--to <image>', 'to this image or digest; otherwise the newest of their name')
    .option('--all', 'all installed services');
  resourceOptions(command).action(
    (names: string[], own: ServiceOptions & ResourceTexts, command: Command) => {
      const { to, all, ...limits } = own;
      if (Object.keys(limits).length === 0) return updateServices(names, own, command);
      if (names.length === 1 && to === undefined && !all) return withManager(update)(names[0]!, own, command);
      throw new OciError('USAGE', 'limits are for one container, and leave its image as it is', {
        hint: 'Write it as: ocictl update --memory 1G NAME.',
      });
    },
  );
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
